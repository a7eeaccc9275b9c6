//! Arithmetic of one or two tensors.

use super::elementwise_ops;
use crate::sample::{ANY, AWAY, BETWEEN, GRID};
use crate::tensor::TensorOps;

elementwise_ops! {
    /// x + y.
    ADD = "add" (x in ANY, y in ANY) {
        wgsl: "({0} + {1})",
        flops: 1,
        rust: x + y,
        grad: of (out, ct => ct, ct),
        tolerance: 1e-6,
    }

    /// x − y.
    SUB = "sub" (x in ANY, y in ANY) {
        wgsl: "({0} - {1})",
        flops: 1,
        rust: x - y,
        grad: of (out, ct => ct, -ct),
        tolerance: 1e-6,
    }

    /// x · y, element by element.
    MUL = "mul" (x in ANY, y in ANY) {
        wgsl: "({0} * {1})",
        flops: 1,
        rust: x * y,
        grad: of (out, ct => ct * y, ct * x),
        tolerance: 1e-6,
    }

    /// x / y.
    DIV = "div" (x in ANY, y in AWAY) {
        wgsl: "({0} / {1})",
        flops: 1,
        rust: x / y,
        grad: of (out, ct => ct / y, -(ct / y * out)),
        tolerance: 1e-6,
    }

    /// −x.
    NEG = "neg" (x in ANY) {
        wgsl: "(-{0})",
        flops: 1,
        rust: -x,
        grad: of (out, ct => -ct),
        tolerance: 1e-6,
    }

    /// x², as x · x.
    SQUARE = "square" (x in ANY) {
        wgsl: "({0} * {0})",
        flops: 1,
        rust: x * x,
        grad: of (out, ct => ct * (x * 2.0)),
        tolerance: 1e-6,
    }

    /// 1 / x.
    RECIP = "recip" (x in AWAY) {
        wgsl: "(1.0 / {0})",
        flops: 1,
        rust: 1.0 / x,
        grad: of (out, ct => -(ct * out.square())),
        tolerance: 1e-6,
    }

    /// |x|. Its gradient at 0 is 0.
    ABS = "abs" (x in AWAY) {
        wgsl: "abs({0})",
        flops: 1,
        rust: x.abs(),
        grad: of (out, ct => ct * x.sign()),
        tolerance: 1e-6,
    }

    /// Sign of x: −1, 0 or 1.
    SIGN = "sign" (x in AWAY) {
        wgsl: "select(sign({0}), {0}, (bitcast<u32>({0}) & 0x7fffffffu) > 0x7f800000u)",
        flops: 1,
        rust: if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x },
        grad: zero ("the sign is constant on either side of zero"),
        tolerance: 1e-6,
    }

    /// The largest integer not above x.
    FLOOR = "floor" (x in BETWEEN) {
        wgsl: "floor({0})",
        flops: 1,
        rust: x.floor(),
        grad: zero ("a step function is constant between its steps"),
        tolerance: 1e-6,
    }

    /// The larger of x and y; NaN if either is NaN. If x and y are equal, each gets half the gradient.
    MAXIMUM = "maximum" (x in GRID, y in BETWEEN) {
        wgsl: "select({0}, {1}, {1} > {0} || (bitcast<u32>({1}) & 0x7fffffffu) > 0x7f800000u)",
        flops: 1,
        rust: if x > y || x.is_nan() { x } else { y },
        grad: of (out, ct => ct * (x.ge(y) + x.gt(y)) * 0.5, ct * (y.ge(x) + y.gt(x)) * 0.5),
        tolerance: 1e-6,
    }

    /// The smaller of x and y; NaN if either is NaN. If x and y are equal, each gets half the gradient.
    MINIMUM = "minimum" (x in GRID, y in BETWEEN) {
        wgsl: "select({0}, {1}, {1} < {0} || (bitcast<u32>({1}) & 0x7fffffffu) > 0x7f800000u)",
        flops: 1,
        rust: if x < y || x.is_nan() { x } else { y },
        grad: of (out, ct => ct * (x.le(y) + x.lt(y)) * 0.5, ct * (y.le(x) + y.lt(x)) * 0.5),
        tolerance: 1e-6,
    }

    /// x limited to the range between two constants. The gradient is 1 within the range, bounds included, and 0
    /// outside.
    CLAMP = "clamp" (x in BETWEEN; low = -1.0, high = 0.75) {
        wgsl: "select(select(select({0}, {1}, {0} < {1}), {2}, {0} > {2}), {0}, (bitcast<u32>({0}) & 0x7fffffffu) > 0x7f800000u)",
        flops: 2,
        rust: if x > high { high } else if x < low { low } else { x },
        grad: of (out, ct => ct * x.eq(out)),
        tolerance: 1e-6,
    }
}
