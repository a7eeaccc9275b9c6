//! Comparisons and selection by a mask. A comparison returns an f32 mask: 1 where the comparison is true, else 0.

use wgrad_graph::{Call, DType, ScalarFn, Var};

use crate::constant::full;
use crate::elementwise::{ElementwiseOp, Gradient, elementwise};
use crate::op_info::{GradientOrder, OpInfo};
use crate::sample::{ANY, AWAY, Distribution, GRID};
use crate::scalar::elementwise_ops;
use crate::tensor::TensorOps;

/// Records a comparison of two f32 or of two u32 tensors.
#[track_caller]
pub(crate) fn compare<'g>(
    f32_op: &'static ElementwiseOp,
    u32_op: &'static ElementwiseOp,
    x: Var<'g>,
    y: Var<'g>,
) -> Var<'g> {
    let op = if x.ty().dtype == DType::U32 && y.ty().dtype == DType::U32 { u32_op } else { f32_op };
    elementwise(op, &[x, y], &[])
}

/// Like [`compare`], but `u32_op` takes the arguments in reverse order.
#[track_caller]
pub(crate) fn compare_reversed<'g>(
    f32_op: &'static ElementwiseOp,
    u32_op: &'static ElementwiseOp,
    x: Var<'g>,
    y: Var<'g>,
) -> Var<'g> {
    match (x.ty().dtype, y.ty().dtype) {
        (DType::U32, DType::U32) => elementwise(u32_op, &[y, x], &[]),
        _ => elementwise(f32_op, &[x, y], &[]),
    }
}

fn zero(like: Var<'_>) -> Var<'_> {
    full(like.graph(), [], 0.0)
}

elementwise_ops! {
    /// 1 where x = y.
    EQ = "eq" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} == {1})",
        flops: 1,
        rust: T::from(x == y),
        grad: zero ("a mask is piecewise constant"),
        tolerance: 0.0,
    }

    /// 1 where x ≠ y.
    NE = "ne" (x in GRID, y in GRID) {
        wgsl: "select(1.0, 0.0, {0} == {1})",
        flops: 1,
        rust: T::from(x != y),
        grad: zero ("a mask is piecewise constant"),
        tolerance: 0.0,
    }

    /// 1 where x < y.
    LT = "lt" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} < {1})",
        flops: 1,
        rust: T::from(x < y),
        grad: zero ("a mask is piecewise constant"),
        tolerance: 0.0,
    }

    /// 1 where x ≤ y.
    LE = "le" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} <= {1})",
        flops: 1,
        rust: T::from(x <= y),
        grad: zero ("a mask is piecewise constant"),
        tolerance: 0.0,
    }

    /// 1 where x > y.
    GT = "gt" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} > {1})",
        flops: 1,
        rust: T::from(x > y),
        grad: zero ("a mask is piecewise constant"),
        tolerance: 0.0,
    }

    /// 1 where x ≥ y.
    GE = "ge" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} >= {1})",
        flops: 1,
        rust: T::from(x >= y),
        grad: zero ("a mask is piecewise constant"),
        tolerance: 0.0,
    }

    /// 1 where x > 0, else 0; the derivative of relu.
    STEP = "step" (x in AWAY) {
        wgsl: "select(0.0, 1.0, {0} > 0.0)",
        flops: 1,
        rust: T::from(x > 0.0),
        grad: zero ("a step function is piecewise constant"),
        tolerance: 0.0,
    }

    /// a where the mask is not 0, else b.
    SELECT = "select" (mask in Distribution::Mask, a in ANY, b in ANY) {
        wgsl: "select({2}, {1}, {0} != 0.0)",
        flops: 1,
        rust: if mask != 0.0 { a } else { b },
        grad: of (out, ct => None, mask.select(ct, zero(ct)), mask.select(zero(ct), ct)),
        tolerance: 0.0,
    }
}

/// Defines comparisons of u32 tensors.
macro_rules! u32_comparisons {
    ($($(#[doc = $doc:literal])+ $id:ident = $name:literal, $wgsl:literal, $operator:tt;)+) => {
        $(
            pub(crate) static $id: ElementwiseOp = ElementwiseOp {
                function: ScalarFn {
                    name: $name,
                    wgsl: $wgsl,
                    prelude: "",
                    flops: 0,
                    f32: u32_comparisons!(@call f32, $operator),
                    f64: u32_comparisons!(@call f64, $operator),
                },
                gradient: Gradient::Zero("u32 tensors have no gradient"),
                args: &[Distribution::U32Below(4), Distribution::U32Below(4)],
                params: &[],
            };
        )+

        pub(crate) static U32_OPS: &[OpInfo] = &[$(
            OpInfo {
                name: $name,
                doc: concat!($($doc),+).trim_ascii(),
                sample: |random| $id.sample(random),
                tolerance: 0.0,
                gradient_order: GradientOrder::Zero,
                error_inputs: || $id.error_inputs(),
            },
        )+];
    };

    (@call $t:ty, $operator:tt) => {{
        fn body(a: &[u32], b: &[u32], out: &mut [$t]) {
            for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
                *o = <$t>::from(a $operator b);
            }
        }
        Call::CompareU32(body)
    }};
}

u32_comparisons! {
    /// 1 where two u32 are equal; `eq` of u32 tensors.
    EQ_U32 = "eq_words", "select(0.0, 1.0, {0} == {1})", ==;

    /// 1 where two u32 differ; `ne` of u32 tensors.
    NE_U32 = "ne_words", "select(0.0, 1.0, {0} != {1})", !=;

    /// 1 where the first u32 is smaller; `lt` of u32 tensors.
    LT_U32 = "lt_words", "select(0.0, 1.0, {0} < {1})", <;

    /// 1 where the first u32 is not larger; `le` of u32 tensors.
    LE_U32 = "le_words", "select(0.0, 1.0, {0} <= {1})", <=;
}
