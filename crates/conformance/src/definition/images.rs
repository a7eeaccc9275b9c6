//! Convolutions, pooling and resizing by definition.

use wgrad_cpu::reference::Array;
use wgrad_graph::Var;
use wgrad_graph::philox::Stream;
use wgrad_ops::{Conv, ImageOps, Input, Pool, Distribution};

use super::{Definition, Four, Use, pick, two};

pub(super) static DEFINITIONS: &[Definition] = &[
    Definition { name: "conv2d", draw: convolution },
    Definition { name: "conv_transpose2d", draw: transposed },
    Definition {
        name: "max_pool2d",
        draw: |random| {
            let (pool, shape) = pool(random);
            pooled_maximum(pool, shape, |x, pool| x.max_pool2d(pool))
        },
    },
    Definition { name: "avg_pool2d", draw: mean },
    Definition { name: "global_avg_pool2d", draw: global_mean },
    Definition { name: "resize_nearest", draw: nearest },
    Definition { name: "resize_bilinear", draw: bilinear },
];

const ANY: Distribution = Distribution::Uniform(-2.0, 2.0);

/// Pixel that tap `tap` of window number `window` looks at.
fn pixel(window: usize, tap: usize, axis: usize, [stride, dilation, padding]: [[usize; 2]; 3]) -> isize {
    (stride[axis] * window + dilation[axis] * tap) as isize - padding[axis] as isize
}

fn steps(conv: &Conv) -> [[usize; 2]; 3] {
    [conv.stride, conv.dilation, conv.padding]
}

/// A convolution with strides, gaps and padding of its own in each direction, and channels of each group.
fn conv(random: &mut Stream) -> (Conv, [usize; 2], [usize; 2]) {
    let conv = Conv {
        stride: two(random, &[1, 2, 3]),
        padding: two(random, &[0, 1, 2]),
        dilation: two(random, &[1, 1, 2]),
        groups: pick(random, &[1, 1, 2, 3]),
    };
    (conv, two(random, &[1, 2, 3, 4]), two(random, &[1, 2, 3]))
}

/// out[n, o, i, j] = Σ c, u, v weight[o, c, u, v] · x[n, c, s·i + d·u − p, s·j + d·v − p], c over the channels of o's group.
fn convolution(random: &mut Stream) -> Use {
    let (conv, kernel, [inputs, outputs]) = conv(random);
    let window = move |axis: usize| conv.dilation[axis] * (kernel[axis] - 1) + 1;
    let more = two(random, &[0, 1, 4, 7]);
    let image = [0, 1].map(|axis| (window(axis) + more[axis]).saturating_sub(2 * conv.padding[axis]).max(1));
    let shape = [pick(random, &[1, 2]), conv.groups * inputs, image[0], image[1]];
    let weight = [conv.groups * outputs, inputs, kernel[0], kernel[1]];
    let value = move |ins: &[Array]| {
        let (x, w) = (Four::of(&ins[0]), Four::of(&ins[1]));
        let along =
            |axis: usize| (image[axis] + 2 * conv.padding[axis] - window(axis)) / conv.stride[axis] + 1;
        Four::each([shape[0], weight[0], along(0), along(1)], |[n, o, i, j]| {
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
    Use::new(inputs, move |_, ins| ins[0].conv2d(ins[1], conv), value)
}

/// Every pixel (n, i, y, x) adds x · weight[i, o, u, v] to (n, o, s·y + d·u − p, s·x + d·v − p).
fn transposed(random: &mut Stream) -> Use {
    let (mut conv, kernel, [inputs, outputs]) = conv(random);
    let image = two(random, &[1, 2, 4, 5]);
    let whole =
        |axis: usize| (image[axis] - 1) * conv.stride[axis] + conv.dilation[axis] * (kernel[axis] - 1) + 1;
    let whole = [whole(0), whole(1)];
    conv.padding = [0, 1].map(|axis| conv.padding[axis].min((whole[axis] - 1) / 2));
    let extra = conv.stride.map(|stride| random.below(stride as u32) as usize);
    let shape = [pick(random, &[1, 2]), conv.groups * inputs, image[0], image[1]];
    let weight = [conv.groups * inputs, outputs, kernel[0], kernel[1]];
    let value = move |ins: &[Array]| {
        let (x, w) = (Four::of(&ins[0]), Four::of(&ins[1]));
        let size = [0, 1].map(|axis| whole[axis] + extra[axis] - 2 * conv.padding[axis]);
        let mut out = Four::zeros([shape[0], conv.groups * outputs, size[0], size[1]]);
        Four::each(shape, |[n, i, y, z]| {
            for o in 0..outputs {
                for u in 0..kernel[0] {
                    for v in 0..kernel[1] {
                        let to = [pixel(y, u, 0, steps(&conv)), pixel(z, v, 1, steps(&conv))];
                        let channel = i / inputs * outputs + o;
                        let product = x.at(n, i, y as isize, z as isize) * w.at(i, o, u as isize, v as isize);
                        let place = out.place(n, channel, to[0], to[1]);
                        place.into_iter().for_each(|place| out.values[place] += product);
                    }
                }
            }
            0.0
        });
        out.values
    };
    let inputs = vec![Input::f32(shape, ANY), Input::f32(weight, ANY)];
    Use::new(inputs, move |_, ins| ins[0].conv_transpose2d(ins[1], conv, extra), value)
}

/// Windows of any kind, and images that they fit into.
fn pool(random: &mut Stream) -> (Pool, [usize; 4]) {
    let kernel = two(random, &[1, 2, 3]);
    let pool = Pool {
        kernel,
        stride: two(random, &[1, 2, 3]),
        padding: [0, 1].map(|axis| pick(random, &[0, 1]).min(kernel[axis] / 2)),
        dilation: two(random, &[1, 1, 2]),
        counts_padding: pick(random, &[true, false]),
    };
    (pool, [pick(random, &[1, 2]), pick(random, &[1, 3]), pick(random, &[5, 7]), pick(random, &[5, 8])])
}

/// Places of the image's elements in each window, row by row, without those outside.
fn windows(x: &Four, pool: &Pool) -> Vec<Vec<usize>> {
    let [n, c, h, w] = x.shape;
    let along = |axis: usize, size: usize| {
        let window = pool.dilation[axis] * (pool.kernel[axis] - 1) + 1;
        (size + 2 * pool.padding[axis] - window) / pool.stride[axis] + 1
    };
    let steps = [pool.stride, pool.dilation, pool.padding];
    let mut all = Vec::new();
    Four::each([n, c, along(0, h), along(1, w)], |[n, c, i, j]| {
        let taps = (0..pool.kernel[0]).flat_map(|u| (0..pool.kernel[1]).map(move |v| (u, v)));
        let places = taps.filter_map(|(u, v)| x.place(n, c, pixel(i, u, 0, steps), pixel(j, v, 1, steps)));
        all.push(places.collect());
        0.0
    });
    all
}

/// The maximum of each window, at inputs most of which tie: the first of them, row by row, has the whole gradient.
pub(crate) fn pooled_maximum(
    pool: Pool,
    shape: [usize; 4],
    pooled: for<'g> fn(Var<'g>, Pool) -> Var<'g>,
) -> Use {
    let first = |x: &Four, window: &[usize]| {
        let mut best = window[0];
        for &place in window {
            best = if x.values[place] > x.values[best] { place } else { best };
        }
        best
    };
    let value = move |ins: &[Array]| {
        let x = Four::of(&ins[0]);
        windows(&x, &pool).iter().map(|window| x.values[first(&x, window)]).collect()
    };
    let gradient = move |ins: &[Array], cotangent: &[f64]| {
        let x = Four::of(&ins[0]);
        let mut gradient = vec![0.0; x.values.len()];
        let windows = windows(&x, &pool);
        windows.iter().zip(cotangent).for_each(|(window, c)| gradient[first(&x, window)] += c);
        gradient
    };
    let ties = Distribution::Grid { step: 2.0, offset: 0.5 };
    let drawn = Use::new(vec![Input::f32(shape, ties)], move |_, ins| pooled(ins[0], pool), value);
    Use { gradient: Some(Box::new(gradient)), ..drawn }
}

/// The mean of each window, of all its taps or of those inside the image.
fn mean(random: &mut Stream) -> Use {
    let (pool, shape) = pool(random);
    let value = move |ins: &[Array]| {
        let x = Four::of(&ins[0]);
        let mean = |window: &Vec<usize>| {
            let count = if pool.counts_padding { pool.kernel[0] * pool.kernel[1] } else { window.len() };
            window.iter().map(|&place| x.values[place]).sum::<f64>() / count as f64
        };
        windows(&x, &pool).iter().map(mean).collect()
    };
    Use::new(vec![Input::f32(shape, ANY)], move |_, ins| ins[0].avg_pool2d(pool), value)
}

fn global_mean(random: &mut Stream) -> Use {
    let shape = [2, 3, pick(random, &[1, 4, 5]), pick(random, &[1, 3, 6])];
    let value = move |ins: &[Array]| {
        let pixels = shape[2] * shape[3];
        let mean = |image: &[f64]| image.iter().sum::<f64>() / pixels as f64;
        Four::of(&ins[0]).values.chunks(pixels).map(mean).collect()
    };
    Use::new(vec![Input::f32(shape, ANY)], |_, ins| ins[0].global_avg_pool2d(), value)
}

fn sizes(random: &mut Stream) -> ([usize; 4], [usize; 2]) {
    (
        [2, pick(random, &[1, 3]), pick(random, &[1, 3, 5]), pick(random, &[2, 4, 7])],
        two(random, &[1, 2, 5, 9]),
    )
}

/// Pixel i of the result is pixel ⌊i · h / h′⌋.
fn nearest(random: &mut Stream) -> Use {
    let (shape, size) = sizes(random);
    let value = move |ins: &[Array]| {
        let x = Four::of(&ins[0]);
        Four::each([shape[0], shape[1], size[0], size[1]], |[n, c, i, j]| {
            x.at(n, c, (i * shape[2] / size[0]) as isize, (j * shape[3] / size[1]) as isize)
        })
    };
    Use::new(vec![Input::f32(shape, ANY)], move |_, ins| ins[0].resize_nearest(size), value)
}

/// Between the pixels around (i + ½) · h / h′ − ½, the first and the last pixel going on for ever.
fn bilinear(random: &mut Stream) -> Use {
    let (shape, size) = sizes(random);
    let value = move |ins: &[Array]| {
        let x = Four::of(&ins[0]);
        // The pixel before, the one after, and how far it is to that.
        let around = |i: usize, axis: usize| {
            let (from, to) = (shape[2 + axis] as f64, size[axis] as f64);
            let at = ((i as f64 + 0.5) * from / to - 0.5).clamp(0.0, from - 1.0);
            let before = at.floor();
            (before as isize, (before + 1.0).min(from - 1.0) as isize, at - before)
        };
        Four::each([shape[0], shape[1], size[0], size[1]], |[n, c, i, j]| {
            let (top, bottom, down) = around(i, 0);
            let (left, right, along) = around(j, 1);
            let row = |y: isize| x.at(n, c, y, left) * (1.0 - along) + x.at(n, c, y, right) * along;
            row(top) * (1.0 - down) + row(bottom) * down
        })
    };
    Use::new(vec![Input::f32(shape, ANY)], move |_, ins| ins[0].resize_bilinear(size), value)
}
