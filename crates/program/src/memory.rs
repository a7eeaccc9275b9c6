//! Fourth stage of planning: the memory position of every tensor, before anything is allocated.
//!
//! Intermediates share a few slabs. A tensor occupies its range from the kernel that writes it to the last kernel that
//! reads it. A tensor that a kernel reads and a tensor that the same kernel writes are in different slabs, so that
//! read-only bindings stay read-only.
//!
//! Minimizing the total size of the slabs is a packing problem. It is solved greedily for several orders of the
//! tensors, and the best order is then modified at random within a budget. The lower bound is the largest live set: the
//! maximum, over all kernels, of the bytes of the tensors alive at that kernel.

use std::cmp::Reverse;
use std::collections::HashMap;

use wgrad_graph::ALIGN;
use wgrad_graph::philox::Stream;

use crate::value::Id;

/// Maximum number of comparisons of two tensors during the search, which take a few tenths of a second.
const MAX_COMPARISONS: usize = 8_000_000;
/// Maximum number of modified orders that the search tries.
const MAX_ROUNDS: usize = 2_000;
/// The search stops when the slabs exceed the largest live set by at most this percentage.
const TOLERANCE_PERCENT: usize = 2;

/// A tensor that needs scratch memory from the kernel that writes it to the last kernel that reads it.
#[derive(Debug, Clone)]
pub(crate) struct Interval {
    pub id: Id,
    pub bytes: usize,
    /// Number of the kernel that writes the tensor.
    pub first: usize,
    /// Number of the last kernel that reads the tensor.
    pub last: usize,
}

impl Interval {
    fn size(&self) -> usize {
        self.bytes.next_multiple_of(ALIGN)
    }

    fn overlaps(&self, other: &Interval) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Slab and offset of each tensor, and the bytes of each slab, largest first.
#[derive(Debug, Default, Clone)]
pub(crate) struct Placement {
    pub at: HashMap<Id, (usize, usize)>,
    pub slabs: Vec<usize>,
}

/// Bytes of the largest live set, with each tensor rounded up to its alignment.
pub(crate) fn largest_live_set(intervals: &[Interval]) -> usize {
    let end = intervals.iter().map(|i| i.last + 1).max().unwrap_or(0);
    let mut change = vec![0isize; end + 1];
    for interval in intervals {
        change[interval.first] += interval.size() as isize;
        change[interval.last + 1] -= interval.size() as isize;
    }
    let mut live = 0;
    let live_sets = change.into_iter().map(|bytes| {
        live += bytes;
        live
    });
    live_sets.max().unwrap_or(0).unsigned_abs()
}

/// Places the tensors; `reads[k]` lists the intermediates that kernel k reads. No slab exceeds `max_slab_bytes`, unless
/// a single tensor does.
pub(crate) fn place(intervals: &[Interval], reads: &[Vec<Id>], max_slab_bytes: usize) -> Placement {
    let problem = Problem::new(intervals, reads, max_slab_bytes);
    let live = largest_live_set(intervals);
    let good_enough = live + live / 100 * TOLERANCE_PERCENT;
    let orders = problem.orders().into_iter().map(|order| (problem.pack(&order), order));
    let Some((mut best, mut order)) = orders.min_by_key(|(packing, _)| packing.total()) else {
        return Placement::default();
    };
    // The seed is constant, so the same graph always gets the same placement.
    let mut random = Stream::new(0, 0);
    let rounds = (MAX_COMPARISONS / problem.comparisons().max(1)).min(MAX_ROUNDS);
    for _ in 0..rounds {
        if best.total() <= good_enough {
            break;
        }
        let mut other = order.clone();
        let from = random.below(other.len() as u32) as usize;
        let moved = other.remove(from);
        other.insert(random.below(from as u32 + 1) as usize, moved);
        let packing = problem.pack(&other);
        if packing.total() <= best.total() {
            (best, order) = (packing, other);
        }
    }
    best.placement(intervals)
}

/// Sort key of a tensor. The search places tensors in the order of such a key.
type Key<'k> = dyn Fn(&Interval) -> (usize, usize, usize) + 'k;

struct Problem<'i> {
    intervals: &'i [Interval],
    /// For each tensor, the tensors that are alive at the same time.
    overlapping: Vec<Vec<usize>>,
    /// For each tensor, the tensors that must be in another slab because one kernel reads one of the two
    /// tensors and writes the other.
    conflicting: Vec<Vec<usize>>,
    max_slab_bytes: usize,
}

/// Slab and offset of each tensor, by position in the order of `intervals`.
#[derive(Debug, Clone)]
struct Packing {
    at: Vec<Option<(usize, usize)>>,
    slabs: Vec<usize>,
}

impl Packing {
    fn total(&self) -> usize {
        self.slabs.iter().sum()
    }

    /// Numbers the slabs by size, so that programs that share slabs waste little memory.
    fn placement(self, intervals: &[Interval]) -> Placement {
        let mut by_size: Vec<usize> = (0..self.slabs.len()).collect();
        by_size.sort_by_key(|&slab| Reverse(self.slabs[slab]));
        let mut number = vec![0; by_size.len()];
        by_size.iter().enumerate().for_each(|(new, &old)| number[old] = new);
        let placed = intervals.iter().zip(&self.at);
        let at = placed.filter_map(|(i, at)| at.map(|(slab, offset)| (i.id, (number[slab], offset))));
        Placement { at: at.collect(), slabs: by_size.iter().map(|&slab| self.slabs[slab]).collect() }
    }
}

impl<'i> Problem<'i> {
    fn new(intervals: &'i [Interval], reads: &[Vec<Id>], max_slab_bytes: usize) -> Self {
        let others = |i: usize| (0..intervals.len()).filter(move |&j| j != i);
        let overlapping_with =
            |i: usize| others(i).filter(|&j| intervals[i].overlaps(&intervals[j])).collect();
        let overlapping = (0..intervals.len()).map(overlapping_with).collect();
        let number: HashMap<Id, usize> = intervals.iter().enumerate().map(|(i, x)| (x.id, i)).collect();
        let mut conflicting = vec![Vec::new(); intervals.len()];
        for (written, interval) in intervals.iter().enumerate() {
            let read = reads.get(interval.first).into_iter().flatten().filter_map(|id| number.get(id));
            for &read in read.filter(|&&read| read != written) {
                conflicting[written].push(read);
                conflicting[read].push(written);
            }
        }
        Self { intervals, overlapping, conflicting, max_slab_bytes }
    }

    /// Number of comparisons that one call of [`Problem::pack`] needs.
    fn comparisons(&self) -> usize {
        self.overlapping.iter().chain(&self.conflicting).map(Vec::len).sum::<usize>() + self.intervals.len()
    }

    /// Returns the initial orders of the search, one for each sort key. Which order is best depends on the program.
    fn orders(&self) -> Vec<Vec<usize>> {
        let all = self.intervals;
        let live_at = |k: usize| all.iter().filter(|i| i.first <= k && k <= i.last).map(Interval::size).sum();
        let peak = all.iter().map(|i| i.first).max_by_key(|&k| -> usize { live_at(k) }).unwrap_or(0);
        let at_peak = |i: &Interval| i.first <= peak && peak <= i.last;
        let lifetime = |i: &Interval| i.last - i.first + 1;
        let keys: [&Key<'_>; 5] = [
            &|i| (usize::MAX - i.size(), i.first, 0),
            &|i| (usize::MAX - i.size().saturating_mul(lifetime(i)), i.first, 0),
            &|i| (usize::from(!at_peak(i)), usize::MAX - i.size(), i.first),
            &|i| (usize::MAX - lifetime(i), usize::MAX - i.size(), i.first),
            &|i| (i.first, usize::MAX - lifetime(i), usize::MAX - i.size()),
        ];
        let sorted = |key: &&Key<'_>| {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by_key(|&i| key(&all[i]));
            order
        };
        if all.is_empty() { Vec::new() } else { keys.iter().map(sorted).collect() }
    }

    /// Places the tensors in this order. Each tensor goes where the slabs grow least; among equal candidates, it goes
    /// into the tightest gap.
    fn pack(&self, order: &[usize]) -> Packing {
        let mut packing = Packing { at: vec![None; self.intervals.len()], slabs: Vec::new() };
        let mut occupied: Vec<Vec<(usize, usize)>> = Vec::new();
        for &i in order {
            let size = self.intervals[i].size();
            occupied.iter_mut().for_each(Vec::clear);
            occupied.resize(packing.slabs.len(), Vec::new());
            for &other in &self.overlapping[i] {
                if let Some((slab, offset)) = packing.at[other] {
                    occupied[slab].push((offset, offset + self.intervals[other].size()));
                }
            }
            let mut excluded = vec![false; packing.slabs.len()];
            self.conflicting[i]
                .iter()
                .filter_map(|&other| packing.at[other])
                .for_each(|(slab, _)| excluded[slab] = true);
            let places = (0..packing.slabs.len()).filter(|&slab| !excluded[slab]).flat_map(|slab| {
                let end = packing.slabs[slab];
                find_gaps(&mut occupied[slab], end, size)
                    .filter(|gap| gap.offset + size <= self.max_slab_bytes)
                    .map(move |gap| ((gap.offset + size).saturating_sub(end), gap.unused, slab, gap.offset))
                    .collect::<Vec<_>>()
            });
            let new = (size, 0, packing.slabs.len(), 0);
            let (_, _, slab, offset) = places.chain([new]).min().unwrap_or(new);
            packing.slabs.resize(packing.slabs.len().max(slab + 1), 0);
            packing.slabs[slab] = packing.slabs[slab].max(offset + size);
            packing.at[i] = Some((slab, offset));
        }
        packing
    }
}

/// A free range in a slab, and the number of bytes in it that would stay unused.
struct Gap {
    offset: usize,
    unused: usize,
}

/// Returns the gaps between occupied ranges that hold `size` bytes. The last gap may reach beyond the end of the slab.
fn find_gaps(occupied: &mut [(usize, usize)], end: usize, size: usize) -> impl Iterator<Item = Gap> {
    occupied.sort_unstable();
    let mut free = 0;
    let mut gaps = Vec::new();
    for &(start, stop) in occupied.iter() {
        if free + size <= start {
            gaps.push(Gap { offset: free, unused: start - free - size });
        }
        free = free.max(stop);
    }
    gaps.push(Gap { offset: free, unused: end.saturating_sub(free + size) });
    gaps.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(id: Id, bytes: usize, first: usize, last: usize) -> Interval {
        Interval { id, bytes, first, last }
    }

    #[test]
    fn live_tensors_do_not_overlap_and_dead_tensors_share_memory() {
        let intervals = [
            interval(0, 1000, 0, 1),
            interval(1, 1000, 1, 2),
            interval(2, 1000, 2, 3),
            interval(3, 10, 0, 3),
        ];
        let placement = place(&intervals, &[vec![], vec![0], vec![1], vec![2, 3]], usize::MAX);
        assert_ne!(placement.at[&0].0, placement.at[&1].0, "a kernel's input and output share a slab");
        assert_eq!(placement.at[&0], placement.at[&2]);
        assert_ne!(placement.at[&0], placement.at[&3]);
        assert_eq!(placement.slabs.iter().sum::<usize>(), 1024 + 256 + 1024);
        assert_eq!(largest_live_set(&intervals), 1024 + 256 + 1024);
    }

    #[test]
    fn slabs_respect_the_buffer_limit() {
        let intervals: Vec<Interval> = (0..5).map(|id| interval(id, 1024, 0, 1)).collect();
        let reads = [vec![], (0..5).collect()];
        assert_eq!(place(&intervals, &reads, usize::MAX).slabs, [5120]);
        assert_eq!(place(&intervals, &reads, 2500).slabs, [2048, 2048, 1024]);
        assert_eq!(place(&intervals, &reads, 100).slabs, [1024; 5]);
    }

    /// In random programs, live tensors do not overlap, no kernel reads and writes one slab, and no slab exceeds the
    /// limit.
    #[test]
    fn random_tensors_do_not_overlap() {
        let mut random = Stream::new(7, 0);
        for _ in 0..20 {
            let mut below = |n: usize| random.below(n as u32) as usize;
            let (kernels, max_slab_bytes) = (20, 40_000);
            let mut intervals = Vec::new();
            for id in 0..40 {
                let first = below(kernels - 1);
                let last = first + 1 + below(kernels - 1 - first);
                intervals.push(interval(id, 1 + below(10_000), first, last));
            }
            let read = |k: usize| intervals.iter().filter(move |i| i.last == k).map(|i| i.id).collect();
            let reads: Vec<Vec<Id>> = (0..kernels).map(read).collect();
            let placement = place(&intervals, &reads, max_slab_bytes);
            let range = |i: &Interval| {
                let (slab, offset) = placement.at[&i.id];
                (slab, offset, offset + i.size())
            };
            for a in &intervals {
                let (slab, start, end) = range(a);
                assert!(end <= placement.slabs[slab] && placement.slabs[slab] <= max_slab_bytes);
                assert!(reads[a.first].iter().all(|read| placement.at[read].0 != slab));
                for b in intervals.iter().filter(|b| b.id != a.id && b.overlaps(a)) {
                    let (other, from, to) = range(b);
                    assert!(slab != other || end <= from || to <= start, "{a:?} and {b:?}");
                }
            }
            assert!(placement.slabs.is_sorted_by(|a, b| a >= b), "{:?}", placement.slabs);
        }
    }
}
