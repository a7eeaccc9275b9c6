//! Comparison of two benchmarks: finds cases whose times changed by more than the spread of both measurements.

use super::{Bench, Measurement, Timing};
use serde::Serialize;
use wgrad_stdx::ErrorKind;

/// Error while comparing two benchmarks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// No case was timed on the same device in both benchmarks.
    #[error("the benchmarks have no timed case in common: {old} has {old_cases}; this run has {new_cases}")]
    NothingInCommon {
        /// Description of the old benchmark.
        old: String,
        /// First few cases timed in the old benchmark.
        old_cases: String,
        /// First few cases timed in the new benchmark.
        new_cases: String,
    },
}

impl CompareError {
    /// Returns the kind of the error, always [`ErrorKind::Usage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Comparison of a new benchmark with an old one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchComparison {
    /// Date of the old benchmark.
    pub old_date: String,
    /// Version of wgrad in the old benchmark.
    pub old_version: String,
    /// Cases timed in both benchmarks, in the order of the new benchmark.
    pub changes: Vec<Change>,
    /// Cases timed only in the old benchmark, as `case on device`.
    pub only_old: Vec<String>,
    /// Cases timed only in the new benchmark, as `case on device`.
    pub only_new: Vec<String>,
    /// Notes on differences that limit comparability, such as a changed driver.
    pub notes: Vec<String>,
}

/// Times of a case in both benchmarks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Name of the case.
    pub case: String,
    /// Name of the device.
    pub device: String,
    /// Median time in the old benchmark, in milliseconds.
    pub old_ms: f64,
    /// Median time in the new benchmark, in milliseconds.
    pub new_ms: f64,
    /// New median divided by old median; below 1 if the case became faster.
    pub ratio: f64,
    /// Whether the ranges from the 10th to the 90th percentile of the old and the new times do not overlap.
    pub beyond_spread: bool,
}

impl BenchComparison {
    /// Compares the times in `new` with the times in `old`.
    ///
    /// # Errors
    /// Returns [`CompareError::NothingInCommon`] if no case was timed on the same device in both benchmarks.
    pub fn new(old: &Bench, new: &Bench) -> Result<Self, CompareError> {
        let find_time = |bench: &'_ Bench, like: &Measurement| {
            let same = |result: &&Measurement| result.case == like.case && result.device == like.device;
            bench.results.iter().find(same).and_then(|result| result.time.clone())
        };
        let timed = |bench: &'_ Bench| -> Vec<Measurement> {
            bench.results.iter().filter(|result| result.time.is_some()).cloned().collect()
        };
        let only_in = |bench: &Bench, other: &Bench| -> Vec<String> {
            timed(bench).iter().filter(|result| find_time(other, result).is_none()).map(label).collect()
        };
        let changes: Vec<Change> = timed(new)
            .iter()
            .filter_map(|result| Some(Change::new(result, &find_time(old, result)?, result.time.as_ref()?)))
            .collect();
        let comparison = Self {
            old_date: old.date.clone(),
            old_version: old.version.clone(),
            changes,
            only_old: only_in(old, new),
            only_new: only_in(new, old),
            notes: notes(old, new),
        };
        if comparison.changes.is_empty() {
            return Err(CompareError::NothingInCommon {
                old: format!("the benchmark of {}", old.date),
                old_cases: first_few(&comparison.only_old),
                new_cases: first_few(&comparison.only_new),
            });
        }
        Ok(comparison)
    }
}

impl Change {
    fn new(result: &Measurement, old: &Timing, new: &Timing) -> Self {
        Self {
            case: result.case.clone(),
            device: result.device.clone(),
            old_ms: old.ms,
            new_ms: new.ms,
            ratio: new.ms / old.ms,
            beyond_spread: old.p90_ms < new.p10_ms || new.p90_ms < old.p10_ms,
        }
    }

    /// Returns `faster` or `slower`, or an empty string if the change is within the spread.
    pub fn label(&self) -> &'static str {
        match (self.beyond_spread, self.ratio < 1.0) {
            (true, true) => "faster",
            (true, false) => "slower",
            (false, _) => "",
        }
    }
}

fn label(result: &Measurement) -> String {
    format!("{} on {}", result.case, result.device)
}

/// Formats up to three items of a list, followed by the number of omitted items.
pub fn first_few(all: &[String]) -> String {
    const SHOWN: usize = 3;
    match all {
        [] => "none".to_owned(),
        _ if all.len() > SHOWN => format!("{} and {} more", all[..SHOWN].join(", "), all.len() - SHOWN),
        _ => all.join(", "),
    }
}

/// Returns notes on differences that limit comparability.
fn notes(old: &Bench, new: &Bench) -> Vec<String> {
    let mut notes = Vec::new();
    for report in &new.devices {
        match old.devices.iter().find(|other| other.device == report.device) {
            None => notes.push(format!("{} is only in the new benchmark", report.device)),
            Some(other) if (&other.name, &other.driver) != (&report.name, &report.driver) => {
                notes.push(format!(
                    "{} was {} ({}) and is now {} ({})",
                    report.device, other.name, other.driver, report.name, report.driver
                ));
            }
            Some(_) => {}
        }
        let tuned = old.devices.iter().find(|other| other.device == report.device).map(|other| other.tuned);
        if let Some(before) = tuned.filter(|&before| before != report.tuned) {
            let (name, now) = (&report.device, report.tuned);
            notes.push(format!("{name} had {before} tuned matrix products and now has {now}"));
        }
    }
    for report in &old.devices {
        if !new.devices.iter().any(|other| other.device == report.device) {
            notes.push(format!("{} is only in the old benchmark", report.device));
        }
    }
    for (which, bench) in [("old benchmark", old), ("new benchmark", new)] {
        if let Some(warning) = &bench.noise.warning {
            notes.push(format!("{which}: {warning}"));
        }
    }
    notes
}
