//! Cases of the benchmark, with one module per kind of case.

pub(crate) mod ceilings;
pub mod conv;
pub(crate) mod gemm;
mod pointwise;
mod rows;
mod steps;

use crate::results::{Group, Measurement, Status, SweepPoint};
use wgrad_graph::GraphError;

use crate::error::BenchError;
use crate::workload::Workload;

/// Case of the benchmark. Every device measures the same cases.
pub struct Case {
    /// Unique name, e.g. `matmul-512`.
    pub name: String,
    /// Group of the case in reports.
    pub group: Group,
    /// Whether the quick benchmark includes the case.
    pub quick: bool,
    /// Whether the case determines a ceiling of the device. If so, the case is always measured.
    pub sets_ceiling: bool,
    /// Number of samples that a run trains on; `None` for cases that are not training steps.
    pub samples: Option<u64>,
    /// Sweeps to which the case contributes a point.
    pub sweeps: Vec<SweepPoint>,
    /// Whether to wait for the device after each run. Otherwise, several runs are queued before each wait.
    pub synchronous: bool,
    pub(crate) kind: CaseKind,
}

type Build = Box<dyn Fn() -> Result<Workload, GraphError>>;

/// Operation that a case times.
pub(crate) enum CaseKind {
    /// Runs of the workload that the function returns.
    Workload(Build),
    /// Upload of the given number of bytes from host to device.
    Upload(usize),
    /// Readback of the given number of bytes from device to host.
    Readback(usize),
}

impl Case {
    /// Creates a case of the full benchmark that times the workload returned by `build`.
    pub fn new(
        group: Group,
        name: impl Into<String>,
        build: impl Fn() -> Result<Workload, GraphError> + 'static,
    ) -> Self {
        Self::with_kind(group, name, CaseKind::Workload(Box::new(build)))
    }

    fn with_kind(group: Group, name: impl Into<String>, kind: CaseKind) -> Self {
        let name = name.into();
        let sets_ceiling = group == Group::Ceiling;
        let sweeps = Vec::new();
        Self { name, group, quick: false, sets_ceiling, samples: None, sweeps, synchronous: false, kind }
    }

    /// Adds the case to the quick benchmark.
    fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    fn quick_if(self, quick: bool) -> Self {
        Self { quick, ..self }
    }

    /// Returns a measurement of the case on a device with status [`Status::Skipped`] and no times.
    pub(crate) fn measurement(&self, device: &str) -> Measurement {
        Measurement {
            case: self.name.clone(),
            group: self.group,
            device: device.to_owned(),
            status: Status::Skipped,
            reason: None,
            check: None,
            cost: None,
            samples: self.samples,
            sweeps: self.sweeps.clone(),
            time: None,
        }
    }
}

/// Returns all cases, starting with those that determine ceilings. Within a group, small cases come before large cases.
pub fn cases() -> Vec<Case> {
    let mut all = ceilings::cases();
    all.extend(gemm::cases());
    all.extend(pointwise::cases());
    all.extend(rows::cases());
    all.extend(conv::cases());
    all.extend(steps::cases());
    all
}

/// Returns the cases of the quick benchmark if `quick` is true, otherwise of the full benchmark.
///
/// If `only` is given, returns only the cases whose name contains `only` or whose group is `only`.
///
/// Cases that determine a ceiling are always included, because roofline fractions are relative to the ceilings. If no
/// case of the quick benchmark matches `only`, matching cases of the full benchmark are returned.
///
/// # Errors
/// Returns [`BenchError::NoCase`] with similar names if no case matches `only`.
pub fn selected(quick: bool, only: Option<&str>) -> Result<Vec<Case>, BenchError> {
    let matches_name =
        |case: &Case| only.is_none_or(|only| case.name.contains(only) || case.group.name() == only);
    let all = cases();
    if let (Some(only), false) = (only, all.iter().any(matches_name)) {
        return Err(BenchError::NoCase { only: only.to_owned(), near: nearest(only, &all) });
    }
    let only_quick = quick && all.iter().any(|case| case.quick && matches_name(case));
    let keep = |case: &Case| match case.sets_ceiling {
        true => case.quick || !quick,
        false => matches_name(case) && (case.quick || !only_quick),
    };
    let mut kept: Vec<Case> = all.into_iter().filter(keep).collect();
    // The quick benchmark may run out of time, so the most important cases come first.
    if quick {
        kept.sort_by_key(|case| (!case.sets_ceiling, case.group != Group::Step));
    }
    Ok(kept)
}

/// Returns the names of up to three cases that are similar to `name`, most similar first.
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
    fn names_are_unique_and_the_quick_benchmark_includes_every_group() {
        let all = cases();
        let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        let kinds: BTreeSet<Group> = all.iter().filter(|case| case.quick).map(|case| case.group).collect();
        assert_eq!(kinds, BTreeSet::from(Group::ALL));
    }

    #[test]
    fn selection_by_part_of_a_name_includes_the_ceilings() {
        let names = |quick, only| -> Vec<String> {
            let cases = selected(quick, Some(only)).unwrap();
            cases.into_iter().filter(|case| !case.sets_ceiling).map(|case| case.name).collect()
        };
        assert_eq!(names(true, "relu"), ["relu-1M"]);
        assert_eq!(names(false, "relu"), ["relu-1M", "relu-16M"]);
        assert_eq!(
            names(true, "mlp-width-64"),
            ["mlp-width-64"],
            "a case of the full benchmark was not selected by its name"
        );
    }

    #[test]
    fn unknown_name_is_an_error_with_similar_names() {
        let Err(BenchError::NoCase { near, .. }) = selected(false, Some("mtamul-512")) else {
            panic!("expected an error, because `mtamul-512` is not a case")
        };
        assert_eq!(near[0], "matmul-512");
    }
}
