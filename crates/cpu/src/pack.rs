//! Packing of a factor of a matrix product that `gemm` cannot read in place. The typical factor consists of windows
//! over an image, with zeros as padding at the edges of the image.
//!
//! A block of the factor is copied to a small row-major matrix, which stays in a second-level cache while the product
//! reads it. The matrix of all windows would be many times the size of the image, and is never stored.

use std::ops::Range;

use wgrad_graph::Layout;
use wgrad_stdx::{InternalError, never};

use crate::address::{Address, Axis, Position};
use crate::float::Float;
use crate::memory::Tensor;

/// Runs with fewer elements than this are copied element by element.
const SHORT_RUN: usize = 8;

/// A factor that is packed by rows. Its dimensions are `[batch…, rows…, columns…]`.
pub(crate) struct PackedFactor {
    batch: Axis,
    address: Address,
    columns: usize,
    /// Offset of each contiguous run of a row from the start of the row. Used for rows without padding.
    runs: Vec<isize>,
    run: usize,
    /// Minimum and maximum displacement of each bounded coordinate within a row.
    reach: Vec<(isize, isize)>,
}

impl PackedFactor {
    /// Creates a packed factor from its layout over batch, rows and columns. `batch` and `rows` are the numbers of
    /// batch dimensions and row dimensions. Returns `None` if the layout is all padding.
    pub fn new(
        operand: usize,
        layout: &Layout,
        batch: usize,
        rows: usize,
    ) -> Result<Option<PackedFactor>, InternalError> {
        let rank = layout.shape.len();
        let sizes = &layout.shape[batch + rows..];
        let columns = sizes.iter().product();
        let Some(address) = Address::split(operand, layout, batch..batch + rows, batch + rows..rank, 1)
        else {
            return Ok(None);
        };
        let unbounded = Layout { bounds: Vec::new(), ..layout.clone() };
        let row = Axis::new(&unbounded, batch + rows..rank, 1);
        let (mut runs, mut run, mut is_padded) = (Vec::new(), 1, false);
        row.for_each_run(0, columns, Position::origin(), &[], |range, at, stride| match at {
            None => is_padded = true,
            Some(at) if stride == 1 => {
                runs.push(at);
                run = range.len();
            }
            Some(at) => runs.extend((0..range.len() as isize).map(|i| at + i * stride)),
        });
        if is_padded {
            return Err(never!("a layout without bounds is padded"));
        }
        let reach = layout.bounds.iter().map(|bound| {
            let steps = bound.strides[batch + rows..].iter().zip(sizes).map(|(&s, &n)| s * (n as isize - 1));
            steps.fold((0, 0), |(least, most), step| (least + step.min(0), most + step.max(0)))
        });
        let (reach, batch) = (reach.collect(), Axis::new(layout, 0..batch, 1));
        Ok(Some(PackedFactor { batch, address, columns, runs, run, reach }))
    }

    /// Copies the rows in `rows` of product number `batch` consecutively to `to`.
    ///
    /// # Safety
    /// The layout stays inside its tensor, and `to` points to memory for all elements of the rows.
    pub unsafe fn pack<T: Float>(&self, tensors: &[Tensor], batch: usize, rows: Range<usize>, to: *mut T) {
        let from: *const T = tensors[self.address.operand].start.cast();
        let mut first = self.address.start;
        self.batch.advance(&mut first, batch);
        let mut row = 0;
        self.address.rows.for_each(rows, first, |position| {
            // SAFETY: `to` has room for the columns of each row, and the layout stays inside its tensor.
            unsafe {
                let to = to.add(row * self.columns);
                if position.in_bounds_within(&self.reach, &self.address.sizes) {
                    self.copy_unpadded_row(from.wrapping_offset(position.offset), to);
                } else {
                    self.copy_padded_row(from, position, to);
                }
            }
            row += 1;
        });
    }

    /// Copies one row without padding.
    ///
    /// # Safety
    /// As for [`PackedFactor::pack`], for one row.
    #[inline]
    unsafe fn copy_unpadded_row<T: Float>(&self, from: *const T, mut to: *mut T) {
        // SAFETY: the runs stay inside the tensor and have `columns` elements in total.
        unsafe {
            if self.run < SHORT_RUN {
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

    /// Copies one row that contains padding. Padding is written as zeros.
    ///
    /// # Safety
    /// As for [`PackedFactor::pack`], for one row.
    unsafe fn copy_padded_row<T: Float>(&self, from: *const T, position: Position, to: *mut T) {
        self.address.columns.for_each_run(
            0,
            self.columns,
            position,
            &self.address.sizes,
            |range, at, stride| {
                // SAFETY: a run with an offset stays inside the tensor, and `range` is part of `0..columns`.
                unsafe {
                    let to = std::slice::from_raw_parts_mut(to.add(range.start), range.len());
                    match at {
                        None => to.fill(T::default()),
                        Some(at) if stride == 1 => {
                            to.copy_from_slice(std::slice::from_raw_parts(
                                from.wrapping_offset(at),
                                to.len(),
                            ));
                        }
                        Some(at) => {
                            for (i, to) in to.iter_mut().enumerate() {
                                *to = *from.wrapping_offset(at + i as isize * stride);
                            }
                        }
                    }
                }
            },
        );
    }
}
