//! What laws say in words, made of their numbers.

use super::{Budget, FamilyLaws, Law, Laws, Measured, Optimum, Outcome, Standing};
use crate::page::{count, number};

pub(super) fn headline(laws: &Laws) -> String {
    let errors: Vec<f64> =
        laws.outcomes.iter().filter_map(|outcome| Some(outcome.measured.as_ref()?.error.abs())).collect();
    let worst = errors.iter().copied().fold(0.0, f64::max);
    let fitted = laws.families.iter().filter(|family| family.joint.law.is_ok()).count();
    match (fitted, errors.len()) {
        (0, _) => "No law of parameters and data could be fitted to these trainings.".to_owned(),
        (_, 0) => format!(
            "Loss falls with parameters and data as these laws say; no larger training has tested them yet ({fitted} of {} \
             could be fitted).",
            laws.families.len()
        ),
        (_, 1) => {
            format!("A larger training, predicted before it was made, came out {} off.", percent(worst))
        }
        (_, tested) => format!(
            "{tested} larger trainings, predicted before they were made, came out at most {} off.",
            percent(worst)
        ),
    }
}

pub(super) fn sentences(laws: &Laws) -> Vec<String> {
    let mut sentences: Vec<String> = laws.families.iter().flat_map(of_family).collect();
    sentences.extend(laws.outcomes.iter().map(of_outcome));
    for versus in &laws.versus {
        let of = |budget: &Budget| format!("On {}, {}", versus.dataset, budget.sentences().join(" "));
        sentences.extend(versus.budgets.iter().map(of));
    }
    if !laws.diverged.is_empty() {
        sentences.push(format!(
            "{} trainings diverged, and no law is fitted to them: {}.",
            laws.diverged.len(),
            laws.diverged.join(", ")
        ));
    }
    sentences
}

fn of_family(family: &FamilyLaws) -> Vec<String> {
    let name = family.name();
    let joint = match &family.joint.law {
        Ok(law) => format!("{name}: {}{}.", exponents(law), doubts(law)),
        Err(error) => format!("{name}: no law of N and D, since {error}."),
    };
    let mut sentences = vec![joint];
    sentences.push(match &family.frontier.law {
        Ok(law) => {
            let only = law.terms.first().map_or_else(String::new, |term| term.exponent.to_string());
            let best = match &family.frontier.optimum {
                Ok(optimum) => growth(optimum),
                Err(error) => format!("{error}"),
            };
            format!("{name}: along its frontier loss falls with compute by the exponent {only}; {best}.")
        }
        Err(error) => format!("{name}: no law of compute, since {error}."),
    });
    sentences
}

fn growth(optimum: &Optimum) -> String {
    format!(
        "the best size grows as C to the power {}, by {} points of {} sizes",
        optimum.exponent, optimum.points, optimum.sizes
    )
}

fn exponents(law: &Law) -> String {
    let each = law.terms.iter().map(|term| format!("{} of {}", term.exponent, term.variable.letter()));
    let each: Vec<String> = each.collect();
    format!(
        "loss falls with the exponents {}, towards E = {}, by {} trainings that scatter by {} around that",
        each.join(" and "),
        law.floor,
        law.points,
        percent(law.scatter)
    )
}

/// Which numbers of a law are none to quote.
fn doubts(law: &Law) -> String {
    let mut doubts = String::new();
    if law.floor.standing == Standing::AtLowest {
        doubts += "; no irreducible loss shows";
    }
    if law.floor.standing == Standing::Undetermined {
        doubts += "; how much is irreducible cannot be said";
    }
    for term in &law.terms {
        let letter = term.variable.letter();
        doubts += &match term.exponent.standing {
            Standing::Within => continue,
            Standing::Undetermined => format!("; how loss falls with {letter} cannot be said"),
            Standing::AtLowest | Standing::AtHighest => {
                format!("; the exponent of {letter} lies at the bound of what was searched")
            }
        };
    }
    doubts
}

fn of_outcome(outcome: &Outcome) -> String {
    let Outcome { prediction, measured } = outcome;
    let interval = prediction
        .interval
        .map_or_else(String::new, |[low, high]| format!(" ({} to {})", number(low), number(high)));
    let said = format!(
        "{} ({} parameters, {} examples) was predicted to come to {}{interval}",
        prediction.id,
        count(prediction.parameters),
        count(prediction.examples),
        number(prediction.loss)
    );
    match measured {
        None => format!("{said}; it has not been trained."),
        Some(Measured { loss, spread, error, within, .. }) => {
            let seeds = if spread.count > 1 {
                format!(
                    " in the mean of {} seeds, {} to {}",
                    spread.count,
                    number(spread.low),
                    number(spread.high)
                )
            } else {
                String::new()
            };
            let held = match within {
                Some(true) => ", within the interval",
                Some(false) => ", outside the interval",
                None => "",
            };
            let side = if *error < 0.0 { "low" } else { "high" };
            let off = percent(error.abs());
            format!("{said} and came to {}{seeds}: the prediction was {off} too {side}{held}.", number(*loss))
        }
    }
}

/// `3.2%`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// `+3.2%`.
pub(super) fn signed(share: f64) -> String {
    format!("{:+.1}%", 100.0 * share)
}
