//! Study of compute scaling: the history of training compute, training times on this machine, and scaling laws.
//!
//! `scale.json` holds a [`ScalingStudy`], and the page is generated from it. The module [`sweep`] trains the networks
//! of a sweep. The other modules evaluate the resulting [`Trial`]s, the history of systems and the rates of devices.

pub mod hardware;
pub mod history;
pub mod laws;
mod page;
pub mod sweep;
mod trial;

pub use hardware::Hardware;
pub use trial::{CurvePoint, Role, Trial};

use history::{History, LocalMachine, TrainingTime};
use laws::Laws;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sweep::Sweep;
use wgrad_report::output::{self, OutputError};

/// Version of `scale.json`.
pub const FORMAT: u32 = 1;
/// Number of bootstrap resamples per confidence interval.
pub const RESAMPLES: usize = 2000;
/// Seed of the bootstrap resamples.
pub const SEED: u64 = 2024;

/// Results of one invocation of `wgrad scale`, stored as `scale.json`.
///
/// Every number on the page comes from this struct. Trends refer to systems by `id`, and laws refer to training runs by
/// `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScalingStudy {
    /// Version of the file format; see [`FORMAT`].
    pub format: u32,
    /// Version of wgrad that wrote the study.
    pub version: String,
    /// Command line that repeats the study.
    pub command: String,
    /// Time of the study in UTC, as 2026-01-02T03:04:05Z.
    pub date: String,
    /// Duration of the study in seconds.
    pub seconds: f64,
    /// Whether this is the short study (`--quick`).
    pub quick: bool,
    /// Whether the study was interrupted, so that results are missing.
    pub interrupted: bool,
    /// Date of the earlier study from which the parts that were not requested this time were copied. `None` if nothing
    /// was copied.
    #[serde(rename = "kept", default)]
    pub carried_over_from: Option<String>,
    /// Systems and the growth of their training compute.
    pub history: Option<History>,
    /// Training rates of this machine's devices, and the runs trained on this machine.
    #[serde(rename = "here")]
    pub machine: LocalMachine,
    /// Time that each device would take to train each system of the history.
    pub times: Vec<TrainingTime>,
    /// Measured training throughput of this machine, and predicted throughput of larger machines.
    pub hardware: Option<Hardware>,
    /// Definition of the sweep that was trained.
    pub sweep: Option<Sweep>,
    /// Names of the data sets of the sweep that are missing on this machine.
    pub missing: Vec<String>,
    /// Held-out training runs whose loss could not be predicted, each with the reason.
    pub unpredicted: Vec<String>,
    /// All training runs of the sweep.
    pub trials: Vec<Trial>,
    /// Laws fitted to the training runs.
    pub laws: Option<Laws>,
}

impl ScalingStudy {
    /// Writes `scale.json`, `trials.csv` and `report.html` into a directory, and creates the directory if necessary.
    /// Returns the path of the page.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be created or one of the files cannot be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, OutputError> {
        Self::make_directory(directory)?;
        output::json(self, directory, "scale.json")?;
        output::text(&laws::trials_csv(&self.trials), directory, "trials.csv")?;
        output::text(&self.html(), directory, "report.html")
    }

    /// Reads the `scale.json` of a directory. Returns `None` if the file is missing or malformed, or has a different
    /// format version.
    pub fn read(directory: &Path) -> Option<Self> {
        let bytes = std::fs::read(directory.join("scale.json")).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|scale: &Self| scale.format == FORMAT)
    }

    /// Copies the parts that are missing in this study from an earlier study: history, hardware, and laws with their
    /// trials.
    pub fn fill_missing_from(&mut self, earlier: Self) {
        let missing = [
            self.history.is_none() && earlier.history.is_some(),
            self.hardware.is_none() && earlier.hardware.is_some(),
            self.laws.is_none() && earlier.laws.is_some(),
        ];
        if missing[0] {
            self.history = earlier.history;
        }
        if missing[1] {
            self.hardware = earlier.hardware;
            self.machine.devices = earlier.machine.devices;
        }
        if missing[2] {
            (self.sweep, self.trials, self.laws) = (earlier.sweep, earlier.trials, earlier.laws);
            (self.missing, self.unpredicted) = (earlier.missing, earlier.unpredicted);
        }
        if missing.contains(&true) {
            self.carried_over_from = Some(earlier.carried_over_from.unwrap_or(earlier.date));
        }
    }

    /// Creates the directory that [`ScalingStudy::write`] writes to, so that an error is reported before training
    /// starts.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be created.
    pub fn make_directory(directory: &Path) -> Result<(), OutputError> {
        output::make_directory(directory)
    }

    /// Returns the HTML page with the sections history, this machine, laws, hardware and settings.
    pub fn html(&self) -> String {
        let mut html = String::new();
        // Writing to a string cannot fail.
        let _ = page::write(&mut html, self);
        html
    }
}

#[cfg(test)]
mod tests;
