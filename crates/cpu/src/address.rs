//! Addressing of an operand within a kernel. A [`Layout`] is split into an axis of rows and an axis of columns. Each
//! axis has as few dimensions as possible.

use std::ops::Range;

use wgrad_graph::Layout;

/// Maximum number of dimensions of an axis (rows or columns) after merging.
pub(crate) const MAX_DIMS: usize = 16;
/// Maximum number of bounds of a layout.
pub(crate) const MAX_BOUNDS: usize = Layout::MAX_BOUNDS;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Dim {
    size: usize,
    stride: isize,
    /// Change of each bounded coordinate per step along this dimension.
    bounds: Vec<isize>,
}

impl Dim {
    /// Whether one step of this dimension equals `inner.size` steps of `inner`, so that the two dimensions can be
    /// merged.
    fn contains_contiguously(&self, inner: &Dim) -> bool {
        let size = inner.size as isize;
        self.stride == inner.stride * size
            && self.bounds.iter().zip(&inner.bounds).all(|(&outer, &inner)| outer == inner * size)
    }
}

/// A position in an operand: the offset of an element, and the coordinates that the bounds of the layout restrict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub offset: isize,
    coordinates: [isize; MAX_BOUNDS],
}

impl Position {
    /// Offset 0, with all coordinates at 0.
    pub fn origin() -> Self {
        Self { offset: 0, coordinates: [0; MAX_BOUNDS] }
    }

    fn step(&mut self, dim: &Dim, steps: isize) {
        self.offset += steps * dim.stride;
        for (coordinate, stride) in self.coordinates.iter_mut().zip(&dim.bounds) {
            *coordinate += steps * stride;
        }
    }

    /// Whether every coordinate is within `0..size`. Otherwise, the position is padding and has no storage.
    pub fn in_bounds(&self, sizes: &[usize]) -> bool {
        self.coordinates.iter().zip(sizes).all(|(&at, &size)| at >= 0 && at < size as isize)
    }

    /// Whether every coordinate stays within `0..size` for all displacements in `reach`. Each coordinate has one entry
    /// in `reach`: the minimum and the maximum displacement.
    #[inline]
    pub fn in_bounds_within(&self, reach: &[(isize, isize)], sizes: &[usize]) -> bool {
        let stays = |((&at, &(least, most)), &size): ((&isize, &(isize, isize)), &usize)| {
            at + least >= 0 && at + most < size as isize
        };
        self.coordinates.iter().zip(reach).zip(sizes).all(stays)
    }

    /// Returns the indices of `dim` within `range` at which all coordinates are in bounds.
    fn valid_steps(&self, dim: &Dim, range: Range<usize>, sizes: &[usize]) -> Range<usize> {
        let (mut lo, mut hi) = (range.start as isize, range.end as isize);
        for ((&at, &size), &stride) in self.coordinates.iter().zip(sizes).zip(&dim.bounds) {
            let size = size as isize;
            // The limits are the ceilings of −at / stride and of (size − at) / stride. A negative stride swaps them.
            let (from, to) = match stride {
                0 if at >= 0 && at < size => continue,
                0 => return range.end..range.end,
                1 => (-at, size - at),
                s if s > 0 => (-((at).div_euclid(s)), -((at - size).div_euclid(s))),
                s => ((at - size).div_euclid(-s) + 1, at.div_euclid(-s) + 1),
            };
            (lo, hi) = (lo.max(from), hi.min(to));
        }
        if lo < hi { lo as usize..hi as usize } else { range.end..range.end }
    }
}

/// Offsets of the flattened row indices or column indices. No dimension has size 1. Nested dimensions that are
/// contiguous are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axis {
    dims: Vec<Dim>,
    /// Stride between neighbouring indices. `None` if the stride is not constant, or if a bound depends on the index.
    stride: Option<isize>,
}

impl Axis {
    /// Creates an axis from the dimensions `dims` of a layout. All strides are multiplied by `pitch`, see
    /// [`crate::memory::pitch`].
    pub fn new(layout: &Layout, dims: Range<usize>, pitch: usize) -> Axis {
        let mut merged: Vec<Dim> = Vec::new();
        for i in dims.filter(|&i| layout.shape[i] != 1) {
            let bounds = layout.bounds.iter().map(|bound| bound.strides[i]).collect();
            let dim = Dim { size: layout.shape[i], stride: layout.strides[i] * pitch as isize, bounds };
            match merged.last_mut() {
                Some(outer) if outer.contains_contiguously(&dim) => {
                    *outer = Dim { size: outer.size * dim.size, ..dim }
                }
                _ => merged.push(dim),
            }
        }
        let stride = match merged.as_slice() {
            [] => Some(0),
            [dim] if dim.bounds.iter().all(|&stride| stride == 0) => Some(dim.stride),
            _ => None,
        };
        if stride == Some(0) {
            merged.clear();
        }
        Axis { dims: merged, stride }
    }

    /// Whether all indices have the same offset.
    pub fn is_constant(&self) -> bool {
        self.dims.is_empty()
    }

    /// Stride between neighbouring indices. `None` if the stride is not constant, or if a bound depends on the index.
    pub fn stride(&self) -> Option<isize> {
        self.stride
    }

    /// Returns the number of indices after which offsets and bounds repeat, or `None` if they do not repeat.
    pub fn period(&self) -> Option<usize> {
        let (outer, inner) = self.dims.split_first()?;
        let repeats = outer.stride == 0 && outer.bounds.iter().all(|&stride| stride == 0);
        (repeats && !inner.is_empty()).then(|| inner.iter().map(|dim| dim.size).product())
    }

    /// Maximum length of a run of [`Axis::for_each_run`]. `usize::MAX` if all indices have the same offset.
    pub fn run_length(&self) -> usize {
        self.dims.last().map_or(usize::MAX, |dim| dim.size)
    }

    /// Moves a position from index 0 of the axis to index `index`.
    #[inline]
    pub fn advance(&self, position: &mut Position, index: usize) {
        if let Some(stride) = self.stride {
            position.offset += index as isize * stride;
            return;
        }
        let mut rest = index;
        for dim in self.dims.iter().rev() {
            position.step(dim, (rest % dim.size) as isize);
            rest /= dim.size;
        }
    }

    /// Calls `visit` with the position of every index of a range, in order. `from` is the position of index 0.
    #[inline]
    pub fn for_each(&self, range: Range<usize>, from: Position, mut visit: impl FnMut(Position)) {
        let mut index = [0; MAX_DIMS];
        let (mut rest, mut position) = (range.start, from);
        for (at, dim) in index.iter_mut().zip(&self.dims).rev() {
            *at = rest % dim.size;
            rest /= dim.size;
            position.step(dim, *at as isize);
        }
        for _ in range {
            visit(position);
            for (at, dim) in index.iter_mut().zip(&self.dims).rev() {
                *at += 1;
                position.step(dim, 1);
                if *at < dim.size {
                    break;
                }
                *at = 0;
                position.step(dim, -(dim.size as isize));
            }
        }
    }

    /// Splits the indices `start .. start + len` into runs of constant stride. Calls `visit` for each run with three
    /// values: a subrange of `0..len`, the offset of its first index (`None` if the run is padding), and the stride.
    /// `from` is the position of index 0, and `sizes` are the sizes of the bounds.
    #[inline]
    pub fn for_each_run(
        &self,
        start: usize,
        len: usize,
        from: Position,
        sizes: &[usize],
        mut visit: impl FnMut(Range<usize>, Option<isize>, isize),
    ) {
        if let Some(stride) = self.stride {
            let first = from.in_bounds(sizes).then_some(from.offset + start as isize * stride);
            return visit(0..len, first, stride);
        }
        let Some((last, outer)) = self.dims.split_last() else { return };
        let mut index = [0; MAX_DIMS];
        let (mut i, mut rest, mut position) = (start % last.size, start / last.size, from);
        for (at, dim) in index.iter_mut().zip(outer).rev() {
            *at = rest % dim.size;
            rest /= dim.size;
            position.step(dim, *at as isize);
        }
        let mut lane = 0;
        while lane < len {
            let end = last.size.min(i + len - lane);
            let inside = position.valid_steps(last, i..end, sizes);
            let at = |step: usize| lane + step - i;
            if i < inside.start {
                visit(at(i)..at(inside.start), None, 0);
            }
            if !inside.is_empty() {
                let first = position.offset + inside.start as isize * last.stride;
                visit(at(inside.start)..at(inside.end), Some(first), last.stride);
            }
            if inside.end < end {
                visit(at(inside.end)..at(end), None, 0);
            }
            lane += end - i;
            i = 0;
            for (at, dim) in index.iter_mut().zip(outer).rev() {
                *at += 1;
                position.step(dim, 1);
                if *at < dim.size {
                    break;
                }
                *at = 0;
                position.step(dim, -(dim.size as isize));
            }
        }
    }
}

/// Maps (row, column) to an offset from the start of the operand. The offset counts elements of the stored type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub operand: usize,
    /// Position of row 0 and column 0.
    pub start: Position,
    /// Number of valid values of each bounded coordinate.
    pub sizes: Vec<usize>,
    pub rows: Axis,
    pub columns: Axis,
}

impl Address {
    /// Splits a layout over `outer ++ inner`, or over `outer` alone, into rows and columns. The first `outer`
    /// dimensions are the rows. Returns `None` if the layout is all padding.
    pub fn new(operand: usize, layout: &Layout, outer: usize, pitch: usize) -> Option<Address> {
        Self::split(operand, layout, 0..outer, outer..layout.shape.len(), pitch)
    }

    /// Uses the dimensions `rows` and `columns` of a layout. All other dimensions stay at index 0. Returns `None` if
    /// the layout is all padding.
    pub fn split(
        operand: usize,
        layout: &Layout,
        rows: Range<usize>,
        columns: Range<usize>,
        pitch: usize,
    ) -> Option<Address> {
        if layout.is_all_padding() {
            return None;
        }
        let mut coordinates = [0; MAX_BOUNDS];
        coordinates.iter_mut().zip(&layout.bounds).for_each(|(at, bound)| *at = bound.offset);
        Some(Address {
            operand,
            start: Position { offset: layout.offset * pitch as isize, coordinates },
            sizes: layout.bounds.iter().map(|bound| bound.size).collect(),
            rows: Axis::new(layout, rows, pitch),
            columns: Axis::new(layout, columns, pitch),
        })
    }

    pub fn is_padded(&self) -> bool {
        !self.sizes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use wgrad_graph::philox::Stream;
    use wgrad_graph::{Affine, View};

    use super::*;

    /// Checks that `advance` and `for_each_run` address the same elements as the layout. Tests chains of views that
    /// permute, slice, pad and broadcast.
    #[test]
    fn axis_addresses_the_same_elements_as_its_layout() {
        let mut random = Stream::new(11, 0);
        for _ in 0..1500 {
            let mut layout = Layout::contiguous(&[3, 1, 4, 2]);
            for _ in 0..3 {
                if layout.numel() > 2000 {
                    break;
                }
                let view = random_view(&mut random, &layout.shape);
                layout = layout.apply(&view).unwrap_or(layout);
            }
            let mut expected = Vec::new();
            layout.for_each(|at| expected.push(at.map(|at| at as isize)));
            let Some(address) = Address::new(0, &layout, layout.shape.len(), 1) else {
                assert!(expected.iter().all(Option::is_none));
                continue;
            };
            let axis = &address.rows;
            let start = random.below(expected.len() as u32) as usize;
            let len = 1 + random.below((expected.len() - start) as u32) as usize;
            let mut found = vec![Some(-1); len];
            let mut covered = 0;
            axis.for_each_run(start, len, address.start, &address.sizes, |range, at, stride| {
                assert_eq!(range.start, covered);
                covered = range.end;
                range.enumerate().for_each(|(i, lane)| found[lane] = at.map(|at| at + i as isize * stride));
            });
            assert_eq!(found, expected[start..start + len], "{layout:?}");
            let mut position = address.start;
            axis.advance(&mut position, start);
            assert_eq!(position.in_bounds(&address.sizes).then_some(position.offset), expected[start]);
        }
    }

    fn random_view(random: &mut Stream, shape: &[usize]) -> View {
        let rank = shape.len();
        let mut pick = |n: usize| random.below(n as u32) as usize;
        match pick(5) {
            0 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                (1..rank).for_each(|i| axes.swap(i, pick(i + 1)));
                View::Permute(axes)
            }
            1 => View::Slice {
                start: shape.iter().map(|&n| if n > 1 { pick(2) } else { 0 }).collect(),
                end: shape.to_vec(),
                step: shape.iter().map(|_| 1 + pick(2)).collect(),
            },
            2 => View::Pad {
                before: shape.iter().map(|_| pick(2)).collect(),
                after: shape.iter().map(|_| pick(3)).collect(),
            },
            3 => {
                let windows: Vec<usize> = shape.iter().flat_map(|&n| [1 + pick(n), 1 + pick(2)]).collect();
                let mut coordinate = |i: usize| Affine {
                    offset: pick(4) as isize - 1,
                    terms: vec![(2 * i, 3 - 2 * pick(4) as isize), (2 * i + 1, 1 + pick(2) as isize)],
                };
                let coordinates = (0..rank).map(&mut coordinate).collect();
                View::Affine { shape: windows, coordinates }
            }
            _ => View::Broadcast(shape.iter().map(|&n| if n == 1 { 1 + pick(3) } else { n }).collect()),
        }
    }
}
