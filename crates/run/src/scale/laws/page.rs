//! The words of the part of a page that is about laws, and the order of its parts.

use super::conclusion::{percent, refusal};
use super::{FamilyLaws, Fit, Laws, Variable, charts};
use crate::page::{self, Escaped, count, number};
use crate::scale::Trial;
use crate::scale::laws::csv;
use std::fmt::{self, Write};

const FAMILY: &str = "Left: the test loss on the way of each training, in the mean over seeds, over the FLOPs until then; dots are \
    the frontier, the lowest loss that any of them had reached for its compute (the best in each fifth of a decade). Loss \
    against N and D is that at the step with the lowest validation loss; areas reach from the lowest to the highest seed, and \
    dashed lines of the same colour are the law of N and D. The best size for some compute is that of the frontier's points; \
    where it is the smallest or the largest of the sweep, there might have been better ones beyond.";

const FITTED: &str = "Test loss L = E + A·x^(−α), and L = E + A·N^(−α) + B·D^(−β) (Hoffmann et al. 2022, equation 10), in nats an \
    example. Fitted to ln L by Huber's loss with δ = 1.345 times the scale of residuals, at least 0.001; E, A, B ≥ 0 and exponents \
    between 0.02 and 2.5. In brackets is the interval of 95% of a bootstrap: each training gets the law's value and the residual of \
    a training drawn from all, stretched by √(n/(n − p)). It holds for scatter between trainings, not for a law that has another \
    form. Scatter is the standard deviation of ln L around the law.";

const PREDICTED: &str = "Predictions were made by the law of N and D before the larger networks were trained. Their interval is that of \
    one seed: the bootstrap's laws, each with a residual drawn. That the law holds that far from where it was fitted is assumed.";

const PUBLISHED: &str = "For orientation only: these are laws of large language models on text, with losses in nats a token, and ours are of \
    small networks on small pictures. Kaplan et al. fit a law without a floor to each variable alone.";

const VERSUS: &str = "The same training FLOPs spent on a plain and on a better architecture, with little and with much data. Lines are \
    medians over seeds, areas reach from the lowest to the highest. Trainings whose FLOPs differ by less than a quarter count as one budget. \
    Data beats architecture where every seed of the plain one with the most data is better than every seed of the better one with the least.";

/// Writes the laws: what they say, charts and tables for each architecture, published laws beside them, data against architecture,
/// and all trainings.
///
/// # Errors
/// Those of the writer; a string has none.
pub(crate) fn write(page: &mut String, laws: &Laws, trials: &[Trial]) -> fmt::Result {
    if trials.is_empty() {
        page.push_str("<p>Nothing has been trained yet.</p>\n");
        return Ok(());
    }
    verdict(page, &laws.headline(), &laws.sentences())?;
    for family in &laws.families {
        page::section(page, &format!("Laws of {}", family.name()), FAMILY)?;
        page::charts(page, |page| charts::family(page, laws, family, trials))?;
    }
    if !laws.families.is_empty() {
        page::section(page, "The laws in numbers", FITTED)?;
        page::table(page, &LAW_COLUMNS, &laws.families.iter().flat_map(rows).collect::<Vec<_>>())?;
    }
    if !laws.outcomes.is_empty() {
        writeln!(page, "<p class=\"note\">{}</p>", Escaped(PREDICTED))?;
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

fn verdict(page: &mut String, headline: &str, sentences: &[String]) -> fmt::Result {
    write!(page, "<section class=\"verdict\">\n<p><strong>{}</strong></p>\n<ul>\n", Escaped(headline))?;
    for sentence in sentences {
        writeln!(page, "<li>{}</li>", Escaped(sentence))?;
    }
    // A list without items is no list.
    if sentences.is_empty() {
        page.push_str("<li>No figures.</li>\n");
    }
    page.push_str("</ul>\n</section>\n");
    Ok(())
}

const LAW_COLUMNS: [&str; 9] =
    ["law", "E", "A, of N or C", "α, of N or C", "B, of D", "β, of D", "trainings", "different", "scatter"];

fn rows(family: &FamilyLaws) -> Vec<Vec<String>> {
    let held =
        |fit: &Fit, letter| fit.held.map_or_else(String::new, |held| format!(", {letter} = {}", count(held)));
    let name = family.name();
    let n = format!("{name}: N{}", held(&family.by_parameters, "D"));
    let d = format!("{name}: D{}", held(&family.by_examples, "N"));
    let frontier = &family.frontier;
    let laws = [
        (n, &family.by_parameters.law),
        (d, &family.by_examples.law),
        (format!("{name}: N and D"), &family.joint.law),
        (format!("{name}: C, on the frontier"), &frontier.law),
    ];
    let row = |(name, law): (String, &Result<super::Law, super::LawError>)| {
        let law = match law {
            Ok(law) => law,
            Err(error) => {
                let mut row = vec![name, refusal(error)];
                row.resize(LAW_COLUMNS.len(), "–".to_owned());
                return row;
            }
        };
        let term = |of_examples: bool| {
            law.terms.iter().find(|term| (term.variable == Variable::Examples) == of_examples).map_or_else(
                || ["–".to_owned(), "–".to_owned()],
                |term| [term.scale.to_string(), term.exponent.to_string()],
            )
        };
        let [a, alpha] = term(false);
        let [b, beta] = term(true);
        let (points, distinct) = (law.points.to_string(), law.distinct.to_string());
        vec![name, law.floor.to_string(), a, alpha, b, beta, points, distinct, percent(law.scatter)]
    };
    laws.into_iter().map(row).collect()
}

const PUBLISHED_COLUMNS: [&str; 6] =
    ["source", "E", "α, of N", "β, of D", "α, of C", "best N grows as C to the power"];

fn published() -> Vec<Vec<String>> {
    let row = |cells: [&str; 6]| cells.map(str::to_owned).to_vec();
    vec![
        row([
            "Kaplan et al. 2020, Scaling Laws for Neural Language Models (abstract page 3, table 5)",
            "none",
            "0.076",
            "0.095",
            "0.050",
            "0.73",
        ]),
        row([
            "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models (equation 10, table 2)",
            "1.69",
            "0.34",
            "0.28",
            "–",
            "0.46 to 0.50",
        ]),
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
