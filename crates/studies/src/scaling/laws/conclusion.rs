//! What laws say in words, made of their numbers.

use super::{Budget, FamilyLaws, Fit, Law, Laws, Measured, Optimum, Outcome, Standing};
use wgrad_report::page::{count, number};

pub(super) fn headline(laws: &Laws) -> String {
    let errors = |larger: bool| -> Vec<f64> {
        let of = laws.outcomes.iter().filter(|outcome| outcome.prediction.is_larger() == larger);
        of.filter_map(|outcome| Some(outcome.measured.as_ref()?.error.abs())).collect()
    };
    let worst = |errors: &[f64]| percent(errors.iter().copied().fold(0.0, f64::max));
    let joint = || laws.families.iter().filter_map(|family| family.joint.law.as_ref().ok());
    let fitted = joint().filter(|law| !law.is_saturated()).count();
    let (larger, others) = (errors(true), errors(false));
    match (larger.len(), others.len(), fitted) {
        (0, 0, 0) if joint().next().is_none() => {
            "No law of parameters and data could be fitted to these trainings.".to_owned()
        }
        (0, 0, 0) => {
            "The laws of parameters and data pass through their points, which tests nothing.".to_owned()
        }
        (0, 0, _) => format!(
            "Loss falls with parameters and data as these laws say; no larger training has tested them yet ({fitted} of {} \
             could be fitted).",
            laws.families.len()
        ),
        (0, 1, _) => format!(
            "A training, predicted before it was made, came out {} off; it is no larger than what its law was fitted to.",
            worst(&others)
        ),
        (0, tested, _) => format!(
            "{tested} trainings, predicted before they were made, came out at most {} off; they are no larger than what their \
             laws were fitted to.",
            worst(&others)
        ),
        (1, ..) => {
            format!("A larger training, predicted before it was made, came out {} off.", worst(&larger))
        }
        (tested, ..) => format!(
            "{tested} larger trainings, predicted before they were made, came out at most {} off.",
            worst(&larger)
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
        Ok(law) if law.is_saturated() => format!("{name}: no law of N and D to quote: {}.", saturated(law)),
        Ok(law) => {
            let mut parts = vec![exponents(law)];
            parts.extend(doubts(law));
            parts.extend(unfinished(&family.joint));
            format!("{name}: {}.", parts.join("; "))
        }
        Err(error) => format!("{name}: no law of N and D, since {error}."),
    };
    let mut sentences = vec![joint];
    let best = match &family.frontier.optimum {
        Ok(optimum) => growth(optimum),
        Err(error) => error.to_string(),
    };
    sentences.push(match &family.frontier.law {
        Ok(law) if law.is_saturated() => {
            format!("{name}: no law of compute to quote: {}; {best}.", saturated(law))
        }
        Ok(law) => {
            let only = law.terms.first().map_or_else(String::new, |term| term.exponent.to_string());
            let mut parts =
                vec![format!("along its frontier loss falls with compute by the exponent {only}")];
            parts.extend(doubts(law));
            parts.push(best);
            format!("{name}: {}.", parts.join("; "))
        }
        Err(error) => format!("{name}: no law of compute, since {error}."),
    });
    sentences
}

fn growth(optimum: &Optimum) -> String {
    if optimum.exponent.interval.is_none() {
        return format!("how the best size grows cannot be said from {} points", optimum.points);
    }
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
pub(super) fn doubts(law: &Law) -> Vec<String> {
    let mut doubts = Vec::new();
    if law.is_saturated() {
        doubts.push(saturated(law));
    }
    match law.floor.standing {
        Standing::Within => {}
        Standing::AtLowest => doubts.push("no irreducible loss shows".to_owned()),
        Standing::AtHighest | Standing::AtMeasured => doubts.push(
            "E comes out at the lowest loss that was measured, so neither it nor the exponent that goes with it is known".to_owned(),
        ),
        Standing::Undetermined => doubts.push("how much is irreducible cannot be said".to_owned()),
    }
    for term in &law.terms {
        let letter = term.variable.letter();
        doubts.push(match term.exponent.standing {
            Standing::Within => continue,
            Standing::Undetermined => format!("how loss falls with {letter} cannot be said"),
            Standing::AtLowest | Standing::AtHighest | Standing::AtMeasured => {
                format!("the exponent of {letter} lies at the bound of what was searched")
            }
        });
    }
    doubts
}

fn saturated(law: &Law) -> String {
    let different = if law.distinct < law.points { " different" } else { "" };
    format!("it passes through its {}{different} points, which tests nothing", law.distinct)
}

/// How many trainings of a law ended before they had learned what they could.
pub(super) fn unfinished(fit: &Fit) -> Option<String> {
    let (all, still) = (fit.trials.len(), fit.improving.len());
    let law = fit.law.as_ref().ok()?;
    let limits: Vec<&str> = law.terms.iter().map(|term| term.variable.limit()).collect();
    let limits = limits.join(" and ");
    match still {
        0 => None,
        1 => Some(format!(
            "1 of {all} trainings was still improving when it ended, so steps limit it as well as {limits}"
        )),
        _ => Some(format!(
            "{still} of {all} trainings were still improving when they ended, so steps limit them as well as {limits}"
        )),
    }
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
    let smaller =
        if prediction.is_larger() { "" } else { "; it is no larger than what its law was fitted to" };
    match measured {
        None => format!("{said}; it has not been trained{smaller}."),
        Some(Measured { loss, spread, error, within, trials, improving }) => {
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
            let still = match (improving.len(), trials.len()) {
                (0, _) => String::new(),
                (_, 1) => "; it was still improving when it ended".to_owned(),
                (still, all) => {
                    format!("; {still} of its {all} trainings were still improving when they ended")
                }
            };
            format!(
                "{said} and came to {}{seeds}: the prediction was {off} too {side}{held}{still}{smaller}.",
                number(*loss)
            )
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
