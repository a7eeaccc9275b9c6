//! Losses. Each returns one value for each example, `[batch]`; average them with `mean_all`.

use wgrad_graph::{DType, Rule, TensorType, Var};

use crate::constant::{full, full_u32};
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::reduce::mean;
use crate::sample::{ANY, Distribution, Input, Sample, pick, shape_of_rank, size};
use crate::tensor::TensorOps;

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "cross_entropy",
        doc: "−ln softmax(logits)[label], of logits [batch, classes] and labels u32[batch]; a label out of range gives ∞.",
        sample: |random| {
            let (batch, classes) = (size(random), pick(random, &[1, 2, 3, 10, 65]));
            let logits = Input::f32([batch, classes], Distribution::Uniform(-6.0, 6.0));
            let labels = Input::u32([batch], classes as u32);
            Sample::new(vec![logits, labels], |_, ins| ins[0].cross_entropy(ins[1]))
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || label_errors(|logits, labels| logits.cross_entropy(labels)),
    },
    OpInfo {
        name: "cross_entropy_smooth",
        doc: "Cross-entropy against (1 − ε) · label + ε · uniform over the classes (Szegedy et al., 2016).",
        sample: |random| {
            let (batch, classes) = (size(random), pick(random, &[1, 2, 3, 10]));
            let logits = Input::f32([batch, classes], Distribution::Uniform(-6.0, 6.0));
            let labels = Input::u32([batch], classes as u32);
            Sample::new(vec![logits, labels], |_, ins| ins[0].cross_entropy_smooth(ins[1], 0.1))
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let mut all = label_errors(|logits, labels| logits.cross_entropy_smooth(labels, 0.1));
            let ins = vec![TensorType::f32([2, 3]), TensorType::u32([2])];
            all.push(ErrorInput::new(ins, "must be in [0, 1]", |_, ins| {
                ins[0].cross_entropy_smooth(ins[1], 1.5)
            }));
            all
        },
    },
    OpInfo {
        name: "mse",
        doc: "Mean of (x − target)² over all dimensions except the first.",
        sample: |random| {
            let rank = pick(random, &[0, 1, 2, 3]);
            let shape = shape_of_rank(random, rank);
            let inputs = vec![Input::f32(shape.clone(), ANY), Input::f32(shape, ANY)];
            Sample::new(inputs, |_, ins| ins[0].mse(ins[1]))
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || target_errors(|x, target| x.mse(target)),
    },
    OpInfo {
        name: "bce_with_logits",
        doc: "Mean of −(t ln σ(x) + (1 − t) ln(1 − σ(x))) over all dimensions except the first.",
        sample: |random| {
            let rank = pick(random, &[1, 2]);
            let shape = shape_of_rank(random, rank);
            let inputs = vec![
                Input::f32(shape.clone(), Distribution::Uniform(-6.0, 6.0)),
                Input::f32(shape, Distribution::Uniform(0.0, 1.0)),
            ];
            Sample::new(inputs, |_, ins| ins[0].bce_with_logits(ins[1]))
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || target_errors(|x, target| x.bce_with_logits(target)),
    },
];

/// Cross-entropy of logits `[batch, classes]` with labels u32 `[batch]`, smoothed by `smoothing`.
///
/// Computed as log-sum-exp minus the logit of the label, so that no probability is rounded to zero.
#[track_caller]
pub(crate) fn cross_entropy<'g>(name: &str, logits: Var<'g>, labels: Var<'g>, smoothing: f64) -> Var<'g> {
    let graph = logits.graph();
    let (logits_ty, labels_ty) = (logits.ty(), labels.ty());
    let fits = logits_ty.shape.len() == 2 && labels_ty == TensorType::u32([logits_ty.shape[0]]);
    if !fits || logits_ty.dtype != DType::F32 {
        let rule = Rule::new("logits must be f32[batch, classes] and labels u32[batch]");
        return graph.refuse(name, &[logits, labels], rule);
    }
    if !(0.0..=1.0).contains(&smoothing) {
        let rule = Rule::new(format!("the smoothing must be in [0, 1], not {smoothing}"));
        return graph.refuse(name, &[logits, labels], rule);
    }
    let classes = logits_ty.shape[1];
    let is_label = labels.one_hot(classes);
    let mut expected = is_label.select(logits, full(graph, [], 0.0)).sum(&[1]);
    if smoothing > 0.0 {
        expected = expected * (1.0 - smoothing) + logits.mean(&[1]) * smoothing;
    }
    // Divides by 0 if the label is out of range, because an infinite loss is detected and a loss of 0 would look
    // perfect.
    let in_range = labels.lt(full_u32(graph, [], classes as u32));
    logits.logsumexp(&[1]).sub(expected).div(in_range)
}

/// Mean of (x − target)² over all dimensions except the first.
#[track_caller]
pub(crate) fn mse<'g>(x: Var<'g>, target: Var<'g>) -> Var<'g> {
    match check_target("mse", x, target) {
        Ok(()) => mean_per_example(x.sub(target).square()),
        Err(poisoned) => poisoned,
    }
}

/// Binary cross-entropy, as softplus(x) − x · target.
#[track_caller]
pub(crate) fn bce_with_logits<'g>(x: Var<'g>, target: Var<'g>) -> Var<'g> {
    match check_target("bce_with_logits", x, target) {
        Ok(()) => mean_per_example(x.softplus().sub(x.mul(target))),
        Err(poisoned) => poisoned,
    }
}

/// Averages over all dimensions except the first.
#[track_caller]
fn mean_per_example(losses: Var<'_>) -> Var<'_> {
    mean(losses, &(1..losses.rank()).collect::<Vec<_>>(), false)
}

/// Checks that the target has the type of the tensor. Broadcasting is not allowed: `[batch, 1]` against `[batch]` would
/// average over all pairs of examples.
#[track_caller]
fn check_target<'g>(name: &str, x: Var<'g>, target: Var<'g>) -> Result<(), Var<'g>> {
    if x.ty() == target.ty() && x.ty().dtype == DType::F32 {
        return Ok(());
    }
    Err(x.graph().refuse(
        name,
        &[x, target],
        Rule::new("the target must be f32 and have the shape of the tensor"),
    ))
}

type Loss = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;

/// Returns invalid uses: labels or logits of a wrong type.
fn label_errors(loss: Loss) -> Vec<ErrorInput> {
    let error = |logits: TensorType, labels: TensorType| {
        let message = "logits must be f32[batch, classes] and labels u32[batch]";
        ErrorInput::new(vec![logits, labels], message, move |_, ins| loss(ins[0], ins[1]))
    };
    vec![
        error(TensorType::f32([2, 3]), TensorType::u32([3])),
        error(TensorType::f32([2, 3]), TensorType::f32([2])),
        error(TensorType::f32([3]), TensorType::u32([3])),
        error(TensorType::u32([2, 3]), TensorType::u32([2])),
    ]
}

/// Returns invalid uses: targets of a wrong type.
fn target_errors(loss: Loss) -> Vec<ErrorInput> {
    let error = |target: TensorType| {
        let message = "have the shape of the tensor";
        ErrorInput::new(vec![TensorType::f32([4, 1]), target], message, move |_, ins| loss(ins[0], ins[1]))
    };
    vec![error(TensorType::f32([4])), error(TensorType::u32([4, 1]))]
}
