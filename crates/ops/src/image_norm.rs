//! Normalization of images: batch norm and group norm.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Expr, Lowered, Op, Rule, TensorType, Var, Vjp};

use crate::constant::full;
use crate::elementwise::ElementwiseOp;
use crate::host_callback::{AllReduceSlots, SyncBatch, all_reduce_means};
use crate::image::ImageOps;
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::rules::{check_dtype, image_sizes};
use crate::sample::{ANY, Distribution, Input, Sample, pick};
use crate::scalar::arithmetic;
use crate::tensor::TensorOps;
use crate::view::{broadcast_to, reshape};

/// Result of a batch normalization, with the statistics of the batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormOutput<'g> {
    /// Normalized images, in the shape of the input.
    pub out: Var<'g>,
    /// Mean of each channel over batch, height and width, `[c]`.
    pub mean: Var<'g>,
    /// Biased variance of each channel (divided by n·h·w), `[c]`.
    pub variance: Var<'g>,
}

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "batch_norm",
        doc: "γ · (x − mean) / √(variance + ε) + β for each channel of images, with the statistics of the batch (Ioffe and Szegedy, 2015).",
        sample: |random| {
            let (x, channels) = draw_images(random);
            let per_channel = || Input::f32([channels], ANY);
            Sample::new(vec![x, per_channel(), per_channel()], |_, ins| {
                ins[0].batch_norm(ins[1], ins[2], 1e-2).out
            })
        },
        tolerance: 2e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let error = |x: &[usize], gamma: &[usize], message| {
                let inputs = vec![TensorType::f32(x), TensorType::f32(gamma), TensorType::f32([3])];
                ErrorInput::new(inputs, message, |_, ins| ins[0].batch_norm(ins[1], ins[2], 1e-5).out)
            };
            vec![
                error(&[2, 3, 4], &[3], "images have 4 dimensions"),
                error(&[2, 3, 4, 4], &[4], "one value for each channel, [3], not [4]"),
                error(&[1, 3, 1, 1], &[3], "more than one value for each channel"),
            ]
        },
    },
    OpInfo {
        name: "batch_norm_with",
        doc: "γ · (x − mean) / √(variance + ε) + β for each channel of images, with given statistics, as used in evaluation.",
        sample: |random| {
            let (x, channels) = draw_images(random);
            let per_channel = |distribution| Input::f32([channels], distribution);
            let variance = per_channel(Distribution::Uniform(0.1, 2.0));
            let inputs = vec![x, per_channel(ANY), variance, per_channel(ANY), per_channel(ANY)];
            Sample::new(inputs, |_, ins| ins[0].batch_norm_with(ins[1], ins[2], ins[3], ins[4], 1e-2))
        },
        tolerance: 2e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let inputs = vec![TensorType::f32([2, 3, 4, 4]), TensorType::f32([4])];
            vec![ErrorInput::new(inputs, "one value for each channel, [3], not [4]", |_, ins| {
                ins[0].batch_norm_with(ins[1], ins[1], ins[1], ins[1], 1e-5)
            })]
        },
    },
    OpInfo {
        name: "group_norm",
        doc: "γ · (x − mean) / √(variance + ε) + β, with the statistics of each image's groups of channels (Wu and He, 2018).",
        sample: |random| {
            let groups = pick(random, &[1, 2, 3]);
            let channels = groups * pick(random, &[1, 2, 3]);
            let shape =
                [pick(random, &[1, 2, 3]), channels, pick(random, &[2, 3, 5]), pick(random, &[1, 2, 4])];
            let per_channel = || Input::f32([channels], ANY);
            Sample::new(vec![Input::f32(shape, ANY), per_channel(), per_channel()], move |_, ins| {
                ins[0].group_norm(groups, ins[1], ins[2], 1e-2)
            })
        },
        tolerance: 2e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let error = |x: &[usize], groups: usize, message| {
                let inputs = vec![TensorType::f32(x), TensorType::f32([4]), TensorType::f32([4])];
                ErrorInput::new(inputs, message, move |_, ins| {
                    ins[0].group_norm(groups, ins[1], ins[2], 1e-5)
                })
            };
            vec![
                error(&[2, 4, 3, 3], 3, "the number of groups must divide the 4 channels; 3 does not"),
                error(&[2, 4, 3, 3], 0, "the number of groups must divide the 4 channels; 0 does not"),
                error(&[2, 4, 3], 2, "images have 4 dimensions"),
                error(&[2, 3, 3, 3], 3, "one value for each channel, [3], not [4]"),
            ]
        },
    },
];

/// Draws images with more than one value for each channel. Returns the images and the number of channels.
fn draw_images(random: &mut Stream) -> (Input, usize) {
    let channels = pick(random, &[1, 2, 3, 5]);
    let shape = [pick(random, &[2, 3]), channels, pick(random, &[1, 2, 5]), pick(random, &[2, 3, 7])];
    (Input::f32(shape, ANY), channels)
}

/// Batch normalization with the statistics of the batch: of all replicas if `sync` is given, else of this replica.
#[track_caller]
pub(crate) fn batch_norm<'g>(
    x: Var<'g>,
    gamma: Var<'g>,
    beta: Var<'g>,
    epsilon: f64,
    sync: Option<SyncBatch<'g>>,
) -> BatchNormOutput<'g> {
    let graph = x.graph();
    let shape = x.shape();
    let rule = channel_rule(&x.ty(), &[gamma, beta]).err().or_else(|| {
        let single_value = sync.is_none() && shape.numel() == shape[1];
        single_value.then(|| Rule::new("batch statistics need more than one value for each channel"))
    });
    if let Some(rule) = rule {
        let poisoned = graph.refuse("batch_norm", &[x, gamma, beta], rule);
        return BatchNormOutput { out: poisoned, mean: poisoned, variance: poisoned };
    }
    let axes = [0, 2, 3];
    let (mean, variance) = sync.map_or_else(|| moments(x), |sync| synced_moments(x, sync));
    let scale = (variance + epsilon).rsqrt();
    let wide = |value: Var<'g>| broadcast_to(value, shape.clone());
    let ins = [x, wide(mean), wide(scale), wide(per_channel(gamma)), wide(per_channel(beta))];
    let sync = sync.map(|sync| (sync.fraction, sync.backward));
    let out = graph.push(Normalize { axes: axes.to_vec(), sync }, &ins);
    let flat = |value| reshape(value, [shape[1]]);
    BatchNormOutput { out, mean: flat(mean), variance: flat(variance) }
}

/// Returns mean and variance of each channel over batch, height and width, `[1, c, 1, 1]`.
///
/// First computes the mean and variance of each pixel over the batch, and then combines the results (Chan, Golub and
/// LeVeque, 1979). This is as accurate as a variance computed from differences to the overall mean. Only the reductions
/// over the batch read the images; the other reductions read the statistics of the pixels.
#[track_caller]
fn moments(x: Var<'_>) -> (Var<'_>, Var<'_>) {
    let batch = x.shape()[0];
    let pixel_mean = x.mean_keep(&[0]);
    let mean = pixel_mean.mean_keep(&[2, 3]);
    let between = pixel_mean.sub(mean).square();
    let within =
        if batch == 1 { None } else { Some(x.sub(pixel_mean).square().sum_keep(&[0]) / batch as f64) };
    let variance = within.map_or(between, |within| within + between).mean_keep(&[2, 3]);
    (mean, variance)
}

/// Returns mean and variance over the batch of all replicas. Each replica contributes its mean difference and mean
/// squared difference from an origin.
#[track_caller]
fn synced_moments<'g>(x: Var<'g>, sync: SyncBatch<'g>) -> (Var<'g>, Var<'g>) {
    let (mean, variance) = moments(x);
    let origin = reshape(sync.origin, mean.shape());
    let offset = mean.sub(origin);
    let local = [offset, variance.add(offset.square())];
    let [offset, square] = all_reduce_means(local, sync.fraction, sync.forward);
    // Rounding may make a variance of 0 negative.
    (origin.add(offset), square.sub(offset.square()).relu())
}

/// Batch normalization with given statistics.
#[track_caller]
pub(crate) fn batch_norm_with<'g>(
    x: Var<'g>,
    [mean, variance, gamma, beta]: [Var<'g>; 4],
    epsilon: f64,
) -> Var<'g> {
    if let Err(rule) = channel_rule(&x.ty(), &[mean, variance, gamma, beta]) {
        return x.graph().refuse("batch_norm_with", &[x, mean, variance, gamma, beta], rule);
    }
    let scale = gamma.mul((variance + epsilon).rsqrt());
    x.sub(per_channel(mean)).mul(per_channel(scale)).add(per_channel(beta))
}

/// Group normalization, with the statistics of each group of channels of each image.
#[track_caller]
pub(crate) fn group_norm<'g>(
    x: Var<'g>,
    groups: usize,
    gamma: Var<'g>,
    beta: Var<'g>,
    epsilon: f64,
) -> Var<'g> {
    let (graph, shape) = (x.graph(), x.shape());
    let rule = channel_rule(&x.ty(), &[gamma, beta]).err().or_else(|| {
        let uneven = groups == 0 || !shape[1].is_multiple_of(groups);
        uneven.then(|| {
            Rule::new(format!(
                "the number of groups must divide the {} channels; {groups} does not",
                shape[1]
            ))
        })
    });
    if let Some(rule) = rule {
        return graph.refuse("group_norm", &[x, gamma, beta], rule);
    }
    let grouped = reshape(x, [shape[0], groups, shape[1] / groups, shape[2], shape[3]]);
    let axes = [2, 3, 4];
    let mean = grouped.mean_keep(&axes);
    let scale = (grouped.sub(mean).square().mean_keep(&axes) + epsilon).rsqrt();
    let wide = |value: Var<'g>| broadcast_to(value, grouped.shape());
    let one = wide(full(graph, [], 1.0));
    let zero = wide(full(graph, [], 0.0));
    let ins = [grouped, wide(mean), wide(scale), one, zero];
    let normalized = reshape(graph.push(Normalize { axes: axes.to_vec(), sync: None }, &ins), shape);
    normalized.mul(per_channel(gamma)).add(per_channel(beta))
}

/// Reshapes `[c]` to `[c, 1, 1]`, which broadcasts over images.
#[track_caller]
fn per_channel(value: Var<'_>) -> Var<'_> {
    let channels = value.shape()[0];
    reshape(value, [channels, 1, 1])
}

/// Checks that `x` is a tensor of images and each of `values` has one element for each channel.
fn channel_rule(x: &TensorType, values: &[Var<'_>]) -> Result<(), Rule> {
    check_dtype(DType::F32, std::slice::from_ref(x))?;
    let [_, channels, _, _] = image_sizes(&x.shape)?;
    match values.iter().map(|value| value.ty()).find(|ty| *ty != TensorType::f32([channels])) {
        Some(ty) => Err(Rule::new(format!(
            "there must be one value for each channel, [{channels}], not {}",
            ty.shape
        ))),
        None => Ok(()),
    }
}

/// γ · (x − m) · s + β for inputs (x, m, s, γ, β) of one shape, where m is the mean of x along the axes, s is 1 /
/// √(variance + ε), and γ and β are constant along the axes.
///
/// The gradient of x includes the paths through m and s, so m and s get no separate gradient. This gradient needs two
/// sums; differentiating mean and variance separately would need four sums in sequence.
#[derive(Debug)]
struct Normalize {
    axes: Vec<usize>,
    /// For statistics over all replicas: fraction of the examples that this replica has, and slots of the backward
    /// pass.
    sync: Option<(f64, AllReduceSlots)>,
}

impl Op for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        check_dtype(DType::F32, ins)?;
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let &[x, mean, scale, gamma, _] = ins else { return Vjp::Undefined("it must have five inputs") };
        let normalized = x.sub(mean).mul(scale);
        let gamma_grad = cotangent.mul(normalized);
        let local = [cotangent.mean_keep(&self.axes), gamma_grad.mean_keep(&self.axes)];
        let means = self.sync.map_or(local, |(fraction, slots)| all_reduce_means(local, fraction, slots));
        let centered = cotangent.sub(means[0]).sub(normalized.mul(means[1]));
        let x_grad = centered.mul(scale.mul(gamma));
        Vjp::Grads(vec![Some(x_grad), None, None, Some(gamma_grad), Some(cotangent)])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        let call = |op: &'static ElementwiseOp, a: Expr, b: Expr| Expr::Call(&op.function, vec![a, b]);
        let input = Expr::Input;
        let centered = call(&arithmetic::SUB, input(0), input(1));
        let scaled = call(&arithmetic::MUL, call(&arithmetic::MUL, centered, input(2)), input(3));
        Lowered::Map(call(&arithmetic::ADD, scaled, input(4)))
    }
}
