//! Sentences about the laws, generated from their numbers.

use super::{ComputeBudget, EstimateStatus, FamilyLaws, Law, LawFit, Laws, Measured, Optimum, Outcome};
use wgrad_report::page::number;
use wgrad_stdx::format::{percent, thousands};

/// Returns the main result as a sentence.
pub(super) fn headline(laws: &Laws) -> String {
    let errors = |larger: bool| -> Vec<f64> {
        let selected = laws.outcomes.iter().filter(|outcome| outcome.prediction.is_larger() == larger);
        selected.filter_map(|outcome| Some(outcome.measured.as_ref()?.error.abs())).collect()
    };
    let worst = |errors: &[f64]| percent(errors.iter().copied().fold(0.0, f64::max), 1);
    let joint_laws = || laws.families.iter().filter_map(|family| family.joint.law.as_ref().ok());
    let fitted = joint_laws().filter(|law| !law.is_saturated()).count();
    let (larger, others) = (errors(true), errors(false));
    match (larger.len(), others.len(), fitted) {
        (0, 0, 0) if joint_laws().next().is_none() => {
            "No law of parameters and data could be fitted to these training runs.".to_owned()
        }
        (0, 0, 0) => {
            "The laws of parameters and data have as many parameters as points, so the fit does not test them."
                .to_owned()
        }
        (0, 0, _) => format!(
            "Loss falls with parameters and data by these laws ({fitted} of {} could be fitted). No larger training run has \
             tested the laws yet.",
            laws.families.len()
        ),
        (0, 1, _) => format!(
            "The prediction of one training run was off by {}. The run is not larger than those that its law was fitted to.",
            worst(&others)
        ),
        (0, tested, _) => format!(
            "The predictions of {tested} training runs were off by at most {}. The runs are not larger than those that their \
             laws were fitted to.",
            worst(&others)
        ),
        (1, ..) => {
            format!("The prediction of one larger training run was off by {}.", worst(&larger))
        }
        (tested, ..) => {
            format!("The predictions of {tested} larger training runs were off by at most {}.", worst(&larger))
        }
    }
}

/// Returns the detailed results as sentences.
pub(super) fn sentences(laws: &Laws) -> Vec<String> {
    let mut sentences: Vec<String> = laws.families.iter().flat_map(family_sentences).collect();
    sentences.extend(laws.outcomes.iter().map(outcome_sentence));
    for comparison in &laws.comparisons {
        let text =
            |budget: &ComputeBudget| format!("On {}, {}", comparison.dataset, budget.sentences().join(" "));
        sentences.extend(comparison.budgets.iter().map(text));
    }
    if !laws.diverged.is_empty() {
        sentences.push(format!(
            "{} training runs diverged and are left out of the laws: {}.",
            laws.diverged.len(),
            laws.diverged.join(", ")
        ));
    }
    sentences
}

fn family_sentences(family: &FamilyLaws) -> Vec<String> {
    let name = family.name();
    let joint = match &family.joint.law {
        Ok(law) if law.is_saturated() => {
            format!("{name}: no law of N and D is quoted, because {}.", saturated(law))
        }
        Ok(law) => {
            let mut parts = vec![exponents_text(law)];
            parts.extend(caveats(law));
            parts.extend(unfinished_caveat(&family.joint));
            format!("{name}: {}.", parts.join("; "))
        }
        Err(error) => format!("{name}: no law of N and D, because {error}."),
    };
    let mut sentences = vec![joint];
    let best = match &family.frontier.optimum {
        Ok(optimum) => growth_text(optimum),
        Err(error) => error.to_string(),
    };
    sentences.push(match &family.frontier.law {
        Ok(law) if law.is_saturated() => {
            format!("{name}: no law of compute is quoted, because {}; {best}.", saturated(law))
        }
        Ok(law) => {
            let exponent = law.terms.first().map_or_else(String::new, |term| term.exponent.to_string());
            let mut parts =
                vec![format!("along the frontier, loss falls with compute with exponent {exponent}")];
            parts.extend(caveats(law));
            parts.push(best);
            format!("{name}: {}.", parts.join("; "))
        }
        Err(error) => format!("{name}: no law of compute, because {error}."),
    });
    sentences
}

fn growth_text(optimum: &Optimum) -> String {
    if optimum.exponent.interval.is_none() {
        return format!("the growth of the best size cannot be determined from {} points", optimum.points);
    }
    format!(
        "the best size grows as C to the power {}, fitted to {} points of {} sizes",
        optimum.exponent, optimum.points, optimum.sizes
    )
}

fn exponents_text(law: &Law) -> String {
    let exponents: Vec<String> =
        law.terms.iter().map(|term| format!("{} of {}", term.exponent, term.variable.letter())).collect();
    format!(
        "loss falls with the exponents {} towards E = {}, fitted to {} training runs with a scatter of {}",
        exponents.join(" and "),
        law.floor,
        law.points,
        percent(law.scatter, 1)
    )
}

/// Returns a phrase for each unreliable parameter of a law.
pub(super) fn caveats(law: &Law) -> Vec<String> {
    let mut caveats = Vec::new();
    if law.is_saturated() {
        caveats.push(saturated(law));
    }
    match law.floor.status {
        EstimateStatus::Within => {}
        EstimateStatus::AtLowerBound => caveats.push("the points show no irreducible loss".to_owned()),
        EstimateStatus::AtUpperBound | EstimateStatus::AtLowestLoss => caveats.push(
            "E equals the lowest measured loss, so neither E nor the exponents are determined".to_owned(),
        ),
        EstimateStatus::Undetermined => caveats.push("the irreducible loss is not determined".to_owned()),
    }
    for term in &law.terms {
        let letter = term.variable.letter();
        caveats.push(match term.exponent.status {
            EstimateStatus::Within => continue,
            EstimateStatus::Undetermined => format!("the exponent of {letter} is not determined"),
            EstimateStatus::AtLowerBound | EstimateStatus::AtUpperBound | EstimateStatus::AtLowestLoss => {
                format!("the exponent of {letter} is at the bound of the search")
            }
        });
    }
    caveats
}

fn saturated(law: &Law) -> String {
    let distinct = if law.distinct < law.points { " distinct" } else { "" };
    format!("it passes through all of its {}{distinct} points, so the fit does not test it", law.distinct)
}

/// Returns a phrase about the training runs of a law that were still improving at their last step, or `None` if there
/// are none.
pub(super) fn unfinished_caveat(fit: &LawFit) -> Option<String> {
    let (total, improving) = (fit.trials.len(), fit.improving.len());
    let law = fit.law.as_ref().ok()?;
    let limits: Vec<&str> = law.terms.iter().map(|term| term.variable.limit()).collect();
    let limits = limits.join(" and ");
    match improving {
        0 => None,
        1 => Some(format!(
            "1 of {total} training runs was still improving at its last step, so steps limit its loss in addition to {limits}"
        )),
        _ => Some(format!(
            "{improving} of {total} training runs were still improving at their last step, so steps limit their loss \
             in addition to {limits}"
        )),
    }
}

fn outcome_sentence(outcome: &Outcome) -> String {
    let Outcome { prediction, measured } = outcome;
    let interval = prediction
        .interval
        .map_or_else(String::new, |[low, high]| format!(" ({} to {})", number(low), number(high)));
    let predicted = format!(
        "{} ({} parameters, {} examples): predicted test loss {}{interval}",
        prediction.id,
        thousands(prediction.parameters),
        thousands(prediction.examples),
        number(prediction.loss)
    );
    let smaller = if prediction.is_larger() {
        ""
    } else {
        "; it is not larger than the training runs that its law was fitted to"
    };
    match measured {
        None => format!("{predicted}; it has not been trained{smaller}."),
        Some(Measured { loss, spread, error, within, trials, improving }) => {
            let seeds = if spread.count > 1 {
                format!(
                    " (mean of {} seeds, {} to {})",
                    spread.count,
                    number(spread.low),
                    number(spread.high)
                )
            } else {
                String::new()
            };
            let inside = match within {
                Some(true) => ", within the interval",
                Some(false) => ", outside the interval",
                None => "",
            };
            let side = if *error < 0.0 { "low" } else { "high" };
            let error = percent(error.abs(), 1);
            let unfinished = match (improving.len(), trials.len()) {
                (0, _) => String::new(),
                (_, 1) => "; it was still improving at its last step".to_owned(),
                (improving, total) => {
                    format!(
                        "; {improving} of its {total} training runs were still improving at their last step"
                    )
                }
            };
            format!(
                "{predicted}, measured {}{seeds}: the prediction was {error} too {side}{inside}{unfinished}{smaller}.",
                number(*loss)
            )
        }
    }
}

/// Formats a fraction as `+3.2%`.
pub(super) fn signed_percent(fraction: f64) -> String {
    format!("{:+.1}%", 100.0 * fraction)
}
