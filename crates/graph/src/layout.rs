//! Layouts: where the element at an index lies in a buffer; and the views that change a layout but move no data.

use std::ops::Range;

use crate::shape::Shape;

/// Maps an index to an offset: `offset + Σ index[i] · strides[i]`, in elements.
///
/// Where a bound does not hold there is no storage and the element is zero (a padded tensor, a window over the edge).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// Step of each dimension in elements; 0 where it is broadcast.
    pub strides: Vec<isize>,
    /// Offset of index zero; may be negative where a bound excludes it.
    pub offset: isize,
    /// What has to hold of an index for there to be storage.
    pub bounds: Vec<Bound>,
}

/// A coordinate of the storage that an index may miss: `offset + Σ index[i] · strides[i]` has to lie in `0..size`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bound {
    /// Step of the coordinate for each dimension of the index.
    pub strides: Vec<isize>,
    /// The coordinate of index zero.
    pub offset: isize,
    /// Values that the coordinate may take.
    pub size: usize,
    /// Elements from one value of the coordinate to the next, if the layout's offset has no other account of them. Says
    /// nothing new of where an element lies; it lets [`Layout::extent`] prove that none lies outside.
    pub unit: isize,
}

/// One coordinate of a tensor as a function of another index: `offset + Σ step · index[dimension]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Affine {
    /// The coordinate of index zero.
    pub offset: isize,
    /// Dimensions of the index that matter, each once, and the step that each makes.
    pub terms: Vec<(usize, isize)>,
}

/// A change of shape that needs no copy where the layout can express it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum View {
    /// The same elements in row-major order under another shape.
    Reshape(Vec<usize>),
    /// Dimension `i` of the result is dimension `axes[i]` of the input.
    Permute(Vec<usize>),
    /// Dimensions of size 1, and missing leading ones, repeated to this shape.
    Broadcast(Vec<usize>),
    /// `start[i]..end[i]` of each dimension, every `step[i]`-th element.
    Slice {
        /// First index taken.
        start: Vec<usize>,
        /// One past the last index looked at.
        end: Vec<usize>,
        /// Distance between taken indices, at least 1.
        step: Vec<usize>,
    },
    /// Zeros before and after each dimension.
    Pad {
        /// Zeros before.
        before: Vec<usize>,
        /// Zeros after.
        after: Vec<usize>,
    },
    /// The element at coordinates that are affine functions of the index, zero where one of them is outside: windows,
    /// and whatever else is written with index equations.
    Affine {
        /// Shape of the result.
        shape: Vec<usize>,
        /// Each coordinate of the input.
        coordinates: Vec<Affine>,
    },
}

/// Row-major strides of a shape; a dimension of size 1 has stride 0, so that equal addressing has equal strides.
fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1;
    for (stride, &size) in strides.iter_mut().zip(shape).rev() {
        *stride = if size == 1 { 0 } else { step };
        step *= size as isize;
    }
    strides
}

/// Least and greatest value of `offset + Σ index[i] · strides[i]` over a shape.
fn range(offset: isize, strides: &[isize], shape: &[usize]) -> (i128, i128) {
    let mut ends = (offset as i128, offset as i128);
    for (&stride, &size) in strides.iter().zip(shape) {
        let last = stride as i128 * (size as i128 - 1);
        ends = (ends.0 + last.min(0), ends.1 + last.max(0));
    }
    ends
}

impl Bound {
    fn value(&self, index: &[usize]) -> isize {
        self.offset + index.iter().zip(&self.strides).map(|(&i, &s)| i as isize * s).sum::<isize>()
    }

    /// Least and greatest coordinate over a shape.
    pub fn range(&self, shape: &[usize]) -> (i128, i128) {
        range(self.offset, &self.strides, shape)
    }

    fn always_holds(&self, shape: &[usize]) -> bool {
        let (first, last) = self.range(shape);
        first >= 0 && last < self.size as i128
    }

    /// Takes in another bound on the same coordinate: what is inside both.
    fn narrow(&mut self, other: &Bound) {
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
    /// Bounds that a layout may have before a view of it becomes a copy.
    pub const MAX_BOUNDS: usize = 8;

    /// Row-major, starting at 0.
    pub fn contiguous(shape: &[usize]) -> Self {
        Self::strided(shape, row_major(shape), 0)
    }

    /// From its parts, without bounds.
    pub fn strided(shape: &[usize], strides: Vec<isize>, offset: isize) -> Self {
        Self { shape: shape.to_vec(), strides, offset, bounds: Vec::new() }
    }

    /// With storage only in a half-open range of each dimension.
    pub fn within(mut self, valid: &[(usize, usize)]) -> Self {
        for (i, &(lo, hi)) in valid.iter().enumerate() {
            let mut strides = vec![0; self.shape.len()];
            strides[i] = 1;
            let size = hi.saturating_sub(lo);
            self.bounds.push(Bound { strides, offset: -(lo as isize), size, unit: self.strides[i] });
        }
        self.without_needless_bounds()
    }

    /// Number of elements, repeated and padded ones counted.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when element number i lies at offset i.
    pub fn is_contiguous(&self) -> bool {
        self.offset == 0 && self.is_whole() && self.strides == row_major(&self.shape)
    }

    /// True when every index has storage.
    pub fn is_whole(&self) -> bool {
        self.bounds.is_empty()
    }

    /// True when it is plain that no index has storage.
    pub fn is_void(&self) -> bool {
        self.bounds.iter().any(|bound| bound.never_holds(&self.shape))
    }

    /// Bounds from which on all offsets of elements with storage lie, first and last; `None` when there is no element.
    ///
    /// What a bound accounts for (its `unit`) reaches no further than its size; the rest of the offset is taken at its
    /// extremes.
    pub fn extent(&self) -> Option<(i128, i128)> {
        if self.is_void() || self.numel() == 0 {
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

    /// The layout seen through a view, or `None` where only a copy can express it (a reshape across strides).
    pub fn through(&self, view: &View) -> Option<Layout> {
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

    /// The layout over another index: `change` says what becomes of an affine function of this index, its offset and
    /// strides; offsets and bounds are such functions alike.
    fn changed(&self, shape: Vec<usize>, change: impl Fn(isize, &[isize]) -> (isize, Vec<isize>)) -> Layout {
        let changed = |offset: isize, strides: &[isize]| {
            let (offset, mut strides) = change(offset, strides);
            strides.iter_mut().zip(&shape).filter(|(_, size)| **size == 1).for_each(|(s, _)| *s = 0);
            (offset, strides)
        };
        let (offset, strides) = changed(self.offset, &self.strides);
        let bounds = self.bounds.iter().map(|bound| {
            let (offset, strides) = changed(bound.offset, &bound.strides);
            Bound { strides, offset, ..bound.clone() }
        });
        let bounds = bounds.collect();
        Layout { shape, strides, offset, bounds }.without_needless_bounds()
    }

    /// The dimensions in another order.
    pub fn permute(&self, axes: &[usize]) -> Layout {
        let shape = axes.iter().map(|&a| self.shape[a]).collect();
        self.changed(shape, |offset, strides| (offset, axes.iter().map(|&a| strides[a]).collect()))
    }

    fn broadcast(&self, shape: &[usize]) -> Layout {
        let missing = shape.len() - self.shape.len();
        let kept = |i: usize| i.checked_sub(missing).filter(|&i| self.shape[i] == shape[i + missing]);
        self.changed(shape.to_vec(), |offset, strides| {
            (offset, (0..shape.len()).map(|i| kept(i).map_or(0, |i| strides[i])).collect())
        })
    }

    fn slice(&self, start: &[usize], end: &[usize], step: &[usize]) -> Layout {
        let shape = (0..start.len()).map(|i| (end[i] - start[i]).div_ceil(step[i])).collect();
        self.changed(shape, |offset, strides| {
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
        let mut unaccounted = self.strides.clone();
        for bound in &self.bounds {
            unaccounted.iter_mut().zip(&bound.strides).for_each(|(rest, &s)| *rest -= bound.unit * s);
        }
        let mut seen = self.changed(shape.to_vec(), |mut offset, old| {
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
            let (offset, size, unit) = (coordinate.offset, self.shape[i], unaccounted[i]);
            seen.bounds.push(Bound { strides, offset, size, unit });
        }
        seen.without_needless_bounds()
    }

    /// Without bounds that always hold, and with one bound for all that look at the same coordinate.
    fn without_needless_bounds(mut self) -> Layout {
        let mut kept: Vec<Bound> = Vec::new();
        for bound in self.bounds.drain(..).filter(|bound| !bound.always_holds(&self.shape)) {
            match kept.iter_mut().find(|other| other.strides == bound.strides) {
                Some(other) => other.narrow(&bound),
                None => kept.push(bound),
            }
        }
        self.bounds = kept;
        self
    }

    /// Matches groups of old and new dimensions with equal products. A group of old dimensions can be regrouped when
    /// they lie one in the other without gaps, in the offset and in every bound.
    fn reshape(&self, shape: &[usize]) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout::contiguous(shape));
        }
        let groups = groups(&self.shape, shape)?;
        let mut all = Vec::new();
        for strides in std::iter::once(&self.strides).chain(self.bounds.iter().map(|b| &b.strides)) {
            let mut new = vec![0isize; shape.len()];
            for (from, to) in &groups {
                regroup(
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

    /// The layout without its dimensions of size 1.
    pub fn squeezed(&self) -> Layout {
        let kept: Vec<usize> = (0..self.shape.len()).filter(|&i| self.shape[i] != 1).collect();
        self.permute(&kept)
    }

    /// Offset of an index, or `None` where there is no storage.
    pub fn at(&self, index: &[usize]) -> Option<usize> {
        let holds = |bound: &Bound| usize::try_from(bound.value(index)).is_ok_and(|at| at < bound.size);
        if !self.bounds.iter().all(holds) {
            return None;
        }
        let offset =
            self.offset + index.iter().zip(&self.strides).map(|(&i, &s)| i as isize * s).sum::<isize>();
        usize::try_from(offset).ok()
    }

    /// Calls `visit` with the offset of every element in row-major order.
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
    /// Shape of the result of this view on a tensor of shape `input`.
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

/// Groups of dimensions of two shapes with equal products, in order; `None` where there are none.
fn groups(old: &[usize], new: &[usize]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
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

/// Strides of one group of dimensions for the sizes that it gets, or `None` where the old ones leave gaps.
fn regroup(old: &[usize], strides: &[isize], new: &[usize], to: &mut [isize]) -> Option<()> {
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

    /// Every chain of views must address what the same chain, with a copy after each view, would.
    #[test]
    fn views_agree_with_copies() {
        let mut random = crate::philox::Stream::new(1, 0);
        for _ in 0..3000 {
            let mut layout = Layout::contiguous(&[2, 3, 4]);
            let mut copied: Vec<Option<usize>> = (0..24).map(Some).collect();
            for _ in 0..4 {
                let view = random_view(&mut random, &layout.shape);
                let step = Layout::contiguous(&layout.shape)
                    .through(&view)
                    .expect("a contiguous layout has every view");
                copied = offsets(&step).into_iter().map(|at| at.and_then(|at| copied[at])).collect();
                match layout.through(&view) {
                    Some(next) => layout = next,
                    None => break,
                }
                assert_eq!(offsets(&layout), copied, "{view:?} gave {layout:?}");
                if let Some((first, last)) = layout.extent() {
                    assert!(first >= 0 && last < 24, "{first}..={last} of {layout:?}");
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
