//! What a sweep trains: networks of several sizes on several amounts of data, from a TOML file, and the trainings that it
//! comes to. Nothing here trains.

mod job;
mod toml;
mod train;

pub use job::{Aim, Job, Key, Network, Rates};
pub use toml::{SweepError, builtin, parse, read};
pub use train::{SweepData, network_of, train_job};

use crate::scaling::Role;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A training is evaluated from this step on.
const FIRST: u64 = 10;

/// A sweep: how everything is trained, what laws are fitted to, and where data stands against architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// How every network is trained.
    pub training: Training,
    /// Networks by size and data: laws are fitted to each.
    #[serde(default, rename = "law")]
    pub laws: Vec<Law>,
    /// The same compute on two architectures.
    #[serde(default)]
    pub versus: Vec<Versus>,
}

/// How every network of a sweep is trained: AdamW without weight decay, a constant learning rate after a warm-up, and the moving
/// average of the parameters is what is evaluated, so that every point of a curve is one that a run could end at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Examples of a step.
    pub batch: u64,
    /// Steps in which the learning rate rises.
    pub warmup: u64,
    /// Decay of the moving average of the parameters.
    pub ema: f64,
    /// Learning rates to choose from, rising: each network's is the one with the lowest validation loss after a short training.
    pub rates: Vec<f64>,
    /// Steps of that training.
    pub rate_steps: u64,
    /// Its examples, or all that there are.
    pub rate_examples: u64,
    /// Examples that are taken from the training data to stop early by, or a fifth of it if that is less.
    pub validation: u64,
    /// Examples of the test data that losses are taken on, or all that there are.
    pub test: u64,
    /// Evaluations of a training, at steps that grow by a constant factor.
    pub evaluations: u64,
    /// Evaluations without a lower validation loss after which a training ends.
    pub patience: u64,
}

/// Networks of one architecture on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// The data.
    pub dataset: String,
    /// Trained only where this data set is not on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// The architecture.
    pub family: Family,
    /// Hidden layers of a perceptron, layers (6n + 2) of a residual network.
    pub depth: u64,
    /// Units of a hidden layer, or channels of the first stage.
    pub widths: Vec<u64>,
    /// Numbers of different training examples.
    pub examples: Vec<u64>,
    /// Seeds; every network is trained once with each.
    pub seeds: Vec<u64>,
    /// Times that the examples are gone through at most.
    pub epochs: u64,
    /// Steps at least and at most, whatever the epochs.
    pub steps: [u64; 2],
    /// Larger networks on more data, whose loss is predicted before they are trained.
    #[serde(default)]
    pub held_out: Vec<HeldOut>,
}

/// A larger network on more data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Its width.
    pub width: u64,
    /// Its different training examples.
    pub examples: u64,
}

/// Two architectures with the same compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versus {
    /// The data.
    pub dataset: String,
    /// Trained only where this data set is not on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// Training FLOPs of each network.
    pub flops: Vec<f64>,
    /// Numbers of different training examples.
    pub examples: Vec<u64>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// The architectures, the plain one first.
    pub networks: [Network; 2],
}

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// A multilayer perceptron with ReLU units, which sees pixels in no order.
    Mlp,
    /// A residual network of convolutions with group norms.
    ResNet,
}

impl Family {
    /// `mlp` or `resnet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::ResNet => "resnet",
        }
    }
}

impl Sweep {
    /// Every data set that it may train on, once, in the order of the file.
    pub fn datasets(&self) -> Vec<&str> {
        let laws = self.laws.iter().map(|law| law.dataset.as_str());
        let mut names: Vec<&str> = Vec::new();
        for name in laws.chain(self.versus.iter().map(|versus| versus.dataset.as_str())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A short name of how everything is trained, by which trainings of one way are told from those of another.
    pub fn way(&self) -> String {
        // Without a value that serde has no number for, this is text.
        let text = serde_json::to_string(&self.training).unwrap_or_default();
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is left of it on a machine that has some of the data, and the data sets that are missing.
    pub fn on(&self, has: impl Fn(&str) -> bool) -> (Self, Vec<String>) {
        let wanted = |without: &Option<String>| without.as_ref().is_none_or(|other| !has(other));
        let mut missing: Vec<String> = Vec::new();
        let mut here = |name: &String, without: &Option<String>| {
            if wanted(without) && !has(name) && !missing.contains(name) {
                missing.push(name.clone());
            }
            wanted(without) && has(name)
        };
        let laws = self.laws.iter().filter(|law| here(&law.dataset, &law.without)).cloned().collect();
        let versus = self.versus.iter().filter(|v| here(&v.dataset, &v.without)).cloned().collect();
        (Self { training: self.training.clone(), laws, versus }, missing)
    }

    /// Examples that are left to train on of so many.
    pub fn left_of(&self, examples: u64) -> u64 {
        examples - self.training.validation.min(examples / 5)
    }

    /// The steps at which a training of so many steps is evaluated: growing by a constant factor, the last one at the end. One
    /// for a learning rate is evaluated at its end only.
    pub fn evaluations(&self, role: Role, steps: u64) -> Vec<u64> {
        let count = if role == Role::Rate { 1 } else { self.training.evaluations.max(1) };
        let first = steps.min(FIRST) as f64;
        let factor = (steps as f64 / first).powf(1.0 / (count - 1).max(1) as f64);
        let at = |i: u64| (steps as f64 / factor.powf((count - 1 - i) as f64)).round() as u64;
        let mut all: Vec<u64> = (0..count).map(at).filter(|step| *step > 0).collect();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests;
