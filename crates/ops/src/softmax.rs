//! Log-sum-exp and softmax, in the form that cannot overflow: the maximum is taken off first. It is a constant to the
//! gradient, since the result does not depend on it.

use wgrad_graph::{Combine, Rule, TensorType, Var};

use crate::reduce::{over_axes, reduce, refused};
use crate::sample::{Input, Sample, Values, dressed, pick, shape_of};
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;
use crate::view::no_axis;

/// Logits of either sign, large enough that the exponential of a sum would show.
const LOGITS: Values = Values::Uniform(-6.0, 6.0);

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "logsumexp",
        doc: "ln Σ eˣ along axes.",
        sample: |random| {
            over_axes(random, LOGITS, |x, axes| x.logsumexp(axes), |x, axes| x.logsumexp_keep(axes))
        },
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused(|x, axes| x.logsumexp(axes)),
    },
    Entry {
        name: "softmax",
        doc: "eˣ / Σ eˣ along an axis.",
        sample: |random| along_axis(random, |x, axis| x.softmax(axis)),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused_axis(|x, axis| x.softmax(axis)),
    },
    Entry {
        name: "log_softmax",
        doc: "x − ln Σ eˣ along an axis.",
        sample: |random| along_axis(random, |x, axis| x.log_softmax(axis)),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused_axis(|x, axis| x.log_softmax(axis)),
    },
];

/// ln Σ eˣ along `axes`.
#[track_caller]
pub(crate) fn logsumexp<'g>(x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let max = reduce(Combine::Max, x, axes, true).stop_gradient();
    let sum = reduce(Combine::Sum, x.sub(max).exp(), axes, true);
    let kept = sum.ln().add(max);
    // Dropped only here: with its axes kept, the maximum broadcasts against the sum.
    if keep || kept.is_poisoned() { kept } else { dropped(x, kept, axes) }
}

#[track_caller]
fn dropped<'g>(x: Var<'g>, kept: Var<'g>, axes: &[usize]) -> Var<'g> {
    let shape: Vec<usize> =
        x.shape().iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &size)| size).collect();
    kept.reshape(shape)
}

/// eˣ / Σ eˣ along `axis`.
#[track_caller]
pub(crate) fn softmax(x: Var<'_>, axis: usize) -> Var<'_> {
    if let Some(refused) = missing("softmax", x, axis) {
        return refused;
    }
    let e = x.sub(x.max_keep(&[axis]).stop_gradient()).exp();
    e.div(e.sum_keep(&[axis]))
}

/// x − ln Σ eˣ along `axis`.
#[track_caller]
pub(crate) fn log_softmax(x: Var<'_>, axis: usize) -> Var<'_> {
    if let Some(refused) = missing("log_softmax", x, axis) {
        return refused;
    }
    let shifted = x.sub(x.max_keep(&[axis]).stop_gradient());
    shifted.sub(shifted.exp().sum_keep(&[axis]).ln())
}

#[track_caller]
fn missing<'g>(name: &str, x: Var<'g>, axis: usize) -> Option<Var<'g>> {
    if axis < x.rank() {
        return None;
    }
    let rule: Rule = no_axis(axis, &x.shape());
    Some(x.graph().refuse(name, &[x], rule))
}

type AlongAxis = for<'g> fn(Var<'g>, usize) -> Var<'g>;

fn along_axis(random: &mut wgrad_graph::philox::Stream, apply: AlongAxis) -> Sample {
    let (shape, axis) = match random.below(4) {
        0 => (vec![pick(random, &[1, 3]), pick(random, &[10, 65, 257])], 1),
        _ => {
            let rank = pick(random, &[1, 2, 3]);
            (shape_of(random, rank), random.below(rank as u32) as usize)
        }
    };
    let (ty, dressing) = dressed(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, LOGITS)], move |_, ins| apply(dressing.apply(ins[0]), axis))
}

fn refused_axis(apply: AlongAxis) -> Vec<Refused> {
    vec![
        Refused::new(vec![TensorType::f32([2, 3])], "has no axis 2", move |_, ins| apply(ins[0], 2)),
        Refused::new(vec![TensorType::u32([2, 3])], "elements must be f32", move |_, ins| apply(ins[0], 1)),
    ]
}
