//! Packs a factor of a product that `gemm` cannot read where it lies: windows over an image, with zeros over its edge.
//!
//! A block of the factor is copied into a small matrix with its rows one after the other, which stays in a second-level
//! cache until the product has read it; the matrix of all windows, many times the size of the image, never exists.

use std::ops::Range;

use wgrad_graph::Layout;

use crate::address::{Address, Axis, Spot};
use crate::float::Float;
use crate::memory::Tensor;

/// Runs shorter than this are copied element by element.
const SHORT: usize = 8;

/// A factor, as rows to be packed: `[batch…, rows…, columns…]`.
pub(crate) struct Pack {
    batch: Axis,
    address: Address,
    columns: usize,
    /// Offsets, from the start of a row inside the image, at which runs of neighbours begin.
    runs: Vec<isize>,
    run: usize,
    /// Least and greatest step of each bounded coordinate within a row.
    reach: Vec<(isize, isize)>,
}

impl Pack {
    /// The layout of a factor over batch, rows and columns, with this many dimensions of the first two. `None` when all of
    /// it is padding.
    pub fn new(operand: usize, layout: &Layout, batch: usize, rows: usize) -> Option<Pack> {
        let rank = layout.shape.len();
        let sizes = &layout.shape[batch + rows..];
        let columns = sizes.iter().product();
        let bare = Layout { bounds: Vec::new(), ..layout.clone() };
        let (mut runs, mut run) = (Vec::new(), 1);
        Axis::new(&bare, batch + rows..rank, 1).runs(0, columns, Spot::origin(), &[], |range, at, stride| {
            if stride == 1 {
                runs.push(at.unwrap_or(0));
                run = range.len();
            } else {
                runs.extend((0..range.len() as isize).map(|i| at.unwrap_or(0) + i * stride));
            }
        });
        let reach = layout.bounds.iter().map(|bound| {
            let steps = bound.strides[batch + rows..].iter().zip(sizes).map(|(&s, &n)| s * (n as isize - 1));
            steps.fold((0, 0), |(least, most), step| (least + step.min(0), most + step.max(0)))
        });
        Some(Pack {
            reach: reach.collect(),
            batch: Axis::new(layout, 0..batch, 1),
            address: Address::split(operand, layout, batch..batch + rows, batch + rows..rank, 1)?,
            columns,
            runs,
            run,
        })
    }

    /// Copies some rows of product number `batch` to `to`, one after the other.
    ///
    /// # Safety
    /// The layout stays inside its tensor, and `to` leads to as many elements as the rows have.
    pub unsafe fn pack<T: Float>(&self, tensors: &[Tensor], batch: usize, rows: Range<usize>, to: *mut T) {
        let from: *const T = tensors[self.address.operand].start.cast();
        let mut first = self.address.start;
        self.batch.advance(&mut first, batch);
        let mut row = 0;
        self.address.rows.walk(rows, first, |spot| {
            // SAFETY: each row has room for its columns, and reads where the layout says.
            unsafe {
                let to = to.add(row * self.columns);
                if spot.exists_within(&self.reach, &self.address.sizes) {
                    self.inside(from.wrapping_offset(spot.offset), to);
                } else {
                    self.edge(from, spot, to);
                }
            }
            row += 1;
        });
    }

    /// A row that no bound cuts.
    #[inline]
    unsafe fn inside<T: Float>(&self, from: *const T, mut to: *mut T) {
        // SAFETY: as for `pack`.
        unsafe {
            if self.run < SHORT {
                for &at in &self.runs {
                    for i in 0..self.run {
                        *to.add(i) = *from.wrapping_offset(at + i as isize);
                    }
                    to = to.add(self.run);
                }
            } else {
                for &at in &self.runs {
                    to.copy_from_nonoverlapping(from.wrapping_offset(at), self.run);
                    to = to.add(self.run);
                }
            }
        }
    }

    /// A row that is zero here and there.
    unsafe fn edge<T: Float>(&self, from: *const T, spot: Spot, to: *mut T) {
        self.address.columns.runs(0, self.columns, spot, &self.address.sizes, |range, at, stride| {
            // SAFETY: as for `pack`.
            unsafe {
                let to = std::slice::from_raw_parts_mut(to.add(range.start), range.len());
                match at {
                    None => to.fill(T::default()),
                    Some(at) if stride == 1 => {
                        to.copy_from_slice(std::slice::from_raw_parts(from.wrapping_offset(at), to.len()));
                    }
                    Some(at) => {
                        for (i, to) in to.iter_mut().enumerate() {
                            *to = *from.wrapping_offset(at + i as isize * stride);
                        }
                    }
                }
            }
        });
    }
}
