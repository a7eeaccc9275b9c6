//! Samplers of batches: in shuffled order for training, and in the original order for evaluation.
//!
//! A batch is a list of indices of examples, so the features can stay on the device. The order of the examples in an
//! epoch depends only on the seed and the epoch. A resumed run therefore draws the same batches.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use wgrad_graph::philox::Stream;

use crate::error::DataError;

/// Upper half of the stream index of shuffles: `shuf` in ASCII. It differs from the stream indices of splits.
const SHUFFLE: u64 = 0x7368_7566 << 32;

/// Indices of a training batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Indices into the training set, `u32` `[batch]`. After [`Batches::rows`], contains only the indices of the
    /// selected rows.
    pub indices: Vec<u32>,
    /// Indices of all rows of the batch. [`Batches::rows`] does not restrict this list.
    pub whole: Vec<u32>,
    /// Number of the epoch, starting at 0.
    pub epoch: u32,
    /// Index of the batch in the epoch, from 0.
    pub index_in_epoch: u32,
}

/// Position of the next batch, saved in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderPosition {
    /// Number of the epoch, starting at 0.
    pub epoch: u32,
    /// Index of the next batch in the epoch, from 0.
    pub batch: u32,
}

/// Endless sampler of training batches. Each epoch is a new shuffle that depends only on seed and epoch.
///
/// Every batch has the same size. If the last batch of an epoch is incomplete, it is **dropped**. The next epoch
/// shuffles all examples again.
///
/// ```
/// use wgrad_data::Batches;
///
/// let mut batches = Batches::new(10, 4, 0)?;
/// assert_eq!(batches.per_epoch(), 2);
/// batches.next_batch();
/// let saved = batches.position();
/// let expected = batches.next_batch();
///
/// let mut resumed = Batches::new(10, 4, 0)?;
/// resumed.restore(saved)?;
/// assert_eq!(resumed.next_batch(), expected);
/// # Ok::<(), wgrad_data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Batches {
    batch: usize,
    /// Rows of each batch that `Batch::indices` contains.
    rows: Range<usize>,
    seed: u64,
    position: LoaderPosition,
    order: Vec<u32>,
    /// Epoch whose order `order` contains. `None` before the first batch.
    shuffled: Option<u32>,
}

impl Batches {
    /// Creates a sampler of `len` examples in batches of `batch` examples, at the start of epoch 0.
    ///
    /// # Errors
    /// Returns [`DataError::BatchSize`] if `batch` is 0 or larger than `len`, or if `len` does not fit in `u32`.
    pub fn new(len: usize, batch: usize, seed: u64) -> Result<Self, DataError> {
        if batch == 0 || batch > len || u32::try_from(len).is_err() {
            return Err(DataError::BatchSize { batch, len });
        }
        let order = (0..len as u32).collect();
        Ok(Self { batch, rows: 0..batch, seed, position: LoaderPosition::default(), order, shuffled: None })
    }

    /// Restricts `Batch::indices` of every batch to `rows`: the part of the batch that one of several replicas
    /// processes.
    ///
    /// # Errors
    /// Returns [`DataError::BatchSize`] if `rows` is empty or ends after the last row of the batch.
    pub fn rows(self, rows: Range<usize>) -> Result<Self, DataError> {
        if rows.is_empty() || rows.end > self.batch {
            return Err(DataError::BatchSize { batch: rows.len(), len: self.batch });
        }
        Ok(Self { rows, ..self })
    }

    /// Draws the next batch. After the last batch of an epoch, the next epoch begins.
    pub fn next_batch(&mut self) -> Batch {
        let LoaderPosition { epoch, batch } = self.position;
        if self.shuffled != Some(epoch) {
            // Each shuffle starts from the sorted order, so that an epoch does not depend on earlier epochs.
            self.order.sort_unstable();
            Stream::new(self.seed, SHUFFLE | u64::from(epoch)).shuffle(&mut self.order);
            self.shuffled = Some(epoch);
        }
        let start = batch as usize * self.batch;
        let whole = self.order[start..start + self.batch].to_vec();
        let indices = whole[self.rows.clone()].to_vec();
        self.position = match batch + 1 {
            next if next < self.per_epoch() => LoaderPosition { epoch, batch: next },
            _ => LoaderPosition { epoch: epoch.wrapping_add(1), batch: 0 },
        };
        Batch { indices, whole, epoch, index_in_epoch: batch }
    }

    /// Number of complete batches in each epoch.
    pub fn per_epoch(&self) -> u32 {
        (self.order.len() / self.batch) as u32
    }

    /// Seed of the shuffles.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Number of examples in a complete batch. [`Batches::rows`] does not change this number.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Number of examples that are dropped in each epoch, because they do not fill a batch.
    pub fn dropped_per_epoch(&self) -> usize {
        self.order.len() % self.batch
    }

    /// Position of the next batch, for [`Batches::restore`].
    pub fn position(&self) -> LoaderPosition {
        self.position
    }

    /// Restores a saved position. The next batch is drawn at this position.
    ///
    /// # Errors
    /// Returns [`DataError::Position`] if an epoch has too few batches for the position. This happens if the data or
    /// the batch size changed.
    pub fn restore(&mut self, position: LoaderPosition) -> Result<(), DataError> {
        let per_epoch = self.per_epoch();
        if position.batch >= per_epoch {
            return Err(DataError::Position { batch: position.batch, per_epoch });
        }
        self.position = position;
        Ok(())
    }
}

/// Indices of an evaluation batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalBatch {
    /// Indices into the data set, `u32` `[batch]`. The first `valid` indices are examples. The remaining ones are
    /// padding, with index 0.
    pub indices: Vec<u32>,
    /// Number of indices that are not padding.
    pub valid: usize,
}

/// Iterator over all examples in order, in batches of equal size. An incomplete last batch is padded with index 0.
#[derive(Debug, Clone)]
pub struct Sequential {
    len: u32,
    batch: usize,
    next: u32,
}

impl Sequential {
    /// Creates an iterator over `len` examples in batches of `batch` examples. `batch` can be larger than `len`.
    ///
    /// # Errors
    /// Returns [`DataError::BatchSize`] if `batch` or `len` is 0, or if `len` does not fit in `u32`.
    pub fn new(len: usize, batch: usize) -> Result<Self, DataError> {
        match u32::try_from(len) {
            Ok(len) if len > 0 && batch > 0 => Ok(Self { len, batch, next: 0 }),
            _ => Err(DataError::BatchSize { batch, len }),
        }
    }
}

impl Iterator for Sequential {
    type Item = EvalBatch;

    fn next(&mut self) -> Option<EvalBatch> {
        let valid = self.batch.min((self.len - self.next) as usize);
        if valid == 0 {
            return None;
        }
        let mut indices: Vec<u32> = (self.next..self.next + valid as u32).collect();
        indices.resize(self.batch, 0);
        self.next += valid as u32;
        Some(EvalBatch { indices, valid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(batches: &mut Batches) -> Vec<u32> {
        (0..batches.per_epoch()).flat_map(|_| batches.next_batch().indices).collect()
    }

    #[test]
    fn epoch_is_a_permutation_of_the_data() {
        let mut batches = Batches::new(12, 4, 5).unwrap();
        let (first, second) = (epoch(&mut batches), epoch(&mut batches));
        for order in [&first, &second] {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..12).collect::<Vec<_>>());
        }
        assert_ne!(first, second);
        assert_ne!(first, epoch(&mut Batches::new(12, 4, 6).unwrap()));
        assert_eq!(first, epoch(&mut Batches::new(12, 4, 5).unwrap()));
    }

    #[test]
    fn rows_of_all_replicas_form_the_batch() {
        let parts = [0..2, 2..3, 3..5];
        let mut whole = Batches::new(23, 5, 42).unwrap();
        let mut replicas = parts.map(|rows| Batches::new(23, 5, 42).unwrap().rows(rows).unwrap());
        for _ in 0..9 {
            let batch = whole.next_batch();
            let drawn: Vec<Batch> = replicas.iter_mut().map(Batches::next_batch).collect();
            let together: Vec<u32> = drawn.iter().flat_map(|part| part.indices.clone()).collect();
            assert_eq!(together, batch.indices);
            assert!(drawn.iter().all(|part| part.whole == batch.whole && part.epoch == batch.epoch));
        }
        assert!(Batches::new(23, 5, 42).unwrap().rows(3..6).is_err());
        assert!(Batches::new(23, 5, 42).unwrap().rows(2..2).is_err());
    }

    #[test]
    fn incomplete_batch_is_dropped_and_indices_increase() {
        let mut batches = Batches::new(10, 4, 0).unwrap();
        assert_eq!((batches.per_epoch(), batches.dropped_per_epoch()), (2, 2));
        let numbers: Vec<_> = (0..5).map(|_| batches.next_batch()).collect();
        assert!(numbers.iter().all(|batch| batch.indices.len() == 4));
        let numbers: Vec<_> = numbers.iter().map(|batch| (batch.epoch, batch.index_in_epoch)).collect();
        assert_eq!(numbers, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]);
    }

    #[test]
    fn restored_position_draws_the_same_batches() {
        let mut first = Batches::new(23, 5, 42).unwrap();
        for drawn in 0..9 {
            let text = serde_json::to_string(&first.position()).unwrap();
            let mut resumed = Batches::new(23, 5, 42).unwrap();
            // The sampler draws some batches before `restore`. They must not change the result.
            (0..drawn % 3).for_each(|_| drop(resumed.next_batch()));
            resumed.restore(serde_json::from_str(&text).unwrap()).unwrap();
            let mut ahead = first.clone();
            for _ in 0..9 {
                assert_eq!(resumed.next_batch(), ahead.next_batch(), "after {drawn} batches");
            }
            first.next_batch();
        }
    }

    #[test]
    fn invalid_sizes_and_positions_are_refused() {
        assert!(matches!(Batches::new(3, 4, 0), Err(DataError::BatchSize { batch: 4, len: 3 })));
        assert!(matches!(Batches::new(3, 0, 0), Err(DataError::BatchSize { batch: 0, len: 3 })));
        assert!(matches!(Sequential::new(3, 0), Err(DataError::BatchSize { batch: 0, len: 3 })));
        assert!(matches!(Sequential::new(0, 2), Err(DataError::BatchSize { batch: 2, len: 0 })));
        let mut batches = Batches::new(10, 5, 0).unwrap();
        let position = LoaderPosition { epoch: 3, batch: 2 };
        assert!(matches!(batches.restore(position), Err(DataError::Position { batch: 2, per_epoch: 2 })));
        assert_eq!(batches.position(), LoaderPosition::default());
        batches.restore(LoaderPosition { epoch: 3, batch: 1 }).unwrap();
        assert_eq!(batches.next_batch().epoch, 3);
    }

    #[test]
    fn evaluation_covers_every_example_once_and_pads_the_last_batch() {
        let batches: Vec<_> = Sequential::new(7, 3).unwrap().collect();
        assert_eq!(batches[0], EvalBatch { indices: vec![0, 1, 2], valid: 3 });
        assert_eq!(batches[2], EvalBatch { indices: vec![6, 0, 0], valid: 1 });
        assert_eq!(batches.len(), 3);
        let single: Vec<_> = Sequential::new(2, 4).unwrap().collect();
        assert_eq!(single, [EvalBatch { indices: vec![0, 1, 0, 0], valid: 2 }]);
        assert_eq!(Sequential::new(6, 3).unwrap().count(), 2);
    }
}
