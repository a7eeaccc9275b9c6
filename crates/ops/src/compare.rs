//! Comparisons and what is done with them. A comparison gives a mask: f32, 1 where it holds and 0 where not.

use wgrad_graph::{Call, DType, ScalarFn, Var};

use crate::constant::full;
use crate::pointwise::{Gradient, Row, pointwise};
use crate::scalar::{ANY, AWAY, GRID, Values, rows};
use crate::table::{Entry, Order};
use crate::tensor::TensorOps;

/// A comparison of floats or, where there is one, its twin for words.
#[track_caller]
pub(crate) fn compare<'g>(floats: &'static Row, words: &'static Row, x: Var<'g>, y: Var<'g>) -> Var<'g> {
    let row = if x.ty().dtype == DType::U32 && y.ty().dtype == DType::U32 { words } else { floats };
    pointwise(row, &[x, y], &[])
}

/// Like [`compare`], where the twin for words takes its arguments in the other order.
#[track_caller]
pub(crate) fn compare_reversed<'g>(
    floats: &'static Row,
    words: &'static Row,
    x: Var<'g>,
    y: Var<'g>,
) -> Var<'g> {
    match (x.ty().dtype, y.ty().dtype) {
        (DType::U32, DType::U32) => pointwise(words, &[y, x], &[]),
        _ => pointwise(floats, &[x, y], &[]),
    }
}

fn zero(like: Var<'_>) -> Var<'_> {
    full(like.graph(), [], 0.0)
}

rows! {
    /// 1 where x = y.
    EQ = "eq" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} == {1})",
        flops: 1,
        rust: T::from(x == y),
        grad: zero ("a mask is constant but where it jumps"),
        tolerance: 0.0,
    }

    /// 1 where x ≠ y.
    NE = "ne" (x in GRID, y in GRID) {
        wgsl: "select(1.0, 0.0, {0} == {1})",
        flops: 1,
        rust: T::from(x != y),
        grad: zero ("a mask is constant but where it jumps"),
        tolerance: 0.0,
    }

    /// 1 where x < y.
    LT = "lt" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} < {1})",
        flops: 1,
        rust: T::from(x < y),
        grad: zero ("a mask is constant but where it jumps"),
        tolerance: 0.0,
    }

    /// 1 where x ≤ y.
    LE = "le" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} <= {1})",
        flops: 1,
        rust: T::from(x <= y),
        grad: zero ("a mask is constant but where it jumps"),
        tolerance: 0.0,
    }

    /// 1 where x > y.
    GT = "gt" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} > {1})",
        flops: 1,
        rust: T::from(x > y),
        grad: zero ("a mask is constant but where it jumps"),
        tolerance: 0.0,
    }

    /// 1 where x ≥ y.
    GE = "ge" (x in GRID, y in GRID) {
        wgsl: "select(0.0, 1.0, {0} >= {1})",
        flops: 1,
        rust: T::from(x >= y),
        grad: zero ("a mask is constant but where it jumps"),
        tolerance: 0.0,
    }

    /// 1 where x > 0: the derivative of relu.
    STEP = "step" (x in AWAY) {
        wgsl: "select(0.0, 1.0, {0} > 0.0)",
        flops: 1,
        rust: T::from(x > 0.0),
        grad: zero ("a step is constant but where it jumps"),
        tolerance: 0.0,
    }

    /// a where the mask is not 0, else b.
    SELECT = "select" (mask in Values::Mask, a in ANY, b in ANY) {
        wgsl: "select({2}, {1}, {0} != 0.0)",
        flops: 1,
        rust: if mask != 0.0 { a } else { b },
        grad: of (out, ct => None, mask.select(ct, zero(ct)), mask.select(zero(ct), ct)),
        tolerance: 0.0,
    }
}

/// Comparisons of words, which have a body of their own.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $id:ident = $name:literal, $wgsl:literal, $operator:tt;)+) => {
        $(
            pub(crate) static $id: Row = Row {
                function: ScalarFn {
                    name: $name,
                    wgsl: $wgsl,
                    prelude: "",
                    flops: 0,
                    f32: words!(@call f32, $operator),
                    f64: words!(@call f64, $operator),
                },
                gradient: Gradient::Zero("words are not differentiated"),
                args: &[Values::Words(4), Values::Words(4)],
                params: &[],
            };
        )+

        pub(crate) static WORD_ENTRIES: &[Entry] = &[$(
            Entry {
                name: $name,
                doc: concat!($($doc),+).trim_ascii(),
                sample: |random| $id.sample(random),
                tolerance: 0.0,
                order: Order::Zero,
                refuses: || $id.refusals(),
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

words! {
    /// 1 where two words are equal; `eq` of u32 tensors.
    EQ_WORDS = "eq_words", "select(0.0, 1.0, {0} == {1})", ==;

    /// 1 where two words differ; `ne` of u32 tensors.
    NE_WORDS = "ne_words", "select(0.0, 1.0, {0} != {1})", !=;

    /// 1 where the first word is smaller; `lt` of u32 tensors.
    LT_WORDS = "lt_words", "select(0.0, 1.0, {0} < {1})", <;

    /// 1 where the first word is not larger; `le` of u32 tensors.
    LE_WORDS = "le_words", "select(0.0, 1.0, {0} <= {1})", <=;
}
