//! The words of the part of a page that is about laws, and the order of its parts.

use super::conclusion::{self, percent, signed};
use super::{FamilyLaws, Fit, Law, LawError, Laws, Measured, Outcome, Term, Variable, charts};
use crate::scaling::Trial;
use crate::scaling::laws::csv;
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, count, number};

const FAMILY: &str = "First: the test loss on the way of each training, in the mean over seeds, over the FLOPs until then; dots are \
    the frontier, the lowest loss that any of them had reached for its compute (the best in each fifth of a decade). Loss \
    against N and D is that at the step with the lowest validation loss; areas reach from the lowest to the highest seed, and \
    dashed lines of the same colour are the law of N and D. The best N for some C is that of the frontier's points. Its line, and \
    the law of C, begin at the last point of the smallest network, and the line ends at the first of the largest: beyond, \
    networks that the sweep does not have might be better.";

const FITTED: &str = "Test loss L = E + A·x^(−α), and L = E + A·N^(−α) + B·D^(−β) (Hoffmann et al. 2022, equation 10), in nats an \
    example. Fitted to ln L by Huber's loss with δ = 1.345 times the scale of residuals, at least 0.001; E from 0 to the lowest loss measured, A, B ≥ 0, and \
    exponents between 0.02 and 2.5. In brackets is the interval of 95% of a bootstrap: each training gets the law's value and the residual of \
    a training drawn from all, stretched by √(n/(n − p)). It holds for scatter between trainings, not for a law that has another \
    form. Scatter is the standard deviation of ln L around the law; of the points, as many as in brackets are of different sizes.";

const PREDICTED: &str = "Predictions were made by the law of N and D before these networks were trained. Their interval is that of \
    one seed: the bootstrap's laws, each with a residual drawn. That the law holds that far from where it was fitted is assumed.";

const PUBLISHED: &str = "For orientation only: these are laws of large language models on text, with losses in nats a token, and ours are of \
    small networks on small pictures. Kaplan et al. (Scaling Laws for Neural Language Models) fit a law without a floor to each variable alone, Hoffmann et al. \
    (Training Compute-Optimal Large Language Models) the law of N and D; Besiroglu et \
    al. (Chinchilla Scaling: A replication attempt) found that fit not to have converged, and fitted it again.";

const VERSUS: &str = "The same training FLOPs spent on a plain and on a better architecture, with little and with much data. Lines are \
    medians over seeds, areas reach from the lowest to the highest. Trainings whose FLOPs differ by less than a quarter count as one budget. \
    Data beats architecture where every seed of the plain one with the most data is better than every seed of the better one with the least.";

/// Writes the laws: what they say, charts and tables for each architecture, published laws beside them, data against architecture,
/// and all trainings.
///
/// # Errors
/// Those of the writer; a string has none.
pub fn write(page: &mut String, laws: &Laws, trials: &[Trial]) -> fmt::Result {
    if trials.is_empty() {
        page.push_str("<p>Nothing has been trained yet.</p>\n");
        return Ok(());
    }
    page::summary(page, &laws.headline(), &laws.sentences())?;
    for (index, family) in laws.families.iter().enumerate() {
        let note = if index == 0 { FAMILY } else { "" };
        page::section(page, &format!("Laws of {}", family.name()), note)?;
        page::charts(page, |page| charts::family(page, laws, family, trials))?;
        let note = if index == 0 { FITTED } else { "" };
        page::section(page, &format!("Numbers of {}", family.name()), note)?;
        wrapped_table(page, &LAW_COLUMNS, exponents(family))?;
        remarks(page, family)?;
        page::folded_table(page, "Factors", &FACTORS, &factors(family))?;
    }
    if !laws.outcomes.is_empty() {
        page::section(page, "Predicted before they were trained", PREDICTED)?;
        wrapped_table(page, &OUTCOMES, laws.outcomes.iter().map(outcome).collect())?;
    }
    if !laws.families.is_empty() {
        page::section(page, "Published laws", PUBLISHED)?;
        page::table(page, &PUBLISHED_COLUMNS, &published())?;
    }
    let budgets = || laws.versus.iter().flat_map(|v| v.budgets.iter().map(|budget| (&v.dataset, budget)));
    if budgets().next().is_some() {
        page::section(page, "Data against architecture", VERSUS)?;
        page::charts(page, |page| {
            budgets().try_for_each(|(dataset, budget)| charts::versus(page, dataset, budget))
        })?;
    }
    page::section(page, "All trainings", "")?;
    let rows: Vec<Vec<String>> = trials.iter().map(training).collect();
    page::folded_table(page, &format!("{} trainings", count(trials.len() as u64)), &TRAININGS, &rows)
}

const LAW_COLUMNS: [&str; 6] = ["law of", "E", "α, of N or C", "β, of D", "points", "scatter"];
const FACTORS: [&str; 4] = ["law of", "A, of N or C", "B, of D", "test loss"];

/// The laws of a family with what each is of.
fn laws_of(family: &FamilyLaws) -> [(String, &Result<Law, LawError>); 4] {
    let held =
        |fit: &Fit, letter| fit.held.map_or_else(String::new, |held| format!(", {letter} = {}", count(held)));
    let (n, d) = (&family.by_parameters, &family.by_examples);
    [
        (format!("N{}", held(n, "D")), &n.law),
        (format!("D{}", held(d, "N")), &d.law),
        ("N and D".to_owned(), &family.joint.law),
        ("C, along the frontier".to_owned(), &family.frontier.law),
    ]
}

/// A table whose cells are broken where it would be wider than the page, but not within an interval.
fn wrapped_table(page: &mut String, columns: &[&str], mut rows: Vec<Vec<String>>) -> fmt::Result {
    for cell in rows.iter_mut().flatten() {
        *cell = cell.replace(" to ", "\u{a0}to\u{a0}");
    }
    page.push_str("<div class=\"wraps\">\n");
    page::table(page, columns, &rows)?;
    page.push_str("</div>\n");
    Ok(())
}

/// Below the table: why a law is not there, and which of its numbers are none to quote.
fn remarks(page: &mut String, family: &FamilyLaws) -> fmt::Result {
    let fits = [Some(&family.by_parameters), Some(&family.by_examples), Some(&family.joint), None];
    for ((name, law), fit) in laws_of(family).into_iter().zip(fits) {
        let text = match law {
            Ok(law) => {
                let mut all = conclusion::doubts(law);
                all.extend(fit.and_then(conclusion::unfinished));
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

/// What is said of the term of D, or of the other one.
fn term(law: &Law, of_examples: bool, say: fn(&Term) -> String) -> String {
    let is_it = |term: &&Term| (term.variable == Variable::Examples) == of_examples;
    law.terms.iter().find(is_it).map_or_else(|| "–".to_owned(), say)
}

fn exponents(family: &FamilyLaws) -> Vec<Vec<String>> {
    let row = |(name, law): (String, &Result<Law, LawError>)| match law {
        Ok(law) => {
            let exponent = |of_examples| term(law, of_examples, |term| term.exponent.to_string());
            let (alpha, beta) = (exponent(false), exponent(true));
            let points = format!("{} ({})", law.points, law.distinct);
            vec![name, law.floor.to_string(), alpha, beta, points, percent(law.scatter)]
        }
        Err(_) => {
            let mut row = vec![name, "none".to_owned()];
            row.resize(LAW_COLUMNS.len(), "–".to_owned());
            row
        }
    };
    laws_of(family).into_iter().map(row).collect()
}

/// Factors have the unit of loss times that of x to the exponent, so they say little alone.
fn factors(family: &FamilyLaws) -> Vec<Vec<String>> {
    let row = |(name, law): (String, &Result<Law, LawError>)| {
        let law = law.as_ref().ok()?;
        let factor = |of_examples| term(law, of_examples, |term| term.scale.to_string());
        Some(vec![name, factor(false), factor(true), law.formula()])
    };
    laws_of(family).into_iter().filter_map(row).collect()
}

pub(super) const OUTCOMES: [&str; 7] =
    ["training", "N", "D", "predicted", "error", "measured", "predicted on"];

fn outcome(outcome: &Outcome) -> Vec<String> {
    let Outcome { prediction, measured } = outcome;
    let within = |range: Option<[f64; 2]>| {
        range.map_or_else(String::new, |[low, high]| format!(" ({} to {})", number(low), number(high)))
    };
    let mut row = vec![
        prediction.id.clone(),
        count(prediction.parameters),
        count(prediction.examples),
        number(prediction.loss) + &within(prediction.interval),
    ];
    match measured {
        Some(Measured { loss, spread, error, within: inside, .. }) => {
            let place = inside.map_or("", |inside| if inside { ", within" } else { ", outside" });
            row.push(signed(*error) + place);
            row.push(number(*loss) + &within((spread.count > 1).then_some([spread.low, spread.high])));
        }
        None => row.extend(["–", "not trained"].map(str::to_owned)),
    }
    // The day of 2026-01-02T03:04:05Z.
    row.push(prediction.made.split('T').next().unwrap_or_default().to_owned());
    row
}

const PUBLISHED_COLUMNS: [&str; 6] = ["source", "E", "α, of N", "β, of D", "α, of C", "best N, power of C"];

fn published() -> Vec<Vec<String>> {
    let row = |cells: [&str; 6]| cells.map(str::to_owned).to_vec();
    vec![
        row(["Kaplan et al. 2020, section 1.2", "none", "0.076", "0.095", "0.050", "0.73"]),
        row(["Hoffmann et al. 2022, equation 10, table 2", "1.69", "0.34", "0.28", "–", "0.46 to 0.50"]),
        row(["Besiroglu et al. 2024, from points read off their figure", "1.82", "0.348", "0.366", "–", "–"]),
    ]
}

const TRAININGS: [&str; 14] = [
    "training",
    "for",
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

fn training(trial: &Trial) -> Vec<String> {
    let loss = if trial.diverged { "diverged".to_owned() } else { number(trial.test_loss) };
    vec![
        trial.id.clone(),
        csv::role(trial.role).to_owned(),
        trial.network.clone(),
        count(trial.parameters),
        count(trial.examples),
        count(trial.steps),
        trial.seed.to_string(),
        number(trial.lr),
        number(trial.flops.training()),
        loss,
        percent(trial.test_accuracy),
        count(trial.best_step),
        number(trial.seconds),
        trial.device.clone(),
    ]
}
