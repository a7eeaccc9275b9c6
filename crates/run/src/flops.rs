//! Floating-point operations of a training run, by phase.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Mul};

/// Number of floating-point operations (FLOPs) in each phase. A multiply-add is two operations.
///
/// Counts are integers stored as `f64`. They are exact up to 2⁵³ ≈ 9·10¹⁵ and have about 16 significant digits above
/// that value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Flops {
    /// FLOPs of the forward pass, from the batch to the loss.
    pub forward: f64,
    /// FLOPs of the backward pass.
    pub backward: f64,
    /// FLOPs of the optimizer updates.
    pub update: f64,
    /// FLOPs of evaluations, which are not included in [`Flops::training`].
    pub evaluation: f64,
}

impl Flops {
    /// Returns the FLOPs of all phases except evaluation.
    pub fn training(&self) -> f64 {
        self.forward + self.backward + self.update
    }

    /// Returns the training FLOPs in petaflop/s-days. One petaflop/s-day is 8.64·10¹⁹ FLOPs: 10¹⁵ FLOP/s for one day.
    pub fn petaflop_s_days(&self) -> f64 {
        self.training() / (1e15 * 86_400.0)
    }

    /// Returns the counts as an array, in the order of the fields.
    pub fn to_array(self) -> [f64; 4] {
        [self.forward, self.backward, self.update, self.evaluation]
    }

    /// Creates counts from an array, in the order of the fields.
    pub fn from_array([forward, backward, update, evaluation]: [f64; 4]) -> Self {
        Self { forward, backward, update, evaluation }
    }
}

impl Add for Flops {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (a, b) = (self.to_array(), other.to_array());
        Self::from_array(std::array::from_fn(|i| a[i] + b[i]))
    }
}

impl Mul<f64> for Flops {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self::from_array(self.to_array().map(|value| value * factor))
    }
}
