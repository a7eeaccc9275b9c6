//! Sweeps: networks of several sizes, trained on several amounts of data.
//!
//! A [`Sweep`] is read from TOML and expanded into [`Job`]s; [`train_job`] runs one job.

mod job;
mod toml;
mod train;

pub use job::{Job, LearningRates, Network, RateKey, TrainingLength};
pub use toml::{SweepError, builtin, parse, read};
pub use train::{SweepData, describe_network, train_job};

use crate::scaling::Role;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Step of the first evaluation.
const FIRST_EVALUATION: u64 = 10;

/// Definition of a sweep: the training settings, the grids that laws are fitted to, and the comparisons of more data
/// with a better architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Settings that all training runs share.
    pub training: Training,
    /// Grids of network sizes and amounts of data. Laws are fitted to the training runs of each grid.
    #[serde(default, rename = "law")]
    pub laws: Vec<LawGrid>,
    /// Comparisons of two architectures with equal compute.
    #[serde(default, rename = "versus")]
    pub comparisons: Vec<Comparison>,
}

/// Settings that all training runs of a sweep share.
///
/// The optimizer is AdamW without weight decay, with a constant learning rate after a warm-up. Evaluations use the
/// moving average of the parameters. Every point of a training curve is therefore also the result of a shorter
/// training run that ends at this point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Number of examples per step.
    pub batch: u64,
    /// Number of warm-up steps.
    pub warmup: u64,
    /// Decay of the moving average of the parameters per step. With 0, the parameters themselves are evaluated.
    pub ema: f64,
    /// Learning rates to choose from, in ascending order. Each network uses the rate with the lowest validation loss in
    /// short training runs.
    pub rates: Vec<f64>,
    /// Number of steps of each short training run that determines a learning rate.
    pub rate_steps: u64,
    /// Maximum number of training examples of each short training run that determines a learning rate.
    pub rate_examples: u64,
    /// Maximum number of validation examples for early stopping. At most a fifth of the training data is used for
    /// validation.
    pub validation: u64,
    /// Maximum number of test examples.
    pub test: u64,
    /// Maximum number of evaluations of a training run. The evaluated steps grow by a constant factor.
    pub evaluations: u64,
    /// Number of evaluations without a lower validation loss after which a training run ends.
    pub patience: u64,
}

/// Grid of widths and amounts of data for one architecture on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LawGrid {
    /// Name of the data set.
    pub dataset: String,
    /// Name of another data set. If it is on the machine, this grid is left out of the sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// Architecture of the networks.
    pub family: Family,
    /// Depth: for perceptrons, the number of hidden layers; for residual networks, the number of layers, 6n + 2.
    pub depth: u64,
    /// Widths of the networks: for perceptrons, the units of each hidden layer; for residual networks, the channels of
    /// the first stage.
    pub widths: Vec<u64>,
    /// Amounts of data: numbers of distinct training examples.
    pub examples: Vec<u64>,
    /// Seeds of the training runs. Every network is trained once per amount of data and seed.
    pub seeds: Vec<u64>,
    /// Maximum number of epochs.
    pub epochs: u64,
    /// Minimum and maximum number of steps. These limits take precedence over `epochs`.
    pub steps: [u64; 2],
    /// Widths and amounts of data beyond the grid. The loss of these networks is predicted before they are trained.
    #[serde(default)]
    pub held_out: Vec<HeldOut>,
}

/// Held-out network: a width and an amount of data beyond the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Width of the network, as in [`LawGrid::widths`].
    pub width: u64,
    /// Number of distinct training examples.
    pub examples: u64,
}

/// Comparison of two architectures with equal compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Name of the data set.
    pub dataset: String,
    /// Name of another data set. If it is on the machine, this comparison is left out of the sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// Compute budgets in training FLOPs. Every network is trained once per budget, amount of data and seed.
    pub flops: Vec<f64>,
    /// Amounts of data: numbers of distinct training examples.
    pub examples: Vec<u64>,
    /// Seeds of the training runs.
    pub seeds: Vec<u64>,
    /// Networks to compare, the plain architecture first.
    pub networks: [Network; 2],
}

/// Architecture of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Multilayer perceptron with ReLU, which treats pixels as unordered features.
    Mlp,
    /// Convolutional residual network with group normalisation.
    ResNet,
}

impl Family {
    /// Returns `mlp` or `resnet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::ResNet => "resnet",
        }
    }
}

impl Sweep {
    /// Returns the names of the data sets of all laws and comparisons, without duplicates, in the order of the file.
    pub fn datasets(&self) -> Vec<&str> {
        let laws = self.laws.iter().map(|law| law.dataset.as_str());
        let mut names: Vec<&str> = Vec::new();
        for name in laws.chain(self.comparisons.iter().map(|comparison| comparison.dataset.as_str())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Returns a digest of the training settings, with 8 hexadecimal digits. Training runs with different settings are
    /// stored under different digests.
    pub fn settings_digest(&self) -> String {
        // Serialization cannot fail: the settings contain only numbers.
        let text = serde_json::to_string(&self.training).unwrap_or_default();
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the sweep with only the entries that can be trained on this machine, and the names of the missing data
    /// sets. An entry is left out if its data set is not on the machine, or if the data set named in `without` is.
    /// `has` returns whether a data set is on the machine.
    pub fn available(&self, has: impl Fn(&str) -> bool) -> (Self, Vec<String>) {
        let enabled = |without: &Option<String>| without.as_ref().is_none_or(|other| !has(other));
        let mut missing: Vec<String> = Vec::new();
        let mut keep = |name: &String, without: &Option<String>| {
            if enabled(without) && !has(name) && !missing.contains(name) {
                missing.push(name.clone());
            }
            enabled(without) && has(name)
        };
        let laws = self.laws.iter().filter(|grid| keep(&grid.dataset, &grid.without)).cloned().collect();
        let comparisons = self.comparisons.iter().filter(|c| keep(&c.dataset, &c.without)).cloned().collect();
        (Self { training: self.training.clone(), laws, comparisons }, missing)
    }

    /// Returns the number of examples that remain for training after the validation examples are removed from `total`
    /// examples.
    pub fn training_examples(&self, total: u64) -> u64 {
        total - self.training.validation.min(total / 5)
    }

    /// Returns the steps at which a training run of `steps` steps is evaluated. The steps grow by a constant factor,
    /// and the last one is `steps`. A run with the role [`Role::Rate`] is evaluated at its last step only.
    pub fn evaluation_steps(&self, role: Role, steps: u64) -> Vec<u64> {
        let count = if role == Role::Rate { 1 } else { self.training.evaluations.max(1) };
        let first = steps.min(FIRST_EVALUATION) as f64;
        let factor = (steps as f64 / first).powf(1.0 / (count - 1).max(1) as f64);
        let at = |i: u64| (steps as f64 / factor.powf((count - 1 - i) as f64)).round() as u64;
        let mut all: Vec<u64> = (0..count).map(at).filter(|step| *step > 0).collect();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests;
