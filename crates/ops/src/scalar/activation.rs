//! Activation functions.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{Special, elementwise_ops};
use crate::sample::{AWAY, Distribution};
use crate::tensor::TensorOps;

/// Distribution that covers both tails of an activation.
const WIDE: Distribution = Distribution::Uniform(-4.0, 4.0);

elementwise_ops! {
    /// Hyperbolic tangent.
    TANH = "tanh" (x in Distribution::Uniform(-2.5, 2.5)) {
        wgsl: "guarded_tanh({0})" with TANH,
        flops: 1,
        rust: x.hyperbolic_tangent(),
        grad: of (out, ct => ct * (1.0 - out.square())),
        tolerance: 5e-6,
    }

    /// Logistic function, 1 / (1 + e⁻ˣ).
    SIGMOID = "sigmoid" (x in WIDE) {
        wgsl: "sigmoid({0})" with SIGMOID,
        flops: 3,
        rust: { let e = (-x.abs()).exponential(); if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) } },
        grad: of (out, ct => ct * (out * (1.0 - out))),
        tolerance: 4e-6,
    }

    /// max(x, 0). Its gradient at 0 is 0; NaN stays NaN.
    RELU = "relu" (x in AWAY) {
        wgsl: "select({0}, 0.0, bitcast<u32>({0}) - 0x80000000u <= 0x7f800000u)",
        flops: 1,
        rust: if x < 0.0 { 0.0 } else { x },
        grad: of (out, ct => ct * out.step()),
        tolerance: 1e-6,
    }

    /// x for x > 0, slope · x otherwise. The gradient at 0 is the slope.
    LEAKY_RELU = "leaky_relu" (x in AWAY; slope = 0.1) {
        wgsl: "select({0}, {0} * {1}, {0} < 0.0)",
        flops: 2,
        rust: if x < 0.0 { x * slope } else { x },
        grad: of (out, ct => ct * (x.step() * (1.0 - slope) + slope)),
        tolerance: 1e-6,
    }

    /// Gaussian error linear unit, x · Φ(x) = x/2 · (1 + erf(x/√2)) (Hendrycks and Gimpel, 2016).
    GELU = "gelu" (x in WIDE) {
        wgsl: "(0.5 * {0} * (1.0 + erf({0} * 0.70710678)))" with ERF,
        flops: 11,
        rust: 0.5 * x * (1.0 + (x * FRAC_1_SQRT_2 as T).error_function()),
        grad: of (out, ct => {
            let distribution = ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
            let density = (x.square() * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
            ct * (distribution + x * density)
        }),
        tolerance: 2e-6,
    }

    /// Sigmoid linear unit, x · sigmoid(x), also called swish.
    SILU = "silu" (x in WIDE) {
        wgsl: "({0} * sigmoid({0}))" with SIGMOID,
        flops: 4,
        rust: { let e = (-x.abs()).exponential(); x * if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) } },
        grad: of (out, ct => { let s = x.sigmoid(); ct * (s + out * (1.0 - s)) }),
        tolerance: 4e-6,
    }

    /// ln(1 + eˣ), a smooth ReLU.
    SOFTPLUS = "softplus" (x in WIDE) {
        wgsl: "softplus({0})" with SOFTPLUS,
        flops: 4,
        rust: (if x < 0.0 { 0.0 } else { x }) + (-x.abs()).exponential().ln_1p(),
        grad: of (out, ct => ct * x.sigmoid()),
        tolerance: 4e-6,
    }
}
