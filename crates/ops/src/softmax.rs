//! Log-sum-exp and softmax. The maximum is subtracted first, so that the exponential cannot overflow. The gradient
//! treats the maximum as a constant, because the result does not depend on the value that is subtracted.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Combine, Rule, TensorType, Var};

use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::reduce::{axis_errors, reduce, sample_axes};
use crate::rules::no_axis;
use crate::sample::{Distribution, Input, Sample, pick, shape_of_rank};
use crate::strided_view::StridedView;
use crate::tensor::TensorOps;

/// Logits of both signs. The range is large enough to detect errors in the handling of the maximum.
const LOGITS: Distribution = Distribution::Uniform(-6.0, 6.0);

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "logsumexp",
        doc: "ln Σ eˣ along axes.",
        sample: |random| {
            sample_axes(random, LOGITS, |x, axes| x.logsumexp(axes), |x, axes| x.logsumexp_keep(axes))
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x, axes| x.logsumexp(axes)),
    },
    OpInfo {
        name: "softmax",
        doc: "eˣ / Σ eˣ along an axis.",
        sample: |random| sample_axis(random, |x, axis| x.softmax(axis)),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_error_inputs(|x, axis| x.softmax(axis)),
    },
    OpInfo {
        name: "log_softmax",
        doc: "x − ln Σ eˣ along an axis.",
        sample: |random| sample_axis(random, |x, axis| x.log_softmax(axis)),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_error_inputs(|x, axis| x.log_softmax(axis)),
    },
];

/// ln Σ eˣ along `axes`.
#[track_caller]
pub(crate) fn logsumexp<'g>(x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let max = reduce(Combine::Max, x, axes, true).stop_gradient();
    let sum = reduce(Combine::Sum, x.sub(max).exp(), axes, true);
    let kept = sum.ln().add(max);
    // The axes are dropped last, because the maximum must first broadcast against the tensor.
    if keep || kept.is_poisoned() { kept } else { drop_axes(x, kept, axes) }
}

#[track_caller]
fn drop_axes<'g>(x: Var<'g>, kept: Var<'g>, axes: &[usize]) -> Var<'g> {
    let shape: Vec<usize> =
        x.shape().iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &size)| size).collect();
    kept.reshape(shape)
}

/// eˣ / Σ eˣ along `axis`.
#[track_caller]
pub(crate) fn softmax(x: Var<'_>, axis: usize) -> Var<'_> {
    if let Some(poisoned) = check_axis("softmax", x, axis) {
        return poisoned;
    }
    let e = x.sub(x.max_keep(&[axis]).stop_gradient()).exp();
    e.div(e.sum_keep(&[axis]))
}

/// x − ln Σ eˣ along `axis`.
#[track_caller]
pub(crate) fn log_softmax(x: Var<'_>, axis: usize) -> Var<'_> {
    if let Some(poisoned) = check_axis("log_softmax", x, axis) {
        return poisoned;
    }
    let shifted = x.sub(x.max_keep(&[axis]).stop_gradient());
    shifted.sub(shifted.exp().sum_keep(&[axis]).ln())
}

/// Returns a poisoned value if `axis` is out of range.
#[track_caller]
fn check_axis<'g>(name: &str, x: Var<'g>, axis: usize) -> Option<Var<'g>> {
    if axis < x.rank() {
        return None;
    }
    let rule: Rule = no_axis(axis, &x.shape());
    Some(x.graph().refuse(name, &[x], rule))
}

type AxisOp = for<'g> fn(Var<'g>, usize) -> Var<'g>;

fn sample_axis(random: &mut Stream, apply: AxisOp) -> Sample {
    let (shape, axis) = match random.below(4) {
        0 => (vec![pick(random, &[1, 3]), pick(random, &[10, 65, 257])], 1),
        _ => {
            let rank = pick(random, &[1, 2, 3]);
            (shape_of_rank(random, rank), random.below(rank as u32) as usize)
        }
    };
    let (ty, view) = StridedView::draw(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, LOGITS)], move |_, ins| apply(view.apply(ins[0]), axis))
}

fn axis_error_inputs(apply: AxisOp) -> Vec<ErrorInput> {
    vec![
        ErrorInput::new(vec![TensorType::f32([2, 3])], "has no axis 2", move |_, ins| apply(ins[0], 2)),
        ErrorInput::new(vec![TensorType::u32([2, 3])], "elements must be f32", move |_, ins| {
            apply(ins[0], 1)
        }),
    ]
}
