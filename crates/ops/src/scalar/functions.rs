//! Roots, powers, exponentials, logarithms and trigonometric functions.
//!
//! Tolerances correspond to the accuracy that WGSL guarantees for its built-in functions; drivers are often more
//! accurate.

use std::f64::consts::PI;

use wgrad_graph::{DType, Var};

use super::{Special, elementwise_ops};
use crate::constant::full;
use crate::elementwise::elementwise;
use crate::sample::{ANY, Distribution, POSITIVE};
use crate::tensor::TensorOps;

/// Returns xᵖ for a constant p. Uses a cheaper operation for some p, so that the gradients of small integer powers have
/// no pole at 0.
#[track_caller]
pub(crate) fn powf(x: Var<'_>, p: f64) -> Var<'_> {
    match p {
        _ if x.ty().dtype != DType::F32 => elementwise(&POWF, &[x], &[p]),
        0.0 => full(x.graph(), x.shape(), 1.0),
        1.0 => x,
        2.0 => x.square(),
        0.5 => x.sqrt(),
        -0.5 => x.rsqrt(),
        -1.0 => x.recip(),
        _ => elementwise(&POWF, &[x], &[p]),
    }
}

elementwise_ops! {
    /// √x; NaN below 0.
    SQRT = "sqrt" (x in POSITIVE) {
        wgsl: "sqrt({0})",
        flops: 1,
        rust: x.sqrt(),
        grad: of (out, ct => ct * 0.5 / out),
        tolerance: 1e-6,
    }

    /// 1 / √x; NaN below 0.
    RSQRT = "rsqrt" (x in POSITIVE) {
        wgsl: "inverseSqrt({0})",
        flops: 1,
        rust: 1.0 / x.sqrt(),
        grad: of (out, ct => ct * (out * out.square() * -0.5)),
        tolerance: 2e-6,
    }

    /// xʸ. NaN for x below 0 unless y is an integer. The gradient of y is 0 for x ≤ 0.
    POW = "pow" (x in POSITIVE, y in ANY) {
        wgsl: "guarded_pow({0}, {1})" with POW,
        flops: 3,
        rust: x.powf(y),
        grad: of (out, ct => ct * y * x.pow(y - 1.0), ct * out * x.gt(x * 0.0).select(x, x * 0.0 + 1.0).ln()),
        tolerance: 1e-5,
    }

    /// xᵖ for a constant p. NaN for x below 0 unless p is an integer.
    POWF = "powf" (x in POSITIVE; p = 2.5) {
        wgsl: "guarded_pow({0}, {1})" with POW,
        flops: 3,
        rust: x.powf(p),
        grad: of (out, ct => ct * (x.powf(p - 1.0) * p)),
        tolerance: 1e-5,
    }

    /// eˣ. Infinite above 88.7, zero below −103.3.
    EXP = "exp" (x in Distribution::Uniform(-4.0, 2.0)) {
        wgsl: "guarded_exp({0})" with EXP,
        flops: 1,
        rust: x.exponential(),
        grad: of (out, ct => ct * out),
        tolerance: 4e-6,
    }

    /// Natural logarithm of x; −∞ at 0, NaN below 0.
    LN = "ln" (x in POSITIVE) {
        wgsl: "guarded_ln({0})" with LN,
        flops: 1,
        rust: x.ln(),
        grad: of (out, ct => ct / x),
        tolerance: 2e-6,
    }

    /// Sine of x in radians. WGSL guarantees an error below 2⁻¹¹ between −π and π, and nothing outside.
    SIN = "sin" (x in Distribution::Uniform(-PI, PI)) {
        wgsl: "sin({0})",
        flops: 1,
        rust: x.sin(),
        grad: of (out, ct => ct * x.cos()),
        tolerance: 5e-4,
    }

    /// Cosine of x in radians. WGSL guarantees an error below 2⁻¹¹ between −π and π, and nothing outside.
    COS = "cos" (x in Distribution::Uniform(-PI, PI)) {
        wgsl: "cos({0})",
        flops: 1,
        rust: x.cos(),
        grad: of (out, ct => -(ct * x.sin())),
        tolerance: 5e-4,
    }

    /// Error function, 2/√π ∫₀ˣ exp(−t²) dt.
    ERF = "erf" (x in Distribution::Uniform(-3.0, 3.0)) {
        wgsl: "erf({0})" with ERF,
        flops: 8,
        rust: x.error_function(),
        grad: of (out, ct => ct * ((-x.square()).exp() * (2.0 / PI.sqrt()))),
        tolerance: 2e-6,
    }
}
