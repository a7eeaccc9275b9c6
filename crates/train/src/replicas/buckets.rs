//! Buckets: groups of gradients that replicas exchange in one message.

use std::ops::Range;

use wgrad_graph::{GroupId, States};
use wgrad_program::{Program, Readback};

/// Gradient readbacks that are sent in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Indices of the readbacks in the bucket.
    pub readbacks: Range<usize>,
    /// Element range of each replica's shard within the bucket; `None` if the optimizer is not sharded.
    pub shards: Option<Vec<Range<usize>>>,
}

/// Gradient tensors of a model, and the number of dispatches after which each tensor is complete.
#[derive(Debug)]
pub(crate) struct GradientTensors {
    group: GroupId,
    /// Element range of each tensor, including the padding after the tensor.
    ranges: Vec<Range<usize>>,
    /// Number of dispatches after which each tensor is complete on this replica.
    pub ready_after: Vec<usize>,
}

impl GradientTensors {
    /// Collects the gradient tensors in `group` that a program computes.
    pub fn new(program: &Program, states: &States, group: GroupId) -> Self {
        let state = states.get(group);
        let ends = state.entries.iter().skip(1).map(|entry| entry.offset).chain([state.len()]);
        let ranges: Vec<Range<usize>> =
            state.entries.iter().zip(ends).map(|(entry, end)| entry.offset..end).collect();
        let ready_after = ranges.iter().map(|range| program.final_after(group, range)).collect();
        Self { group, ranges, ready_after }
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Cuts the tensors into buckets of at least `elements` elements; only the last bucket may be smaller. `order`
    /// holds, for each tensor, the number of dispatches after which the tensor is complete on the first replica.
    /// Returns the readbacks and their buckets.
    pub fn cut(
        &self,
        order: &[usize],
        elements: usize,
        shards: Option<&[Range<usize>]>,
    ) -> (Vec<Readback>, Vec<Bucket>) {
        let (mut readbacks, mut buckets) = (Vec::new(), Vec::new());
        let mut after = 0;
        for ranges in bucket_ranges(order.iter().copied().zip(self.ranges.clone()).collect(), elements) {
            let inside = |tensor: &Range<usize>| ranges.iter().any(|range| range.contains(&tensor.start));
            let tensors = self.ready_after.iter().zip(&self.ranges);
            // A bucket is not ready before the previous bucket.
            after =
                tensors.filter(|(_, tensor)| inside(tensor)).fold(after, |after, (own, _)| after.max(*own));
            let first = readbacks.len();
            let shards =
                shards.map(|shards| shards.iter().map(|shard| offsets_within(&ranges, shard)).collect());
            let group = self.group;
            readbacks.extend(ranges.into_iter().map(|range| Readback { group, range, after, reply: None }));
            buckets.push(Bucket { readbacks: first..readbacks.len(), shards });
        }
        (readbacks, buckets)
    }
}

/// Cuts tensors, given as (number of dispatches until completion, element range), into buckets of at least `elements`
/// elements; only the last bucket may be smaller. Each bucket is a list of contiguous ranges in ascending order.
/// Tensors that are complete later are in later buckets.
fn bucket_ranges(mut tensors: Vec<(usize, Range<usize>)>, elements: usize) -> Vec<Vec<Range<usize>>> {
    // The backward pass ends with the first layers, so tensors that are complete at the same time are sorted from last
    // to first.
    tensors.sort_by_key(|(after, range)| (*after, std::cmp::Reverse(range.start)));
    let mut all = Vec::new();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let count = tensors.len();
    for (i, (_, range)) in tensors.into_iter().enumerate() {
        ranges.push(range);
        if ranges.iter().map(Range::len).sum::<usize>() >= elements || i + 1 == count {
            ranges.sort_by_key(|range| range.start);
            all.push(ranges.drain(..).fold(Vec::new(), joined_with));
        }
    }
    all
}

/// Appends a range, or extends the last range if both are adjacent.
fn joined_with(mut ranges: Vec<Range<usize>>, range: Range<usize>) -> Vec<Range<usize>> {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
    ranges
}

/// Returns the positions of the elements of `shard` in the concatenation of `ranges`.
fn offsets_within(ranges: &[Range<usize>], shard: &Range<usize>) -> Range<usize> {
    let before = |element: usize| {
        ranges.iter().map(|range| element.clamp(range.start, range.end) - range.start).sum::<usize>()
    };
    before(shard.start)..before(shard.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_backward_pass_and_hold_every_element_once() {
        // Weights of three layers, then their biases: the gradients of the last layer are complete first.
        let tensors =
            vec![(9, 0..100), (6, 100..300), (3, 300..400), (9, 400..410), (6, 410..420), (3, 420..430)];
        let cut = bucket_ranges(tensors, 110);
        assert_eq!(cut, [vec![300..400, 420..430], vec![100..300, 410..420], vec![0..100, 400..410]]);
        let tensors = vec![(2, 0..64), (1, 64..128), (1, 192..256)];
        assert_eq!(bucket_ranges(tensors, 1 << 20), [vec![0..128, 192..256]]);
    }

    #[test]
    fn a_shard_is_contiguous_within_a_bucket() {
        let ranges = [300..400, 420..430];
        assert_eq!(offsets_within(&ranges, &(0..310)), 0..10);
        assert_eq!(offsets_within(&ranges, &(310..425)), 10..105);
        assert_eq!(offsets_within(&ranges, &(425..500)), 105..110);
        assert_eq!(offsets_within(&ranges, &(405..410)), 100..100);
    }
}
