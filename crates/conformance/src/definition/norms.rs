//! Definitions of the normalizations of images: batch norm and group norm.

use wgrad_cpu::reference::Array;
use wgrad_graph::philox::Stream;
use wgrad_ops::{Distribution, ImageOps, Input};

use super::{Definition, DefinitionCase, Tensor4, pick};

pub(super) static DEFINITIONS: &[Definition] = &[
    Definition { name: "batch_norm", draw: batch },
    Definition { name: "batch_norm_with", draw: given_statistics },
    Definition { name: "group_norm", draw: groups },
];

/// Constant ε that is added to a variance before the square root.
pub const EPSILON: f64 = 1e-2;

const ANY: Distribution = Distribution::Uniform(-2.0, 2.0);

fn shape(random: &mut Stream, channels: usize) -> [usize; 4] {
    [pick(random, &[2, 3]), channels, pick(random, &[1, 2, 5]), pick(random, &[2, 3, 7])]
}

fn per_channel(channels: usize, values: Distribution) -> Input {
    Input::f32([channels], values)
}

/// Returns γ · (x − mean) / √(variance + ε) + β. The mean and the variance are computed over sets of elements. `set(n,
/// c)` returns the number of the set that contains channel c of image n.
fn normalized(ins: &[Array], set: impl Fn(usize, usize) -> usize) -> Vec<f64> {
    let (x, gamma, beta) = (Tensor4::of(&ins[0]), ins[1].to_f64(), ins[2].to_f64());
    let sets = x.shape[0] * x.shape[1];
    let means_of = |value: &dyn Fn([usize; 4]) -> f64| {
        let mut sums = vec![(0.0, 0.0); sets];
        Tensor4::from_fn(x.shape, |index| {
            let sum = &mut sums[set(index[0], index[1])];
            *sum = (sum.0 + value(index), sum.1 + 1.0);
            0.0
        });
        sums.into_iter().map(|(sum, count)| sum / count).collect::<Vec<f64>>()
    };
    let at = |[n, c, y, z]: [usize; 4]| x.at(n, c, y as isize, z as isize);
    let means = means_of(&at);
    let centred = |index: [usize; 4]| at(index) - means[set(index[0], index[1])];
    let variances = means_of(&|index| centred(index).powi(2));
    Tensor4::from_fn(x.shape, |index| {
        let deviation = (variances[set(index[0], index[1])] + EPSILON).sqrt();
        gamma[index[1]] * centred(index) / deviation + beta[index[1]]
    })
}

/// Batch norm: mean and variance of each channel over all images and pixels.
fn batch(random: &mut Stream) -> DefinitionCase {
    let channels = pick(random, &[1, 2, 3, 5]);
    let inputs = vec![
        Input::f32(shape(random, channels), ANY),
        per_channel(channels, ANY),
        per_channel(channels, ANY),
    ];
    let value = |ins: &[Array]| normalized(ins, |_, c| c);
    DefinitionCase::new(inputs, |_, ins| ins[0].batch_norm(ins[1], ins[2], EPSILON).out, value)
}

/// Group norm: mean and variance of each image and group, over the channels and pixels of the group.
fn groups(random: &mut Stream) -> DefinitionCase {
    let (groups, each) = (pick(random, &[1, 2, 3]), pick(random, &[1, 2, 3]));
    let channels = groups * each;
    let inputs = vec![
        Input::f32(shape(random, channels), ANY),
        per_channel(channels, ANY),
        per_channel(channels, ANY),
    ];
    let value = move |ins: &[Array]| normalized(ins, |n, c| n * groups + c / each);
    DefinitionCase::new(inputs, move |_, ins| ins[0].group_norm(groups, ins[1], ins[2], EPSILON), value)
}

/// Batch norm with a given mean and variance, which are inputs of the operation.
fn given_statistics(random: &mut Stream) -> DefinitionCase {
    let channels = pick(random, &[1, 2, 3, 5]);
    let positive = Distribution::Uniform(0.1, 2.0);
    let others = [ANY, positive, ANY, ANY].map(|values| per_channel(channels, values));
    let inputs = std::iter::once(Input::f32(shape(random, channels), ANY)).chain(others).collect();
    let value = |ins: &[Array]| {
        let x = Tensor4::of(&ins[0]);
        let [mean, variance, gamma, beta] = [1, 2, 3, 4].map(|i| ins[i].to_f64());
        Tensor4::from_fn(x.shape, |[n, c, y, z]| {
            let centred = x.at(n, c, y as isize, z as isize) - mean[c];
            gamma[c] * centred / (variance[c] + EPSILON).sqrt() + beta[c]
        })
    };
    DefinitionCase::new(
        inputs,
        |_, ins| ins[0].batch_norm_with(ins[1], ins[2], ins[3], ins[4], EPSILON),
        value,
    )
}
