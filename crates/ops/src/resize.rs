//! Images at another size. A row of the result is a weighted sum of rows of the image, and so are columns: a resize is two
//! products with matrices of weights, which are made of indices and never stored in a model.

use wgrad_graph::{DType, Graph, Rule, TensorType, Var};

use crate::constant::{full, iota};
use crate::image::ImageOps;
use crate::pointwise::all_of;
use crate::sample::{Input, Sample, pick};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "resize_nearest",
        doc: "Images at another size: pixel i of the result is pixel ⌊i · h / h′⌋, as `nearest` in PyTorch.",
        sample: |random| sample(random, |x, size| x.resize_nearest(size)),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused(|x, size| x.resize_nearest(size)),
    },
    Entry {
        name: "resize_bilinear",
        doc: "Images at another size by linear interpolation between pixel centres, as `bilinear` without aligned corners and without antialiasing in PyTorch.",
        sample: |random| sample(random, |x, size| x.resize_bilinear(size)),
        tolerance: 1e-4,
        order: Order::Any,
        refuses: || refused(|x, size| x.resize_bilinear(size)),
    },
];

type Resized = for<'g> fn(Var<'g>, [usize; 2]) -> Var<'g>;

fn sample(random: &mut wgrad_graph::philox::Stream, resized: Resized) -> Sample {
    let shape = [(); 4].map(|()| pick(random, &[1, 2, 3, 5, 8]));
    let size = [(); 2].map(|()| pick(random, &[1, 2, 4, 5, 9]));
    Sample::new(vec![Input::f32(shape, ANY)], move |_, ins| resized(ins[0], size))
}

fn refused(resized: Resized) -> Vec<Refused> {
    let refused = |shape: &[usize], size: [usize; 2], why| {
        Refused::new(vec![TensorType::f32(shape)], why, move |_, ins| resized(ins[0], size))
    };
    vec![
        refused(&[2, 3, 4], [2, 2], "images have 4 dimensions"),
        refused(&[1, 2, 3, 4], [0, 2], "height and width are at least 1"),
    ]
}

/// Nearest neighbour.
#[track_caller]
pub(crate) fn resize_nearest(x: Var<'_>, size: [usize; 2]) -> Var<'_> {
    resize("resize_nearest", x, size, |graph, from, to| {
        // Half a step of the result keeps the quotient clear of whole numbers, where rounding would decide.
        let pixel = (indices(graph, to, from, 0) * (from as f64 / to as f64) + 0.5 / to as f64).floor();
        indices(graph, to, from, 1).eq(pixel)
    })
}

/// Linear interpolation.
#[track_caller]
pub(crate) fn resize_bilinear(x: Var<'_>, size: [usize; 2]) -> Var<'_> {
    resize("resize_bilinear", x, size, |graph, from, to| {
        let scale = from as f64 / to as f64;
        let centre = indices(graph, to, from, 0) * scale + (0.5 * scale - 0.5);
        let distance = (centre.clamp(0.0, from as f64 - 1.0) - indices(graph, to, from, 1)).abs();
        (1.0 - distance).maximum(full(graph, [], 0.0))
    })
}

/// Index along an axis of a matrix `[to, from]`, as floats.
fn indices(graph: &Graph, to: usize, from: usize, axis: usize) -> Var<'_> {
    iota(graph, [to, from], axis).cast(DType::F32)
}

/// The products with the matrices that `weights` gives for `from` and `to` pixels, `[to, from]`.
#[track_caller]
fn resize<'g>(
    name: &str,
    x: Var<'g>,
    size: [usize; 2],
    weights: impl Fn(&'g Graph, usize, usize) -> Var<'g>,
) -> Var<'g> {
    let (graph, shape) = (x.graph(), x.shape());
    let rule = match all_of(DType::F32, &[x.ty()]) {
        Err(rule) => Some(rule),
        _ if shape.len() != 4 => {
            Some(Rule::new(format!("images have 4 dimensions; {shape} has {}", shape.len())))
        }
        _ if size.contains(&0) => Some(Rule::new("height and width are at least 1")),
        _ => None,
    };
    if let Some(rule) = rule {
        return graph.refuse(name, &[x], rule);
    }
    let rows = if size[0] == shape[2] { x } else { weights(graph, shape[2], size[0]).matmul(x) };
    if size[1] == shape[3] { rows } else { rows.matmul(weights(graph, shape[3], size[1]).t()) }
}
