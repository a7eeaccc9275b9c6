//! One training of a sweep: what was trained, on how much, and what came out.

use serde::{Deserialize, Serialize};
use wgrad_run::Flops;

/// What a training of a sweep is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A short one, by whose validation loss the learning rate of a size is chosen.
    Rate,
    /// One that laws are fitted to.
    Fit,
    /// One larger than those, predicted before it was trained.
    HeldOut,
    /// One of the same compute on another architecture or amount of data.
    Versus,
}

/// One training of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its name, and that of its file: what was trained in short, e.g. `fashion-mnist-mlp-w32-d4000-s1`.
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// Its data.
    pub dataset: String,
    /// The architecture, e.g. `mlp` or `resnet`: laws are fitted for each.
    pub family: String,
    /// Hidden layers of a perceptron, layers of a residual network: laws are fitted for each.
    pub depth: u64,
    /// The network in words, e.g. `784-32-32-10`.
    pub network: String,
    /// Units of a hidden layer, or channels of the first stage.
    pub width: u64,
    /// Trained numbers.
    pub parameters: u64,
    /// Different training examples.
    pub examples: u64,
    /// Examples of a step.
    pub batch: u64,
    /// Steps made.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Seed of initial values, of batches, and of which examples were drawn.
    pub seed: u64,
    /// Work of all steps made.
    pub flops: Flops,
    /// Mean losses and compute on the way, by rising step; the last one is after the last step.
    pub curve: Vec<Curve>,
    /// Step with the lowest validation loss on the curve: early stopping, by examples that the test loss is not taken on.
    pub best_step: u64,
    /// Mean test loss at that step, in nats an example; what laws are fitted to. Infinite if training diverged.
    #[serde(with = "wgrad_stdx::float")]
    pub test_loss: f64,
    /// Share of the test examples that are right at that step, from 0 to 1.
    #[serde(with = "wgrad_stdx::float")]
    pub test_accuracy: f64,
    /// Training FLOPs until that step.
    pub flops_to_best: f64,
    /// Whether a loss was no longer finite.
    pub diverged: bool,
    /// Seconds of its steps, without evaluations.
    pub seconds: f64,
    /// The device that trained it.
    pub device: String,
}

impl Trial {
    /// Whether the validation loss was still falling when the steps ran out: the best step is the last one.
    pub fn improves_to_its_end(&self) -> bool {
        !self.diverged && self.best_step == self.steps
    }
}

/// A training on its way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Steps done.
    pub step: u64,
    /// Training FLOPs until then.
    pub flops: f64,
    /// Mean training loss of the steps since the point before.
    #[serde(with = "wgrad_stdx::float")]
    pub train_loss: f64,
    /// Mean loss on the validation examples.
    #[serde(with = "wgrad_stdx::float")]
    pub validation_loss: f64,
    /// Mean loss on the test examples.
    #[serde(with = "wgrad_stdx::float")]
    pub test_loss: f64,
    /// Share of the test examples that are right.
    #[serde(with = "wgrad_stdx::float")]
    pub test_accuracy: f64,
}
