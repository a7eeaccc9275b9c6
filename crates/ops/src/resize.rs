//! Resizing of images. Each row of the result is a weighted sum of rows of the image, and likewise for columns. A
//! resize therefore consists of two products with weight matrices, which are computed from indices and not stored in
//! the model.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Graph, Rule, TensorType, Var};

use crate::constant::{full, iota};
use crate::image::ImageOps;
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::rules::{check_dtype, image_sizes};
use crate::sample::{ANY, Input, Sample, pick};
use crate::tensor::TensorOps;

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "resize_nearest",
        doc: "Images resized so that pixel i of the result is pixel ⌊i · h / h′⌋, as `nearest` in PyTorch.",
        sample: |random| draw_sample(random, |x, size| x.resize_nearest(size)),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || error_inputs(|x, size| x.resize_nearest(size)),
    },
    OpInfo {
        name: "resize_bilinear",
        doc: "Images resized by linear interpolation between pixel centres, as `bilinear` without aligned corners and without antialiasing in PyTorch.",
        sample: |random| draw_sample(random, |x, size| x.resize_bilinear(size)),
        tolerance: 1e-4,
        gradient_order: GradientOrder::Any,
        error_inputs: || error_inputs(|x, size| x.resize_bilinear(size)),
    },
];

type ResizeOp = for<'g> fn(Var<'g>, [usize; 2]) -> Var<'g>;

fn draw_sample(random: &mut Stream, resize: ResizeOp) -> Sample {
    let shape = [(); 4].map(|()| pick(random, &[1, 2, 3, 5, 8]));
    let size = [(); 2].map(|()| pick(random, &[1, 2, 4, 5, 9]));
    Sample::new(vec![Input::f32(shape, ANY)], move |_, ins| resize(ins[0], size))
}

/// Returns invalid uses: tensors that are not images, and empty sizes.
fn error_inputs(resize: ResizeOp) -> Vec<ErrorInput> {
    let error = |shape: &[usize], size: [usize; 2], message| {
        ErrorInput::new(vec![TensorType::f32(shape)], message, move |_, ins| resize(ins[0], size))
    };
    vec![
        error(&[2, 3, 4], [2, 2], "images have 4 dimensions"),
        error(&[1, 2, 3, 4], [0, 2], "height and width must be at least 1"),
    ]
}

/// Resizes with nearest-neighbour sampling.
#[track_caller]
pub(crate) fn resize_nearest(x: Var<'_>, size: [usize; 2]) -> Var<'_> {
    resize("resize_nearest", x, size, |graph, from, to| {
        // Adding half a pixel of the result keeps the quotient away from integers, where rounding errors would change
        // the result of `floor`.
        let pixel = (indices(graph, to, from, 0) * (from as f64 / to as f64) + 0.5 / to as f64).floor();
        indices(graph, to, from, 1).eq(pixel)
    })
}

/// Resizes with bilinear interpolation.
#[track_caller]
pub(crate) fn resize_bilinear(x: Var<'_>, size: [usize; 2]) -> Var<'_> {
    resize("resize_bilinear", x, size, |graph, from, to| {
        let scale = from as f64 / to as f64;
        let centre = indices(graph, to, from, 0) * scale + (0.5 * scale - 0.5);
        let distance = (centre.clamp(0.0, from as f64 - 1.0) - indices(graph, to, from, 1)).abs();
        (1.0 - distance).maximum(full(graph, [], 0.0))
    })
}

/// Returns a matrix `[to, from]` in which each element is its index along an axis, as f32.
fn indices(graph: &Graph, to: usize, from: usize, axis: usize) -> Var<'_> {
    iota(graph, [to, from], axis).cast(DType::F32)
}

/// Multiplies the rows and columns of images by weight matrices. `weights(graph, from, to)` returns the matrix `[to,
/// from]` that maps `from` pixels to `to` pixels.
#[track_caller]
fn resize<'g>(
    name: &str,
    x: Var<'g>,
    size: [usize; 2],
    weights: impl Fn(&'g Graph, usize, usize) -> Var<'g>,
) -> Var<'g> {
    let (graph, shape) = (x.graph(), x.shape());
    let valid = check_dtype(DType::F32, &[x.ty()]).and_then(|()| image_sizes(&shape)).and_then(|_| {
        if size.contains(&0) { Err(Rule::new("height and width must be at least 1")) } else { Ok(()) }
    });
    if let Err(rule) = valid {
        return graph.refuse(name, &[x], rule);
    }
    let rows = if size[0] == shape[2] { x } else { weights(graph, shape[2], size[0]).matmul(x) };
    if size[1] == shape[3] { rows } else { rows.matmul(weights(graph, shape[3], size[1]).t()) }
}
