//! Fourth stage of planning: where every tensor lies, before anything is allocated.
//!
//! Intermediates share a few slabs. A tensor holds its place from the kernel that writes it to the last one that reads
//! it. Tensors that one kernel reads and writes are kept in different slabs, so that read-only bindings stay read-only.

use std::collections::HashMap;

use wgrad_graph::ALIGN;

use crate::value::Id;

/// A tensor that needs scratch memory between two kernels.
#[derive(Debug, Clone)]
pub(crate) struct Interval {
    pub id: Id,
    pub bytes: usize,
    /// Number of the kernel that writes it.
    pub first: usize,
    /// Number of the last kernel that reads it.
    pub last: usize,
}

/// Slab and offset of each tensor, and the bytes of each slab.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    pub at: HashMap<Id, (usize, usize)>,
    pub slabs: Vec<usize>,
}

/// Places tensors; `reads[k]` are the intermediates that kernel k reads.
pub(crate) fn place(intervals: &[Interval], reads: &[Vec<Id>]) -> Placement {
    let slab_of = colour(intervals, reads);
    let mut by_size: Vec<&Interval> = intervals.iter().collect();
    by_size.sort_by_key(|i| (std::cmp::Reverse(i.bytes), i.first));
    let mut placement = Placement::default();
    let mut placed: Vec<(&Interval, usize, usize)> = Vec::new();
    for interval in by_size {
        let slab = slab_of[&interval.id];
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, s, _)| {
                *s == slab && other.first <= interval.last && interval.first <= other.last
            })
            .map(|(other, _, offset)| (*offset, offset + other.bytes.next_multiple_of(ALIGN)))
            .collect();
        busy.sort_unstable();
        let size = interval.bytes.next_multiple_of(ALIGN);
        let mut offset = 0;
        for (start, end) in busy {
            if offset + size <= start {
                break;
            }
            offset = offset.max(end);
        }
        placed.push((interval, slab, offset));
        placement.at.insert(interval.id, (slab, offset));
        let slabs = &mut placement.slabs;
        slabs.resize(slabs.len().max(slab + 1), 0);
        slabs[slab] = slabs[slab].max(offset + size);
    }
    placement
}

/// The lowest slab that the kernel which writes a tensor does not read from.
fn colour(intervals: &[Interval], reads: &[Vec<Id>]) -> HashMap<Id, usize> {
    let mut slab_of: HashMap<Id, usize> = HashMap::new();
    let mut by_first: Vec<&Interval> = intervals.iter().collect();
    by_first.sort_by_key(|i| (i.first, i.id));
    for interval in by_first {
        let read: Vec<usize> =
            reads[interval.first].iter().filter_map(|id| slab_of.get(id).copied()).collect();
        let slab = (0..).find(|slab| !read.contains(slab)).unwrap_or(0);
        slab_of.insert(interval.id, slab);
    }
    slab_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_alive_together_do_not_overlap_and_others_share() {
        let interval = |id, bytes, first, last| Interval { id, bytes, first, last };
        let intervals = [
            interval(0, 1000, 0, 1),
            interval(1, 1000, 1, 2),
            interval(2, 1000, 2, 3),
            interval(3, 10, 0, 3),
        ];
        let placement = place(&intervals, &[vec![], vec![0], vec![1], vec![2, 3]]);
        assert_ne!(placement.at[&0].0, placement.at[&1].0, "a kernel's input and output share a slab");
        assert_eq!(placement.at[&0], placement.at[&2]);
        assert_ne!(placement.at[&0], placement.at[&3]);
        assert_eq!(placement.slabs.iter().sum::<usize>(), 1024 + 256 + 1024);
    }
}
