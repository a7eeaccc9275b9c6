//! Samples and error inputs of views.

use wgrad_graph::philox::Stream;
use wgrad_graph::{TensorType, Var};

use super::{concat, stack};
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::sample::{ANY, Input, Sample, axes, chance, pick, shape_of_rank};
use crate::strided_view::StridedView;
use crate::tensor::TensorOps;

/// Table rows of the view operations.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "reshape",
        doc: "The same elements in row-major order with another shape.",
        sample: |random| {
            let (a, b, c) = (pick(random, &[1, 2, 3]), pick(random, &[1, 2, 5]), pick(random, &[1, 3, 4]));
            let from = pick(random, &[[a, b, c], [c, a * b, 1], [1, 1, a * b * c]]);
            let to = [vec![a * b, c], vec![a, b * c], vec![a * b * c], vec![b, 1, c, a]]
                [random.below(4) as usize]
                .clone();
            sample_view(random, from.to_vec(), move |x| x.reshape(to.clone()))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let x = TensorType::f32([2, 3]);
            vec![
                ErrorInput::new(
                    vec![x.clone()],
                    "a reshape must keep the number of elements; [4, 2] has 8 instead of 6",
                    |_, ins| ins[0].reshape([4, 2]),
                ),
                ErrorInput::new(vec![x], "has too many instead of 6", |_, ins| {
                    ins[0].reshape([usize::MAX, 3])
                }),
            ]
        },
    },
    OpInfo {
        name: "flatten",
        doc: "Merges all dimensions starting at an axis into one.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3, 4]);
            let (shape, axis) = (shape_of_rank(random, rank), random.below(rank as u32) as usize);
            sample_view(random, shape, move |x| x.flatten(axis))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x| x.flatten(3)),
    },
    OpInfo {
        name: "permute",
        doc: "Dimension i of the result is dimension axes[i] of the tensor.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3, 4]);
            let shape = shape_of_rank(random, rank);
            let mut axes: Vec<usize> = (0..rank).collect();
            random.shuffle(&mut axes);
            sample_view(random, shape, move |x| x.permute(&axes))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let x = || vec![TensorType::f32([2, 3])];
            vec![
                ErrorInput::new(x(), "must contain each of the 2 axes once", |_, ins| {
                    ins[0].permute(&[0, 0])
                }),
                ErrorInput::new(x(), "must contain each of the 2 axes once", |_, ins| ins[0].permute(&[1])),
                ErrorInput::new(x(), "must contain each of the 2 axes once", |_, ins| {
                    ins[0].permute(&[0, 2])
                }),
            ]
        },
    },
    OpInfo {
        name: "t",
        doc: "Swaps the last two dimensions.",
        sample: |random| {
            let rank = pick(random, &[2, 3]);
            let shape = shape_of_rank(random, rank);
            sample_view(random, shape, |x| x.t())
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            vec![ErrorInput::new(vec![TensorType::f32([3])], "at least 2 dimensions", |_, ins| ins[0].t())]
        },
    },
    OpInfo {
        name: "broadcast_to",
        doc: "Repeats dimensions of size 1 and missing leading dimensions.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let wide = shape_of_rank(random, rank);
            let narrow = crate::sample::broadcastable(random, &wide);
            sample_view(random, narrow, move |x| x.broadcast_to(wide.clone()))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let x = || vec![TensorType::f32([2, 1])];
            vec![
                ErrorInput::new(x(), "aligned at the last dimension, must agree or be 1", |_, ins| {
                    ins[0].broadcast_to([3, 4])
                }),
                ErrorInput::new(x(), "does not broadcast to [1, 4]", |_, ins| ins[0].broadcast_to([1, 4])),
                ErrorInput::new(x(), "does not broadcast to [4]", |_, ins| ins[0].broadcast_to([4])),
                ErrorInput::new(x(), "fewer than 2³² elements", |_, ins| ins[0].broadcast_to([2, 1 << 40])),
            ]
        },
    },
    OpInfo {
        name: "slice",
        doc: "A range of one axis.",
        sample: |random| sample_slice(random, &[1]),
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let x = || vec![TensorType::f32([2, 3])];
            vec![
                ErrorInput::new(x(), "end within the 3 elements of axis 1; 1..4 with step 1", |_, ins| {
                    ins[0].slice(1, 1..4)
                }),
                ErrorInput::new(x(), "must be nonempty", |_, ins| ins[0].slice(1, 2..2)),
                ErrorInput::new(x(), "has no axis 2", |_, ins| ins[0].slice(2, 0..1)),
            ]
        },
    },
    OpInfo {
        name: "slice_step",
        doc: "Every n-th index of a range of one axis.",
        sample: |random| sample_slice(random, &[2, 3]),
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let x = vec![TensorType::f32([2, 3])];
            vec![ErrorInput::new(x, "must be nonempty", |_, ins| ins[0].slice_step(1, 0..3, 0))]
        },
    },
    OpInfo {
        name: "pad",
        doc: "Adds zeros before and after the elements of one axis.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of_rank(random, rank), random.below(rank as u32) as usize);
            let (before, after) = (random.below(3) as usize, random.below(3) as usize);
            sample_view(random, shape, move |x| x.pad(axis, before, after))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x| x.pad(2, 1, 1)),
    },
    OpInfo {
        name: "squeeze",
        doc: "Removes a dimension of size 1.",
        sample: |random| {
            let mut shape = shape_of_rank(random, 3);
            let axis = random.below(3) as usize;
            shape[axis] = 1;
            sample_view(random, shape, move |x| x.squeeze(axis))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let x = vec![TensorType::f32([2, 3])];
            let mut all = axis_errors(|x| x.squeeze(2));
            all.push(ErrorInput::new(x, "dimension 1 has size 3", |_, ins| ins[0].squeeze(1)));
            all
        },
    },
    OpInfo {
        name: "unsqueeze",
        doc: "Inserts a dimension of size 1.",
        sample: |random| {
            let (shape, axis) = (shape_of_rank(random, 2), random.below(3) as usize);
            sample_view(random, shape, move |x| x.unsqueeze(axis))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            vec![ErrorInput::new(vec![TensorType::f32([2])], "must be at 0 to 1, not at 2", |_, ins| {
                ins[0].unsqueeze(2)
            })]
        },
    },
    OpInfo {
        name: "concat",
        doc: "Concatenates tensors along an axis.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of_rank(random, rank), random.below(rank as u32) as usize);
            let part = |random: &mut Stream| {
                let mut shape = shape.clone();
                shape[axis] = crate::sample::size(random);
                Input::f32(shape, ANY)
            };
            let parts = (0..1 + random.below(4)).map(|_| part(random)).collect();
            Sample::new(parts, move |graph, ins| concat(graph, ins, axis))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let xs = || vec![TensorType::f32([2, 3]), TensorType::f32([4, 3])];
            let mixed = vec![TensorType::f32([2]), TensorType::u32([2])];
            vec![
                ErrorInput::new(xs(), "sizes must agree in every dimension except 1", |graph, ins| {
                    concat(graph, ins, 1)
                }),
                ErrorInput::new(xs(), "has no axis 2", |graph, ins| concat(graph, ins, 2)),
                ErrorInput::new(mixed, "elements must be f32", |graph, ins| concat(graph, ins, 0)),
                ErrorInput::new(Vec::new(), "no tensors to concatenate", |graph, ins| concat(graph, ins, 0)),
            ]
        },
    },
    OpInfo {
        name: "stack",
        doc: "Stacks tensors of one shape along a new axis.",
        sample: |random| {
            let rank = pick(random, &[0, 1, 2]);
            let (shape, axis) = (shape_of_rank(random, rank), random.below(rank as u32 + 1) as usize);
            let parts = (0..1 + random.below(3)).map(|_| Input::f32(shape.clone(), ANY)).collect();
            Sample::new(parts, move |graph, ins| stack(graph, ins, axis))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let xs = vec![TensorType::f32([2, 3]), TensorType::f32([2, 4])];
            vec![
                ErrorInput::new(xs, "the tensors must have one shape", |graph, ins| stack(graph, ins, 0)),
                ErrorInput::new(vec![TensorType::f32([2])], "must be at 0 to 1", |graph, ins| {
                    stack(graph, ins, 2)
                }),
                ErrorInput::new(Vec::new(), "no tensors to concatenate", |graph, ins| stack(graph, ins, 0)),
            ]
        },
    },
];

/// Draws a sample that applies a view to one input. Half of the samples square the result, because the second
/// derivative of a view is zero and would test nothing.
fn sample_view(
    random: &mut Stream,
    shape: Vec<usize>,
    apply: impl for<'g> Fn(Var<'g>) -> Var<'g> + 'static,
) -> Sample {
    let (ty, view) = StridedView::draw(random, TensorType::f32(shape));
    let square = chance(random, 2);
    Sample::new(vec![Input::new(ty, ANY)], move |_, ins| {
        let y = apply(view.apply(ins[0]));
        if square { y.mul(y) } else { y }
    })
}

fn sample_slice(random: &mut Stream, steps: &[usize]) -> Sample {
    let rank = pick(random, &[1, 2, 3]);
    let shape = shape_of_rank(random, rank);
    let axis = axes(random, rank)[0];
    let start = random.below(shape[axis] as u32) as usize;
    let end = start + 1 + random.below((shape[axis] - start) as u32) as usize;
    let step = pick(random, steps);
    sample_view(random, shape, move |x| x.slice_step(axis, start..end, step))
}

fn axis_errors(build: impl for<'g> Fn(Var<'g>) -> Var<'g> + 'static) -> Vec<ErrorInput> {
    vec![ErrorInput::new(vec![TensorType::f32([2, 3])], "has no axis", move |_, ins| build(ins[0]))]
}
