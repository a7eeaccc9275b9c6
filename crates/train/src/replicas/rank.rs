//! Rank of a replica, which determines its rows of each batch and its shard of the parameters.

use std::ops::Range;

use wgrad_graph::{ALIGN, DType, Entry, GroupId, States};
use wgrad_nn::Params;

use crate::plan::Plan;

/// Number of f32 elements in one alignment unit. Shard boundaries are multiples of this unit.
const UNIT: usize = ALIGN / 4;

/// Rank of a replica, number of replicas and sharding, in data-parallel training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankConfig {
    /// Rank of this replica, from 0.
    pub rank: usize,
    /// Number of replicas.
    pub size: usize,
    /// Whether each replica updates only its shard of the parameters and keeps only the optimizer state of that shard
    /// (ZeRO stage 1, Rajbhandari et al. 2020). If false, each replica updates all parameters.
    pub shard: bool,
}

impl RankConfig {
    /// Returns the rows that this replica processes in a batch of `batch` examples. The row counts of two replicas
    /// differ by at most one.
    pub fn rows(self, batch: usize) -> Range<usize> {
        partition(batch, self.rank, self.size)
    }

    /// Returns the shard of each replica in a flat tensor of `elements` elements, a multiple of 64. Shards may be
    /// empty.
    pub fn shards(self, elements: usize) -> Vec<Range<usize>> {
        let units = elements.div_ceil(UNIT);
        let elements = |units: Range<usize>| units.start * UNIT..(units.end * UNIT).min(elements);
        (0..self.size).map(|rank| elements(partition(units, rank, self.size))).collect()
    }
}

/// Returns part number `rank` of `len` elements that are split into `size` nearly equal parts.
fn partition(len: usize, rank: usize, size: usize) -> Range<usize> {
    len * rank / size..len * (rank + 1) / size
}

/// Shard of the parameters that this replica updates.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    /// Element range of each replica's shard in the flat parameters.
    pub shards: Vec<Range<usize>>,
    /// Element range of this replica's shard.
    pub range: Range<usize>,
    /// Group with a copy of the parameters in the shard.
    pub parameters: GroupId,
    /// Group with the gradients of the shard.
    pub gradients: GroupId,
}

impl Shard {
    /// Declares the state groups for the shard of a replica.
    pub fn declare(states: &mut States, params: &Params, replica: RankConfig) -> Self {
        let shards = replica.shards(states.get(params.group()).len());
        let range = shards[replica.rank].clone();
        let parameters = states.group("shard.parameters", DType::F32);
        if !range.is_empty() {
            states.entry(parameters, "shard", [range.len()]);
        }
        let gradients = states.group_like("shard.gradients", parameters);
        Self { shards, range, parameters, gradients }
    }

    /// Returns `len` elements that are zero except for the shard of this replica.
    pub fn padded_to(&self, len: usize, shard: &[f32]) -> Vec<f32> {
        let mut full = vec![0.0; len];
        full[self.range.clone()].copy_from_slice(shard);
        full
    }
}

impl Plan {
    /// Returns the sharding of a group, `None` if every replica holds all of the group.
    pub(crate) fn sharding(&self, id: GroupId) -> Option<&Shard> {
        self.shard.as_ref().filter(|_| self.optim.moments.contains(&id))
    }

    /// Returns the tensors of the unsharded group. A sharded moment has the tensors of the parameters.
    pub(crate) fn full_entries(&self, id: GroupId) -> &[Entry] {
        &self.states.get(self.full_layout(id)).entries
    }

    /// Number of elements in the unsharded group.
    pub(crate) fn full_len(&self, id: GroupId) -> usize {
        self.states.get(self.full_layout(id)).len()
    }

    /// Returns the group whose layout equals the unsharded layout of `id`.
    fn full_layout(&self, id: GroupId) -> GroupId {
        if self.sharding(id).is_some() { self.params.group() } else { id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_replicas_cover_the_batch_evenly() {
        for (batch, size) in [(64, 1), (64, 3), (7, 4), (4, 4)] {
            let rows: Vec<_> =
                (0..size).map(|rank| RankConfig { rank, size, shard: false }.rows(batch)).collect();
            assert_eq!((rows[0].start, rows[size - 1].end), (0, batch));
            assert!(rows.windows(2).all(|pair| pair[0].end == pair[1].start));
            let (most, least) = (rows.iter().map(Range::len).max(), rows.iter().map(Range::len).min());
            assert!(most.unwrap() - least.unwrap() <= 1, "{rows:?}");
        }
    }

    #[test]
    fn shards_are_aligned_and_may_be_empty() {
        let replica = RankConfig { rank: 0, size: 3, shard: true };
        assert_eq!(replica.shards(64 * 4), [0..64, 64..128, 128..256]);
        assert_eq!(replica.shards(64), [0..0, 0..0, 0..64]);
    }
}
