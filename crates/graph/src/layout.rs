//! Layouts, which map an index to an offset in a buffer, and views, which change a layout without moving data.

use std::ops::Range;

use crate::shape::Shape;

/// Maps an index to an offset: `offset + Σ index[i] · strides[i]`, in elements.
///
/// An index that violates a bound has no storage, and its element is zero (padding, or a window that extends over the
/// edge).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// Stride of each dimension in elements; 0 for broadcast dimensions.
    pub strides: Vec<isize>,
    /// Offset of index zero, in elements. May be negative if a bound excludes index zero.
    pub offset: isize,
    /// Conditions on an index; an element has storage only if all of them hold.
    pub bounds: Vec<Bound>,
}

/// A coordinate of the storage that may be out of range: `offset + Σ index[i] · strides[i]` must lie in `0..size`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bound {
    /// Stride of the coordinate for each dimension of the index.
    pub strides: Vec<isize>,
    /// The coordinate of index zero.
    pub offset: isize,
    /// Number of valid values of the coordinate. The valid values are `0..size`.
    pub size: usize,
    /// Change of the layout's offset, in elements, when the coordinate increases by 1. Does not affect addressing;
    /// [`Layout::extent`] uses this value to prove that no element lies outside the storage.
    pub unit: isize,
}

/// One coordinate of a tensor as an affine function of another index: `offset + Σ step · index[dimension]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Affine {
    /// The coordinate of index zero.
    pub offset: isize,
    /// Pairs of a dimension of the index and its non-zero step. Each dimension occurs at most once.
    pub terms: Vec<(usize, isize)>,
}

/// A change of shape or indexing. Needs no copy if a layout can express it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum View {
    /// The same elements in row-major order with another shape.
    Reshape(Vec<usize>),
    /// Dimension `i` of the result is dimension `axes[i]` of the input.
    Permute(Vec<usize>),
    /// Repeats dimensions of size 1, and adds missing leading dimensions, to get this shape.
    Broadcast(Vec<usize>),
    /// Every `step[i]`-th element of `start[i]..end[i]` in each dimension.
    Slice {
        /// First index of each dimension.
        start: Vec<usize>,
        /// End of the range of each dimension, exclusive.
        end: Vec<usize>,
        /// Distance between consecutive selected indices, at least 1.
        step: Vec<usize>,
    },
    /// Adds zeros before and after each dimension.
    Pad {
        /// Number of zeros before each dimension.
        before: Vec<usize>,
        /// Number of zeros after each dimension.
        after: Vec<usize>,
    },
    /// Selects the element whose coordinates are affine functions of the index; the result is zero if a coordinate is
    /// out of range. Expresses, for example, the windows of a convolution.
    Affine {
        /// Shape of the result.
        shape: Vec<usize>,
        /// One function for each coordinate of the input.
        coordinates: Vec<Affine>,
    },
}

/// Returns the row-major strides of a shape. Dimensions of size 1 have stride 0, so that layouts with equal addressing
/// have equal strides.
fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1;
    for (stride, &size) in strides.iter_mut().zip(shape).rev() {
        *stride = if size == 1 { 0 } else { step };
        step *= size as isize;
    }
    strides
}

/// Returns the minimum and maximum of `offset + Σ index[i] · strides[i]` over all indices of a shape.
fn range(offset: isize, strides: &[isize], shape: &[usize]) -> (i128, i128) {
    let mut ends = (offset as i128, offset as i128);
    for (&stride, &size) in strides.iter().zip(shape) {
        let last = stride as i128 * (size as i128 - 1);
        ends = (ends.0 + last.min(0), ends.1 + last.max(0));
    }
    ends
}

impl Bound {
    fn coordinate(&self, index: &[usize]) -> isize {
        self.offset + index.iter().zip(&self.strides).map(|(&i, &s)| i as isize * s).sum::<isize>()
    }

    /// Returns the minimum and maximum of the coordinate over all indices of a shape.
    pub fn range(&self, shape: &[usize]) -> (i128, i128) {
        range(self.offset, &self.strides, shape)
    }

    fn always_holds(&self, shape: &[usize]) -> bool {
        let (first, last) = self.range(shape);
        first >= 0 && last < self.size as i128
    }

    /// Restricts the bound to the indices that also satisfy `other`, a bound on the same coordinate.
    fn intersect(&mut self, other: &Bound) {
        let end = |bound: &Bound| bound.size as isize - bound.offset;
        let end = end(self).min(end(other));
        self.offset = self.offset.min(other.offset);
        self.size = usize::try_from(end + self.offset).unwrap_or(0);
        self.unit += other.unit;
    }

    fn never_holds(&self, shape: &[usize]) -> bool {
        let (first, last) = self.range(shape);
        self.size == 0 || last < 0 || first >= self.size as i128
    }
}

impl Layout {
    /// Maximum number of bounds of a layout. A view that would need more requires a copy.
    pub const MAX_BOUNDS: usize = 8;

    /// Returns the row-major layout of a shape, starting at offset 0.
    pub fn contiguous(shape: &[usize]) -> Self {
        Self::strided(shape, row_major(shape), 0)
    }

    /// Creates a layout without bounds.
    pub fn strided(shape: &[usize], strides: Vec<isize>, offset: isize) -> Self {
        Self { shape: shape.to_vec(), strides, offset, bounds: Vec::new() }
    }

    /// Marks all indices outside the half-open range `valid[i]` of each dimension i as padding.
    pub fn with_valid_ranges(mut self, valid: &[(usize, usize)]) -> Self {
        for (i, &(lo, hi)) in valid.iter().enumerate() {
            let mut strides = vec![0; self.shape.len()];
            strides[i] = 1;
            let size = hi.saturating_sub(lo);
            self.bounds.push(Bound { strides, offset: -(lo as isize), size, unit: self.strides[i] });
        }
        self.simplify_bounds()
    }

    /// Number of elements, including broadcast and padded elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the layout is row-major without gaps or padding, so that element i lies at offset i.
    pub fn is_contiguous(&self) -> bool {
        self.offset == 0 && self.is_unpadded() && self.strides == row_major(&self.shape)
    }

    /// Whether every index has storage, i.e. the layout has no bounds.
    pub fn is_unpadded(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Whether one of the bounds excludes every index, so that all elements are zero.
    pub fn is_all_padding(&self) -> bool {
        self.bounds.iter().any(|bound| bound.never_holds(&self.shape))
    }

    /// Returns a lower and an upper limit of the offsets of elements with storage, or `None` if no element has storage.
    ///
    /// The part of the offset that depends on a bound's coordinate ([`Bound::unit`]) is limited by the size of the
    /// bound. The remaining strides contribute their extreme values.
    pub fn extent(&self) -> Option<(i128, i128)> {
        if self.is_all_padding() || self.numel() == 0 {
            return None;
        }
        let (mut offset, mut strides) = (self.offset, self.strides.clone());
        let mut ends = (0, 0);
        for bound in &self.bounds {
            offset -= bound.unit * bound.offset;
            strides.iter_mut().zip(&bound.strides).for_each(|(s, &b)| *s -= bound.unit * b);
            let (first, last) = bound.range(&self.shape);
            let (first, last) = (first.max(0), last.min(bound.size as i128 - 1));
            let unit = bound.unit as i128;
            ends = (ends.0 + (first * unit).min(last * unit), ends.1 + (first * unit).max(last * unit));
        }
        let rest = range(offset, &strides, &self.shape);
        Some((ends.0 + rest.0, ends.1 + rest.1))
    }

    /// Returns the layout of a view of this layout, or `None` if the view needs a copy (e.g. a reshape across strides).
    pub fn apply(&self, view: &View) -> Option<Layout> {
        let seen = match view {
            View::Reshape(shape) => self.reshape(shape)?,
            View::Permute(axes) => self.permute(axes),
            View::Broadcast(shape) => self.broadcast(shape),
            View::Slice { start, end, step } => self.slice(start, end, step),
            View::Pad { before, after } => self.pad(before, after),
            View::Affine { shape, coordinates } => self.affine(shape, coordinates),
        };
        (seen.bounds.len() <= Self::MAX_BOUNDS || self.is_contiguous()).then_some(seen)
    }

    /// Replaces the index with a new index of shape `shape`. `map` converts an affine function of the old index, given
    /// as offset and strides, to the same function of the new index. It is applied to the offset of the layout and to
    /// each bound.
    fn map_affine(&self, shape: Vec<usize>, map: impl Fn(isize, &[isize]) -> (isize, Vec<isize>)) -> Layout {
        let map_affine = |offset: isize, strides: &[isize]| {
            let (offset, mut strides) = map(offset, strides);
            strides.iter_mut().zip(&shape).filter(|(_, size)| **size == 1).for_each(|(s, _)| *s = 0);
            (offset, strides)
        };
        let (offset, strides) = map_affine(self.offset, &self.strides);
        let bounds = self.bounds.iter().map(|bound| {
            let (offset, strides) = map_affine(bound.offset, &bound.strides);
            Bound { strides, offset, ..bound.clone() }
        });
        let bounds = bounds.collect();
        Layout { shape, strides, offset, bounds }.simplify_bounds()
    }

    /// Returns the layout with permuted dimensions: dimension i of the result is dimension `axes[i]` of this layout.
    pub fn permute(&self, axes: &[usize]) -> Layout {
        let shape = axes.iter().map(|&a| self.shape[a]).collect();
        self.map_affine(shape, |offset, strides| (offset, axes.iter().map(|&a| strides[a]).collect()))
    }

    fn broadcast(&self, shape: &[usize]) -> Layout {
        let missing = shape.len() - self.shape.len();
        let kept = |i: usize| i.checked_sub(missing).filter(|&i| self.shape[i] == shape[i + missing]);
        self.map_affine(shape.to_vec(), |offset, strides| {
            (offset, (0..shape.len()).map(|i| kept(i).map_or(0, |i| strides[i])).collect())
        })
    }

    fn slice(&self, start: &[usize], end: &[usize], step: &[usize]) -> Layout {
        let shape = (0..start.len()).map(|i| (end[i] - start[i]).div_ceil(step[i])).collect();
        self.map_affine(shape, |offset, strides| {
            let moved: isize = start.iter().zip(strides).map(|(&s, &stride)| s as isize * stride).sum();
            (
                offset + moved,
                strides.iter().zip(step).map(|(&stride, &step)| stride * step as isize).collect(),
            )
        })
    }

    fn pad(&self, before: &[usize], after: &[usize]) -> Layout {
        let coordinates = before.iter().enumerate();
        let coordinates: Vec<Affine> = coordinates
            .map(|(i, &before)| Affine { offset: -(before as isize), terms: vec![(i, 1)] })
            .collect();
        let shape: Vec<usize> = (0..before.len()).map(|i| before[i] + self.shape[i] + after[i]).collect();
        self.affine(&shape, &coordinates)
    }

    fn affine(&self, shape: &[usize], coordinates: &[Affine]) -> Layout {
        let mut remaining_strides = self.strides.clone();
        for bound in &self.bounds {
            remaining_strides.iter_mut().zip(&bound.strides).for_each(|(rest, &s)| *rest -= bound.unit * s);
        }
        let mut seen = self.map_affine(shape.to_vec(), |mut offset, old| {
            let mut strides = vec![0; shape.len()];
            for (coordinate, &stride) in coordinates.iter().zip(old) {
                offset += coordinate.offset * stride;
                coordinate.terms.iter().for_each(|&(i, step)| strides[i] += step * stride);
            }
            (offset, strides)
        });
        for (i, coordinate) in coordinates.iter().enumerate() {
            let mut strides = vec![0; shape.len()];
            coordinate.terms.iter().filter(|(j, _)| shape[*j] != 1).for_each(|&(j, step)| strides[j] += step);
            let (offset, size, unit) = (coordinate.offset, self.shape[i], remaining_strides[i]);
            seen.bounds.push(Bound { strides, offset, size, unit });
        }
        seen.simplify_bounds()
    }

    /// Removes bounds that always hold, and combines bounds on the same coordinate.
    fn simplify_bounds(mut self) -> Layout {
        let mut kept: Vec<Bound> = Vec::new();
        for bound in self.bounds.drain(..).filter(|bound| !bound.always_holds(&self.shape)) {
            match kept.iter_mut().find(|other| other.strides == bound.strides) {
                Some(other) => other.intersect(&bound),
                None => kept.push(bound),
            }
        }
        self.bounds = kept;
        self
    }

    /// Returns the layout with another shape, or `None` if the reshape needs a copy.
    ///
    /// Consecutive old and new dimensions with equal products form a group. A group can be reshaped if its old
    /// dimensions are contiguous relative to each other, in the strides of the layout and in the strides of every
    /// bound.
    fn reshape(&self, shape: &[usize]) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout::contiguous(shape));
        }
        let groups = matching_groups(&self.shape, shape)?;
        let mut all = Vec::new();
        for strides in std::iter::once(&self.strides).chain(self.bounds.iter().map(|b| &b.strides)) {
            let mut new = vec![0isize; shape.len()];
            for (from, to) in &groups {
                regroup_strides(
                    &self.shape[from.clone()],
                    &strides[from.clone()],
                    &shape[to.clone()],
                    &mut new[to.clone()],
                )?;
            }
            all.push(new);
        }
        let mut all = all.into_iter();
        let strides = all.next()?;
        let bounds = self.bounds.iter().zip(all).map(|(bound, strides)| Bound { strides, ..bound.clone() });
        let bounds = bounds.collect();
        Some(Layout { shape: shape.to_vec(), strides, offset: self.offset, bounds })
    }

    /// Returns the layout without its dimensions of size 1.
    pub fn squeeze(&self) -> Layout {
        let kept: Vec<usize> = (0..self.shape.len()).filter(|&i| self.shape[i] != 1).collect();
        self.permute(&kept)
    }

    /// Returns the offset of an index, or `None` if the index has no storage.
    pub fn at(&self, index: &[usize]) -> Option<usize> {
        let holds = |bound: &Bound| usize::try_from(bound.coordinate(index)).is_ok_and(|at| at < bound.size);
        if !self.bounds.iter().all(holds) {
            return None;
        }
        let offset =
            self.offset + index.iter().zip(&self.strides).map(|(&i, &s)| i as isize * s).sum::<isize>();
        usize::try_from(offset).ok()
    }

    /// Calls `visit` for every element in row-major order, with its offset or `None` for padding.
    pub fn for_each(&self, mut visit: impl FnMut(Option<usize>)) {
        let mut index = vec![0; self.shape.len()];
        for _ in 0..self.numel() {
            visit(self.at(&index));
            for (i, &size) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < size {
                    break;
                }
                *i = 0;
            }
        }
    }
}

impl View {
    /// Returns the shape of this view of a tensor of shape `input`.
    pub fn shape(&self, input: &[usize]) -> Shape {
        match self {
            View::Reshape(shape) | View::Broadcast(shape) => Shape::from(shape.as_slice()),
            View::Permute(axes) => axes.iter().map(|&a| input[a]).collect::<Vec<_>>().into(),
            View::Slice { start, end, step } => {
                (0..start.len()).map(|i| (end[i] - start[i]).div_ceil(step[i])).collect::<Vec<_>>().into()
            }
            View::Pad { before, after } => {
                (0..input.len()).map(|i| before[i] + input[i] + after[i]).collect::<Vec<_>>().into()
            }
            View::Affine { shape, .. } => Shape::from(shape.as_slice()),
        }
    }
}

/// Splits two shapes into consecutive groups of dimensions with equal products. Returns `None` if the total sizes
/// differ.
fn matching_groups(old: &[usize], new: &[usize]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let mut all = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let first = (i, j);
        let mut old_size = old.get(i).copied().unwrap_or(1);
        let mut new_size = new.get(j).copied().unwrap_or(1);
        (i, j) = ((i + 1).min(old.len()), (j + 1).min(new.len()));
        while old_size != new_size {
            if old_size < new_size {
                old_size *= old.get(i)?;
                i += 1;
            } else {
                new_size *= new.get(j)?;
                j += 1;
            }
        }
        all.push((first.0..i, first.1..j));
    }
    Some(all)
}

/// Writes to `to` the strides of a group of dimensions that is reshaped from sizes `old` to sizes `new`. Returns `None`
/// if the old dimensions are not contiguous relative to each other.
fn regroup_strides(old: &[usize], strides: &[isize], new: &[usize], to: &mut [isize]) -> Option<()> {
    let dims: Vec<usize> = (0..old.len()).filter(|&i| old[i] != 1).collect();
    if dims.windows(2).any(|w| strides[w[0]] != strides[w[1]] * old[w[1]] as isize) {
        return None;
    }
    let mut step = dims.last().map_or(0, |&i| strides[i]);
    for (stride, &size) in to.iter_mut().zip(new).rev() {
        *stride = if size == 1 { 0 } else { step };
        step *= size as isize;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(layout: &Layout) -> Vec<Option<usize>> {
        let mut all = Vec::new();
        layout.for_each(|offset| all.push(offset));
        all
    }

    /// Compares chains of random views with the same chains in which a copy follows each view.
    #[test]
    fn chained_views_match_chained_copies() {
        let mut random = crate::philox::Stream::new(1, 0);
        for _ in 0..3000 {
            let mut layout = Layout::contiguous(&[2, 3, 4]);
            let mut copied: Vec<Option<usize>> = (0..24).map(Some).collect();
            for _ in 0..4 {
                let view = random_view(&mut random, &layout.shape);
                let step = Layout::contiguous(&layout.shape)
                    .apply(&view)
                    .expect("a contiguous layout must support every view");
                copied = offsets(&step).into_iter().map(|at| at.and_then(|at| copied[at])).collect();
                match layout.apply(&view) {
                    Some(next) => layout = next,
                    None => break,
                }
                assert_eq!(offsets(&layout), copied, "{view:?} resulted in {layout:?}");
                if let Some((first, last)) = layout.extent() {
                    assert!(first >= 0 && last < 24, "extent {first}..={last} exceeds 0..24: {layout:?}");
                }
                assert_eq!(layout.shape, view.shape(&step_input(&view, &layout.shape, &step)).to_vec());
                if layout.numel() > 500 {
                    break;
                }
            }
        }
    }

    fn step_input(view: &View, result: &[usize], step: &Layout) -> Vec<usize> {
        match view {
            View::Pad { before, after } => {
                (0..result.len()).map(|i| result[i] - before[i] - after[i]).collect()
            }
            View::Permute(axes) => {
                let mut input = vec![0; axes.len()];
                axes.iter().zip(&step.shape).for_each(|(&a, &n)| input[a] = n);
                input
            }
            _ => result.to_vec(),
        }
    }

    fn random_view(random: &mut crate::philox::Stream, shape: &[usize]) -> View {
        let rank = shape.len();
        let mut pick = |n: usize| random.below(n as u32) as usize;
        match pick(6) {
            5 => {
                let windows: Vec<usize> = shape.iter().flat_map(|&n| [1 + pick(n), 1 + pick(3)]).collect();
                let mut coordinate = |i: usize| Affine {
                    offset: pick(3) as isize - 1,
                    terms: vec![(2 * i, 1 + pick(2) as isize), (2 * i + 1, 1 - 2 * pick(2) as isize)],
                };
                let coordinates = (0..rank).map(&mut coordinate).collect();
                View::Affine { shape: windows, coordinates }
            }
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
                after: shape.iter().map(|_| pick(2)).collect(),
            },
            3 => {
                let numel: usize = shape.iter().product();
                let first = (1..=numel).filter(|d| numel.is_multiple_of(*d)).nth(pick(3)).unwrap_or(1);
                View::Reshape(vec![1, first, numel / first])
            }
            _ => {
                let mut wide = shape.to_vec();
                wide.iter_mut().for_each(|n| *n = if *n == 1 { 2 } else { *n });
                wide.insert(0, 2);
                View::Broadcast(wide)
            }
        }
    }
}
