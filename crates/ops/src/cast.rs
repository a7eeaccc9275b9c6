//! Changes of element type. f16 is a way to store a float: gradients of stored values are f32 all the same.

use wgrad_graph::{Call, DType, Expr, Lowered, Op, Rule, ScalarFn, TensorType, Var, Vjp};

use crate::pointwise::{Gradient, Row, pointwise};
use crate::sample::{Input, Sample, shape};
use crate::scalar::Values;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "cast_to_f16",
        doc: "f32 stored as f16, rounded to nearest, and read again. The gradient passes as if nothing were rounded.",
        sample: |random| {
            let input = Input::f32(shape(random), Values::Rounded(-2.0, 2.0));
            Sample::new(vec![input], |_, ins| ins[0].cast(DType::F16).cast(DType::F32))
        },
        tolerance: 1e-3,
        order: Order::Zero,
        refuses: || {
            vec![Refused::new(vec![TensorType::u32([3])], "cast words to f32 first", |_, ins| {
                ins[0].cast(DType::F16)
            })]
        },
    },
    Entry {
        name: "cast_to_u32",
        doc: "The whole part of a float as a word; 0 below 0 and for NaN, the largest word beyond it.",
        sample: |random| TO_WORD.sample(random),
        tolerance: 0.0,
        order: Order::Zero,
        refuses: || TO_WORD.refusals(),
    },
    Entry {
        name: "cast_to_f32",
        doc: "A word as a float; exact up to 2²⁴.",
        sample: |random| TO_FLOAT.sample(random),
        tolerance: 0.0,
        order: Order::Zero,
        refuses: || TO_FLOAT.refusals(),
    },
];

static TO_WORD: Row = Row {
    function: ScalarFn {
        name: "to_word",
        // The largest float below 2³²; a NaN becomes the lower bound of `max`.
        wgsl: "select(u32(min(max({0}, 0.0), 4294967040.0)), 4294967295u, {0} >= 4294967296.0)",
        prelude: "",
        flops: 0,
        f32: Call::ToU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = x as u32)),
        f64: Call::ToU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = x as u32)),
    },
    gradient: Gradient::Zero("words are not differentiated"),
    args: &[Values::Uniform(-10.0, 100.0)],
    params: &[],
};

static TO_FLOAT: Row = Row {
    function: ScalarFn {
        name: "to_float",
        wgsl: "f32({0})",
        prelude: "",
        flops: 0,
        f32: Call::FromU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = x as f32)),
        f64: Call::FromU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = f64::from(x))),
    },
    gradient: Gradient::Zero("words are not differentiated"),
    args: &[Values::Words(1 << 24)],
    params: &[],
};

/// `x` with another element type.
#[track_caller]
pub(crate) fn cast(x: Var<'_>, to: DType) -> Var<'_> {
    match (x.ty().dtype, to) {
        (from, to) if from == to => x,
        (DType::U32, DType::F32) => pointwise(&TO_FLOAT, &[x], &[]),
        (DType::F32, DType::U32) => pointwise(&TO_WORD, &[x], &[]),
        _ => x.graph().push(Cast { to }, &[x]),
    }
}

/// Between f32 and f16. Backends compute in f32, so the body is the element itself.
#[derive(Debug)]
struct Cast {
    to: DType,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        match (ins[0].dtype, self.to) {
            (DType::U32, DType::F16) => Err(Rule::new("words do not fit f16; cast words to f32 first")),
            (DType::F16, DType::U32) => Err(Rule::new("f16 is for storage; cast it to f32 first")),
            (_, to) => Ok(TensorType::new(to, ins[0].shape.clone())),
        }
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        Vjp::Grads(vec![Some(cotangent)])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Map(Expr::Input(0))
    }
}
