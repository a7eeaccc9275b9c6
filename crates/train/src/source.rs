//! Where the training batches come from: drawn as indices, or made ready ahead of the device.

use std::sync::Arc;
use std::time::Duration;

use wgrad_data::{Batch, Batches, DataError, Loader, LoaderOptions, LoaderPosition, Splits, Targets};
use wgrad_program::Data;

use crate::error::TrainError;
use crate::plan::{Config, Plan, SplitName};

/// A source of training batches. Both kinds draw the same examples in the same order.
pub(crate) enum Feed {
    /// Indices into data on the device, or into numbers that are copied for each batch.
    Drawn(Batches),
    /// Images decoded, augmented and normalised on threads of their own.
    Prepared(Box<Loader>),
}

impl Feed {
    /// Images that do not lie on the device are made ready ahead of it; anything else is drawn by index.
    pub fn new(plan: &Plan, splits: &Splits, config: &Config) -> Result<Self, TrainError> {
        let resident = plan.split(SplitName::Train).is_some_and(|(_, resident)| resident.is_some());
        let batches = Batches::new(splits.train.len(), config.batch, config.seed)?.rows(config.rows())?;
        if resident || splits.train.pixels().is_none() {
            return Ok(Feed::Drawn(batches));
        }
        let options = LoaderOptions { augment: splits.augment, ..LoaderOptions::default() };
        let data = Arc::new(splits.train.clone());
        Ok(Feed::Prepared(Box::new(Loader::over(data, batches, options)?)))
    }

    pub fn position(&self) -> LoaderPosition {
        match self {
            Feed::Drawn(batches) => batches.position(),
            Feed::Prepared(loader) => loader.position(),
        }
    }

    pub fn restore(&mut self, position: LoaderPosition) -> Result<(), DataError> {
        match self {
            Feed::Drawn(batches) => batches.restore(position),
            Feed::Prepared(loader) => loader.restore(position),
        }
    }

    pub fn per_epoch(&self) -> u32 {
        match self {
            Feed::Drawn(batches) => batches.per_epoch(),
            Feed::Prepared(loader) => loader.per_epoch(),
        }
    }

    /// What the host does to get a batch, for a timeline.
    pub fn name(&self) -> &'static str {
        match self {
            Feed::Drawn(_) => "prepare batch",
            Feed::Prepared(_) => "wait for batch",
        }
    }

    /// How long and how often a step had to wait for its batch; `None` where there is nothing to wait for.
    pub fn waited(&self) -> Option<(Duration, u64)> {
        match self {
            Feed::Drawn(_) => None,
            Feed::Prepared(loader) => Some((loader.waited(), loader.waits())),
        }
    }
}

/// What goes into a pass beside its batch.
pub(crate) fn rest<'d>(config: &Config, rng: &'d [u32], hyper: &'d [f32], share: &'d [f32]) -> Vec<Data<'d>> {
    let mut rest = vec![Data::U32(rng), Data::F32(hyper)];
    if config.part.is_some() && config.class_weights.is_some() {
        rest.push(Data::F32(share));
    }
    rest
}

/// The share of the loss of a whole batch that is that of the rows which are taken of it: that of their weights.
pub(crate) fn share_of_loss(config: &Config, batch: &Batch, targets: &Targets) -> f32 {
    let weight = |indices: &[u32]| match (&config.class_weights, targets) {
        (Some(weights), Targets::Classes { labels, .. }) => {
            indices.iter().map(|&i| weights[labels[i as usize] as usize]).sum()
        }
        _ => indices.len() as f64,
    };
    (weight(&batch.indices) / weight(&batch.whole)) as f32
}
