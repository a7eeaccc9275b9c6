//! Normalizations of images by definition.

use wgrad_cpu::reference::Array;
use wgrad_graph::philox::Stream;
use wgrad_ops::{ImageOps, Input, Distribution};

use super::{Definition, Four, Use, pick};

pub(super) static DEFINITIONS: &[Definition] = &[
    Definition { name: "batch_norm", draw: batch },
    Definition { name: "batch_norm_with", draw: given },
    Definition { name: "group_norm", draw: groups },
];

/// What is added to a variance.
pub const EPSILON: f64 = 1e-2;

const ANY: Distribution = Distribution::Uniform(-2.0, 2.0);

fn shape(random: &mut Stream, channels: usize) -> [usize; 4] {
    [pick(random, &[2, 3]), channels, pick(random, &[1, 2, 5]), pick(random, &[2, 3, 7])]
}

fn of(channels: usize, values: Distribution) -> Input {
    Input::f32([channels], values)
}

/// γ · (x − mean) / √(variance + ε) + β, where the statistics are those of the elements that `together` puts together: it
/// gives each element (n, c) the number of its set.
fn normalized(ins: &[Array], together: impl Fn(usize, usize) -> usize) -> Vec<f64> {
    let (x, gamma, beta) = (Four::of(&ins[0]), ins[1].to_f64(), ins[2].to_f64());
    let sets = x.shape[0] * x.shape[1];
    let sums = |of: &dyn Fn([usize; 4]) -> f64| {
        let mut sums = vec![(0.0, 0.0); sets];
        Four::each(x.shape, |index| {
            let sum = &mut sums[together(index[0], index[1])];
            *sum = (sum.0 + of(index), sum.1 + 1.0);
            0.0
        });
        sums.into_iter().map(|(sum, count)| sum / count).collect::<Vec<f64>>()
    };
    let at = |[n, c, y, z]: [usize; 4]| x.at(n, c, y as isize, z as isize);
    let means = sums(&at);
    let centred = |index: [usize; 4]| at(index) - means[together(index[0], index[1])];
    let variances = sums(&|index| centred(index).powi(2));
    Four::each(x.shape, |index| {
        let spread = (variances[together(index[0], index[1])] + EPSILON).sqrt();
        gamma[index[1]] * centred(index) / spread + beta[index[1]]
    })
}

/// All images together, each channel by itself.
fn batch(random: &mut Stream) -> Use {
    let channels = pick(random, &[1, 2, 3, 5]);
    let inputs = vec![Input::f32(shape(random, channels), ANY), of(channels, ANY), of(channels, ANY)];
    let value = |ins: &[Array]| normalized(ins, |_, c| c);
    Use::new(inputs, |_, ins| ins[0].batch_norm(ins[1], ins[2], EPSILON).out, value)
}

/// Each image by itself, the channels of a group together.
fn groups(random: &mut Stream) -> Use {
    let (groups, each) = (pick(random, &[1, 2, 3]), pick(random, &[1, 2, 3]));
    let channels = groups * each;
    let inputs = vec![Input::f32(shape(random, channels), ANY), of(channels, ANY), of(channels, ANY)];
    let value = move |ins: &[Array]| normalized(ins, |n, c| n * groups + c / each);
    Use::new(inputs, move |_, ins| ins[0].group_norm(groups, ins[1], ins[2], EPSILON), value)
}

/// With a mean and a variance that are given.
fn given(random: &mut Stream) -> Use {
    let channels = pick(random, &[1, 2, 3, 5]);
    let positive = Distribution::Uniform(0.1, 2.0);
    let more = [ANY, positive, ANY, ANY].map(|values| of(channels, values));
    let inputs = std::iter::once(Input::f32(shape(random, channels), ANY)).chain(more).collect();
    let value = |ins: &[Array]| {
        let x = Four::of(&ins[0]);
        let [mean, variance, gamma, beta] = [1, 2, 3, 4].map(|i| ins[i].to_f64());
        Four::each(x.shape, |[n, c, y, z]| {
            let centred = x.at(n, c, y as isize, z as isize) - mean[c];
            gamma[c] * centred / (variance[c] + EPSILON).sqrt() + beta[c]
        })
    };
    Use::new(inputs, |_, ins| ins[0].batch_norm_with(ins[1], ins[2], ins[3], ins[4], EPSILON), value)
}
