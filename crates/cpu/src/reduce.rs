//! Accumulators of reductions. The order of accumulation depends only on the shape of a kernel. It does not depend on
//! the number of threads.
//!
//! f32 sums are first accumulated in f32, in short runs over several lanes. The sums of the runs are then accumulated
//! in f64. A sum of a million elements is accurate to the last bits of f32.

use std::slice;

use wgrad_graph::Combine;

use crate::float::Float;

/// Number of columns that are summed in `T` in rows mode. After this number of columns, the sum is added to the f64
/// total.
const PARTIAL_COLUMNS: usize = 32;
/// Number of independent partial sums within a slice of a row.
const LANES: usize = 16;

/// State of one reduction for each row of a block.
#[derive(Debug)]
pub(crate) struct Accumulator<'a, T> {
    combine: Combine,
    /// Sum of each row in f64.
    total: &'a mut [f64],
    /// For each row, the sum of the last few columns (rows mode), or the maximum or minimum so far.
    value: &'a mut [T],
    /// For each row, the column of the maximum so far. Used by argmax.
    index: &'a mut [u32],
}

impl<'a, T: Float> Accumulator<'a, T> {
    /// Size in bytes of an accumulator for `rows` rows. The size is a multiple of 64.
    pub fn bytes(rows: usize) -> usize {
        rows.next_multiple_of(LANES) * (8 + size_of::<T>() + 4)
    }

    /// Interprets memory at `at` as an accumulator for `rows` rows.
    ///
    /// # Safety
    /// `at` is aligned to 64 and points to [`Accumulator::bytes`] bytes that nothing else uses for `'a`.
    pub unsafe fn at(at: *mut u8, rows: usize, combine: Combine) -> Self {
        let room = rows.next_multiple_of(LANES);
        // SAFETY: three disjoint parts of the block that the caller provides; any bit pattern is a valid number.
        unsafe {
            let value = at.add(room * 8);
            Self {
                combine,
                total: slice::from_raw_parts_mut(at.cast(), rows),
                value: slice::from_raw_parts_mut(value.cast(), rows),
                index: slice::from_raw_parts_mut(value.add(room * size_of::<T>()).cast(), rows),
            }
        }
    }

    /// Resets the accumulator to its initial values.
    pub fn reset(&mut self) {
        let start = match self.combine {
            Combine::Sum => 0.0,
            Combine::Max | Combine::ArgMax => f64::NEG_INFINITY,
            Combine::Min => f64::INFINITY,
        };
        self.total.fill(0.0);
        self.value.fill(T::from_f64(start));
        self.index.fill(0);
    }

    /// Rows mode: accumulates one column for every row. `column` is the number of the column in the kernel, and `nth`
    /// is its number in this pass.
    pub fn add_column(&mut self, values: &[T], column: usize, nth: usize) {
        match self.combine {
            Combine::Sum => {
                self.value.iter_mut().zip(values).for_each(|(sum, &x)| *sum += x);
                if nth % PARTIAL_COLUMNS == PARTIAL_COLUMNS - 1 {
                    self.flush();
                }
            }
            Combine::Max => {
                self.value
                    .iter_mut()
                    .zip(values)
                    .for_each(|(best, &x)| *best = if max_replaces(x, *best) { x } else { *best });
            }
            Combine::Min => {
                self.value
                    .iter_mut()
                    .zip(values)
                    .for_each(|(best, &x)| *best = if min_replaces(x, *best) { x } else { *best });
            }
            Combine::ArgMax => {
                for ((best, index), &x) in self.value.iter_mut().zip(self.index.iter_mut()).zip(values) {
                    let replaces = argmax_replaces(x, *best);
                    *best = if replaces { x } else { *best };
                    *index = if replaces { column as u32 } else { *index };
                }
            }
        }
    }

    /// Rows mode: adds the sums of the last few columns to the f64 totals, at the end of a pass.
    pub fn flush(&mut self) {
        if self.combine == Combine::Sum {
            for (total, sum) in self.total.iter_mut().zip(self.value.iter_mut()) {
                *total += sum.to_f64();
                *sum = T::default();
            }
        }
    }

    /// Columns mode: accumulates consecutive elements of one row. `column` is the column of the first element.
    pub fn add_row(&mut self, row: usize, values: &[T], column: usize) {
        match self.combine {
            Combine::Sum => self.total[row] += sum(values),
            Combine::Max => self.merge_extreme(row, extreme(values, max_replaces), max_replaces),
            Combine::Min => self.merge_extreme(row, extreme(values, min_replaces), min_replaces),
            Combine::ArgMax => {
                let (mut best, mut index) = (self.value[row], self.index[row]);
                for (i, &x) in values.iter().enumerate() {
                    if argmax_replaces(x, best) {
                        (best, index) = (x, (column + i) as u32);
                    }
                }
                (self.value[row], self.index[row]) = (best, index);
            }
        }
    }

    fn merge_extreme(&mut self, row: usize, found: Option<T>, replaces: impl Fn(T, T) -> bool) {
        if let Some(x) = found.filter(|&x| replaces(x, self.value[row])) {
            self.value[row] = x;
        }
    }

    /// Merges the accumulator of later columns of the same rows into this one.
    pub fn merge(&mut self, later: &Accumulator<'_, T>) {
        let replaces = match self.combine {
            Combine::Sum => {
                return self.total.iter_mut().zip(&*later.total).for_each(|(total, &sum)| *total += sum);
            }
            Combine::Max => max_replaces,
            Combine::Min => min_replaces,
            Combine::ArgMax => argmax_replaces,
        };
        for row in 0..self.value.len() {
            if replaces(later.value[row], self.value[row]) {
                (self.value[row], self.index[row]) = (later.value[row], later.index[row]);
            }
        }
    }

    /// Copies the results of the accumulator at `at` to a register. The results are u32 for [`Combine::ArgMax`], and
    /// floats otherwise.
    ///
    /// # Safety
    /// `at` is valid as in [`Accumulator::at`], but may be read concurrently; `to` points to a register for `rows` rows
    /// that nothing else uses.
    pub unsafe fn read(at: *const u8, rows: usize, combine: Combine, to: *mut u8) {
        let room = rows.next_multiple_of(LANES);
        // SAFETY: the caller guarantees valid pointers; the offsets of the parts are those of `at`.
        unsafe {
            let value = at.add(room * 8);
            match combine {
                Combine::Sum => {
                    let to: &mut [T] = slice::from_raw_parts_mut(to.cast(), rows);
                    let totals: &[f64] = slice::from_raw_parts(at.cast(), rows);
                    to.iter_mut().zip(totals).for_each(|(to, &total)| *to = T::from_f64(total));
                }
                Combine::Max | Combine::Min => value.cast::<T>().copy_to_nonoverlapping(to.cast(), rows),
                Combine::ArgMax => {
                    value.add(room * size_of::<T>()).cast::<u32>().copy_to_nonoverlapping(to.cast(), rows);
                }
            }
        }
    }
}

/// Whether `x` replaces the maximum `best` so far. NaN replaces any value. Of several equal values, the first one is
/// kept.
fn max_replaces<T: Float>(x: T, best: T) -> bool {
    (x > best) | x.is_nan()
}

fn min_replaces<T: Float>(x: T, best: T) -> bool {
    (x < best) | x.is_nan()
}

/// Whether `x` replaces the maximum `best` so far of an argmax. NaN counts as larger than any number, and the first
/// NaN is kept.
fn argmax_replaces<T: Float>(x: T, best: T) -> bool {
    (x > best) | (x.is_nan() & !best.is_nan())
}

/// Sums a slice in [`LANES`] partial sums of type `T`, and then adds the partial sums in f64.
fn sum<T: Float>(values: &[T]) -> f64 {
    let mut lanes = [T::default(); LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += x);
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane += x);
    lanes.iter().map(|lane| lane.to_f64()).sum()
}

fn extreme<T: Float>(values: &[T], replaces: impl Fn(T, T) -> bool) -> Option<T> {
    let mut lanes = [*values.first()?; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane = if replaces(x, *lane) { x } else { *lane });
    }
    rest.iter().chain(&lanes).copied().reduce(|best, x| if replaces(x, best) { x } else { best })
}
