//! The cases, a file for each kind.

pub(crate) mod ceilings;
pub mod conv;
pub(crate) mod gemm;
mod pointwise;
mod rows;
mod steps;

use crate::results::{Group, Measurement, Status, SweepPoint};
use wgrad_graph::GraphError;

use crate::error::BenchError;
use crate::work::Work;

/// Something to measure, on every device the same.
pub struct Case {
    /// Name, unique.
    pub name: String,
    /// Its kind.
    pub group: Group,
    /// Whether the short bench has it.
    pub quick: bool,
    /// Whether it bounds others, and is measured whatever is asked for.
    pub bounds: bool,
    /// Examples in a run, of training steps.
    pub samples: Option<u64>,
    /// The sweeps that it is a point of.
    pub sweeps: Vec<SweepPoint>,
    /// Whether each run is waited for, rather than a few that are queued.
    pub each: bool,
    pub(crate) what: What,
}

type Build = Box<dyn Fn() -> Result<Work, GraphError>>;

/// What is timed.
pub(crate) enum What {
    /// Runs of a work.
    Work(Build),
    /// So many bytes from host to device.
    Upload(usize),
    /// And back.
    Readback(usize),
}

impl Case {
    /// A case that the long bench has.
    pub fn new(
        group: Group,
        name: impl Into<String>,
        build: impl Fn() -> Result<Work, GraphError> + 'static,
    ) -> Self {
        Self::of(group, name, What::Work(Box::new(build)))
    }

    fn of(group: Group, name: impl Into<String>, what: What) -> Self {
        let name = name.into();
        let bounds = group == Group::Ceiling;
        Self { name, group, quick: false, bounds, samples: None, sweeps: Vec::new(), each: false, what }
    }

    /// The same, in the short bench too.
    fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    fn quick_if(self, quick: bool) -> Self {
        Self { quick, ..self }
    }

    /// What is to be filled in for a device.
    pub(crate) fn measurement(&self, device: &str) -> Measurement {
        Measurement {
            case: self.name.clone(),
            group: self.group,
            device: device.to_owned(),
            status: Status::Skipped,
            reason: None,
            check: None,
            work: None,
            samples: self.samples,
            sweeps: self.sweeps.clone(),
            time: None,
        }
    }
}

/// All cases, ceilings first, small before large.
pub fn cases() -> Vec<Case> {
    let mut all = ceilings::cases();
    all.extend(gemm::cases());
    all.extend(pointwise::cases());
    all.extend(rows::cases());
    all.extend(conv::cases());
    all.extend(steps::cases());
    all
}

/// The cases of a bench: all of them or the short ones, and of those the ones whose name or kind contains `only`. Ceilings are
/// always among them, large products too, since every share is of them. A name that only the long bench has is taken from there.
///
/// # Errors
/// [`BenchError::NoCase`], with names like it.
pub fn selected(quick: bool, only: Option<&str>) -> Result<Vec<Case>, BenchError> {
    let wanted = |case: &Case| only.is_none_or(|only| case.name.contains(only) || case.group.name() == only);
    let all = cases();
    if let (Some(only), false) = (only, all.iter().any(wanted)) {
        return Err(BenchError::NoCase { only: only.to_owned(), near: nearest(only, &all) });
    }
    let short = quick && all.iter().any(|case| case.quick && wanted(case));
    let keep = |case: &Case| match case.bounds {
        true => case.quick || !quick,
        false => wanted(case) && (case.quick || !short),
    };
    let mut kept: Vec<Case> = all.into_iter().filter(keep).collect();
    // The short bench may run out of time: what it is looked at for comes first.
    if quick {
        kept.sort_by_key(|case| (!case.bounds, case.group != Group::Step));
    }
    Ok(kept)
}

/// Up to three names like this one, best first.
fn nearest(name: &str, cases: &[Case]) -> Vec<String> {
    let scored = cases.iter().map(|case| (strsim::jaro_winkler(name, &case.name), &case.name));
    let mut scored: Vec<(f64, &String)> = scored.filter(|(score, _)| *score > 0.7).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_every_kind_is_in_the_short_bench() {
        let all = cases();
        let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        let kinds: BTreeSet<Group> = all.iter().filter(|case| case.quick).map(|case| case.group).collect();
        assert_eq!(kinds, BTreeSet::from(Group::ALL));
    }

    #[test]
    fn a_part_of_a_name_selects_cases_beside_the_ceilings() {
        let names = |quick, only| -> Vec<String> {
            let cases = selected(quick, Some(only)).unwrap();
            cases.into_iter().filter(|case| !case.bounds).map(|case| case.name).collect()
        };
        assert_eq!(names(true, "relu"), ["relu-1M"]);
        assert_eq!(names(false, "relu"), ["relu-1M", "relu-16M"]);
        assert_eq!(names(true, "mlp-width-64"), ["mlp-width-64"], "asked for by name, the long bench's too");
    }

    #[test]
    fn an_unknown_name_is_answered_with_names_like_it() {
        let Err(BenchError::NoCase { near, .. }) = selected(false, Some("mtamul-512")) else {
            panic!("there is no such case")
        };
        assert_eq!(near[0], "matmul-512");
    }
}
