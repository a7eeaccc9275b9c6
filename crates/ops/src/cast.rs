//! Casts between element types. f16 is a storage type only: gradients of f16 tensors are computed in f32.

use wgrad_graph::{Call, DType, Expr, Lowered, Op, Rule, ScalarFn, TensorType, Var, Vjp};

use crate::elementwise::{ElementwiseOp, Gradient, elementwise};
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::sample::{Distribution, Input, Sample, shape};
use crate::tensor::TensorOps;

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "cast_to_f16",
        doc: "f32 rounded to the nearest f16 and back. The gradient ignores the rounding.",
        sample: |random| {
            let input = Input::f32(shape(random), Distribution::Rounded(-2.0, 2.0));
            Sample::new(vec![input], |_, ins| ins[0].cast(DType::F16).cast(DType::F32))
        },
        tolerance: 1e-3,
        gradient_order: GradientOrder::Zero,
        error_inputs: || {
            vec![ErrorInput::new(vec![TensorType::u32([3])], "cast it to f32 first", |_, ins| {
                ins[0].cast(DType::F16)
            })]
        },
    },
    OpInfo {
        name: "cast_to_u32",
        doc: "Integer part of a float as u32; 0 for negative values and NaN, the largest u32 for larger values.",
        sample: |random| F32_TO_U32.sample(random),
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: || F32_TO_U32.error_inputs(),
    },
    OpInfo {
        name: "cast_to_f32",
        doc: "u32 as a float; exact up to 2²⁴.",
        sample: |random| U32_TO_F32.sample(random),
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: || U32_TO_F32.error_inputs(),
    },
];

static F32_TO_U32: ElementwiseOp = ElementwiseOp {
    function: ScalarFn {
        name: "to_word",
        // 4294967040 is the largest float below 2³²; `max` turns a NaN into 0.
        wgsl: "select(u32(min(max({0}, 0.0), 4294967040.0)), 4294967295u, {0} >= 4294967296.0)",
        prelude: "",
        flops: 0,
        f32: Call::ToU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = x as u32)),
        f64: Call::ToU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = x as u32)),
    },
    gradient: Gradient::Zero("u32 tensors have no gradient"),
    args: &[Distribution::Uniform(-10.0, 100.0)],
    params: &[],
};

static U32_TO_F32: ElementwiseOp = ElementwiseOp {
    function: ScalarFn {
        name: "to_float",
        wgsl: "f32({0})",
        prelude: "",
        flops: 0,
        f32: Call::FromU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = x as f32)),
        f64: Call::FromU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = f64::from(x))),
    },
    gradient: Gradient::Zero("u32 tensors have no gradient"),
    args: &[Distribution::U32Below(1 << 24)],
    params: &[],
};

/// Converts `x` to another element type.
#[track_caller]
pub(crate) fn cast(x: Var<'_>, to: DType) -> Var<'_> {
    match (x.ty().dtype, to) {
        (from, to) if from == to => x,
        (DType::U32, DType::F32) => elementwise(&U32_TO_F32, &[x], &[]),
        (DType::F32, DType::U32) => elementwise(&F32_TO_U32, &[x], &[]),
        _ => x.graph().push(Cast { to }, &[x]),
    }
}

/// Cast between f32 and f16. Backends compute in f32, so the expression is the input itself.
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
            (DType::U32, DType::F16) => Err(Rule::new("u32 cannot be cast to f16; cast it to f32 first")),
            (DType::F16, DType::U32) => Err(Rule::new("f16 cannot be cast to u32; cast it to f32 first")),
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
