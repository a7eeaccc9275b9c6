//! Tensors without inputs: constants and the index along an axis.

use wgrad_graph::{DType, Expr, Graph, Lowered, Op, Rule, Shape, TensorType, Var, Vjp};

use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::rules::no_axis;
use crate::sample::{ANY, Input, Sample, pick, shape, shape_of_rank};
use crate::tensor::TensorOps;

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "full",
        doc: "f32 tensor filled with one value.",
        sample: |random| {
            let (shape, value) = (shape(random), f64::from(random.uniform()));
            Sample::new(Vec::new(), move |graph, _| full(graph, shape.clone(), value))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Zero,
        error_inputs: || {
            vec![ErrorInput::new(Vec::new(), "at least one element", |graph, _| full(graph, [2, 0], 1.0))]
        },
    },
    OpInfo {
        name: "full_u32",
        doc: "u32 tensor filled with one value.",
        sample: |random| {
            let (shape, value) = (shape(random), random.next_u32());
            Sample::new(Vec::new(), move |graph, _| full_u32(graph, shape.clone(), value))
        },
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: || {
            vec![ErrorInput::new(Vec::new(), "at least one element", |graph, _| full_u32(graph, [0], 1))]
        },
    },
    OpInfo {
        name: "iota",
        doc: "Index of each element along an axis, as u32.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of_rank(random, rank), random.below(rank as u32) as usize);
            Sample::new(Vec::new(), move |graph, _| iota(graph, shape.clone(), axis))
        },
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: || {
            vec![ErrorInput::new(Vec::new(), "has no axis 2", |graph, _| iota(graph, [2, 3], 2))]
        },
    },
    OpInfo {
        name: "stop_gradient",
        doc: "The same values, without a gradient.",
        sample: |random| {
            let input = Input::f32(shape(random), ANY);
            Sample::new(vec![input], |_, ins| ins[0].stop_gradient())
        },
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: Vec::new,
    },
];

/// Creates an f32 tensor of `shape` filled with `value`.
#[track_caller]
pub fn full(graph: &Graph, shape: impl Into<Shape>, value: f64) -> Var<'_> {
    let ty = TensorType::f32(shape);
    graph.push(Constant { name: "full", ty, expr: Expr::Float(value) }, &[])
}

/// Creates a u32 tensor of `shape` filled with `value`.
#[track_caller]
pub fn full_u32(graph: &Graph, shape: impl Into<Shape>, value: u32) -> Var<'_> {
    let ty = TensorType::u32(shape);
    graph.push(Constant { name: "full_u32", ty, expr: Expr::U32(value) }, &[])
}

/// Creates a u32 tensor of `shape` in which each element is its index along `axis`.
#[track_caller]
pub fn iota(graph: &Graph, shape: impl Into<Shape>, axis: usize) -> Var<'_> {
    let ty = TensorType::new(DType::U32, shape);
    if axis >= ty.shape.len() {
        return graph.refuse("iota", &[], no_axis(axis, &ty.shape));
    }
    let strides = (0..ty.shape.len()).map(|i| usize::from(i == axis)).collect();
    graph.push(Constant { name: "iota", ty, expr: Expr::Iota(strides) }, &[])
}

/// Operation without inputs.
#[derive(Debug)]
struct Constant {
    name: &'static str,
    ty: TensorType,
    expr: Expr,
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, _: &[TensorType]) -> Result<TensorType, Rule> {
        Ok(self.ty.clone())
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Grads(Vec::new())
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Map(self.expr.clone())
    }
}

/// Returns `x`, without a gradient.
#[track_caller]
pub(crate) fn stop_gradient(x: Var<'_>) -> Var<'_> {
    x.graph().push(StopGradient, &[x])
}

#[derive(Debug)]
struct StopGradient;

impl Op for StopGradient {
    fn name(&self) -> &'static str {
        "stop_gradient"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Zero("stop_gradient")
    }

    fn lower(&self, _: &[TensorType], out: &TensorType) -> Lowered {
        Lowered::View(wgrad_graph::View::Reshape(out.shape.to_vec()))
    }
}
