//! What one of several replicas does of a training step: which examples it takes, and which parameters it updates.

use std::ops::Range;

use wgrad_graph::{ALIGN, DType, GroupId, States};
use wgrad_nn::Params;

/// Elements to which shares of the parameters are cut: those of one alignment unit.
const UNIT: usize = ALIGN / 4;

/// The part that a replica has in a training of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which replica, from 0.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// Whether each keeps the optimizer's state for its share of the parameters only, and updates that (ZeRO stage 1,
    /// Rajbhandari et al. 2020), or all of it.
    pub shard: bool,
}

impl Part {
    /// The rows of a batch of `batch` examples that the replica takes. Shares differ by one row at most.
    pub fn rows(self, batch: usize) -> Range<usize> {
        share(batch, self.rank, self.ranks)
    }

    /// The share of each replica in a flat tensor of `elements`, a multiple of 64. Some may be empty.
    pub fn shares(self, elements: usize) -> Vec<Range<usize>> {
        let units = elements.div_ceil(UNIT);
        let elements = |units: Range<usize>| units.start * UNIT..(units.end * UNIT).min(elements);
        (0..self.ranks).map(|rank| elements(share(units, rank, self.ranks))).collect()
    }
}

fn share(len: usize, rank: usize, ranks: usize) -> Range<usize> {
    len * rank / ranks..len * (rank + 1) / ranks
}

/// Where a replica's share of the parameters is updated.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    /// The share of every replica in the flat parameters.
    pub shares: Vec<Range<usize>>,
    /// This replica's share.
    pub range: Range<usize>,
    /// A copy of it.
    pub parameters: GroupId,
    /// Its gradient.
    pub gradients: GroupId,
}

impl Shard {
    /// Declares the groups that hold a share.
    pub fn declare(states: &mut States, params: &Params, part: Part) -> Self {
        let shares = part.shares(states.get(params.group()).len());
        let range = shares[part.rank].clone();
        let parameters = states.group("share.parameters", DType::F32);
        if !range.is_empty() {
            states.entry(parameters, "share", [range.len()]);
        }
        let gradients = states.group_like("share.gradients", parameters);
        Self { shares, range, parameters, gradients }
    }

    /// This replica's share in its place among `len` elements, the others zero.
    pub fn in_place(&self, own: &[f32], len: usize) -> Vec<f32> {
        let mut flat = vec![0.0; len];
        flat[self.range.clone()].copy_from_slice(own);
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_replicas_are_the_batch_and_differ_by_one_at_most() {
        for (batch, ranks) in [(64, 1), (64, 3), (7, 4), (4, 4)] {
            let rows: Vec<_> =
                (0..ranks).map(|rank| Part { rank, ranks, shard: false }.rows(batch)).collect();
            assert_eq!((rows[0].start, rows[ranks - 1].end), (0, batch));
            assert!(rows.windows(2).all(|pair| pair[0].end == pair[1].start));
            let (most, least) = (rows.iter().map(Range::len).max(), rows.iter().map(Range::len).min());
            assert!(most.unwrap() - least.unwrap() <= 1, "{rows:?}");
        }
    }

    #[test]
    fn shares_are_whole_units_and_may_be_empty() {
        let part = Part { rank: 0, ranks: 3, shard: true };
        assert_eq!(part.shares(64 * 4), [0..64, 64..128, 128..256]);
        assert_eq!(part.shares(64), [0..0, 0..0, 0..64]);
    }
}
