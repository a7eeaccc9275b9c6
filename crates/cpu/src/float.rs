//! What the executor asks of a number type beyond [`FloatType`]: sums, and a test for NaN.

use std::ops::AddAssign;

use wgrad_graph::FloatType;

/// f32 for training, f64 for checking.
pub(crate) trait Float FloatType + AddAssign {
    /// Bytes that the executor gives to an element where the plan has one byte. Offsets of the plan are multiplied by
    /// it, so what is disjoint there is disjoint here.
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
