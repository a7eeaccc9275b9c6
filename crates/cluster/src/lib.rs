//! How data-parallel training would go on a cluster: what `wgrad cluster` predicts. A model of latency and bandwidth; nothing
//! here measures. `cluster.json` holds a [`Cluster`], and the page is made of it.

mod charts;
mod collective;
mod fit;
mod machine;
mod page;
mod paper;
mod predict;
mod published;
mod timeline;
mod toml;
mod works;

pub use collective::{Algorithm, Group};
pub use fit::{Fit, Sample, fit};
pub use machine::{ETHERNET_PAYLOAD, Link, Machine, builtin as builtin_machines};
pub use paper::{OnPaper, Pipeline, Tensor};
pub use predict::{Curve, Options, Point, Prediction, Reduction, Scaling, Schedule, Scheme};
pub use published::{Published, STATED_ERROR, published};
pub use timeline::{Bucket, Timeline, Travel, buckets, timeline};
pub use toml::{MachineError, parse as parse_machines, read as read_machines};
pub use works::{
    Compute, Layer, NAMES as WORK_NAMES, ParameterBytes, Transformer, Work, builtin as builtin_work,
};

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wgrad_report::output::{self, OutputError};

/// Version of `cluster.json`.
pub const FORMAT: u32 = 1;

/// Everything that one call of `wgrad cluster` predicts: `cluster.json`. Times are seconds, sizes bytes, rates bytes or
/// operations a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of wgrad.
    pub version: String,
    /// What to type to repeat it.
    pub command: String,
    /// When it was done, as 2026-01-02T03:04:05Z.
    pub date: String,
    /// How the cluster trains.
    pub options: Options,
    /// What is trained.
    pub work: Work,
    /// What was measured of it here, if it is a recipe.
    pub measured: Option<Measured>,
    /// The link that was measured here, if one was.
    pub link: Option<Fit>,
    /// The machines.
    pub machines: Vec<Machine>,
    /// The work on each machine.
    pub predictions: Vec<Prediction>,
    /// What was published, beside what the model says of it.
    pub published: Vec<Published>,
}

/// Training steps of a recipe on a device of this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The device.
    pub device: String,
    /// Medians for each batch.
    pub steps: Vec<MeasuredStep>,
}

/// The median step of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredStep {
    /// Samples.
    pub batch: u64,
    /// Seconds of the passes, gradients brought to the host included.
    pub passes: f64,
    /// Seconds of the update, with gradients brought back.
    pub update: f64,
}

impl Measured {
    /// The straight line through what was measured: seconds whatever the batch, and for each sample. The forward pass's share
    /// is 0, because the layers of a measured work count from the beginning of the step. None without a step.
    pub fn compute(&self) -> Option<Compute> {
        let most = self.steps.iter().max_by_key(|step| step.batch)?;
        let least = self.steps.iter().min_by_key(|step| step.batch)?;
        let samples = most.batch.saturating_sub(least.batch) as f64;
        let rise = if samples > 0.0 { (most.passes - least.passes).max(0.0) / samples } else { 0.0 };
        // One batch tells nothing of the line, and of two of which the smaller takes no less, nothing is for each sample.
        let whole = most.passes / most.batch.max(1) as f64;
        let sample = if samples > 0.0 { rise.min(whole) } else { whole };
        let fixed = (most.passes - sample * most.batch as f64).max(0.0);
        Some(Compute { fixed, sample, forward: 0.0, update: most.update })
    }
}

impl Cluster {
    /// Writes `cluster.json` and `cluster.html` into a directory, which is made if it is not there, and returns the path of
    /// the page.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&self, directory: &Path) -> Result<PathBuf, OutputError> {
        Self::make_directory(directory)?;
        output::json(self, directory, "cluster.json")?;
        output::text(&self.html(), directory, "cluster.html")
    }

    /// Makes the directory that [`Cluster::write`] will write to, before anything is measured.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn make_directory(directory: &Path) -> Result<(), OutputError> {
        output::make_directory(directory)
    }

    /// The page: curves with the numbers under each, what was published, the machines and their sources.
    pub fn html(&self) -> String {
        let mut html = String::new();
        // Writing to a string cannot fail.
        let _ = page::write(&mut html, self);
        html
    }

    /// What it comes to, a sentence for each machine.
    pub fn sentences(&self) -> Vec<String> {
        let machine = |name: &str| self.machines.iter().find(|machine| machine.name == name);
        self.predictions.iter().filter_map(|p| page::sentence(p, machine(&p.machine))).collect()
    }
}

#[cfg(test)]
mod tests;
