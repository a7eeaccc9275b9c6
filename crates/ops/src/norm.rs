//! Normalization over the last dimension, without weight and bias, which the layers apply.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Rule, TensorType, Var};

use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::sample::{ANY, Input, Sample, pick, shape_of_rank};
use crate::strided_view::StridedView;
use crate::tensor::TensorOps;

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "layer_norm",
        doc: "(x − mean) / √(variance + ε) over the last dimension (Ba et al., 2016).",
        sample: |random| sample_last_axis(random, |x| x.layer_norm(1e-2)),
        tolerance: 2e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || error_inputs(|x| x.layer_norm(1e-5)),
    },
    OpInfo {
        name: "rms_norm",
        doc: "x / √(mean of x² + ε) over the last dimension (Zhang and Sennrich, 2019).",
        sample: |random| sample_last_axis(random, |x| x.rms_norm(1e-2)),
        tolerance: 2e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || error_inputs(|x| x.rms_norm(1e-5)),
    },
];

/// (x − mean) / √(variance + ε) over the last dimension.
#[track_caller]
pub(crate) fn layer_norm(x: Var<'_>, epsilon: f64) -> Var<'_> {
    let Some(last) = x.rank().checked_sub(1) else { return no_dimension("layer_norm", x) };
    let centered = x.sub(x.mean_keep(&[last]));
    let variance = centered.square().mean_keep(&[last]);
    centered.mul((variance + epsilon).rsqrt())
}

/// x / √(mean of x² + ε) over the last dimension.
#[track_caller]
pub(crate) fn rms_norm(x: Var<'_>, epsilon: f64) -> Var<'_> {
    let Some(last) = x.rank().checked_sub(1) else { return no_dimension("rms_norm", x) };
    x.mul((x.square().mean_keep(&[last]) + epsilon).rsqrt())
}

#[track_caller]
fn no_dimension<'g>(name: &str, x: Var<'g>) -> Var<'g> {
    x.graph().refuse(name, &[x], Rule::new("the tensor must have at least 1 dimension to normalize over"))
}

fn sample_last_axis(random: &mut Stream, normalized: for<'g> fn(Var<'g>) -> Var<'g>) -> Sample {
    let rank = pick(random, &[1, 2, 3]);
    let mut shape = shape_of_rank(random, rank);
    shape[rank - 1] = pick(random, &[2, 3, 8, 17, 65]);
    let (ty, view) = StridedView::draw(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, ANY)], move |_, ins| normalized(view.apply(ins[0])))
}

fn error_inputs(normalized: for<'g> fn(Var<'g>) -> Var<'g>) -> Vec<ErrorInput> {
    vec![
        ErrorInput::new(vec![TensorType::f32([])], "at least 1 dimension", move |_, ins| normalized(ins[0])),
        ErrorInput::new(vec![TensorType::u32([2])], "elements must be f32", move |_, ins| normalized(ins[0])),
    ]
}
