//! Accumulators of reductions. The order in which they combine depends on the shape of a kernel alone, never on threads.
//!
//! Sums of f32: short runs in f32 in several lanes, then f64. A million elements come out right to the last bits of f32.

use std::slice;

use wgrad_graph::Combine;

use crate::float::Float;

/// Columns added up in `T`, in rows mode, before they go to the f64 total.
const PARTIAL: usize = 32;
/// Independent accumulators within a slice.
const LANES: usize = 16;

/// What one reduction knows of each row of a block.
#[derive(Debug)]
pub(crate) struct Accumulator<'a, T> {
    combine: Combine,
    /// Sums.
    total: &'a mut [f64],
    /// Sums of the last few columns (rows mode), or the extreme so far.
    value: &'a mut [T],
    /// Column of the extreme.
    index: &'a mut [u32],
}

impl<'a, T: Float> Accumulator<'a, T> {
    /// Bytes for `rows` rows; a multiple of 64.
    pub fn bytes(rows: usize) -> usize {
        rows.next_multiple_of(LANES) * (8 + size_of::<T>() + 4)
    }

    /// # Safety
    /// `at` is aligned to 64 and leads to [`Accumulator::bytes`] bytes that nothing else uses for `'a`.
    pub unsafe fn at(at: *mut u8, rows: usize, combine: Combine) -> Self {
        let room = rows.next_multiple_of(LANES);
        // SAFETY: three disjoint parts of the block that the caller vouches for; any bits are a number.
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

    /// Forgets everything.
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

    /// Rows mode: takes column number `column`, number `nth` of this pass, of every row.
    pub fn take_column(&mut self, values: &[T], column: usize, nth: usize) {
        match self.combine {
            Combine::Sum => {
                self.value.iter_mut().zip(values).for_each(|(sum, &x)| *sum += x);
                if nth % PARTIAL == PARTIAL - 1 {
                    self.flush();
                }
            }
            Combine::Max => {
                self.value
                    .iter_mut()
                    .zip(values)
                    .for_each(|(best, &x)| *best = if max_takes(x, *best) { x } else { *best });
            }
            Combine::Min => {
                self.value
                    .iter_mut()
                    .zip(values)
                    .for_each(|(best, &x)| *best = if min_takes(x, *best) { x } else { *best });
            }
            Combine::ArgMax => {
                for ((best, index), &x) in self.value.iter_mut().zip(self.index.iter_mut()).zip(values) {
                    let takes = argmax_takes(x, *best);
                    *best = if takes { x } else { *best };
                    *index = if takes { column as u32 } else { *index };
                }
            }
        }
    }

    /// Rows mode: ends a pass.
    pub fn flush(&mut self) {
        if self.combine == Combine::Sum {
            for (total, sum) in self.total.iter_mut().zip(self.value.iter_mut()) {
                *total += sum.to_f64();
                *sum = T::default();
            }
        }
    }

    /// Columns mode: takes columns `column ..` of one row.
    pub fn take_row(&mut self, row: usize, values: &[T], column: usize) {
        match self.combine {
            Combine::Sum => self.total[row] += sum(values),
            Combine::Max => self.merge_extreme(row, extreme(values, max_takes), max_takes),
            Combine::Min => self.merge_extreme(row, extreme(values, min_takes), min_takes),
            Combine::ArgMax => {
                let (mut best, mut index) = (self.value[row], self.index[row]);
                for (i, &x) in values.iter().enumerate() {
                    if argmax_takes(x, best) {
                        (best, index) = (x, (column + i) as u32);
                    }
                }
                (self.value[row], self.index[row]) = (best, index);
            }
        }
    }

    fn merge_extreme(&mut self, row: usize, found: Option<T>, takes: impl Fn(T, T) -> bool) {
        if let Some(x) = found.filter(|&x| takes(x, self.value[row])) {
            self.value[row] = x;
        }
    }

    /// Takes what another accumulator gathered from columns after those of this one.
    pub fn merge(&mut self, later: &Accumulator<'_, T>) {
        let takes = match self.combine {
            Combine::Sum => {
                return self.total.iter_mut().zip(&*later.total).for_each(|(total, &sum)| *total += sum);
            }
            Combine::Max => max_takes,
            Combine::Min => min_takes,
            Combine::ArgMax => argmax_takes,
        };
        for row in 0..self.value.len() {
            if takes(later.value[row], self.value[row]) {
                (self.value[row], self.index[row]) = (later.value[row], later.index[row]);
            }
        }
    }

    /// Copies the results of the accumulator at `at` to a register: words for [`Combine::ArgMax`], else floats.
    ///
    /// # Safety
    /// `at` is as in [`Accumulator::at`], but others may read it too; `to` leads to a register of as many rows, which
    /// nothing else uses.
    pub unsafe fn read(at: *const u8, rows: usize, combine: Combine, to: *mut u8) {
        let room = rows.next_multiple_of(LANES);
        // SAFETY: the caller vouches for it; the parts are those of `at`.
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

/// NaN wins; of equals the first.
fn max_takes<T: Float>(x: T, best: T) -> bool {
    (x > best) | x.is_nan()
}

fn min_takes<T: Float>(x: T, best: T) -> bool {
    (x < best) | x.is_nan()
}

/// The first NaN counts as the maximum.
fn argmax_takes<T: Float>(x: T, best: T) -> bool {
    (x > best) | (x.is_nan() & !best.is_nan())
}

/// Adds up a slice in [`LANES`] accumulators of `T`, and those in f64.
fn sum<T: Float>(values: &[T]) -> f64 {
    let mut lanes = [T::default(); LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += x);
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane += x);
    lanes.iter().map(|lane| lane.to_f64()).sum()
}

fn extreme<T: Float>(values: &[T], takes: impl Fn(T, T) -> bool) -> Option<T> {
    let mut lanes = [*values.first()?; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane = if takes(x, *lane) { x } else { *lane });
    }
    rest.iter().chain(&lanes).copied().reduce(|best, x| if takes(x, best) { x } else { best })
}
