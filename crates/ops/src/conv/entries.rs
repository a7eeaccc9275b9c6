//! Uses of convolutions for the checks: odd sizes, strides up to 3, gaps, groups, and kernels of one pixel.

use wgrad_graph::TensorType;
use wgrad_graph::philox::Stream;

use super::Conv;
use crate::image::ImageOps;
use crate::sample::{Input, Sample, chance, pick};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "conv2d",
        doc: "Convolution (without flipping the kernel, as in every framework) of images `[n, in, h, w]` with a weight `[out, in / groups, kh, kw]`.",
        sample: |random| {
            let draw = draw(random);
            let Draw { conv, image, kernel, inputs, outputs, batch } = draw;
            let x = Input::f32([batch, conv.groups * inputs, image[0], image[1]], ANY);
            let weight = Input::f32([conv.groups * outputs, inputs, kernel[0], kernel[1]], ANY);
            Sample::new(vec![x, weight], move |_, ins| ins[0].conv2d(ins[1], conv))
        },
        tolerance: 2e-5,
        order: Order::Any,
        refuses: || {
            let refused = |x: &[usize], weight: &[usize], conv: Conv, why| {
                Refused::new(vec![TensorType::f32(x), TensorType::f32(weight)], why, move |_, ins| {
                    ins[0].conv2d(ins[1], conv)
                })
            };
            let plain = Conv::default();
            let words = vec![TensorType::f32([1, 2, 5, 5]), TensorType::u32([2, 2, 3, 3])];
            vec![
                refused(&[1, 2, 5, 5], &[4, 3, 3, 3], plain, "1 groups of 3 channels are 3; the image has 2"),
                refused(
                    &[1, 4, 5, 5],
                    &[3, 2, 3, 3],
                    plain.groups(2),
                    "share the 3 outputs evenly; 2 do not",
                ),
                refused(&[1, 2, 5, 5], &[4, 2, 7, 3], plain, "7×3 with dilation [1, 1] does not fit 5×5"),
                refused(&[2, 5, 5], &[4, 2, 3, 3], plain, "the image has 4 dimensions"),
                refused(&[1, 2, 5, 5], &[4, 2, 3, 3], plain.stride(0), "a stride is at least 1"),
                refused(&[1, 2, 5, 5], &[4, 2, 3, 3], plain.dilation(0), "a dilation is at least 1"),
                refused(&[1, 2, 5, 5], &[4, 2, 3, 3], plain.groups(0), "number of groups is at least 1"),
                Refused::new(words, "elements must be f32", |_, ins| ins[0].conv2d(ins[1], Conv::default())),
            ]
        },
    },
    Entry {
        name: "conv_transpose2d",
        doc: "The transpose of the linear map that a convolution is: images `[n, in, h, w]` with a weight `[in, out / groups, kh, kw]`.",
        sample: |random| {
            let Draw { conv, image, kernel, inputs, outputs, batch } = draw(random);
            let image = image.map(|size| size.min(5));
            // Enough that something is left of the result.
            let padding = [0, 1].map(|axis| {
                let window = conv.dilation[axis] * (kernel[axis] - 1) + 1;
                conv.padding[axis].min(((image[axis] - 1) * conv.stride[axis] + window - 1) / 2)
            });
            let conv = Conv { padding, ..conv };
            let extra = conv.stride.map(|stride| random.below(stride as u32) as usize);
            let x = Input::f32([batch, conv.groups * outputs, image[0], image[1]], ANY);
            let weight = Input::f32([conv.groups * outputs, inputs, kernel[0], kernel[1]], ANY);
            Sample::new(vec![x, weight], move |_, ins| ins[0].conv_transpose2d(ins[1], conv, extra))
        },
        tolerance: 2e-5,
        order: Order::Any,
        refuses: || {
            let refused = |x: &[usize], weight: &[usize], conv: Conv, extra: [usize; 2], why| {
                Refused::new(vec![TensorType::f32(x), TensorType::f32(weight)], why, move |_, ins| {
                    ins[0].conv_transpose2d(ins[1], conv, extra)
                })
            };
            let (plain, x, weight) = (Conv::default(), [1, 4, 5, 5], [4, 2, 3, 3]);
            vec![
                refused(
                    &[1, 3, 5, 5],
                    &weight,
                    plain,
                    [0, 0],
                    "the weight is for 4 channels; the image has 3",
                ),
                refused(&x, &weight, plain, [1, 0], "output padding is less than the stride or the dilation"),
                refused(&x, &weight, plain.padding(9), [0, 0], "leaves nothing of the result"),
                refused(&x, &weight, plain.stride(0), [0, 0], "a stride is at least 1"),
                refused(&[4, 5, 5], &weight, plain, [0, 0], "the image has 4 dimensions"),
            ]
        },
    },
];

struct Draw {
    conv: Conv,
    image: [usize; 2],
    kernel: [usize; 2],
    inputs: usize,
    outputs: usize,
    batch: usize,
}

/// A convolution of any kind whose kernel fits.
fn draw(random: &mut Stream) -> Draw {
    let pointwise = chance(random, 5);
    let depthwise = chance(random, 5);
    let mut two = |of: &[usize]| [pick(random, of), pick(random, of)];
    let kernel = if pointwise { [1, 1] } else { two(&[1, 2, 3, 3, 5]) };
    let (stride, dilation, padding) = (two(&[1, 1, 2, 3]), two(&[1, 1, 2]), two(&[0, 1, 1, 2]));
    let extra = two(&[0, 1, 3, 5, 8]);
    let image = [0, 1].map(|axis| {
        let window = dilation[axis] * (kernel[axis] - 1) + 1;
        (window + extra[axis]).saturating_sub(2 * padding[axis]).max(1)
    });
    let groups = if depthwise { pick(random, &[2, 3, 5]) } else { pick(random, &[1, 1, 1, 2]) };
    let wide = |random: &mut Stream| pick(random, &[1, 2, 3, 5, 9]);
    let (inputs, outputs) = if depthwise { (1, 1) } else { (wide(random), wide(random)) };
    let conv = Conv { stride, padding, dilation, groups };
    Draw { conv, image, kernel, inputs, outputs, batch: pick(random, &[1, 2, 3]) }
}
