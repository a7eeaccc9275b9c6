//! Floating-point type of the executor. Adds requirements to [`FloatType`]: addition, a test for NaN, and the size of
//! memory cells.

use std::ops::AddAssign;

use wgrad_graph::FloatType;

/// Floating-point type of the computation: f32 for training, f64 to check results.
pub(crate) trait Float: FloatType + AddAssign {
    /// Bytes that the executor allocates for each byte of the plan. All offsets of the plan are multiplied by this
    /// factor. Ranges that are disjoint in the plan are therefore disjoint in memory too.
    const SCALE: usize;

    fn is_nan(self) -> bool;
}

impl Float for f32 {
    const SCALE: usize = 1;

    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

impl Float for f64 {
    const SCALE: usize = 2;

    fn is_nan(self) -> bool {
        self.is_nan()
    }
}
