//! Losses: one number an example, `[batch]`. Average them with `mean_all`.

use wgrad_graph::{DType, Rule, TensorType, Var};

use crate::constant::{full, full_u32};
use crate::reduce::mean;
use crate::sample::{Input, Sample, Values, pick, shape_of, size};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "cross_entropy",
        doc: "−ln softmax(logits)[label], of logits [batch, classes] and labels u32[batch]; a label out of range gives ∞.",
        sample: |random| {
            let (batch, classes) = (size(random), pick(random, &[1, 2, 3, 10, 65]));
            let logits = Input::f32([batch, classes], Values::Uniform(-6.0, 6.0));
            let labels = Input::words([batch], classes as u32);
            Sample::new(vec![logits, labels], |_, ins| ins[0].cross_entropy(ins[1]))
        },
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused_labels(|logits, labels| logits.cross_entropy(labels)),
    },
    Entry {
        name: "cross_entropy_smooth",
        doc: "Cross-entropy against (1 − ε) · label + ε · uniform over the classes (Szegedy et al., 2016).",
        sample: |random| {
            let (batch, classes) = (size(random), pick(random, &[1, 2, 3, 10]));
            let logits = Input::f32([batch, classes], Values::Uniform(-6.0, 6.0));
            let labels = Input::words([batch], classes as u32);
            Sample::new(vec![logits, labels], |_, ins| ins[0].cross_entropy_smooth(ins[1], 0.1))
        },
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || {
            let mut all = refused_labels(|logits, labels| logits.cross_entropy_smooth(labels, 0.1));
            let ins = vec![TensorType::f32([2, 3]), TensorType::u32([2])];
            all.push(Refused::new(ins, "lies in [0, 1]", |_, ins| ins[0].cross_entropy_smooth(ins[1], 1.5)));
            all
        },
    },
    Entry {
        name: "mse",
        doc: "Mean of (x − target)² over all dimensions but the first.",
        sample: |random| {
            let rank = pick(random, &[0, 1, 2, 3]);
            let shape = shape_of(random, rank);
            let inputs = vec![Input::f32(shape.clone(), ANY), Input::f32(shape, ANY)];
            Sample::new(inputs, |_, ins| ins[0].mse(ins[1]))
        },
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused_target(|x, target| x.mse(target)),
    },
    Entry {
        name: "bce_with_logits",
        doc: "Mean of −(t ln σ(x) + (1 − t) ln(1 − σ(x))) over all dimensions but the first.",
        sample: |random| {
            let rank = pick(random, &[1, 2]);
            let shape = shape_of(random, rank);
            let inputs = vec![
                Input::f32(shape.clone(), Values::Uniform(-6.0, 6.0)),
                Input::f32(shape, Values::Uniform(0.0, 1.0)),
            ];
            Sample::new(inputs, |_, ins| ins[0].bce_with_logits(ins[1]))
        },
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused_target(|x, target| x.bce_with_logits(target)),
    },
];

/// Cross-entropy of logits `[batch, classes]` with labels u32 `[batch]`, smoothed by `smoothing`.
///
/// It is log-sum-exp less the logit of the label, so that no probability is ever rounded to zero.
#[track_caller]
pub(crate) fn cross_entropy<'g>(name: &str, logits: Var<'g>, labels: Var<'g>, smoothing: f64) -> Var<'g> {
    let graph = logits.graph();
    let (logits_ty, labels_ty) = (logits.ty(), labels.ty());
    let fits = logits_ty.shape.len() == 2 && labels_ty == TensorType::u32([logits_ty.shape[0]]);
    if !fits || logits_ty.dtype != DType::F32 {
        let rule = Rule::new("logits are f32[batch, classes] and labels u32[batch]");
        return graph.refuse(name, &[logits, labels], rule);
    }
    if !(0.0..=1.0).contains(&smoothing) {
        let rule = Rule::new(format!("the smoothing lies in [0, 1]; {smoothing} does not"));
        return graph.refuse(name, &[logits, labels], rule);
    }
    let classes = logits_ty.shape[1];
    let is_label = labels.one_hot(classes);
    let mut expected = is_label.select(logits, full(graph, [], 0.0)).sum(&[1]);
    if smoothing > 0.0 {
        expected = expected * (1.0 - smoothing) + logits.mean(&[1]) * smoothing;
    }
    // Divided by 0 where the label is out of range: a loss that no one can miss, where zeros would pass for a perfect one.
    let in_range = labels.lt(full_u32(graph, [], classes as u32));
    logits.logsumexp(&[1]).sub(expected).div(in_range)
}

/// Mean of (x − target)² over all dimensions but the first.
#[track_caller]
pub(crate) fn mse<'g>(x: Var<'g>, target: Var<'g>) -> Var<'g> {
    match same("mse", x, target) {
        Ok(()) => each_example(x.sub(target).square()),
        Err(refused) => refused,
    }
}

/// Binary cross-entropy, as softplus(x) − x · target.
#[track_caller]
pub(crate) fn bce_with_logits<'g>(x: Var<'g>, target: Var<'g>) -> Var<'g> {
    match same("bce_with_logits", x, target) {
        Ok(()) => each_example(x.softplus().sub(x.mul(target))),
        Err(refused) => refused,
    }
}

#[track_caller]
fn each_example(losses: Var<'_>) -> Var<'_> {
    mean(losses, &(1..losses.rank()).collect::<Vec<_>>(), false)
}

/// A target that would broadcast is a mistake: `[batch, 1]` against `[batch]` averages over all pairs.
#[track_caller]
fn same<'g>(name: &str, x: Var<'g>, target: Var<'g>) -> Result<(), Var<'g>> {
    if x.ty() == target.ty() && x.ty().dtype == DType::F32 {
        return Ok(());
    }
    Err(x.graph().refuse(name, &[x, target], Rule::new("the target is f32 and has the shape of the tensor")))
}

type Loss = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;

fn refused_labels(loss: Loss) -> Vec<Refused> {
    let refused = |logits: TensorType, labels: TensorType| {
        let why = "logits are f32[batch, classes] and labels u32[batch]";
        Refused::new(vec![logits, labels], why, move |_, ins| loss(ins[0], ins[1]))
    };
    vec![
        refused(TensorType::f32([2, 3]), TensorType::u32([3])),
        refused(TensorType::f32([2, 3]), TensorType::f32([2])),
        refused(TensorType::f32([3]), TensorType::u32([3])),
        refused(TensorType::u32([2, 3]), TensorType::u32([2])),
    ]
}

fn refused_target(loss: Loss) -> Vec<Refused> {
    let refused = |target: TensorType| {
        let why = "has the shape of the tensor";
        Refused::new(vec![TensorType::f32([4, 1]), target], why, move |_, ins| loss(ins[0], ins[1]))
    };
    vec![refused(TensorType::f32([4])), refused(TensorType::u32([4, 1]))]
}
