//! Fourth stage of planning: where every tensor lies, before anything is allocated.
//!
//! Intermediates share a few slabs. A tensor holds its place from the kernel that writes it to the last one that reads
//! it. Tensors that one kernel reads and writes are kept in different slabs, so that read-only bindings stay read-only.
//!
//! How small the slabs can be together is a packing problem. It is solved greedily for several orders of the tensors, and
//! the best of them is shuffled a little for as long as that is cheap. No slabs are smaller than the largest live set: the
//! bytes of the tensors that are alive at one kernel, at the kernel where that is most.

use std::cmp::Reverse;
use std::collections::HashMap;

use wgrad_graph::ALIGN;
use wgrad_graph::philox::Stream;

use crate::value::Id;

/// Comparisons of two tensors that looking for a better order may take: some tenths of a second.
const EFFORT: usize = 8_000_000;
/// Most orders that are tried.
const ROUNDS: usize = 2_000;
/// Slabs that are this close to the largest live set, in percent above it, are good enough.
const CLOSE: usize = 2;

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

impl Interval {
    fn size(&self) -> usize {
        self.bytes.next_multiple_of(ALIGN)
    }

    fn meets(&self, other: &Interval) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Slab and offset of each tensor, and the bytes of each slab, largest first.
#[derive(Debug, Default, Clone)]
pub(crate) struct Placement {
    pub at: HashMap<Id, (usize, usize)>,
    pub slabs: Vec<usize>,
}

/// The largest live set: bytes, aligned as they are placed, of the tensors alive at the kernel where that is most.
pub(crate) fn largest_live_set(intervals: &[Interval]) -> usize {
    let end = intervals.iter().map(|i| i.last + 1).max().unwrap_or(0);
    let mut change = vec![0isize; end + 1];
    for interval in intervals {
        change[interval.first] += interval.size() as isize;
        change[interval.last + 1] -= interval.size() as isize;
    }
    let mut live = 0;
    let most = change.into_iter().map(|by| {
        live += by;
        live
    });
    most.max().unwrap_or(0).unsigned_abs()
}

/// Places tensors; `reads[k]` are the intermediates that kernel k reads. No slab grows beyond `most` bytes, but for a tensor
/// that is larger by itself.
pub(crate) fn place(intervals: &[Interval], reads: &[Vec<Id>], most: usize) -> Placement {
    let problem = Problem::new(intervals, reads, most);
    let live = largest_live_set(intervals);
    let enough = live + live / 100 * CLOSE;
    let orders = problem.orders().into_iter().map(|order| (problem.packed(&order), order));
    let Some((mut best, mut order)) = orders.min_by_key(|(packing, _)| packing.total()) else {
        return Placement::default();
    };
    // Seeded by nothing but the problem: the same graph is always placed alike.
    let mut random = Stream::new(0, 0);
    let rounds = (EFFORT / problem.work().max(1)).min(ROUNDS);
    for _ in 0..rounds {
        if best.total() <= enough {
            break;
        }
        let mut other = order.clone();
        let from = random.below(other.len() as u32) as usize;
        let moved = other.remove(from);
        other.insert(random.below(from as u32 + 1) as usize, moved);
        let packing = problem.packed(&other);
        if packing.total() <= best.total() {
            (best, order) = (packing, other);
        }
    }
    best.placement(intervals)
}

/// What tensors are sorted by.
type Key<'k> = dyn Fn(&Interval) -> (usize, usize, usize) + 'k;

struct Problem<'i> {
    intervals: &'i [Interval],
    /// Tensors alive at the same time as another.
    mates: Vec<Vec<usize>>,
    /// Tensors that may not lie in the slab of another: a kernel reads one and writes the other.
    foes: Vec<Vec<usize>>,
    most: usize,
}

/// Slab and offset of each tensor, by position.
#[derive(Debug, Clone)]
struct Packing {
    at: Vec<Option<(usize, usize)>>,
    slabs: Vec<usize>,
}

impl Packing {
    fn total(&self) -> usize {
        self.slabs.iter().sum()
    }

    /// The slabs numbered by size, so that programs which share them share well.
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
    fn new(intervals: &'i [Interval], reads: &[Vec<Id>], most: usize) -> Self {
        let others = |i: usize| (0..intervals.len()).filter(move |&j| j != i);
        let meet = |i: usize| others(i).filter(|&j| intervals[i].meets(&intervals[j])).collect();
        let mates = (0..intervals.len()).map(meet).collect();
        let number: HashMap<Id, usize> = intervals.iter().enumerate().map(|(i, x)| (x.id, i)).collect();
        let mut foes = vec![Vec::new(); intervals.len()];
        for (written, interval) in intervals.iter().enumerate() {
            let read = reads.get(interval.first).into_iter().flatten().filter_map(|id| number.get(id));
            for &read in read.filter(|&&read| read != written) {
                foes[written].push(read);
                foes[read].push(written);
            }
        }
        Self { intervals, mates, foes, most }
    }

    /// Comparisons of a packing.
    fn work(&self) -> usize {
        self.mates.iter().chain(&self.foes).map(Vec::len).sum::<usize>() + self.intervals.len()
    }

    /// Orders that each are good for some programs.
    fn orders(&self) -> Vec<Vec<usize>> {
        let all = self.intervals;
        let live_at = |k: usize| all.iter().filter(|i| i.first <= k && k <= i.last).map(Interval::size).sum();
        let peak = all.iter().map(|i| i.first).max_by_key(|&k| -> usize { live_at(k) }).unwrap_or(0);
        let at_peak = |i: &Interval| i.first <= peak && peak <= i.last;
        let life = |i: &Interval| i.last - i.first + 1;
        let keys: [&Key<'_>; 5] = [
            &|i| (usize::MAX - i.size(), i.first, 0),
            &|i| (usize::MAX - i.size().saturating_mul(life(i)), i.first, 0),
            &|i| (usize::from(!at_peak(i)), usize::MAX - i.size(), i.first),
            &|i| (usize::MAX - life(i), usize::MAX - i.size(), i.first),
            &|i| (i.first, usize::MAX - life(i), usize::MAX - i.size()),
        ];
        let sorted = |key: &&Key<'_>| {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by_key(|&i| key(&all[i]));
            order
        };
        if all.is_empty() { Vec::new() } else { keys.iter().map(sorted).collect() }
    }

    /// Places the tensors one after the other, each where the slabs grow least; of several such places, the tightest.
    fn packed(&self, order: &[usize]) -> Packing {
        let mut packing = Packing { at: vec![None; self.intervals.len()], slabs: Vec::new() };
        let mut busy: Vec<Vec<(usize, usize)>> = Vec::new();
        for &i in order {
            let size = self.intervals[i].size();
            busy.iter_mut().for_each(Vec::clear);
            busy.resize(packing.slabs.len(), Vec::new());
            for &mate in &self.mates[i] {
                if let Some((slab, offset)) = packing.at[mate] {
                    busy[slab].push((offset, offset + self.intervals[mate].size()));
                }
            }
            let mut closed = vec![false; packing.slabs.len()];
            self.foes[i].iter().filter_map(|&foe| packing.at[foe]).for_each(|(slab, _)| closed[slab] = true);
            let places = (0..packing.slabs.len()).filter(|&slab| !closed[slab]).flat_map(|slab| {
                let end = packing.slabs[slab];
                gaps(&mut busy[slab], end, size)
                    .filter(|gap| gap.offset + size <= self.most)
                    .map(move |gap| ((gap.offset + size).saturating_sub(end), gap.left, slab, gap.offset))
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

/// A place in a slab, and what stays free of its gap.
struct Gap {
    offset: usize,
    left: usize,
}

/// The gaps between busy ranges that hold `size` bytes; the last one may reach beyond the end of the slab.
fn gaps(busy: &mut [(usize, usize)], end: usize, size: usize) -> impl Iterator<Item = Gap> {
    busy.sort_unstable();
    let mut free = 0;
    let mut gaps = Vec::new();
    for &(start, stop) in busy.iter() {
        if free + size <= start {
            gaps.push(Gap { offset: free, left: start - free - size });
        }
        free = free.max(stop);
    }
    gaps.push(Gap { offset: free, left: end.saturating_sub(free + size) });
    gaps.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(id: Id, bytes: usize, first: usize, last: usize) -> Interval {
        Interval { id, bytes, first, last }
    }

    #[test]
    fn tensors_alive_together_do_not_overlap_and_others_share() {
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
    fn slabs_stay_within_what_a_buffer_may_hold() {
        let intervals: Vec<Interval> = (0..5).map(|id| interval(id, 1024, 0, 1)).collect();
        let reads = [vec![], (0..5).collect()];
        assert_eq!(place(&intervals, &reads, usize::MAX).slabs, [5120]);
        assert_eq!(place(&intervals, &reads, 2500).slabs, [2048, 2048, 1024]);
        assert_eq!(place(&intervals, &reads, 100).slabs, [1024; 5]);
    }

    /// Random programs: nothing that is alive overlaps, no kernel reads and writes one slab, and no slab is larger than need be.
    #[test]
    fn random_tensors_never_overlap() {
        let mut random = Stream::new(7, 0);
        for _ in 0..20 {
            let mut below = |n: usize| random.below(n as u32) as usize;
            let (kernels, most) = (20, 40_000);
            let mut intervals = Vec::new();
            for id in 0..40 {
                let first = below(kernels - 1);
                let last = first + 1 + below(kernels - 1 - first);
                intervals.push(interval(id, 1 + below(10_000), first, last));
            }
            let read = |k: usize| intervals.iter().filter(move |i| i.last == k).map(|i| i.id).collect();
            let reads: Vec<Vec<Id>> = (0..kernels).map(read).collect();
            let placement = place(&intervals, &reads, most);
            let range = |i: &Interval| {
                let (slab, offset) = placement.at[&i.id];
                (slab, offset, offset + i.size())
            };
            for a in &intervals {
                let (slab, start, end) = range(a);
                assert!(end <= placement.slabs[slab] && placement.slabs[slab] <= most);
                assert!(reads[a.first].iter().all(|read| placement.at[read].0 != slab));
                for b in intervals.iter().filter(|b| b.id != a.id && b.meets(a)) {
                    let (other, from, to) = range(b);
                    assert!(slab != other || end <= from || to <= start, "{a:?} and {b:?}");
                }
            }
            assert!(placement.slabs.is_sorted_by(|a, b| a >= b), "{:?}", placement.slabs);
        }
    }
}
