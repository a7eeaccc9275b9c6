//! Where the training batches come from: drawn as indices, or made ready ahead of the device.

use std::time::Duration;

use wgrad_data::{Batches, DataError, Loader, LoaderPosition};

/// A source of training batches. Both kinds draw the same examples in the same order.
pub(crate) enum Feed {
    /// Indices into data on the device, or into numbers that are copied for each batch.
    Drawn(Batches),
    /// Images decoded, augmented and normalised on threads of their own.
    Prepared(Box<Loader>),
}

impl Feed {
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
