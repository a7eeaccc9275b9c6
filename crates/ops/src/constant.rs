//! Tensors that depend on nothing: constants and the index along an axis.

use wgrad_graph::{DType, Expr, Graph, Lowered, Op, Rule, Shape, TensorType, Var, Vjp};

use crate::sample::{Sample, pick, shape, shape_of};
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "full",
        doc: "A float at every index.",
        sample: |random| {
            let (shape, value) = (shape(random), f64::from(random.uniform()));
            Sample::new(Vec::new(), move |graph, _| full(graph, shape.clone(), value))
        },
        tolerance: 1e-6,
        order: Order::Zero,
        refuses: || {
            vec![Refused::new(Vec::new(), "at least one element", |graph, _| full(graph, [2, 0], 1.0))]
        },
    },
    Entry {
        name: "full_u32",
        doc: "A word at every index.",
        sample: |random| {
            let (shape, value) = (shape(random), random.next_u32());
            Sample::new(Vec::new(), move |graph, _| full_u32(graph, shape.clone(), value))
        },
        tolerance: 0.0,
        order: Order::Zero,
        refuses: || {
            vec![Refused::new(Vec::new(), "at least one element", |graph, _| full_u32(graph, [0], 1))]
        },
    },
    Entry {
        name: "iota",
        doc: "The index along an axis, as a word.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of(random, rank), random.below(rank as u32) as usize);
            Sample::new(Vec::new(), move |graph, _| iota(graph, shape.clone(), axis))
        },
        tolerance: 0.0,
        order: Order::Zero,
        refuses: || vec![Refused::new(Vec::new(), "has no axis 2", |graph, _| iota(graph, [2, 3], 2))],
    },
    Entry {
        name: "stop_gradient",
        doc: "The same values, through which no gradient flows.",
        sample: |random| {
            let input = crate::Input::f32(shape(random), crate::scalar::ANY);
            Sample::new(vec![input], |_, ins| ins[0].stop_gradient())
        },
        tolerance: 0.0,
        order: Order::Zero,
        refuses: Vec::new,
    },
];

/// A tensor of `shape` with `value` at every index.
#[track_caller]
pub fn full(graph: &Graph, shape: impl Into<Shape>, value: f64) -> Var<'_> {
    let ty = TensorType::f32(shape);
    graph.push(Constant { name: "full", ty, expr: Expr::Float(value) }, &[])
}

/// A u32 tensor of `shape` with `value` at every index.
#[track_caller]
pub fn full_u32(graph: &Graph, shape: impl Into<Shape>, value: u32) -> Var<'_> {
    let ty = TensorType::u32(shape);
    graph.push(Constant { name: "full_u32", ty, expr: Expr::U32(value) }, &[])
}

/// A u32 tensor of `shape` whose elements are their own index along `axis`.
#[track_caller]
pub fn iota(graph: &Graph, shape: impl Into<Shape>, axis: usize) -> Var<'_> {
    let ty = TensorType::new(DType::U32, shape);
    if axis >= ty.shape.len() {
        return graph.refuse("iota", &[], Rule::new(format!("{} has no axis {axis}", ty.shape)));
    }
    let strides = (0..ty.shape.len()).map(|i| usize::from(i == axis)).collect();
    graph.push(Constant { name: "iota", ty, expr: Expr::Iota(strides) }, &[])
}

/// A tensor without inputs.
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

/// `x` without its gradient.
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
        Vjp::Zero("stopped on purpose")
    }

    fn lower(&self, _: &[TensorType], out: &TensorType) -> Lowered {
        Lowered::View(wgrad_graph::View::Reshape(out.shape.to_vec()))
    }
}
