//! Normalizations over the last dimension, without weights: a layer multiplies and adds its own.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Rule, TensorType, Var};

use crate::sample::{Input, Sample, dressed, pick, shape_of};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "layer_norm",
        doc: "(x − mean) / √(variance + ε) over the last dimension (Ba et al., 2016).",
        sample: |random| over_last(random, |x| x.layer_norm(1e-2)),
        tolerance: 2e-5,
        order: Order::Any,
        refuses: || refused(|x| x.layer_norm(1e-5)),
    },
    Entry {
        name: "rms_norm",
        doc: "x / √(mean of x² + ε) over the last dimension (Zhang and Sennrich, 2019).",
        sample: |random| over_last(random, |x| x.rms_norm(1e-2)),
        tolerance: 2e-5,
        order: Order::Any,
        refuses: || refused(|x| x.rms_norm(1e-5)),
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
    x.graph().refuse(name, &[x], Rule::new("there is at least 1 dimension, the last, to normalize over"))
}

fn over_last(random: &mut Stream, normalized: for<'g> fn(Var<'g>) -> Var<'g>) -> Sample {
    let rank = pick(random, &[1, 2, 3]);
    let mut shape = shape_of(random, rank);
    shape[rank - 1] = pick(random, &[2, 3, 8, 17, 65]);
    let (ty, dressing) = dressed(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, ANY)], move |_, ins| normalized(dressing.apply(ins[0])))
}

fn refused(normalized: for<'g> fn(Var<'g>) -> Var<'g>) -> Vec<Refused> {
    vec![
        Refused::new(vec![TensorType::f32([])], "at least 1 dimension", move |_, ins| normalized(ins[0])),
        Refused::new(vec![TensorType::u32([2])], "elements must be f32", move |_, ins| normalized(ins[0])),
    ]
}
