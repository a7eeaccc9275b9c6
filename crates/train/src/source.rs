//! Source of batches: prepares the inputs of a pass that hold the examples.
//!
//! Examples that are resident on the device are selected by index. Non-resident images are decoded, augmented and
//! normalised in advance on background threads. All other examples are gathered when a batch is requested.

use std::sync::Arc;
use std::time::Duration;

use wgrad_data::{
    Batch, Batches, DataError, Dataset, Loader, LoaderOptions, LoaderPosition, Splits, Targets,
};
use wgrad_program::Data;

use crate::config::Config;
use crate::error::TrainError;
use crate::plan::{Plan, SplitName};

/// Source of training batches. The drawn examples and their order do not depend on the sampler.
pub(crate) struct BatchSource {
    sampler: Sampler,
    /// Whether the training data is resident on the device.
    resident: bool,
    buffers: HostBatch,
}

enum Sampler {
    /// Draws indices; examples are resident on the device or gathered on demand.
    Indices(Batches),
    /// Prefetches examples on background threads.
    Prefetching(Box<Loader>),
}

/// A training batch as inputs of a pass.
pub(crate) struct ReadyBatch<'s> {
    /// `[indices]` if the data is resident, else `[features, targets]`.
    pub inputs: Vec<Data<'s>>,
    /// Fraction of the loss of the global batch that the local rows account for.
    pub loss_weight: f32,
}

impl BatchSource {
    /// Creates the source of the training batches of a plan, at the start of epoch 0.
    pub fn new(plan: &Plan, splits: &Splits) -> Result<Self, DataError> {
        let config = &plan.config;
        let resident = plan.is_resident(SplitName::Train);
        let batches = Batches::new(splits.train.len(), config.batch, config.seed)?.rows(config.rows())?;
        let sampler = if resident || splits.train.pixels().is_none() {
            Sampler::Indices(batches)
        } else {
            let options = LoaderOptions { augment: splits.augment, ..LoaderOptions::default() };
            let data = Arc::new(splits.train.clone());
            Sampler::Prefetching(Box::new(Loader::over(data, batches, options)?))
        };
        Ok(Self { sampler, resident, buffers: HostBatch::default() })
    }

    /// Draws the next batch of the training data `data` and returns the rows of this replica.
    pub fn next_batch<'s>(
        &'s mut self,
        config: &Config,
        data: &Dataset,
    ) -> Result<ReadyBatch<'s>, TrainError> {
        let targets = data.targets();
        match &mut self.sampler {
            Sampler::Indices(batches) => {
                let batch = batches.next_batch();
                let loss_weight = loss_weight(config, &batch, targets);
                let inputs = self.buffers.inputs(data, batch.indices, self.resident);
                Ok(ReadyBatch { inputs, loss_weight })
            }
            Sampler::Prefetching(loader) => {
                let ready = loader.next_batch()?;
                let loss_weight = loss_weight(config, &ready.batch, targets);
                let inputs = example_inputs(targets, &ready.features, &ready.classes, &ready.values);
                Ok(ReadyBatch { inputs, loss_weight })
            }
        }
    }

    /// Returns the inputs that hold the given examples of a data set, for evaluations.
    pub fn examples(&mut self, data: &Dataset, indices: Vec<u32>, resident: bool) -> Vec<Data<'_>> {
        self.buffers.inputs(data, indices, resident)
    }

    /// Epoch and index of the next batch.
    pub fn position(&self) -> LoaderPosition {
        match &self.sampler {
            Sampler::Indices(batches) => batches.position(),
            Sampler::Prefetching(loader) => loader.position(),
        }
    }

    /// Moves to the given epoch and batch index.
    pub fn restore(&mut self, position: LoaderPosition) -> Result<(), DataError> {
        match &mut self.sampler {
            Sampler::Indices(batches) => batches.restore(position),
            Sampler::Prefetching(loader) => loader.restore(position),
        }
    }

    /// Number of batches in an epoch.
    pub fn per_epoch(&self) -> u32 {
        match &self.sampler {
            Sampler::Indices(batches) => batches.per_epoch(),
            Sampler::Prefetching(loader) => loader.per_epoch(),
        }
    }

    /// Timeline label for the host time spent preparing or waiting for a batch.
    pub fn label(&self) -> &'static str {
        match &self.sampler {
            Sampler::Indices(_) => "prepare batch",
            Sampler::Prefetching(_) => "wait for batch",
        }
    }

    /// Total time that passes waited for their batches, and the number of such waits; `None` without prefetching.
    pub fn wait_time(&self) -> Option<(Duration, u64)> {
        match &self.sampler {
            Sampler::Indices(_) => None,
            Sampler::Prefetching(loader) => Some((loader.waited(), loader.waits())),
        }
    }
}

/// Host buffers for batches that are gathered on demand, reused for every batch.
#[derive(Default)]
struct HostBatch {
    indices: Vec<u32>,
    features: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
}

impl HostBatch {
    fn inputs(&mut self, data: &Dataset, indices: Vec<u32>, resident: bool) -> Vec<Data<'_>> {
        self.indices = indices;
        if resident {
            return vec![Data::U32(&self.indices)];
        }
        self.gather(data);
        example_inputs(data.targets(), &self.features, &self.classes, &self.values)
    }

    /// Copies the examples of `indices` from a data set.
    fn gather(&mut self, data: &Dataset) {
        self.features.clear();
        self.classes.clear();
        self.values.clear();
        for &index in &self.indices {
            let i = index as usize;
            let start = self.features.len();
            self.features.resize(start + data.feature_len(), 0.0);
            data.fill(i, &mut self.features[start..]);
            match data.targets() {
                Targets::Classes { labels, .. } => self.classes.push(labels[i]),
                Targets::Values { values, width } => {
                    self.values.extend_from_slice(&values[i * width..(i + 1) * width])
                }
            }
        }
    }
}

/// Returns the inputs that hold uploaded examples: features, then classes or values.
fn example_inputs<'b>(
    targets: &Targets,
    features: &'b [f32],
    classes: &'b [u32],
    values: &'b [f32],
) -> Vec<Data<'b>> {
    let targets = match targets {
        Targets::Classes { .. } => Data::U32(classes),
        Targets::Values { .. } => Data::F32(values),
    };
    vec![Data::F32(features), targets]
}

/// Returns the fraction of the batch loss that the local rows account for. Rows are weighted by class if class weights
/// are set.
fn loss_weight(config: &Config, batch: &Batch, targets: &Targets) -> f32 {
    let weight = |indices: &[u32]| match (&config.class_weights, targets) {
        (Some(weights), Targets::Classes { labels, .. }) => {
            indices.iter().map(|&i| weights[labels[i as usize] as usize]).sum()
        }
        _ => indices.len() as f64,
    };
    (weight(&batch.indices) / weight(&batch.whole)) as f32
}
