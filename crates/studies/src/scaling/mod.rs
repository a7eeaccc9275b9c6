//! The compute-scaling discussion: how training compute grew, how long this machine would take for each step of that history,
//! and which laws training runs of this machine follow. `scale.json` holds a [`Scale`], and the page is made of it. Nothing
//! here trains or measures; who does fills in [`Trial`]s and rates.

pub mod hardware;
pub mod history;
pub mod laws;
mod page;
pub mod sweep;
mod trial;

pub use hardware::Hardware;
pub use trial::{Curve, Role, Trial};

use history::{Here, History, Time};
use laws::Laws;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sweep::Sweep;
use wgrad_report::output::{self, OutputError};

/// Version of `scale.json`.
pub const FORMAT: u32 = 1;
/// Resamples behind each interval.
pub const RESAMPLES: usize = 2000;
/// Seed of the resamples.
pub const SEED: u64 = 2024;

/// Everything that one call of `wgrad scale` found: `scale.json`. Every figure of the report is here, or in the rows that are
/// named beside it: trends name systems by `id`, laws name trainings by `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of wgrad.
    pub version: String,
    /// What to type to repeat it.
    pub command: String,
    /// When it was done, as 2026-01-02T03:04:05Z.
    pub date: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was the short one.
    pub quick: bool,
    /// Whether it was interrupted, so that something is missing.
    pub interrupted: bool,
    /// Date of the report that the parts are from that were not asked for.
    #[serde(default)]
    pub kept: Option<String>,
    /// The systems and how their compute grew.
    pub history: Option<History>,
    /// What this machine does, and what it has trained.
    pub here: Here,
    /// How long each device would take for each system.
    pub times: Vec<Time>,
    /// Throughput.
    pub hardware: Option<Hardware>,
    /// What was trained.
    pub sweep: Option<Sweep>,
    /// Data sets that the sweep wants and that are not on this machine.
    pub missing: Vec<String>,
    /// Larger trainings that could not be predicted, with the reason.
    pub unpredicted: Vec<String>,
    /// Every training.
    pub trials: Vec<Trial>,
    /// What they say.
    pub laws: Option<Laws>,
}

impl Scale {
    /// Writes `scale.json`, `trials.csv` and `report.html` into a directory, which is made if it is not there, and returns the
    /// path of the page.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&self, directory: &Path) -> Result<PathBuf, OutputError> {
        Self::make_directory(directory)?;
        output::json(self, directory, "scale.json")?;
        output::text(&laws::trials_csv(&self.trials), directory, "trials.csv")?;
        output::text(&self.html(), directory, "report.html")
    }

    /// The report in a folder; none where there is none, or of a format that this version does not read.
    pub fn read(directory: &Path) -> Option<Self> {
        let bytes = std::fs::read(directory.join("scale.json")).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|scale: &Self| scale.format == FORMAT)
    }

    /// Takes the parts that it has not from a report of before.
    pub fn keep(&mut self, before: Self) {
        let takes = [
            self.history.is_none() && before.history.is_some(),
            self.hardware.is_none() && before.hardware.is_some(),
            self.laws.is_none() && before.laws.is_some(),
        ];
        if takes[0] {
            self.history = before.history;
        }
        if takes[1] {
            self.hardware = before.hardware;
            self.here.devices = before.here.devices;
        }
        if takes[2] {
            (self.sweep, self.trials, self.laws) = (before.sweep, before.trials, before.laws);
            (self.missing, self.unpredicted) = (before.missing, before.unpredicted);
        }
        if takes.contains(&true) {
            self.kept = Some(before.kept.unwrap_or(before.date));
        }
    }

    /// Makes the directory that [`Scale::write`] will write to, before anything is trained.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn make_directory(directory: &Path) -> Result<(), OutputError> {
        output::make_directory(directory)
    }

    /// The page: what it comes to, history, this machine, hardware, laws, and how it was made.
    pub fn html(&self) -> String {
        let mut html = String::new();
        // Writing to a string cannot fail.
        let _ = page::write(&mut html, self);
        html
    }
}

#[cfg(test)]
mod tests;
