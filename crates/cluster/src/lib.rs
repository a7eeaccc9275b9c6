//! Predicts data-parallel training on a cluster with a model of latency and bandwidth, for `wgrad cluster`.
//!
//! This crate does not measure: callers pass it measured steps and links. A [`Cluster`] is written as `cluster.json`
//! and as an HTML page.

mod analytic;
mod charts;
mod collective;
mod fit;
mod machine;
mod page;
mod predict;
mod published;
mod timeline;
mod toml;
mod workloads;

pub use analytic::{AnalyticEstimate, Pipeline, Tensor};
pub use collective::{Algorithm, Group};
pub use fit::{Fit, Sample, fit};
pub use machine::{ETHERNET_PAYLOAD, Link, Machine, builtin as builtin_machines};
pub use predict::{Curve, Options, Point, Prediction, Reduction, Scaling, Schedule, Scheme};
pub use published::{Published, STATED_ERROR, published};
pub use timeline::{Bucket, Timeline, Transfer, buckets, timeline};
pub use toml::{MachineError, parse as parse_machines, read as read_machines};
pub use workloads::{
    Compute, Layer, NAMES as WORKLOAD_NAMES, ParameterBytes, Transformer, Workload,
    builtin as builtin_workload,
};

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wgrad_report::output::{self, OutputError};

/// Format version of `cluster.json`.
pub const FORMAT: u32 = 1;

/// Predictions of one call of `wgrad cluster`: the contents of `cluster.json`.
///
/// Times are in seconds, sizes in bytes, rates in bytes or operations per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Version of the file format, equal to [`FORMAT`].
    pub format: u32,
    /// Version of wgrad that made the predictions.
    pub version: String,
    /// Command line of the prediction.
    pub command: String,
    /// Date and time of the predictions, e.g. `2026-01-02T03:04:05Z`.
    pub date: String,
    /// Bucket size, all-reduce algorithm and largest number of devices.
    pub options: Options,
    /// Model whose training is predicted.
    #[serde(rename = "work")]
    pub workload: Workload,
    /// Training steps measured on the local machine, if the workload is a recipe.
    pub measured: Option<Measured>,
    /// Link measured on the local machine, if requested.
    pub link: Option<Fit>,
    /// Machines for which training is predicted.
    pub machines: Vec<Machine>,
    /// Prediction for each machine.
    pub predictions: Vec<Prediction>,
    /// Published efficiencies with the predictions of the model.
    pub published: Vec<Published>,
}

/// Training steps of a recipe, measured on a device of the local machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Name of the device that was measured.
    pub device: String,
    /// Median step time for each batch size.
    pub steps: Vec<MeasuredStep>,
}

/// Median time of a training step at one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredStep {
    /// Batch size in samples.
    pub batch: u64,
    /// Seconds of the forward and backward passes, including the readback of gradients.
    pub passes: f64,
    /// Seconds of the optimizer update, including the upload of gradients.
    pub update: f64,
}

impl Measured {
    /// Fits a line to the measured steps: a fixed time per step plus a time per sample.
    ///
    /// Sets [`Compute::forward`] to 0, because the layer times of a measured workload start at the beginning of the
    /// step, not at the beginning of the backward pass. Returns `None` if no step was measured.
    pub fn compute(&self) -> Option<Compute> {
        let largest = self.steps.iter().max_by_key(|step| step.batch)?;
        let smallest = self.steps.iter().min_by_key(|step| step.batch)?;
        let samples = largest.batch.saturating_sub(smallest.batch) as f64;
        let slope = if samples > 0.0 { (largest.passes - smallest.passes).max(0.0) / samples } else { 0.0 };
        // With a single batch size, all time is attributed to the samples. The cap keeps the fixed time non-negative.
        let mean = largest.passes / largest.batch.max(1) as f64;
        let sample = if samples > 0.0 { slope.min(mean) } else { mean };
        let fixed = (largest.passes - sample * largest.batch as f64).max(0.0);
        Some(Compute { fixed, sample, forward: 0.0, update: largest.update })
    }
}

impl Cluster {
    /// Writes `cluster.json` and `cluster.html` into a directory, which is created if missing. Returns the path of
    /// the page.
    ///
    /// # Errors
    /// Returns [`OutputError`] if the directory cannot be created or a file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, OutputError> {
        Self::make_directory(directory)?;
        output::json(self, directory, "cluster.json")?;
        output::text(&self.html(), directory, "cluster.html")
    }

    /// Creates the directory for [`Cluster::write`], so that an error occurs before anything is measured.
    ///
    /// # Errors
    /// Returns [`OutputError`] if the directory cannot be created.
    pub fn make_directory(directory: &Path) -> Result<(), OutputError> {
        output::make_directory(directory)
    }

    /// Returns the HTML page: charts with tables, published measurements, machines and their sources.
    pub fn html(&self) -> String {
        let mut html = String::new();
        // Formatting into a string does not fail.
        let _ = page::write(&mut html, self);
        html
    }

    /// Returns a summary for each machine, each with one or two sentences.
    pub fn sentences(&self) -> Vec<String> {
        let machine = |name: &str| self.machines.iter().find(|machine| machine.name == name);
        self.predictions.iter().filter_map(|p| page::sentence(p, machine(&p.machine))).collect()
    }
}

#[cfg(test)]
mod tests;
