//! Training of a sweep: network, data, settings and results.

use serde::{Deserialize, Serialize};
use wgrad_run::Flops;

/// Purpose of a training in a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Short training whose validation loss decides the learning rate of a network.
    Rate,
    /// Training that laws are fitted to.
    Fit,
    /// Larger training whose loss is predicted before it begins.
    HeldOut,
    /// Training with a given compute, for the comparison of data and architecture.
    #[serde(rename = "versus")]
    Comparison,
}

/// Training of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Unique name, which is also the name of its file, e.g. `fashion-mnist-mlp2-w32-d4000-s1`.
    pub id: String,
    /// Purpose of the training.
    pub role: Role,
    /// Name of the data set.
    pub dataset: String,
    /// Architecture, `mlp` or `resnet`. Each architecture has its own laws.
    pub family: String,
    /// Hidden layers of a perceptron, or layers of a residual network. Each depth has its own laws.
    pub depth: u64,
    /// Description of the network, e.g. `784-32-32-10`.
    pub network: String,
    /// Units of a hidden layer, or channels of the first stage.
    pub width: u64,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Number of distinct training examples.
    pub examples: u64,
    /// Examples of a step.
    pub batch: u64,
    /// Number of steps done.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Seed of the initial values, the batches and the draw of examples.
    pub seed: u64,
    /// Floating-point operations of all steps and evaluations.
    pub flops: Flops,
    /// Losses and compute at each evaluation, in the order of their steps. The last point is after the last step.
    pub curve: Vec<CurvePoint>,
    /// Step of the curve with the lowest validation loss (early stopping).
    pub best_step: u64,
    /// Mean test loss at `best_step` in nats per example, which laws are fitted to. Infinite if the training diverged.
    #[serde(with = "wgrad_stdx::float")]
    pub test_loss: f64,
    /// Fraction of the test examples classified correctly at `best_step`.
    #[serde(with = "wgrad_stdx::float")]
    pub test_accuracy: f64,
    /// Training FLOPs until `best_step`.
    pub flops_to_best: f64,
    /// Whether a loss stopped being finite.
    pub diverged: bool,
    /// Seconds of the steps, without evaluations.
    pub seconds: f64,
    /// Name of the device that trained the network.
    pub device: String,
}

impl Trial {
    /// Whether the validation loss was still falling at the end: the best step is the last step.
    pub fn is_still_improving(&self) -> bool {
        !self.diverged && self.best_step == self.steps
    }
}

/// Point of a training curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of steps done.
    pub step: u64,
    /// Training FLOPs so far.
    pub flops: f64,
    /// Mean training loss of the steps since the previous point.
    #[serde(with = "wgrad_stdx::float")]
    pub train_loss: f64,
    /// Mean loss on the validation examples.
    #[serde(with = "wgrad_stdx::float")]
    pub validation_loss: f64,
    /// Mean loss on the test examples.
    #[serde(with = "wgrad_stdx::float")]
    pub test_loss: f64,
    /// Fraction of the test examples classified correctly.
    #[serde(with = "wgrad_stdx::float")]
    pub test_accuracy: f64,
}
