//! Samples and error inputs of convolutions. The samples cover sizes that are not multiples of the stride, strides up
//! to 3, dilation, groups, and 1×1 kernels.

use wgrad_graph::TensorType;
use wgrad_graph::philox::Stream;

use super::Conv;
use crate::image::ImageOps;
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::sample::{ANY, Input, Sample, chance, pick};

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "conv2d",
        doc: "Convolution (without flipping the kernel, as in all deep-learning frameworks) of images `[n, in, h, w]` with a weight `[out, in / groups, kh, kw]`.",
        sample: |random| {
            let Case { conv, image, kernel, inputs, outputs, batch } = draw_case(random);
            let x = Input::f32([batch, conv.groups * inputs, image[0], image[1]], ANY);
            let weight = Input::f32([conv.groups * outputs, inputs, kernel[0], kernel[1]], ANY);
            Sample::new(vec![x, weight], move |_, ins| ins[0].conv2d(ins[1], conv))
        },
        tolerance: 2e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let error = |x: &[usize], weight: &[usize], conv: Conv, message| {
                ErrorInput::new(vec![TensorType::f32(x), TensorType::f32(weight)], message, move |_, ins| {
                    ins[0].conv2d(ins[1], conv)
                })
            };
            let plain = Conv::default();
            let mixed = vec![TensorType::f32([1, 2, 5, 5]), TensorType::u32([2, 2, 3, 3])];
            vec![
                error(
                    &[1, 2, 5, 5],
                    &[4, 3, 3, 3],
                    plain,
                    "a weight for 3 channels (groups: 1) does not fit an image with 2",
                ),
                error(&[1, 4, 5, 5], &[3, 2, 3, 3], plain.groups(2), "must divide the 3 outputs; 2 does not"),
                error(&[1, 2, 5, 5], &[4, 2, 7, 3], plain, "7×3 with dilation [1, 1] does not fit into 5×5"),
                error(&[2, 5, 5], &[4, 2, 3, 3], plain, "the image must have 4 dimensions"),
                error(&[1, 2, 5, 5], &[4, 2, 3, 3], plain.stride(0), "the stride must be at least 1"),
                error(&[1, 2, 5, 5], &[4, 2, 3, 3], plain.dilation(0), "the dilation must be at least 1"),
                error(
                    &[1, 2, 5, 5],
                    &[4, 2, 3, 3],
                    plain.groups(0),
                    "the number of groups must be at least 1",
                ),
                ErrorInput::new(mixed, "elements must be f32", |_, ins| {
                    ins[0].conv2d(ins[1], Conv::default())
                }),
            ]
        },
    },
    OpInfo {
        name: "conv_transpose2d",
        doc: "Transpose of a convolution as a linear map: images `[n, in, h, w]` with a weight `[in, out / groups, kh, kw]`.",
        sample: |random| {
            let Case { conv, image, kernel, inputs, outputs, batch } = draw_case(random);
            let image = image.map(|size| size.min(5));
            // Small enough that the result is not empty.
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
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let error = |x: &[usize], weight: &[usize], conv: Conv, extra: [usize; 2], message| {
                ErrorInput::new(vec![TensorType::f32(x), TensorType::f32(weight)], message, move |_, ins| {
                    ins[0].conv_transpose2d(ins[1], conv, extra)
                })
            };
            let (plain, x, weight) = (Conv::default(), [1, 4, 5, 5], [4, 2, 3, 3]);
            vec![
                error(
                    &[1, 3, 5, 5],
                    &weight,
                    plain,
                    [0, 0],
                    "a weight for 4 channels does not fit an image with 3",
                ),
                error(
                    &x,
                    &weight,
                    plain,
                    [1, 0],
                    "output padding must be less than the stride or the dilation",
                ),
                error(&x, &weight, plain.padding(9), [0, 0], "leaves an empty result"),
                error(&x, &weight, plain.stride(0), [0, 0], "the stride must be at least 1"),
                error(&[4, 5, 5], &weight, plain, [0, 0], "the image must have 4 dimensions"),
            ]
        },
    },
];

/// Convolution and sizes of its tensors; `inputs` and `outputs` are channels of one group.
struct Case {
    conv: Conv,
    image: [usize; 2],
    kernel: [usize; 2],
    inputs: usize,
    outputs: usize,
    batch: usize,
}

/// Draws a convolution whose kernel fits into the image.
fn draw_case(random: &mut Stream) -> Case {
    let pointwise = chance(random, 5);
    let depthwise = chance(random, 5);
    let mut two = |choices: &[usize]| [pick(random, choices), pick(random, choices)];
    let kernel = if pointwise { [1, 1] } else { two(&[1, 2, 3, 3, 5]) };
    let (stride, dilation, padding) = (two(&[1, 1, 2, 3]), two(&[1, 1, 2]), two(&[0, 1, 1, 2]));
    let extra = two(&[0, 1, 3, 5, 8]);
    let image = [0, 1].map(|axis| {
        let window = dilation[axis] * (kernel[axis] - 1) + 1;
        (window + extra[axis]).saturating_sub(2 * padding[axis]).max(1)
    });
    let groups = if depthwise { pick(random, &[2, 3, 5]) } else { pick(random, &[1, 1, 1, 2]) };
    let channels = |random: &mut Stream| pick(random, &[1, 2, 3, 5, 9]);
    let (inputs, outputs) = if depthwise { (1, 1) } else { (channels(random), channels(random)) };
    let conv = Conv { stride, padding, dilation, groups };
    Case { conv, image, kernel, inputs, outputs, batch: pick(random, &[1, 2, 3]) }
}
