//! Two benches side by side: what became faster or slower, beyond the spread of both.

use super::{Bench, Measurement, Timing};
use serde::Serialize;
use wgrad_stdx::ErrorKind;

/// Why two benches cannot be compared.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// They have no timed case on the same device in common.
    #[error("the two have no timed case in common: {old} has {old_cases}; this run has {new_cases}")]
    NothingInCommon {
        /// What the old one is, in words.
        old: String,
        /// Its cases, in words.
        old_cases: String,
        /// The new one's cases, in words.
        new_cases: String,
    },
}

impl CompareError {
    /// Kind of the error, which decides the exit code of the command line.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// An older bench beside a newer one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// When the older one was measured.
    pub old_date: String,
    /// The version of wgrad that it measured.
    pub old_version: String,
    /// Cases that both have timed, in the order of the new one.
    pub changes: Vec<Change>,
    /// What only the old one has timed: `case on device`.
    pub only_old: Vec<String>,
    /// What only the new one has timed.
    pub only_new: Vec<String>,
    /// What else to know before believing it, such as a device of another name.
    pub notes: Vec<String>,
}

/// A case before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Name of the case.
    pub case: String,
    /// The device.
    pub device: String,
    /// Median before.
    pub old_ms: f64,
    /// Median after.
    pub new_ms: f64,
    /// After over before: below 1 is faster.
    pub ratio: f64,
    /// Whether the ranges from the 10th to the 90th percentile do not even touch.
    pub beyond_spread: bool,
}

impl Comparison {
    /// Sets `new` beside `old`.
    ///
    /// # Errors
    /// [`CompareError::NothingInCommon`].
    pub fn of(old: &Bench, new: &Bench) -> Result<Self, CompareError> {
        let found = |bench: &'_ Bench, like: &Measurement| {
            let same = |result: &&Measurement| result.case == like.case && result.device == like.device;
            bench.results.iter().find(same).and_then(|result| result.time.clone())
        };
        let timed = |bench: &'_ Bench| -> Vec<Measurement> {
            bench.results.iter().filter(|result| result.time.is_some()).cloned().collect()
        };
        let alone = |of: &Bench, other: &Bench| -> Vec<String> {
            timed(of).iter().filter(|result| found(other, result).is_none()).map(label).collect()
        };
        let changes: Vec<Change> = timed(new)
            .iter()
            .filter_map(|result| Some(Change::of(result, &found(old, result)?, result.time.as_ref()?)))
            .collect();
        let comparison = Self {
            old_date: old.date.clone(),
            old_version: old.version.clone(),
            changes,
            only_old: alone(old, new),
            only_new: alone(new, old),
            notes: notes(old, new),
        };
        if comparison.changes.is_empty() {
            return Err(CompareError::NothingInCommon {
                old: format!("the bench of {}", old.date),
                old_cases: some(&comparison.only_old),
                new_cases: some(&comparison.only_new),
            });
        }
        Ok(comparison)
    }
}

impl Change {
    fn of(result: &Measurement, old: &Timing, new: &Timing) -> Self {
        let apart = old.p90_ms < new.p10_ms || new.p90_ms < old.p10_ms;
        Self {
            case: result.case.clone(),
            device: result.device.clone(),
            old_ms: old.ms,
            new_ms: new.ms,
            ratio: new.ms / old.ms,
            beyond_spread: apart,
        }
    }

    /// `faster`, `slower`, or nothing where the spread explains it.
    pub fn verdict(&self) -> &'static str {
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

/// The first few of a list, in words.
pub fn some(all: &[String]) -> String {
    const SHOWN: usize = 3;
    match all {
        [] => "none".to_owned(),
        _ if all.len() > SHOWN => format!("{} and {} more", all[..SHOWN].join(", "), all.len() - SHOWN),
        _ => all.join(", "),
    }
}

/// What makes the comparison doubtful.
fn notes(old: &Bench, new: &Bench) -> Vec<String> {
    let mut notes = Vec::new();
    for report in &new.devices {
        match old.devices.iter().find(|other| other.device == report.device) {
            None => notes.push(format!("{} is only in the new one", report.device)),
            Some(other) if (&other.name, &other.driver) != (&report.name, &report.driver) => {
                notes.push(format!(
                    "{} was {} ({}), and is {} ({})",
                    report.device, other.name, other.driver, report.name, report.driver
                ));
            }
            Some(_) => {}
        }
        let tuned = old.devices.iter().find(|other| other.device == report.device).map(|other| other.tuned);
        if let Some(before) = tuned.filter(|&before| before != report.tuned) {
            let (name, now) = (&report.device, report.tuned);
            notes.push(format!("{name} had {before} tuned products, and has {now}"));
        }
    }
    for report in &old.devices {
        if !new.devices.iter().any(|other| other.device == report.device) {
            notes.push(format!("{} is only in the old one", report.device));
        }
    }
    for (which, bench) in [("the old one", old), ("the new one", new)] {
        if let Some(warning) = &bench.noise.warning {
            notes.push(format!("{which}: {warning}"));
        }
    }
    notes
}
