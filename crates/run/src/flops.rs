//! Floating-point operations of a training run, by phase.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Mul};

/// Floating-point operations by phase. A multiply-add counts as two.
///
/// Counts are integers stored as `f64`: exact up to 2⁵³ ≈ 9·10¹⁵, with about 16 significant digits above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Flops {
    /// FLOPs of the forward pass, from the batch to the loss.
    pub forward: f64,
    /// FLOPs of the backward pass.
    pub backward: f64,
    /// FLOPs of the optimizer updates.
    pub update: f64,
    /// FLOPs of evaluations, which do not count as training.
    pub evaluation: f64,
}

impl Flops {
    /// Returns the FLOPs of all phases except evaluation.
    pub fn training(&self) -> f64 {
        self.forward + self.backward + self.update
    }

    /// Returns the training FLOPs in petaflop/s-days: 10¹⁵ FLOP/s for one day, 8.64·10¹⁹ FLOPs.
    pub fn petaflop_s_days(&self) -> f64 {
        self.training() / (1e15 * 86_400.0)
    }

    /// Returns the counts in the order of the fields.
    pub fn to_array(self) -> [f64; 4] {
        [self.forward, self.backward, self.update, self.evaluation]
    }

    /// Creates counts from values in the order of the fields.
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
