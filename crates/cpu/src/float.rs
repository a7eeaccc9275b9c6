//! Requirements of the executor on a floating-point type beyond [`FloatType`]: addition and a test for NaN.

use std::ops::AddAssign;

use wgrad_graph::FloatType;

/// Floating-point type of the computation: f32 for training, f64 to check results.
pub(crate) trait Float: FloatType + AddAssign {
    /// Bytes that the executor allocates per byte of the plan. All offsets of the plan are multiplied by this factor,
    /// so ranges that are disjoint in the plan stay disjoint.
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
