//! Training run of a sweep: network, data, settings and results.

use serde::{Deserialize, Serialize};
use wgrad_run::Flops;

/// Purpose of a training run in a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Short training run whose validation loss determines the learning rate of a network.
    Rate,
    /// Training run that laws are fitted to.
    Fit,
    /// Larger training run whose loss is predicted before the run starts.
    HeldOut,
    /// Training run with a given compute budget, for the comparison of more data with a better architecture.
    #[serde(rename = "versus")]
    Comparison,
}

/// Training run of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Unique name, also used as the name of the file that stores the run, e.g. `fashion-mnist-mlp2-w32-d4000-s1`.
    pub id: String,
    /// Purpose of the training run.
    pub role: Role,
    /// Name of the data set.
    pub dataset: String,
    /// Architecture, `mlp` or `resnet`. Each architecture has its own laws.
    pub family: String,
    /// Depth: for a perceptron, the number of hidden layers; for a residual network, the number of layers. Each depth
    /// has its own laws.
    pub depth: u64,
    /// Description of the network, e.g. `784-32-32-10`.
    pub network: String,
    /// Width: for a perceptron, the number of units of each hidden layer; for a residual network, the number of
    /// channels of the first stage.
    pub width: u64,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Number of distinct training examples.
    pub examples: u64,
    /// Number of examples per step.
    pub batch: u64,
    /// Number of steps done.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Seed of the initial values, of the order of the batches, and of the random choice of training examples.
    pub seed: u64,
    /// Floating-point operations of all steps and evaluations.
    pub flops: Flops,
    /// Results and compute at each evaluation, in order of ascending step. The last evaluation is after the last step.
    pub curve: Vec<CurvePoint>,
    /// Step of the evaluation with the lowest validation loss. The results of the run are those of this step.
    pub best_step: u64,
    /// Mean test loss at `best_step` in nats per example. Laws are fitted to this loss. Infinite if the run diverged.
    #[serde(with = "wgrad_stdx::float")]
    pub test_loss: f64,
    /// Fraction of the test examples classified correctly at `best_step`.
    #[serde(with = "wgrad_stdx::float")]
    pub test_accuracy: f64,
    /// Training FLOPs of the steps up to `best_step`.
    pub flops_to_best: f64,
    /// Whether the training, validation or test loss became NaN or infinite.
    pub diverged: bool,
    /// Total duration of the steps in seconds, without evaluations.
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
    /// Training FLOPs of all steps done.
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
