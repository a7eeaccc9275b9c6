//! Floating-point operations of a training, by what they were for.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Mul};

/// Floating-point operations, a multiply-add counted as two. Whole numbers: exact up to 2⁵³ ≈ 9·10¹⁵, to 16 digits beyond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Flops {
    /// From the batch to the loss.
    pub forward: f64,
    /// The gradients.
    pub backward: f64,
    /// The optimizer.
    pub update: f64,
    /// Evaluations, which are no training.
    pub evaluation: f64,
}

impl Flops {
    /// All but evaluations.
    pub fn training(&self) -> f64 {
        self.forward + self.backward + self.update
    }

    /// Those of training in petaflop/s-days: 10¹⁵ a second for a day, 8.64·10¹⁹.
    pub fn petaflop_s_days(&self) -> f64 {
        self.training() / (1e15 * 86_400.0)
    }

    /// In the order of the fields.
    pub fn to_array(self) -> [f64; 4] {
        [self.forward, self.backward, self.update, self.evaluation]
    }

    /// From values in the order of the fields.
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
