//! Section `[train]` of a recipe: duration, batch sizes, evaluation and checkpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum batch size, so that its product with the width of a layer does not overflow an index.
const MAX_BATCH: u64 = 1 << 24;
/// Maximum number of steps or epochs.
const MAX_COUNT: u64 = u32::MAX as u64;
/// Maximum seed: the largest integer in TOML.
const MAX_SEED: u64 = i64::MAX as u64;

/// Duration, batch sizes, evaluation and checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Number of passes over the training set.
    #[schemars(range(min = 1, max = MAX_COUNT))]
    pub epochs: u64,
    /// Number of optimizer steps after which the run ends, even within an epoch. Absent: the run ends after `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_COUNT))]
    pub steps: Option<u64>,
    /// Number of examples in a forward and backward pass; at most the size of the training set.
    #[schemars(range(min = 1, max = MAX_BATCH))]
    pub batch: usize,
    /// Number of examples in a forward pass of an evaluation.
    #[schemars(range(min = 1, max = MAX_BATCH))]
    pub eval_batch: usize,
    /// Seed of the initial parameters, shuffling and dropout.
    #[schemars(range(min = 0, max = MAX_SEED))]
    pub seed: u64,
    /// Number of steps between two rows of training metrics.
    #[schemars(range(min = 1, max = MAX_COUNT))]
    pub log_every: u64,
    /// Number of epochs between two evaluations. The run always ends with an evaluation.
    #[schemars(range(min = 1, max = MAX_COUNT))]
    pub eval_every_epochs: u64,
    /// Number of batches whose gradients are averaged for one optimizer step.
    #[schemars(range(min = 1, max = MAX_COUNT))]
    pub accumulate: u64,
    /// Decay of an exponential moving average of the parameters, used in evaluation and prediction. Absent: no
    /// average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub ema: Option<f64>,
    /// Fraction of the target probability that is distributed evenly over all classes, in training only.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// Weight of each class in the training loss, in the order of the classes. Absent: equal weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("items" = {"type": "number", "exclusiveMinimum": 0}))]
    pub class_weights: Option<Vec<f64>>,
    /// Whether each class is weighted by the inverse of its fraction of the training examples. Cannot be combined with
    /// `class_weights`.
    pub balance_classes: bool,
    /// Whether the backward pass recomputes parts of the forward pass instead of storing their results, to save
    /// memory.
    pub recompute: bool,
    /// Whether batch norm with several replicas uses the statistics of the complete batch instead of the statistics of
    /// each replica's examples.
    pub sync_batch_norm: bool,
    /// Early stopping: number of evaluations without a lower loss after which the run ends. Absent: no early stopping.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_COUNT))]
    pub patience: Option<u64>,
    /// Number of epochs between two checkpoints; 0 writes only the checkpoint at the end.
    pub checkpoint_every_epochs: u64,
    /// Number of checkpoints to keep; older checkpoints are deleted.
    #[schemars(range(min = 1, max = MAX_COUNT))]
    pub keep_checkpoints: usize,
    /// Element type of the network's computations.
    pub precision: Precision,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 10,
            steps: None,
            batch: 64,
            eval_batch: 256,
            seed: 0,
            log_every: 1,
            eval_every_epochs: 1,
            accumulate: 1,
            ema: None,
            label_smoothing: 0.0,
            class_weights: None,
            balance_classes: false,
            recompute: false,
            sync_batch_norm: false,
            patience: None,
            checkpoint_every_epochs: 1,
            keep_checkpoints: 3,
            precision: Precision::F32,
        }
    }
}

/// Element type of the network's computations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats.
    F32,
}
