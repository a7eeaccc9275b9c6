//! Training configuration: task, hyperparameters and the role of this replica.

use std::ops::Range;

use wgrad_data::{Dataset, Targets};
use wgrad_nn::{Builder, Optimizer, Params, Schedule, Training};
use wgrad_weights::Pattern;

use crate::error::TrainError;
use crate::replicas::RankConfig;

/// Learning task, which determines the meaning of the model's outputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Task {
    /// The outputs are logits: trained with cross-entropy, evaluated with accuracy.
    Classification {
        /// Number of classes.
        classes: usize,
        /// Fraction of the target probability spread evenly over all classes.
        label_smoothing: f64,
    },
    /// The outputs are real values: trained with the mean squared error.
    Regression {
        /// Number of target values per example.
        width: usize,
    },
}

impl Task {
    /// Returns the task that fits the targets of a data set.
    pub fn of(data: &Dataset, label_smoothing: f64) -> Self {
        match data.targets() {
            Targets::Classes { names, .. } => Task::Classification { classes: names.len(), label_smoothing },
            Targets::Values { width, .. } => Task::Regression { width: *width },
        }
    }

    /// Number of outputs of the model for one example.
    pub fn outputs(self) -> usize {
        match self {
            Task::Classification { classes, .. } => classes,
            Task::Regression { width } => width,
        }
    }
}

/// Hyperparameters of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Update rule, with peak learning rate and gradient clipping.
    pub optimizer: Optimizer,
    /// Learning-rate schedule, with warm-up.
    pub schedule: Schedule,
    /// Number of examples in a training pass, summed over all replicas.
    pub batch: usize,
    /// Number of examples in an evaluation pass of one replica.
    pub eval_batch: usize,
    /// Number of passes whose gradients are averaged for one step.
    pub accumulate: u64,
    /// Decay of the moving average of the parameters. If set, the average is evaluated instead of the parameters.
    pub ema: Option<f64>,
    /// Fraction of the target probability spread evenly over all classes.
    pub label_smoothing: f64,
    /// Weight of each class in the training loss, which becomes a weighted mean. `None` for equal weights.
    pub class_weights: Option<Vec<f64>>,
    /// Whether the backward pass recomputes parts of the forward pass instead of keeping its values. This requires
    /// less memory and more arithmetic. Results are bit-identical.
    pub recompute: bool,
    /// Whether batch norms use the statistics of the global batch instead of each replica's rows.
    pub sync_batch_norm: bool,
    /// Name patterns of the parameters that are not trained.
    pub freeze: Vec<Pattern>,
    /// Learning-rate factors, each with a pattern of parameter names. The first matching pattern applies; other
    /// parameters have the factor 1.
    pub rates: Vec<(Pattern, f64)>,
    /// Seed of initial values, shuffling and dropout.
    pub seed: u64,
    /// Rank of this replica in data-parallel training, and number of replicas. `None` without replicas.
    pub replica: Option<RankConfig>,
}

impl Default for Config {
    /// Returns AdamW with a constant learning rate of 1e-3 and a batch size of 64.
    fn default() -> Self {
        Self {
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            batch: 64,
            eval_batch: 256,
            accumulate: 1,
            ema: None,
            label_smoothing: 0.0,
            class_weights: None,
            recompute: false,
            sync_batch_norm: false,
            freeze: Vec::new(),
            rates: Vec::new(),
            seed: 0,
            replica: None,
        }
    }
}

impl Config {
    /// Rows of each training batch that this replica processes.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.replica.map_or(0..self.batch, |replica| replica.rows(self.batch))
    }

    /// Number of passes in a step, at least 1.
    pub(crate) fn passes(&self) -> u64 {
        self.accumulate.max(1)
    }

    /// Number of replicas that train the model together.
    pub(crate) fn replicas(&self) -> usize {
        self.replica.map_or(1, |replica| replica.size)
    }

    /// Whether a training pass has an input for the fraction of the batch loss that belongs to this replica's rows.
    /// With class weights, this fraction depends on the batch.
    pub(crate) fn has_loss_weight_input(&self) -> bool {
        self.replica.is_some() && self.class_weights.is_some()
    }

    /// Returns whether the parameter `name` is frozen, and otherwise its learning-rate factor.
    pub(crate) fn training(&self, name: &str) -> Training {
        if self.freeze.iter().any(|pattern| pattern.matches(name)) {
            return Training::Frozen;
        }
        let rate = self.rates.iter().find(|(pattern, _)| pattern.matches(name));
        Training::Rate(rate.map_or(1.0, |(_, rate)| *rate))
    }

    /// Returns an error if a pattern of `freeze` or `rates` matches no parameter.
    pub(crate) fn check_patterns(&self, builder: &Builder) -> Result<(), TrainError> {
        let names: Vec<&str> = builder.specs().iter().map(|spec| spec.name.as_str()).collect();
        let patterns: Vec<Pattern> =
            self.freeze.iter().chain(self.rates.iter().map(|(pattern, _)| pattern)).cloned().collect();
        Ok(Pattern::check_all(&patterns, &names)?)
    }

    /// Returns an error if the configuration does not fit the task or the parameters.
    pub(crate) fn check(&self, task: Task, params: &Params) -> Result<(), TrainError> {
        if params.trained() == 0 {
            return Err(TrainError::Config(
                "the model has no parameters to train; check whether transfer.freeze matches all parameters"
                    .into(),
            ));
        }
        if let (Task::Classification { classes, .. }, Some(weights)) = (task, &self.class_weights)
            && weights.len() != classes
        {
            let message = format!(
                "train.class_weights has {} weights, but the data has {classes} classes",
                weights.len()
            );
            return Err(TrainError::Config(message));
        }
        let mut names: Vec<&str> = params.specs().iter().map(|spec| spec.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message =
                format!("two parameters are named {}; put their layers in separate scopes", pair[0]);
            return Err(TrainError::Config(message));
        }
        if let Some(RankConfig { size, .. }) = self.replica.filter(|replica| self.batch < replica.size) {
            let batch = self.batch;
            return Err(TrainError::Config(format!(
                "train.batch is {batch}, but {size} replicas need at least {size} examples in a batch"
            )));
        }
        Ok(())
    }
}
