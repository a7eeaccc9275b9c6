//! Normalizations of images: over a batch, and over groups of channels.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Expr, Lowered, Op, Rule, TensorType, Var, Vjp};

use crate::exchange::{Places, Shares, mean_of_both};
use crate::image::ImageOps;
use crate::pointwise::all_of;
use crate::sample::{Input, Sample, Values, pick};
use crate::scalar::{ANY, arithmetic};
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;
use crate::view::{broadcast_to, reshape};

/// A batch normalized, and the statistics that it was normalized with.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormed<'g> {
    /// The images, of the same shape.
    pub out: Var<'g>,
    /// Mean of each channel over the batch, `[c]`.
    pub mean: Var<'g>,
    /// Variance of each channel, of the population (divided by n·h·w), `[c]`.
    pub variance: Var<'g>,
}

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "batch_norm",
        doc: "γ · (x − mean) / √(variance + ε) + β for each channel of images, with the statistics of the batch (Ioffe and Szegedy, 2015).",
        sample: |random| {
            let (x, channels) = images(random);
            let of = || Input::f32([channels], ANY);
            Sample::new(vec![x, of(), of()], |_, ins| ins[0].batch_norm(ins[1], ins[2], 1e-2).out)
        },
        tolerance: 2e-5,
        order: Order::Any,
        refuses: || {
            let refused = |x: &[usize], gamma: &[usize], why| {
                let inputs = vec![TensorType::f32(x), TensorType::f32(gamma), TensorType::f32([3])];
                Refused::new(inputs, why, |_, ins| ins[0].batch_norm(ins[1], ins[2], 1e-5).out)
            };
            vec![
                refused(&[2, 3, 4], &[3], "images have 4 dimensions"),
                refused(&[2, 3, 4, 4], &[4], "one value a channel, [3]; [4] is not"),
                refused(&[1, 3, 1, 1], &[3], "more than one value a channel"),
            ]
        },
    },
    Entry {
        name: "batch_norm_with",
        doc: "γ · (x − mean) / √(variance + ε) + β for each channel of images, with given statistics: what a trained network evaluates.",
        sample: |random| {
            let (x, channels) = images(random);
            let of = |values| Input::f32([channels], values);
            let inputs = vec![x, of(ANY), of(Values::Uniform(0.1, 2.0)), of(ANY), of(ANY)];
            Sample::new(inputs, |_, ins| ins[0].batch_norm_with(ins[1], ins[2], ins[3], ins[4], 1e-2))
        },
        tolerance: 2e-5,
        order: Order::Any,
        refuses: || {
            let inputs = vec![TensorType::f32([2, 3, 4, 4]), TensorType::f32([4])];
            vec![Refused::new(inputs, "one value a channel, [3]; [4] is not", |_, ins| {
                ins[0].batch_norm_with(ins[1], ins[1], ins[1], ins[1], 1e-5)
            })]
        },
    },
    Entry {
        name: "group_norm",
        doc: "γ · (x − mean) / √(variance + ε) + β, with the statistics of each image's groups of channels (Wu and He, 2018).",
        sample: |random| {
            let groups = pick(random, &[1, 2, 3]);
            let channels = groups * pick(random, &[1, 2, 3]);
            let shape =
                [pick(random, &[1, 2, 3]), channels, pick(random, &[2, 3, 5]), pick(random, &[1, 2, 4])];
            let of = || Input::f32([channels], ANY);
            Sample::new(vec![Input::f32(shape, ANY), of(), of()], move |_, ins| {
                ins[0].group_norm(groups, ins[1], ins[2], 1e-2)
            })
        },
        tolerance: 2e-5,
        order: Order::Any,
        refuses: || {
            let refused = |x: &[usize], groups: usize, why| {
                let inputs = vec![TensorType::f32(x), TensorType::f32([4]), TensorType::f32([4])];
                Refused::new(inputs, why, move |_, ins| ins[0].group_norm(groups, ins[1], ins[2], 1e-5))
            };
            vec![
                refused(&[2, 4, 3, 3], 3, "groups share the 4 channels evenly; 3 do not"),
                refused(&[2, 4, 3, 3], 0, "groups share the 4 channels evenly; 0 do not"),
                refused(&[2, 4, 3], 2, "images have 4 dimensions"),
                refused(&[2, 3, 3, 3], 3, "one value a channel, [3]; [4] is not"),
            ]
        },
    },
];

/// Images with more than one value a channel, and their channels.
fn images(random: &mut Stream) -> (Input, usize) {
    let channels = pick(random, &[1, 2, 3, 5]);
    let shape = [pick(random, &[2, 3]), channels, pick(random, &[1, 2, 5]), pick(random, &[2, 3, 7])];
    (Input::f32(shape, ANY), channels)
}

/// γ · (x − mean) / √(variance + ε) + β with the statistics of the batch, of which other replicas may have shares.
#[track_caller]
pub(crate) fn batch_norm<'g>(
    x: Var<'g>,
    gamma: Var<'g>,
    beta: Var<'g>,
    epsilon: f64,
    shares: Option<Shares<'g>>,
) -> BatchNormed<'g> {
    let graph = x.graph();
    let shape = x.shape();
    let rule = channel_rule(&x.ty(), &[gamma, beta]).err().or_else(|| {
        let alone = shares.is_none() && shape.numel() == shape[1];
        alone.then(|| Rule::new("statistics of a batch need more than one value a channel"))
    });
    if let Some(rule) = rule {
        let poisoned = graph.refuse("batch_norm", &[x, gamma, beta], rule);
        return BatchNormed { out: poisoned, mean: poisoned, variance: poisoned };
    }
    let axes = [0, 2, 3];
    let (mean, variance) = shares.map_or_else(|| moments(x), |shares| moments_of_all(x, shares));
    let spread = (variance + epsilon).rsqrt();
    let wide = |value: Var<'g>| broadcast_to(value, shape.clone());
    let ins = [x, wide(mean), wide(spread), wide(per_channel(gamma)), wide(per_channel(beta))];
    let others = shares.map(|shares| (shares.share, shares.backward));
    let out = graph.push(Normalize { axes: axes.to_vec(), others }, &ins);
    let flat = |value| reshape(value, [shape[1]]);
    BatchNormed { out, mean: flat(mean), variance: flat(variance) }
}

/// Mean and variance of each channel over batch and places, `[1, c, 1, 1]`.
///
/// Each place first has a mean and squared deviations of its own over the batch, and those are then put together (Chan,
/// Golub and LeVeque, 1979): exact like the variance about the whole mean, and two passes over few numbers instead of two
/// over the images.
#[track_caller]
fn moments(x: Var<'_>) -> (Var<'_>, Var<'_>) {
    let batch = x.shape()[0];
    let local = x.mean_keep(&[0]);
    let mean = local.mean_keep(&[2, 3]);
    let between = local.sub(mean).square();
    let within = if batch == 1 { None } else { Some(x.sub(local).square().sum_keep(&[0]) / batch as f64) };
    let variance = within.map_or(between, |within| within + between).mean_keep(&[2, 3]);
    (mean, variance)
}

/// The same over the shares of all replicas, by their means and mean squares about an origin.
#[track_caller]
fn moments_of_all<'g>(x: Var<'g>, shares: Shares<'g>) -> (Var<'g>, Var<'g>) {
    let (mean, variance) = moments(x);
    let origin = reshape(shares.origin, mean.shape());
    let apart = mean.sub(origin);
    let own = [apart, variance.add(apart.square())];
    let [apart, square] = mean_of_both(own, shares.share, shares.forward);
    // Rounding may make it negative where it is 0.
    (origin.add(apart), square.sub(apart.square()).relu())
}

/// γ · (x − mean) / √(variance + ε) + β with given statistics.
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

/// γ · (x − mean) / √(variance + ε) + β with the statistics of each image's groups.
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
        uneven.then(|| Rule::new(format!("groups share the {} channels evenly; {groups} do not", shape[1])))
    });
    if let Some(rule) = rule {
        return graph.refuse("group_norm", &[x, gamma, beta], rule);
    }
    let grouped = reshape(x, [shape[0], groups, shape[1] / groups, shape[2], shape[3]]);
    let axes = [2, 3, 4];
    let mean = grouped.mean_keep(&axes);
    let spread = (grouped.sub(mean).square().mean_keep(&axes) + epsilon).rsqrt();
    let wide = |value: Var<'g>| broadcast_to(value, grouped.shape());
    let one = wide(crate::constant::full(graph, [], 1.0));
    let zero = wide(crate::constant::full(graph, [], 0.0));
    let ins = [grouped, wide(mean), wide(spread), one, zero];
    let normal = reshape(graph.push(Normalize { axes: axes.to_vec(), others: None }, &ins), shape);
    normal.mul(per_channel(gamma)).add(per_channel(beta))
}

/// `[c]` as `[c, 1, 1]`, which broadcasts over images.
#[track_caller]
fn per_channel(value: Var<'_>) -> Var<'_> {
    let channels = value.shape()[0];
    reshape(value, [channels, 1, 1])
}

fn channel_rule(x: &TensorType, values: &[Var<'_>]) -> Result<(), Rule> {
    all_of(DType::F32, std::slice::from_ref(x))?;
    let &[_, channels, _, _] = &x.shape[..] else {
        return Err(Rule::new(format!("images have 4 dimensions; {} has {}", x.shape, x.shape.len())));
    };
    match values.iter().map(|value| value.ty()).find(|ty| *ty != TensorType::f32([channels])) {
        Some(ty) => {
            Err(Rule::new(format!("there is one value a channel, [{channels}]; {} is not", ty.shape)))
        }
        None => Ok(()),
    }
}

/// γ · (x − m) · s + β for inputs (x, m, s, γ, β) of one shape, where m is the mean of x along the axes, s one over its
/// spread, and γ and β are the same along them.
///
/// Its gradient of x is the whole one, by way of m and s too, which therefore have none of their own: the mean of the
/// cotangent and its part along the result are taken out of it, in two sums instead of the four that the derivatives of
/// mean and variance would need one after the other.
#[derive(Debug)]
struct Normalize {
    axes: Vec<usize>,
    /// Where other replicas have shares of what the means are over: this one's share, and where means of cotangents meet.
    others: Option<(f64, Places)>,
}

impl Op for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        all_of(DType::F32, ins)?;
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let &[x, mean, spread, gamma, _] = ins else { return Vjp::Undefined("it has five inputs") };
        let normal = x.sub(mean).mul(spread);
        let along = cotangent.mul(normal);
        let own = [cotangent.mean_keep(&self.axes), along.mean_keep(&self.axes)];
        let means = self.others.map_or(own, |(share, places)| mean_of_both(own, share, places));
        let rest = cotangent.sub(means[0]).sub(normal.mul(means[1]));
        Vjp::Grads(vec![Some(rest.mul(spread.mul(gamma))), None, None, Some(along), Some(cotangent)])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        let call = |f: &'static crate::pointwise::Row, a: Expr, b: Expr| Expr::Call(&f.function, vec![a, b]);
        let input = Expr::Input;
        let centered = call(&arithmetic::SUB, input(0), input(1));
        let scaled = call(&arithmetic::MUL, call(&arithmetic::MUL, centered, input(2)), input(3));
        Lowered::Map(call(&arithmetic::ADD, scaled, input(4)))
    }
}
