//! Study of depth: plain and residual networks of increasing depth, trained with the same budget.
//!
//! [`study_depth`] trains the networks. A [`DepthStudy`] holds the results; every number on the page comes from it.

mod charts;
mod conclusion;
mod page;
mod train;

pub use conclusion::{
    Conclusion, DepthFinding, Direction, LayerRatios, SigmoidConclusion, SigmoidFinding, Trend,
};
pub use wgrad_report::Spread;

pub use train::{DepthOptions, DepthResults, study_depth};

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_report::OutputError;
use wgrad_report::output;
use wgrad_stdx::ErrorKind;

/// Reason why a `depth.json` cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file is not a depth study in JSON.
    #[error("{} is not a depth study: {source}", path.display())]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// Syntax error or missing field, with its line and column.
        source: serde_json::Error,
    },
}

impl StudyError {
    /// Returns the kind of the error, from which the command line derives its exit code.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Settings and results of a study, stored as `depth.json`. In the file, floats that are not finite are the strings
/// `"NaN"`, `"inf"` and `"-inf"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DepthStudy {
    /// Heading of the page.
    pub title: String,
    /// Command line that repeats the study.
    pub command: String,
    /// Description of the device.
    pub device: String,
    /// Name of the data set.
    pub dataset: String,
    /// Number of classes of the data set. A uniform guess has a loss of ln(classes).
    pub classes: u32,
    /// Time of the study in UTC, as 2026-01-02T03:04:05Z.
    pub date: String,
    /// Total duration of all runs in seconds.
    #[serde(with = "wgrad_stdx::float")]
    pub seconds: f64,
    /// Training budget of each run in [`Self::runs`].
    pub budget: Budget,
    /// Seeds of the runs. Each seed is used for every family and depth.
    pub seeds: Vec<u64>,
    /// Plain and residual networks, in any order.
    pub runs: Vec<DepthRun>,
    /// Multilayer perceptrons with sigmoid and with ReLU, in any order.
    pub sigmoid: Vec<SigmoidRun>,
}

/// Training budget and settings that all networks share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Number of optimizer steps per run.
    pub steps: u64,
    /// Number of examples per step.
    pub batch: u64,
    /// Peak learning rate.
    #[serde(with = "wgrad_stdx::float")]
    pub lr: f64,
    /// Description of the learning rate schedule.
    pub schedule: String,
    /// Description of the optimizer and its constants.
    pub optimizer: String,
    /// Number of training examples.
    pub train_examples: u64,
    /// Number of test examples.
    pub test_examples: u64,
    /// Description of the networks: blocks, channels, normalisation, initial values.
    pub networks: String,
    /// Description of the multilayer perceptrons and their budget.
    pub perceptrons: String,
}

/// Kind of connections between the layers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Each layer reads the previous layer.
    Plain,
    /// Each block adds its output to its input.
    Residual,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Residual];

    /// Returns `plain` or `residual`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Residual => "residual",
        }
    }
}

/// Results of one network, trained once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DepthRun {
    /// Family of the network.
    pub family: Family,
    /// Number of layers with weights.
    pub depth: u32,
    /// Seed of the initial values and the batches.
    pub seed: u64,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Floating-point operations of a training step. A multiply-add counts as two.
    pub flops_per_step: u64,
    /// Points of the training curve, in the order of their steps.
    pub curve: Vec<CurvePoint>,
    /// Gradient norm ‖∂loss/∂W‖ of each layer on the first batch before the first step, from the input to the output.
    pub gradient_norms_init: Vec<LayerValue>,
    /// Gradient norm ‖∂loss/∂W‖ of each layer on the first batch after the last step.
    pub gradient_norms_final: Vec<LayerValue>,
    /// Mean training loss of the steps between the last two points of the curve. The conclusion is based on this loss.
    #[serde(with = "wgrad_stdx::float")]
    pub final_train_loss: f64,
    /// Mean loss on the test examples after the last step.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_loss: f64,
    /// Fraction of the test examples classified correctly after the last step.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_accuracy: f64,
    /// Whether training ended with a loss that is not finite. The final loss is then treated as infinite.
    pub diverged: bool,
}

/// Point of a training curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of steps done, at least 1.
    pub step: u64,
    /// Mean training loss of the steps since the previous point.
    #[serde(with = "wgrad_stdx::float")]
    pub train_loss: f64,
    /// Mean loss on the test examples, or `None` if they were not evaluated at this step.
    #[serde(with = "wgrad_stdx::float::option", default)]
    pub test_loss: Option<f64>,
    /// Fraction of the test examples classified correctly, or `None` if they were not evaluated at this step.
    #[serde(with = "wgrad_stdx::float::option", default)]
    pub test_accuracy: Option<f64>,
}

/// Value measured at one layer, such as a gradient norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerValue {
    /// Number of the layer, from 1 at the input.
    pub layer: u32,
    /// Name of the layer's weight.
    pub name: String,
    /// Measured value.
    #[serde(with = "wgrad_stdx::float")]
    pub value: f64,
}

/// Activation function of a perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Logistic function 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// Rectifier max(x, 0).
    Relu,
}

impl Activation {
    /// Both activation functions.
    pub const ALL: [Self; 2] = [Self::Sigmoid, Self::Relu];

    /// Returns `sigmoid` or `ReLU`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Relu => "ReLU",
        }
    }
}

/// Results of one multilayer perceptron, trained once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigmoidRun {
    /// Activation function of all layers except the last.
    pub activation: Activation,
    /// Number of layers with weights.
    pub depth: u32,
    /// Seed of the initial values and the batches.
    pub seed: u64,
    /// Gradient norm ‖∂loss/∂W‖ of each layer on the first batch before the first step, from the input to the output.
    pub gradient_norms_init: Vec<LayerValue>,
    /// Gradient norm ‖∂loss/∂W‖ of each layer on the first batch after the last step.
    pub gradient_norms_final: Vec<LayerValue>,
    /// Relative change ‖W − W₀‖ / ‖W₀‖ of the weights W of each layer, where W₀ are the initial weights.
    pub movement: Vec<LayerValue>,
    /// Mean training loss of the steps between the last two points of the curve.
    #[serde(with = "wgrad_stdx::float")]
    pub final_train_loss: f64,
    /// Mean loss on the test examples after the last step.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_loss: f64,
    /// Fraction of the test examples classified correctly after the last step.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_accuracy: f64,
    /// Whether training ended with a loss that is not finite.
    pub diverged: bool,
}

impl DepthStudy {
    /// Reads a `depth.json`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a depth study in JSON.
    pub fn read(path: &Path) -> Result<Self, StudyError> {
        let bytes = fs::read(path).map_err(|source| StudyError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| StudyError::Json { path: path.to_owned(), source })
    }

    /// Writes `depth.json` and `depth.html` into a directory, and creates the directory if necessary. Returns the path
    /// of the page.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be created or one of the files cannot be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, OutputError> {
        output::make_directory(directory)?;
        output::json(self, directory, "depth.json")?;
        output::text(&self.html(), directory, "depth.html")
    }

    /// Returns the HTML page with the conclusion, the charts with their numbers, and the table of all runs.
    pub fn html(&self) -> String {
        let mut html = String::new();
        // Writing to a string cannot fail.
        let _ = page::write(&mut html, self);
        html
    }

    /// Returns the conclusion from the final training losses of plain and residual networks.
    pub fn conclusion(&self) -> Conclusion {
        Conclusion::new(self)
    }

    /// Returns the conclusion from the perceptrons.
    pub fn sigmoid_conclusion(&self) -> SigmoidConclusion {
        SigmoidConclusion::new(self)
    }

    /// Returns the runs of a family with the given depth, one per seed.
    fn runs_of(&self, family: Family, depth: u32) -> impl Iterator<Item = &DepthRun> {
        self.runs.iter().filter(move |run| run.family == family && run.depth == depth)
    }

    /// Returns the distinct depths of the runs in ascending order.
    fn depths(&self) -> Vec<u32> {
        let mut depths: Vec<u32> = self.runs.iter().map(|run| run.depth).collect();
        depths.sort_unstable();
        depths.dedup();
        depths
    }
}

impl DepthRun {
    /// Returns the final training loss, infinite if the run diverged.
    fn loss(&self) -> f64 {
        if self.diverged { f64::INFINITY } else { self.final_train_loss }
    }

    /// Returns the fraction of the test examples classified wrongly, or `None` if the run diverged.
    fn test_error(&self) -> Option<f64> {
        Some(1.0 - self.final_test_accuracy).filter(|error| !self.diverged && error.is_finite())
    }
}
