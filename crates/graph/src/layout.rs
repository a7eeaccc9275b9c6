//! Layouts: where the element at an index lies in a buffer; and the views that change a layout but move no data.

use crate::shape::Shape;

/// Maps an index to an offset: `offset + Σ index[i] · strides[i]`, in elements.
///
/// Outside `valid`, where it is given, there is no storage and the element is zero (a padded tensor).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// Step of each dimension in elements; 0 where it is broadcast.
    pub strides: Vec<isize>,
    /// Offset of index zero; may be negative under padding.
    pub offset: isize,
    /// Half-open range of each dimension in which there is storage.
    pub valid: Option<Vec<(usize, usize)>>,
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

impl Layout {
    /// Row-major, starting at 0.
    pub fn contiguous(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), strides: row_major(shape), offset: 0, valid: None }
    }

    /// Number of elements, repeated and padded ones counted.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when element number i lies at offset i.
    pub fn is_contiguous(&self) -> bool {
        self.offset == 0 && self.valid.is_none() && self.strides == row_major(&self.shape)
    }

    /// The layout seen through a view, or `None` where only a copy can express it (a reshape across strides).
    pub fn through(&self, view: &View) -> Option<Layout> {
        match view {
            View::Reshape(shape) => self.reshape(shape),
            View::Permute(axes) => Some(self.permute(axes)),
            View::Broadcast(shape) => Some(self.broadcast(shape)),
            View::Slice { start, end, step } => Some(self.slice(start, end, step)),
            View::Pad { before, after } => Some(self.pad(before, after)),
        }
    }

    /// The dimensions in another order.
    pub fn permute(&self, axes: &[usize]) -> Layout {
        Layout {
            shape: axes.iter().map(|&a| self.shape[a]).collect(),
            strides: axes.iter().map(|&a| self.strides[a]).collect(),
            offset: self.offset,
            valid: self.valid.as_ref().map(|valid| axes.iter().map(|&a| valid[a]).collect()),
        }
    }

    fn broadcast(&self, shape: &[usize]) -> Layout {
        let missing = shape.len() - self.shape.len();
        let kept = |i: usize| i.checked_sub(missing).filter(|&i| self.shape[i] == shape[i + missing]);
        Layout {
            shape: shape.to_vec(),
            strides: (0..shape.len()).map(|i| kept(i).map_or(0, |i| self.strides[i])).collect(),
            offset: self.offset,
            // A padded dimension of size 1 is all storage or all zero; either way it stays so when it is repeated.
            valid: self.valid.as_ref().map(|valid| {
                let ranges = (0..shape.len()).map(|i| match i.checked_sub(missing) {
                    Some(i) if self.shape[i] == shape[i + missing] => valid[i],
                    Some(i) if valid[i].0 >= valid[i].1 => (0, 0),
                    _ => (0, shape[i]),
                });
                ranges.collect()
            }),
        }
    }

    fn slice(&self, start: &[usize], end: &[usize], step: &[usize]) -> Layout {
        let shape: Vec<usize> = (0..start.len()).map(|i| (end[i] - start[i]).div_ceil(step[i])).collect();
        let moved: isize = start.iter().zip(&self.strides).map(|(&s, &stride)| s as isize * stride).sum();
        let strides = shape
            .iter()
            .enumerate()
            .map(|(i, &n)| if n == 1 { 0 } else { self.strides[i] * step[i] as isize });
        let valid = self.valid.as_ref().map(|valid| {
            let index = |at: usize, i: usize| at.saturating_sub(start[i]).div_ceil(step[i]).min(shape[i]);
            valid.iter().enumerate().map(|(i, &(lo, hi))| (index(lo, i), index(hi, i))).collect()
        });
        Layout { strides: strides.collect(), offset: self.offset + moved, valid, shape }
    }

    fn pad(&self, before: &[usize], after: &[usize]) -> Layout {
        let moved: isize = before.iter().zip(&self.strides).map(|(&b, &stride)| b as isize * stride).sum();
        let range = |i: usize| self.valid.as_ref().map_or((0, self.shape[i]), |valid| valid[i]);
        Layout {
            shape: (0..self.shape.len()).map(|i| before[i] + self.shape[i] + after[i]).collect(),
            strides: self.strides.clone(),
            offset: self.offset - moved,
            valid: Some(
                (0..self.shape.len()).map(|i| (range(i).0 + before[i], range(i).1 + before[i])).collect(),
            ),
        }
        .without_needless_valid()
    }

    fn without_needless_valid(mut self) -> Layout {
        let whole = |valid: &Vec<(usize, usize)>| valid.iter().zip(&self.shape).all(|(&r, &n)| r == (0, n));
        if self.valid.as_ref().is_some_and(whole) {
            self.valid = None;
        }
        self
    }

    /// Matches groups of old and new dimensions with equal products. A group of old dimensions can be regrouped when
    /// they lie one in the other without gaps; a padded dimension only when it stays a group of its own.
    fn reshape(&self, shape: &[usize]) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout::contiguous(shape));
        }
        let mut strides = vec![0isize; shape.len()];
        let mut valid = vec![(0, 0); shape.len()];
        let (mut old, mut new) = (0, 0);
        while old < self.shape.len() || new < shape.len() {
            let (first_old, first_new) = (old, new);
            let mut old_size = self.shape.get(old).copied().unwrap_or(1);
            let mut new_size = shape.get(new).copied().unwrap_or(1);
            (old, new) = ((old + 1).min(self.shape.len()), (new + 1).min(shape.len()));
            while old_size != new_size {
                if old_size < new_size {
                    old_size *= self.shape.get(old)?;
                    old += 1;
                } else {
                    new_size *= shape.get(new)?;
                    new += 1;
                }
            }
            self.regroup(
                first_old..old,
                &shape[first_new..new],
                &mut strides[first_new..new],
                &mut valid[first_new..new],
            )?;
        }
        let valid = self.valid.is_some().then_some(valid);
        Some(Layout { shape: shape.to_vec(), strides, offset: self.offset, valid }.without_needless_valid())
    }

    fn regroup(
        &self,
        old: std::ops::Range<usize>,
        shape: &[usize],
        strides: &mut [isize],
        valid: &mut [(usize, usize)],
    ) -> Option<()> {
        let padded =
            |i: usize| self.valid.as_ref().map(|valid| valid[i]).filter(|&r| r != (0, self.shape[i]));
        let dims: Vec<usize> = old.filter(|&i| self.shape[i] != 1 || padded(i).is_some()).collect();
        for (range, &size) in valid.iter_mut().zip(shape) {
            *range = (0, size);
        }
        if let Some(range) = dims.iter().find_map(|&i| padded(i)) {
            let mut wide = (0..shape.len()).filter(|&i| shape[i] != 1);
            let (target, more) = (wide.next(), wide.next());
            let &[dim] = dims.as_slice() else { return None };
            let target = target.or((!shape.is_empty()).then_some(0))?;
            if more.is_some() || shape[target] != self.shape[dim] {
                return None;
            }
            valid[target] = range;
            strides[target] = self.strides[dim];
            return Some(());
        }
        if dims.windows(2).any(|w| self.strides[w[0]] != self.strides[w[1]] * self.shape[w[1]] as isize) {
            return None;
        }
        let mut step = dims.last().map_or(0, |&i| self.strides[i]);
        for (stride, &size) in strides.iter_mut().zip(shape).rev() {
            *stride = if size == 1 { 0 } else { step };
            step *= size as isize;
        }
        Some(())
    }

    /// Offset of an index, or `None` in the padding.
    pub fn at(&self, index: &[usize]) -> Option<usize> {
        if let Some(valid) = &self.valid
            && index.iter().zip(valid).any(|(&i, &(lo, hi))| i < lo || i >= hi)
        {
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
        }
    }
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
