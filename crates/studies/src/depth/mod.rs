//! A study of depth: plain and residual networks of growing depth, trained with one budget, on a page that says what
//! came out. Nothing here trains; who does fills in a [`DepthStudy`], and every number of the page is taken from it.

mod charts;
mod conclusion;
mod page;
mod train;

pub use conclusion::{Conclusion, Direction, SigmoidConclusion, SigmoidVerdict, Starving, Trend, Verdict};
pub use wgrad_report::Spread;

pub use train::{DepthOptions, DepthResults, study_depth};

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::file;

/// Why a study cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no study.
    #[error("{} is no study: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
}

/// What was trained and what came out: `depth.json`. Numbers that are not finite are the strings `"NaN"`, `"inf"` and
/// `"-inf"` there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DepthStudy {
    /// Heading of the page.
    pub title: String,
    /// What to type to repeat it.
    pub command: String,
    /// The device, in words.
    pub device: String,
    /// The data set, in words.
    pub dataset: String,
    /// How many classes it has; a guess has a loss of ln(classes).
    pub classes: u32,
    /// When it was done, as 2026-01-02T03:04:05Z.
    pub date: String,
    /// How long all runs took together.
    #[serde(with = "wgrad_stdx::float")]
    pub seconds: f64,
    /// What every run of `runs` was given.
    pub budget: Budget,
    /// The seeds, each used for every family and depth.
    pub seeds: Vec<u64>,
    /// Plain and residual networks, in any order.
    pub runs: Vec<DepthRun>,
    /// Multilayer perceptrons with sigmoid and with ReLU, in any order.
    pub sigmoid: Vec<SigmoidRun>,
}

/// What a run was given to learn with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Optimizer steps.
    pub steps: u64,
    /// Examples in a step.
    pub batch: u64,
    /// Highest learning rate.
    #[serde(with = "wgrad_stdx::float")]
    pub lr: f64,
    /// How the learning rate changes, in words.
    pub schedule: String,
    /// The optimizer with its constants, in words.
    pub optimizer: String,
    /// How many examples there were to learn from.
    pub train_examples: u64,
    /// How many examples the test figures are over.
    pub test_examples: u64,
    /// The networks, in words: blocks, channels, normalisation, initial values.
    pub networks: String,
    /// The multilayer perceptrons and what they were given, in words.
    pub perceptrons: String,
}

/// How the layers of a network are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Each layer reads the one before.
    Plain,
    /// Every block adds what it computes to what it read.
    Residual,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Residual];

    /// `plain` or `residual`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Residual => "residual",
        }
    }
}

/// One network, trained once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DepthRun {
    /// How its layers are joined.
    pub family: Family,
    /// How many weighted layers it has.
    pub depth: u32,
    /// Seed of initial values and batches.
    pub seed: u64,
    /// How many trained numbers it has.
    pub parameters: u64,
    /// Floating-point operations of a training step, a multiplication and an addition counted as two.
    pub flops_per_step: u64,
    /// By rising step.
    pub curve: Vec<CurvePoint>,
    /// ‖∂loss/∂W‖ of each layer on the first batch, before any step, by rising layer.
    pub gradient_norms_init: Vec<LayerValue>,
    /// The same on the same batch after the last step.
    pub gradient_norms_final: Vec<LayerValue>,
    /// Mean training loss of the steps since the curve's last point but one. What the conclusion is drawn from.
    #[serde(with = "wgrad_stdx::float")]
    pub final_train_loss: f64,
    /// Mean loss on the test examples after the last step.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_loss: f64,
    /// Share of the test examples that are right after the last step, from 0 to 1.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_accuracy: f64,
    /// Whether training ended with a loss that is not finite. Its final loss counts as infinite then.
    pub diverged: bool,
}

/// A point of a training curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Steps done, from 1.
    pub step: u64,
    /// Mean loss of the steps since the point before: who trains smooths it, the page draws it as it is.
    #[serde(with = "wgrad_stdx::float")]
    pub train_loss: f64,
    /// Mean loss on the test examples, where they were evaluated.
    #[serde(with = "wgrad_stdx::float::option", default)]
    pub test_loss: Option<f64>,
    /// Share of the test examples that are right, where they were evaluated.
    #[serde(with = "wgrad_stdx::float::option", default)]
    pub test_accuracy: Option<f64>,
}

/// A number measured at a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerValue {
    /// Which layer, from 1 at the input.
    pub layer: u32,
    /// Name of its weight.
    pub name: String,
    /// The number.
    #[serde(with = "wgrad_stdx::float")]
    pub value: f64,
}

/// What follows the product in a layer of a perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sigmoid, Self::Relu];

    /// `sigmoid` or `ReLU`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Relu => "ReLU",
        }
    }
}

/// A multilayer perceptron, trained once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigmoidRun {
    /// Of all layers but the last.
    pub activation: Activation,
    /// How many weighted layers it has.
    pub depth: u32,
    /// Seed of initial values and batches.
    pub seed: u64,
    /// ‖∂loss/∂W‖ of each layer on the first batch, before any step, by rising layer.
    pub gradient_norms_init: Vec<LayerValue>,
    /// The same on the same batch after the last step.
    pub gradient_norms_final: Vec<LayerValue>,
    /// How far each layer's weights moved, ‖W − W₀‖ / ‖W₀‖.
    pub movement: Vec<LayerValue>,
    /// Mean training loss of the last steps, as many as lie between two points of a curve.
    #[serde(with = "wgrad_stdx::float")]
    pub final_train_loss: f64,
    /// Mean loss on the test examples after the last step.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_loss: f64,
    /// Share of the test examples that are right after the last step, from 0 to 1.
    #[serde(with = "wgrad_stdx::float")]
    pub final_test_accuracy: f64,
    /// Whether training ended with a loss that is not finite.
    pub diverged: bool,
}

impl DepthStudy {
    /// The study in a `depth.json`.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn read(path: &Path) -> Result<Self, StudyError> {
        let bytes = fs::read(path).map_err(failed("read", path))?;
        serde_json::from_slice(&bytes).map_err(|source| StudyError::Json { path: path.to_owned(), source })
    }

    /// Writes `depth.json` and `depth.html` into a directory, which is made if it is not there, and returns the path of
    /// the page.
    ///
    /// # Errors
    /// [`StudyError::File`].
    pub fn write(&self, directory: &Path) -> Result<PathBuf, StudyError> {
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
        let (json, page) = (directory.join("depth.json"), directory.join("depth.html"));
        let text = serde_json::to_string(self).map_err(io::Error::from).map_err(failed("write", &json))?;
        file::replace(&json, format!("{text}\n").as_bytes()).map_err(failed("write", &json))?;
        file::replace(&page, self.html().as_bytes()).map_err(failed("write", &page))?;
        Ok(page)
    }

    /// The page: conclusion, charts with their numbers, all runs.
    pub fn html(&self) -> String {
        let mut html = String::new();
        // Writing to a string cannot fail.
        let _ = page::write(&mut html, self);
        html
    }

    /// What the final training losses say.
    pub fn conclusion(&self) -> Conclusion {
        Conclusion::of(self)
    }

    /// What the perceptrons say.
    pub fn sigmoid_conclusion(&self) -> SigmoidConclusion {
        SigmoidConclusion::of(self)
    }

    /// The runs of a family at a depth, one for each seed.
    fn runs_of(&self, family: Family, depth: u32) -> impl Iterator<Item = &DepthRun> {
        self.runs.iter().filter(move |run| run.family == family && run.depth == depth)
    }

    /// All depths, rising.
    fn depths(&self) -> Vec<u32> {
        let mut depths: Vec<u32> = self.runs.iter().map(|run| run.depth).collect();
        depths.sort_unstable();
        depths.dedup();
        depths
    }
}

impl DepthRun {
    /// The final training loss, infinite if the run diverged.
    fn loss(&self) -> f64 {
        if self.diverged { f64::INFINITY } else { self.final_train_loss }
    }

    /// Share of the test examples that are wrong. None if the run diverged.
    fn test_error(&self) -> Option<f64> {
        Some(1.0 - self.final_test_accuracy).filter(|error| !self.diverged && error.is_finite())
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StudyError {
    let path = path.to_owned();
    move |source| StudyError::File { action, path, source }
}
