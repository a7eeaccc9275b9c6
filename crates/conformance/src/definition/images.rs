//! Definitions of convolutions, pooling and resizing.

use wgrad_cpu::reference::Array;
use wgrad_graph::Var;
use wgrad_graph::philox::Stream;
use wgrad_ops::{Conv, Distribution, ImageOps, Input, Pool};

use super::{Definition, DefinitionCase, Tensor4, pick, pick_two};

pub(super) static DEFINITIONS: &[Definition] = &[
    Definition { name: "conv2d", draw: convolution },
    Definition { name: "conv_transpose2d", draw: transposed },
    Definition {
        name: "max_pool2d",
        draw: |random| {
            let (pool, shape) = draw_pool(random);
            max_pool_case(pool, shape, |x, pool| x.max_pool2d(pool))
        },
    },
    Definition { name: "avg_pool2d", draw: mean },
    Definition { name: "global_avg_pool2d", draw: global_mean },
    Definition { name: "resize_nearest", draw: nearest },
    Definition { name: "resize_bilinear", draw: bilinear },
];

const ANY: Distribution = Distribution::Uniform(-2.0, 2.0);

/// Returns the coordinate of an image pixel along `axis`: the pixel that tap `tap` of window `window` reads. Negative
/// if the pixel is in the padding before the image.
fn pixel(window: usize, tap: usize, axis: usize, [stride, dilation, padding]: [[usize; 2]; 3]) -> isize {
    (stride[axis] * window + dilation[axis] * tap) as isize - padding[axis] as isize
}

fn steps(conv: &Conv) -> [[usize; 2]; 3] {
    [conv.stride, conv.dilation, conv.padding]
}

/// Draws a convolution with independent strides, dilations and padding for height and width. Also returns the kernel
/// size, and the numbers of input and output channels per group.
fn draw_conv(random: &mut Stream) -> (Conv, [usize; 2], [usize; 2]) {
    let conv = Conv {
        stride: pick_two(random, &[1, 2, 3]),
        padding: pick_two(random, &[0, 1, 2]),
        dilation: pick_two(random, &[1, 1, 2]),
        groups: pick(random, &[1, 1, 2, 3]),
    };
    (conv, pick_two(random, &[1, 2, 3, 4]), pick_two(random, &[1, 2, 3]))
}

/// Convolution with stride s, dilation d and padding p: out[n, o, i, j] is the sum over c, u and v of
/// weight[o, c, u, v] · x[n, c, s·i + d·u − p, s·j + d·v − p], where c ranges over the channels of the group of o.
fn convolution(random: &mut Stream) -> DefinitionCase {
    let (conv, kernel, [inputs, outputs]) = draw_conv(random);
    let window = move |axis: usize| conv.dilation[axis] * (kernel[axis] - 1) + 1;
    let extra = pick_two(random, &[0, 1, 4, 7]);
    let image = [0, 1].map(|axis| (window(axis) + extra[axis]).saturating_sub(2 * conv.padding[axis]).max(1));
    let shape = [pick(random, &[1, 2]), conv.groups * inputs, image[0], image[1]];
    let weight = [conv.groups * outputs, inputs, kernel[0], kernel[1]];
    let value = move |ins: &[Array]| {
        let (x, w) = (Tensor4::of(&ins[0]), Tensor4::of(&ins[1]));
        let along =
            |axis: usize| (image[axis] + 2 * conv.padding[axis] - window(axis)) / conv.stride[axis] + 1;
        Tensor4::from_fn([shape[0], weight[0], along(0), along(1)], |[n, o, i, j]| {
            let mut sum = 0.0;
            for c in 0..inputs {
                for u in 0..kernel[0] {
                    for v in 0..kernel[1] {
                        let (y, z) = (pixel(i, u, 0, steps(&conv)), pixel(j, v, 1, steps(&conv)));
                        let channel = o / outputs * inputs + c;
                        sum += w.at(o, c, u as isize, v as isize) * x.at(n, channel, y, z);
                    }
                }
            }
            sum
        })
    };
    let inputs = vec![Input::f32(shape, ANY), Input::f32(weight, ANY)];
    DefinitionCase::new(inputs, move |_, ins| ins[0].conv2d(ins[1], conv), value)
}

/// Transposed convolution with stride s, dilation d and padding p: each element x[n, i, y, z] adds
/// x[n, i, y, z] · weight[i, o, u, v] to out[n, o, s·y + d·u − p, s·z + d·v − p].
fn transposed(random: &mut Stream) -> DefinitionCase {
    let (mut conv, kernel, [inputs, outputs]) = draw_conv(random);
    let image = pick_two(random, &[1, 2, 4, 5]);
    let whole =
        |axis: usize| (image[axis] - 1) * conv.stride[axis] + conv.dilation[axis] * (kernel[axis] - 1) + 1;
    let whole = [whole(0), whole(1)];
    conv.padding = [0, 1].map(|axis| conv.padding[axis].min((whole[axis] - 1) / 2));
    let extra = conv.stride.map(|stride| random.below(stride as u32) as usize);
    let shape = [pick(random, &[1, 2]), conv.groups * inputs, image[0], image[1]];
    let weight = [conv.groups * inputs, outputs, kernel[0], kernel[1]];
    let value = move |ins: &[Array]| {
        let (x, w) = (Tensor4::of(&ins[0]), Tensor4::of(&ins[1]));
        let size = [0, 1].map(|axis| whole[axis] + extra[axis] - 2 * conv.padding[axis]);
        let mut out = Tensor4::zeros([shape[0], conv.groups * outputs, size[0], size[1]]);
        Tensor4::from_fn(shape, |[n, i, y, z]| {
            for o in 0..outputs {
                for u in 0..kernel[0] {
                    for v in 0..kernel[1] {
                        let to = [pixel(y, u, 0, steps(&conv)), pixel(z, v, 1, steps(&conv))];
                        let channel = i / inputs * outputs + o;
                        let product = x.at(n, i, y as isize, z as isize) * w.at(i, o, u as isize, v as isize);
                        let index = out.index(n, channel, to[0], to[1]);
                        index.into_iter().for_each(|index| out.values[index] += product);
                    }
                }
            }
            0.0
        });
        out.values
    };
    let inputs = vec![Input::f32(shape, ANY), Input::f32(weight, ANY)];
    DefinitionCase::new(inputs, move |_, ins| ins[0].conv_transpose2d(ins[1], conv, extra), value)
}

/// Draws a pooling operation and the shape of an image that is large enough for the pooling windows.
fn draw_pool(random: &mut Stream) -> (Pool, [usize; 4]) {
    let kernel = pick_two(random, &[1, 2, 3]);
    let pool = Pool {
        kernel,
        stride: pick_two(random, &[1, 2, 3]),
        padding: [0, 1].map(|axis| pick(random, &[0, 1]).min(kernel[axis] / 2)),
        dilation: pick_two(random, &[1, 1, 2]),
        counts_padding: pick(random, &[true, false]),
    };
    (pool, [pick(random, &[1, 2]), pick(random, &[1, 3]), pick(random, &[5, 7]), pick(random, &[5, 8])])
}

/// Returns one list per window, in row-major order of the windows. The list contains the indices of the image elements
/// that the window reads. Taps outside the image are left out.
fn windows(x: &Tensor4, pool: &Pool) -> Vec<Vec<usize>> {
    let [n, c, h, w] = x.shape;
    let along = |axis: usize, size: usize| {
        let window = pool.dilation[axis] * (pool.kernel[axis] - 1) + 1;
        (size + 2 * pool.padding[axis] - window) / pool.stride[axis] + 1
    };
    let steps = [pool.stride, pool.dilation, pool.padding];
    let mut all = Vec::new();
    Tensor4::from_fn([n, c, along(0, h), along(1, w)], |[n, c, i, j]| {
        let taps = (0..pool.kernel[0]).flat_map(|u| (0..pool.kernel[1]).map(move |v| (u, v)));
        let indices = taps.filter_map(|(u, v)| x.index(n, c, pixel(i, u, 0, steps), pixel(j, v, 1, steps)));
        all.push(indices.collect());
        0.0
    });
    all
}

/// Creates a case of max pooling whose input has many ties. The whole gradient of a window goes to its first maximum
/// in row-major order.
pub(crate) fn max_pool_case(
    pool: Pool,
    shape: [usize; 4],
    pooled: for<'g> fn(Var<'g>, Pool) -> Var<'g>,
) -> DefinitionCase {
    let first = |x: &Tensor4, window: &[usize]| {
        let mut best = window[0];
        for &index in window {
            best = if x.values[index] > x.values[best] { index } else { best };
        }
        best
    };
    let value = move |ins: &[Array]| {
        let x = Tensor4::of(&ins[0]);
        windows(&x, &pool).iter().map(|window| x.values[first(&x, window)]).collect()
    };
    let gradient = move |ins: &[Array], cotangent: &[f64]| {
        let x = Tensor4::of(&ins[0]);
        let mut gradient = vec![0.0; x.values.len()];
        let windows = windows(&x, &pool);
        windows.iter().zip(cotangent).for_each(|(window, c)| gradient[first(&x, window)] += c);
        gradient
    };
    let ties = Distribution::Grid { step: 2.0, offset: 0.5 };
    let case = DefinitionCase::new(vec![Input::f32(shape, ties)], move |_, ins| pooled(ins[0], pool), value);
    DefinitionCase { gradient: Some(Box::new(gradient)), ..case }
}

/// Average pooling: the mean of each window. The mean is over all taps, or only over the taps inside the image.
fn mean(random: &mut Stream) -> DefinitionCase {
    let (pool, shape) = draw_pool(random);
    let value = move |ins: &[Array]| {
        let x = Tensor4::of(&ins[0]);
        let mean = |window: &Vec<usize>| {
            let count = if pool.counts_padding { pool.kernel[0] * pool.kernel[1] } else { window.len() };
            window.iter().map(|&index| x.values[index]).sum::<f64>() / count as f64
        };
        windows(&x, &pool).iter().map(mean).collect()
    };
    DefinitionCase::new(vec![Input::f32(shape, ANY)], move |_, ins| ins[0].avg_pool2d(pool), value)
}

fn global_mean(random: &mut Stream) -> DefinitionCase {
    let shape = [2, 3, pick(random, &[1, 4, 5]), pick(random, &[1, 3, 6])];
    let value = move |ins: &[Array]| {
        let pixels = shape[2] * shape[3];
        let mean = |image: &[f64]| image.iter().sum::<f64>() / pixels as f64;
        Tensor4::of(&ins[0]).values.chunks(pixels).map(mean).collect()
    };
    DefinitionCase::new(vec![Input::f32(shape, ANY)], |_, ins| ins[0].global_avg_pool2d(), value)
}

fn draw_sizes(random: &mut Stream) -> ([usize; 4], [usize; 2]) {
    (
        [2, pick(random, &[1, 3]), pick(random, &[1, 3, 5]), pick(random, &[2, 4, 7])],
        pick_two(random, &[1, 2, 5, 9]),
    )
}

/// Nearest-neighbour resizing from height h to h′: row i of the result is row ⌊i · h / h′⌋ of the image. Columns
/// follow the same formula.
fn nearest(random: &mut Stream) -> DefinitionCase {
    let (shape, size) = draw_sizes(random);
    let value = move |ins: &[Array]| {
        let x = Tensor4::of(&ins[0]);
        Tensor4::from_fn([shape[0], shape[1], size[0], size[1]], |[n, c, i, j]| {
            x.at(n, c, (i * shape[2] / size[0]) as isize, (j * shape[3] / size[1]) as isize)
        })
    };
    DefinitionCase::new(vec![Input::f32(shape, ANY)], move |_, ins| ins[0].resize_nearest(size), value)
}

/// Bilinear resizing from height h to h′: row i of the result interpolates between the two rows next to (i + ½) · h /
/// h′ − ½. Columns follow the same formula. Positions outside the image use the border pixel.
fn bilinear(random: &mut Stream) -> DefinitionCase {
    let (shape, size) = draw_sizes(random);
    let value = move |ins: &[Array]| {
        let x = Tensor4::of(&ins[0]);
        // Returns the pixel before the position, the pixel after it, and the distance from the first pixel to the
        // position.
        let around = |i: usize, axis: usize| {
            let (from, to) = (shape[2 + axis] as f64, size[axis] as f64);
            let at = ((i as f64 + 0.5) * from / to - 0.5).clamp(0.0, from - 1.0);
            let before = at.floor();
            (before as isize, (before + 1.0).min(from - 1.0) as isize, at - before)
        };
        Tensor4::from_fn([shape[0], shape[1], size[0], size[1]], |[n, c, i, j]| {
            let (top, bottom, down) = around(i, 0);
            let (left, right, along) = around(j, 1);
            let row = |y: isize| x.at(n, c, y, left) * (1.0 - along) + x.at(n, c, y, right) * along;
            row(top) * (1.0 - down) + row(bottom) * down
        })
    };
    DefinitionCase::new(vec![Input::f32(shape, ANY)], move |_, ins| ins[0].resize_bilinear(size), value)
}
