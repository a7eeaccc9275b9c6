//! Where the elements that a kernel visits lie in an operand: a [`Layout`] split into rows and columns, each with as few
//! dimensions as it needs.

use std::ops::Range;

use wgrad_graph::Layout;

/// Most dimensions that rows or columns may have once neighbours are merged.
pub(crate) const MAX_DIMS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dim {
    size: usize,
    stride: isize,
    valid: (usize, usize),
}

impl Dim {
    fn is_padded(&self) -> bool {
        self.valid != (0, self.size)
    }
}

/// Offsets along the flattened rows or columns. No dimension has size 1, and neighbours that lie one in the other are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axis {
    dims: Vec<Dim>,
    /// Offset from one index to the next, where that is the same everywhere.
    stride: Option<isize>,
    padded: bool,
}

impl Axis {
    /// `None` when all of it is padding.
    fn new(layout: &Layout, dims: Range<usize>, pitch: usize) -> Option<Axis> {
        let mut merged: Vec<Dim> = Vec::new();
        for i in dims {
            let size = layout.shape[i];
            let valid = layout.valid.as_ref().map_or((0, size), |valid| valid[i]);
            if size > 0 && valid.0 >= valid.1 {
                return None;
            }
            let dim = Dim { size, stride: layout.strides[i] * pitch as isize, valid };
            match merged.last_mut() {
                _ if size == 1 => {}
                Some(outer)
                    if outer.stride == dim.stride * size as isize
                        && !outer.is_padded()
                        && !dim.is_padded() =>
                {
                    *outer =
                        Dim { size: outer.size * size, stride: dim.stride, valid: (0, outer.size * size) };
                }
                _ => merged.push(dim),
            }
        }
        let padded = merged.iter().any(Dim::is_padded);
        let stride = match merged.as_slice() {
            [] => Some(0),
            [dim] if !padded => Some(dim.stride),
            _ => None,
        };
        if stride == Some(0) {
            merged.clear();
        }
        Some(Axis { dims: merged, stride, padded })
    }

    /// True when every index has the same offset.
    pub fn is_constant(&self) -> bool {
        self.dims.is_empty()
    }

    /// Offset from one index to the next, where that is the same everywhere.
    pub fn stride(&self) -> Option<isize> {
        self.stride
    }

    /// Elements from one jump to the next: how long the runs of [`Axis::runs`] are.
    pub fn run(&self) -> usize {
        self.dims.last().map_or(usize::MAX, |dim| dim.size)
    }

    /// Offset of an index, or `None` in the padding.
    #[inline]
    pub fn at(&self, index: usize) -> Option<isize> {
        if let Some(stride) = self.stride {
            return Some(index as isize * stride);
        }
        let (mut rest, mut offset) = (index, 0);
        for dim in self.dims.iter().rev() {
            let i = rest % dim.size;
            rest /= dim.size;
            if i < dim.valid.0 || i >= dim.valid.1 {
                return None;
            }
            offset += i as isize * dim.stride;
        }
        Some(offset)
    }

    /// Cuts `start .. start + len` into runs of one stride: calls `visit` with a range of `0..len`, the offset of its first
    /// index (`None` in the padding) and the stride.
    #[inline]
    pub fn runs(&self, start: usize, len: usize, mut visit: impl FnMut(Range<usize>, Option<isize>, isize)) {
        if let Some(stride) = self.stride {
            return visit(0..len, Some(start as isize * stride), stride);
        }
        let Some((last, outer)) = self.dims.split_last() else { return };
        let mut index = [0; MAX_DIMS];
        let (mut i, mut rest, mut base) = (start % last.size, start / last.size, 0);
        for (at, dim) in index.iter_mut().zip(outer).rev() {
            *at = rest % dim.size;
            rest /= dim.size;
            base += *at as isize * dim.stride;
        }
        let inside =
            |index: &[usize]| outer.iter().zip(index).all(|(dim, &i)| i >= dim.valid.0 && i < dim.valid.1);
        let mut lane = 0;
        while lane < len {
            let end = last.size.min(i + len - lane);
            let (lo, hi) = if self.padded && !inside(&index) { (end, end) } else { last.valid };
            let (lo, hi) = (lo.clamp(i, end), hi.clamp(i, end));
            if i < lo {
                visit(lane..lane + lo - i, None, 0);
            }
            if lo < hi {
                visit(lane + lo - i..lane + hi - i, Some(base + lo as isize * last.stride), last.stride);
            }
            if lo.max(hi) < end {
                visit(lane + lo.max(hi) - i..lane + end - i, None, 0);
            }
            lane += end - i;
            i = 0;
            for (at, dim) in index.iter_mut().zip(outer).rev() {
                *at += 1;
                base += dim.stride;
                if *at < dim.size {
                    break;
                }
                *at = 0;
                base -= dim.size as isize * dim.stride;
            }
        }
    }
}

/// Where the element at (row, column) lies, in units of what the operand stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub operand: usize,
    pub offset: isize,
    pub rows: Axis,
    pub columns: Axis,
}

impl Address {
    /// Splits a layout over `outer ++ inner`, or over `outer` alone, at dimension `outer`. `None` when all is padding.
    pub fn new(operand: usize, layout: &Layout, outer: usize, pitch: usize) -> Option<Address> {
        Some(Address {
            operand,
            offset: layout.offset * pitch as isize,
            rows: Axis::new(layout, 0..outer, pitch)?,
            columns: Axis::new(layout, outer..layout.shape.len(), pitch)?,
        })
    }

    pub fn is_padded(&self) -> bool {
        self.rows.padded || self.columns.padded
    }
}

#[cfg(test)]
mod tests {
    use wgrad_graph::View;
    use wgrad_graph::philox::Stream;

    use super::*;

    /// `at` and `runs` must agree with the layout, for chains of views that permute, slice, pad and broadcast.
    #[test]
    fn an_axis_addresses_what_its_layout_does() {
        let mut random = Stream::new(11, 0);
        for _ in 0..500 {
            let mut layout = Layout::contiguous(&[3, 1, 4, 2]);
            for _ in 0..3 {
                layout =
                    layout.through(&random_view(&mut random, &layout.shape)).expect("no reshape among them");
            }
            let mut expected = Vec::new();
            layout.for_each(|at| expected.push(at.map(|at| at as isize)));
            let Some(axis) = Axis::new(&layout, 0..layout.shape.len(), 1) else {
                assert!(expected.iter().all(Option::is_none));
                continue;
            };
            let offset = |at: Option<isize>| at.map(|at| at + layout.offset);
            let start = random.below(expected.len() as u32) as usize;
            let len = 1 + random.below((expected.len() - start) as u32) as usize;
            let mut found = vec![Some(-1); len];
            let mut covered = 0;
            axis.runs(start, len, |range, at, stride| {
                assert_eq!(range.start, covered);
                covered = range.end;
                range
                    .enumerate()
                    .for_each(|(i, lane)| found[lane] = offset(at.map(|at| at + i as isize * stride)));
            });
            assert_eq!(found, expected[start..start + len], "{layout:?}");
            assert_eq!(offset(axis.at(start)), expected[start]);
        }
    }

    fn random_view(random: &mut Stream, shape: &[usize]) -> View {
        let rank = shape.len();
        let mut pick = |n: usize| random.below(n as u32) as usize;
        match pick(4) {
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
            _ => View::Broadcast(shape.iter().map(|&n| if n == 1 { 1 + pick(3) } else { n }).collect()),
        }
    }
}
