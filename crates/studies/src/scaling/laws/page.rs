//! Laws section of the page: the order of its parts and their texts.

use super::conclusion::{self, signed_percent};
use super::{FamilyLaws, Law, LawError, LawFit, Laws, Measured, Outcome, Term, Variable, charts};
use crate::scaling::Trial;
use crate::scaling::laws::csv;
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, number};
use wgrad_stdx::format::{percent, thousands};

const FAMILY: &str = "The first chart shows the test loss against the training FLOPs so far, as the mean over seeds. \
    Its dots are the frontier: the lowest loss that any training run reached for its compute, at most one dot per \
    fifth of a decade. The charts against N and D show the loss at the step with the lowest validation loss. Bands \
    extend from the lowest to the highest seed, and dashed lines of the same colour are the law of N and D. The best N \
    for C is the size of the network at each point of the frontier. The line through these sizes and the law of C \
    begin at the last point of the smallest network, and the line ends at the first point of the largest network. \
    Beyond these points, networks outside the sweep might be better.";

const FITTED: &str = "Test loss L = E + A·x^(−α), and L = E + A·N^(−α) + B·D^(−β) (Hoffmann et al. 2022, equation 10), \
    in nats per example. The laws are fitted to ln L by minimizing the Huber loss with δ = 1.345 times the scale of \
    the residuals, but at least 0.001. E lies between 0 and the lowest measured loss, A and B are at least 0, and \
    exponents lie between 0.02 and 2.5. Values in parentheses are 95% bootstrap intervals: in each resample, the loss \
    of a training run is the law's value times the residual of a random training run, scaled by √(n/(n − p)) for n \
    runs and p parameters. The intervals account for the scatter between training runs, but not for a law of a \
    different form. Scatter is the standard deviation of ln L around the law. The number of points is followed by the \
    number of distinct points in parentheses.";

const PREDICTED: &str = "The law of N and D predicted the loss before these networks were trained. The interval is for \
    one seed and is computed from the bootstrap laws and random residuals. It assumes that the law holds beyond the \
    range of its points.";

const PUBLISHED: &str = "For comparison only: these laws are for large language models on text, with losses in nats \
    per token; the laws above are for small networks on small images. Kaplan et al. (Scaling Laws for Neural Language \
    Models) fitted a law without an irreducible loss to each variable separately. Hoffmann et al. (Training \
    Compute-Optimal Large Language Models) fitted the law of N and D. Besiroglu et al. (Chinchilla Scaling: A \
    replication attempt) found that this fit had not converged, and repeated the fit.";

const COMPARISON: &str = "A plain and a better architecture trained with equal FLOPs on several amounts of data. Lines \
    are medians over seeds, and bands extend from the lowest to the highest seed. Training runs whose FLOPs differ by \
    at most a quarter have the same budget. Data beats architecture if every seed of the plain architecture with the \
    most data is better than every seed of the better architecture with the least data.";

/// Writes the laws section. Its parts are the conclusion, the charts and tables of each family, the predictions, the
/// published laws, the comparisons of more data with a better architecture, and the table of all training runs.
///
/// # Errors
/// Returns the error of the writer. Writing to a string does not fail.
pub fn write(page: &mut String, laws: &Laws, trials: &[Trial]) -> fmt::Result {
    if trials.is_empty() {
        page.push_str("<p>Nothing has been trained yet.</p>\n");
        return Ok(());
    }
    page::summary(page, &laws.headline(), &laws.sentences())?;
    for (index, family) in laws.families.iter().enumerate() {
        let note = if index == 0 { FAMILY } else { "" };
        page::section(page, &format!("Laws of {}", family.name()), note)?;
        page::charts(page, |page| charts::write_family(page, laws, family, trials))?;
        let note = if index == 0 { FITTED } else { "" };
        page::section(page, &format!("Fitted parameters of {}", family.name()), note)?;
        wrapped_table(page, &LAW_COLUMNS, exponent_rows(family))?;
        write_caveats(page, family)?;
        page::folded_table(page, "Factors", &FACTOR_COLUMNS, &factor_rows(family))?;
    }
    if !laws.outcomes.is_empty() {
        page::section(page, "Predictions of held-out training runs", PREDICTED)?;
        wrapped_table(page, &OUTCOME_COLUMNS, laws.outcomes.iter().map(outcome_row).collect())?;
    }
    if !laws.families.is_empty() {
        page::section(page, "Published laws", PUBLISHED)?;
        page::table(page, &PUBLISHED_COLUMNS, &published_rows())?;
    }
    let budgets =
        || laws.comparisons.iter().flat_map(|c| c.budgets.iter().map(|budget| (&c.dataset, budget)));
    if budgets().next().is_some() {
        page::section(page, "Data against architecture", COMPARISON)?;
        page::charts(page, |page| {
            budgets().try_for_each(|(dataset, budget)| charts::write_comparison(page, dataset, budget))
        })?;
    }
    page::section(page, "All training runs", "")?;
    let rows: Vec<Vec<String>> = trials.iter().map(training_row).collect();
    page::folded_table(
        page,
        &format!("{} training runs", thousands(trials.len() as u64)),
        &TRAINING_COLUMNS,
        &rows,
    )
}

const LAW_COLUMNS: [&str; 6] = ["law of", "E", "α, of N or C", "β, of D", "points", "scatter"];
const FACTOR_COLUMNS: [&str; 4] = ["law of", "A, of N or C", "B, of D", "test loss"];

/// Returns the four laws of a family. The text of each law names its variables, e.g. `N and D`.
fn named_laws(family: &FamilyLaws) -> [(String, &Result<Law, LawError>); 4] {
    let fixed = |fit: &LawFit, letter| {
        fit.fixed.map_or_else(String::new, |fixed| format!(", {letter} = {}", thousands(fixed)))
    };
    let (n, d) = (&family.by_parameters, &family.by_examples);
    [
        (format!("N{}", fixed(n, "D")), &n.law),
        (format!("D{}", fixed(d, "N")), &d.law),
        ("N and D".to_owned(), &family.joint.law),
        ("C, along the frontier".to_owned(), &family.frontier.law),
    ]
}

/// Writes a table whose cells wrap if the table is wider than the page. There is no line break within an interval.
fn wrapped_table(page: &mut String, columns: &[&str], mut rows: Vec<Vec<String>>) -> fmt::Result {
    for cell in rows.iter_mut().flatten() {
        *cell = cell.replace(" to ", "\u{a0}to\u{a0}");
    }
    page.push_str("<div class=\"wraps\">\n");
    page::table(page, columns, &rows)?;
    page.push_str("</div>\n");
    Ok(())
}

/// Writes notes about the laws of a family. If a law cannot be fitted, the note gives the reason. If a law is fitted,
/// the note lists its unreliable parameters and the training runs that were still improving, if there are any.
fn write_caveats(page: &mut String, family: &FamilyLaws) -> fmt::Result {
    let fits = [Some(&family.by_parameters), Some(&family.by_examples), Some(&family.joint), None];
    for ((name, law), fit) in named_laws(family).into_iter().zip(fits) {
        let text = match law {
            Ok(law) => {
                let mut all = conclusion::caveats(law);
                all.extend(fit.and_then(conclusion::unfinished_caveat));
                if all.is_empty() {
                    continue;
                }
                format!("Law of {name}: {}.", all.join("; "))
            }
            Err(error) => format!("No law of {name}: {error}."),
        };
        writeln!(page, "<p class=\"note\">{}</p>", Escaped(&text))?;
    }
    Ok(())
}

/// Formats one term of a law with `format`: the term of D if `of_examples` is true, otherwise the term of N or C.
/// Returns a dash if the law has no such term.
fn format_term(law: &Law, of_examples: bool, format: fn(&Term) -> String) -> String {
    let is_selected = |term: &&Term| (term.variable == Variable::Examples) == of_examples;
    law.terms.iter().find(is_selected).map_or_else(|| "–".to_owned(), format)
}

fn exponent_rows(family: &FamilyLaws) -> Vec<Vec<String>> {
    let row = |(name, law): (String, &Result<Law, LawError>)| match law {
        Ok(law) => {
            let exponent = |of_examples| format_term(law, of_examples, |term| term.exponent.to_string());
            let (alpha, beta) = (exponent(false), exponent(true));
            let points = format!("{} ({})", law.points, law.distinct);
            vec![name, law.floor.to_string(), alpha, beta, points, percent(law.scatter, 1)]
        }
        Err(_) => {
            let mut row = vec![name, "none".to_owned()];
            row.resize(LAW_COLUMNS.len(), "–".to_owned());
            row
        }
    };
    named_laws(family).into_iter().map(row).collect()
}

/// Returns the rows of the table of the factors A and B, one row per fitted law. The page shows this table folded,
/// because the units of the factors depend on the exponents, so the factors of two laws cannot be compared.
fn factor_rows(family: &FamilyLaws) -> Vec<Vec<String>> {
    let row = |(name, law): (String, &Result<Law, LawError>)| {
        let law = law.as_ref().ok()?;
        let factor = |of_examples| format_term(law, of_examples, |term| term.scale.to_string());
        Some(vec![name, factor(false), factor(true), law.formula()])
    };
    named_laws(family).into_iter().filter_map(row).collect()
}

pub(super) const OUTCOME_COLUMNS: [&str; 7] =
    ["training", "N", "D", "predicted", "error", "measured", "predicted on"];

fn outcome_row(outcome: &Outcome) -> Vec<String> {
    let Outcome { prediction, measured } = outcome;
    let interval = |range: Option<[f64; 2]>| {
        range.map_or_else(String::new, |[low, high]| format!(" ({} to {})", number(low), number(high)))
    };
    let mut row = vec![
        prediction.id.clone(),
        thousands(prediction.parameters),
        thousands(prediction.examples),
        number(prediction.loss) + &interval(prediction.interval),
    ];
    match measured {
        Some(Measured { loss, spread, error, within, .. }) => {
            let position = within.map_or("", |within| if within { ", within" } else { ", outside" });
            row.push(signed_percent(*error) + position);
            row.push(number(*loss) + &interval((spread.count > 1).then_some([spread.low, spread.high])));
        }
        None => row.extend(["–", "not trained"].map(str::to_owned)),
    }
    // The date of the prediction, without the time of day.
    row.push(prediction.predicted_at.split('T').next().unwrap_or_default().to_owned());
    row
}

const PUBLISHED_COLUMNS: [&str; 6] = ["source", "E", "α, of N", "β, of D", "α, of C", "best N, power of C"];

fn published_rows() -> Vec<Vec<String>> {
    let row = |cells: [&str; 6]| cells.map(str::to_owned).to_vec();
    vec![
        row(["Kaplan et al. 2020, section 1.2", "none", "0.076", "0.095", "0.050", "0.73"]),
        row(["Hoffmann et al. 2022, equation 10, table 2", "1.69", "0.34", "0.28", "–", "0.46 to 0.50"]),
        row([
            "Besiroglu et al. 2024, from points read off a figure of Hoffmann et al.",
            "1.82",
            "0.348",
            "0.366",
            "–",
            "–",
        ]),
    ]
}

const TRAINING_COLUMNS: [&str; 14] = [
    "training",
    "purpose",
    "network",
    "N",
    "D",
    "steps",
    "seed",
    "learning rate",
    "FLOPs",
    "test loss",
    "accuracy",
    "best step",
    "seconds",
    "device",
];

fn training_row(trial: &Trial) -> Vec<String> {
    let loss = if trial.diverged { "diverged".to_owned() } else { number(trial.test_loss) };
    vec![
        trial.id.clone(),
        csv::role_name(trial.role).to_owned(),
        trial.network.clone(),
        thousands(trial.parameters),
        thousands(trial.examples),
        thousands(trial.steps),
        trial.seed.to_string(),
        number(trial.lr),
        number(trial.flops.training()),
        loss,
        percent(trial.test_accuracy, 1),
        thousands(trial.best_step),
        number(trial.seconds),
        trial.device.clone(),
    ]
}
