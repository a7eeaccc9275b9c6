//! Entries of the views.

use wgrad_graph::philox::Stream;
use wgrad_graph::{TensorType, Var};

use super::{concat, stack};
use crate::sample::{Input, Sample, axes, chance, dressed, pick, shape_of};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;

pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "reshape",
        doc: "The same elements in row-major order under another shape.",
        sample: |random| {
            let (a, b, c) = (pick(random, &[1, 2, 3]), pick(random, &[1, 2, 5]), pick(random, &[1, 3, 4]));
            let from = pick(random, &[[a, b, c], [c, a * b, 1], [1, 1, a * b * c]]);
            let to = [vec![a * b, c], vec![a, b * c], vec![a * b * c], vec![b, 1, c, a]]
                [random.below(4) as usize]
                .clone();
            seen(random, from.to_vec(), move |x| x.reshape(to.clone()))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let x = TensorType::f32([2, 3]);
            vec![
                Refused::new(
                    vec![x.clone()],
                    "the number of elements stays; [4, 2] has 8, not 6",
                    |_, ins| ins[0].reshape([4, 2]),
                ),
                Refused::new(vec![x], "has far more, not 6", |_, ins| ins[0].reshape([usize::MAX, 3])),
            ]
        },
    },
    Entry {
        name: "flatten",
        doc: "Dimensions from one axis on merged into one.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3, 4]);
            let (shape, axis) = (shape_of(random, rank), random.below(rank as u32) as usize);
            seen(random, shape, move |x| x.flatten(axis))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || refused_axis(|x| x.flatten(3)),
    },
    Entry {
        name: "permute",
        doc: "Dimension i of the result is dimension axes[i] of the tensor.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3, 4]);
            let shape = shape_of(random, rank);
            let mut axes: Vec<usize> = (0..rank).collect();
            random.shuffle(&mut axes);
            seen(random, shape, move |x| x.permute(&axes))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let x = || vec![TensorType::f32([2, 3])];
            vec![
                Refused::new(x(), "each of the 2 axes is named once", |_, ins| ins[0].permute(&[0, 0])),
                Refused::new(x(), "each of the 2 axes is named once", |_, ins| ins[0].permute(&[1])),
                Refused::new(x(), "each of the 2 axes is named once", |_, ins| ins[0].permute(&[0, 2])),
            ]
        },
    },
    Entry {
        name: "t",
        doc: "The last two dimensions swapped.",
        sample: |random| {
            let rank = pick(random, &[2, 3]);
            let shape = shape_of(random, rank);
            seen(random, shape, |x| x.t())
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            vec![Refused::new(vec![TensorType::f32([3])], "at least 2 dimensions", |_, ins| ins[0].t())]
        },
    },
    Entry {
        name: "broadcast_to",
        doc: "Dimensions of size 1, and missing leading ones, repeated.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let wide = shape_of(random, rank);
            let narrow = crate::sample::broadcastable(random, &wide);
            seen(random, narrow, move |x| x.broadcast_to(wide.clone()))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let x = || vec![TensorType::f32([2, 1])];
            vec![
                Refused::new(x(), "aligned at the last dimension, agree or are 1", |_, ins| {
                    ins[0].broadcast_to([3, 4])
                }),
                Refused::new(x(), "does not become [1, 4]", |_, ins| ins[0].broadcast_to([1, 4])),
                Refused::new(x(), "does not become [4]", |_, ins| ins[0].broadcast_to([4])),
                Refused::new(x(), "fewer than 2³² elements", |_, ins| ins[0].broadcast_to([2, 1 << 40])),
            ]
        },
    },
    Entry {
        name: "slice",
        doc: "A range of one axis.",
        sample: |random| sliced(random, &[1]),
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let x = || vec![TensorType::f32([2, 3])];
            vec![
                Refused::new(x(), "ends within the 3 of axis 1; 1..4 by 1 does not", |_, ins| {
                    ins[0].slice(1, 1..4)
                }),
                Refused::new(x(), "takes some elements", |_, ins| ins[0].slice(1, 2..2)),
                Refused::new(x(), "has no axis 2", |_, ins| ins[0].slice(2, 0..1)),
            ]
        },
    },
    Entry {
        name: "slice_step",
        doc: "Every n-th index of a range of one axis.",
        sample: |random| sliced(random, &[2, 3]),
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let x = vec![TensorType::f32([2, 3])];
            vec![Refused::new(x, "takes some elements", |_, ins| ins[0].slice_step(1, 0..3, 0))]
        },
    },
    Entry {
        name: "pad",
        doc: "Zeros before and after one axis.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of(random, rank), random.below(rank as u32) as usize);
            let (before, after) = (random.below(3) as usize, random.below(3) as usize);
            seen(random, shape, move |x| x.pad(axis, before, after))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || refused_axis(|x| x.pad(2, 1, 1)),
    },
    Entry {
        name: "squeeze",
        doc: "Without a dimension of size 1.",
        sample: |random| {
            let mut shape = shape_of(random, 3);
            let axis = random.below(3) as usize;
            shape[axis] = 1;
            seen(random, shape, move |x| x.squeeze(axis))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let x = vec![TensorType::f32([2, 3])];
            let mut all = refused_axis(|x| x.squeeze(2));
            all.push(Refused::new(x, "dimension 1 has size 3", |_, ins| ins[0].squeeze(1)));
            all
        },
    },
    Entry {
        name: "unsqueeze",
        doc: "With one more dimension of size 1.",
        sample: |random| {
            let (shape, axis) = (shape_of(random, 2), random.below(3) as usize);
            seen(random, shape, move |x| x.unsqueeze(axis))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            vec![Refused::new(vec![TensorType::f32([2])], "lies at 0 to 1, not at 2", |_, ins| {
                ins[0].unsqueeze(2)
            })]
        },
    },
    Entry {
        name: "concat",
        doc: "Tensors one after the other along an axis.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of(random, rank), random.below(rank as u32) as usize);
            let part = |random: &mut Stream| {
                let mut shape = shape.clone();
                shape[axis] = crate::sample::size(random);
                Input::f32(shape, ANY)
            };
            let parts = (0..1 + random.below(4)).map(|_| part(random)).collect();
            Sample::new(parts, move |graph, ins| concat(graph, ins, axis))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let xs = || vec![TensorType::f32([2, 3]), TensorType::f32([4, 3])];
            let mixed = vec![TensorType::f32([2]), TensorType::u32([2])];
            vec![
                Refused::new(xs(), "sizes agree in every dimension but 1", |graph, ins| {
                    concat(graph, ins, 1)
                }),
                Refused::new(xs(), "has no axis 2", |graph, ins| concat(graph, ins, 2)),
                Refused::new(mixed, "elements must be f32", |graph, ins| concat(graph, ins, 0)),
                Refused::new(Vec::new(), "nothing to concatenate", |graph, ins| concat(graph, ins, 0)),
            ]
        },
    },
    Entry {
        name: "stack",
        doc: "Tensors of one shape along a new axis.",
        sample: |random| {
            let rank = pick(random, &[0, 1, 2]);
            let (shape, axis) = (shape_of(random, rank), random.below(rank as u32 + 1) as usize);
            let parts = (0..1 + random.below(3)).map(|_| Input::f32(shape.clone(), ANY)).collect();
            Sample::new(parts, move |graph, ins| stack(graph, ins, axis))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let xs = vec![TensorType::f32([2, 3]), TensorType::f32([2, 4])];
            vec![
                Refused::new(xs, "the tensors have one shape", |graph, ins| stack(graph, ins, 0)),
                Refused::new(vec![TensorType::f32([2])], "lies at 0 to 1", |graph, ins| stack(graph, ins, 2)),
                Refused::new(Vec::new(), "nothing to concatenate", |graph, ins| stack(graph, ins, 0)),
            ]
        },
    },
];

/// A sample that records `see` on one input of this shape. The result is squared half of the time, since a view is linear:
/// its own second derivative could not be wrong.
fn seen(
    random: &mut Stream,
    shape: Vec<usize>,
    see: impl for<'g> Fn(Var<'g>) -> Var<'g> + 'static,
) -> Sample {
    let (ty, dressing) = dressed(random, TensorType::f32(shape));
    let square = chance(random, 2);
    Sample::new(vec![Input::new(ty, ANY)], move |_, ins| {
        let y = see(dressing.apply(ins[0]));
        if square { y.mul(y) } else { y }
    })
}

fn sliced(random: &mut Stream, steps: &[usize]) -> Sample {
    let rank = pick(random, &[1, 2, 3]);
    let shape = shape_of(random, rank);
    let axis = axes(random, rank)[0];
    let start = random.below(shape[axis] as u32) as usize;
    let end = start + 1 + random.below((shape[axis] - start) as u32) as usize;
    let step = pick(random, steps);
    seen(random, shape, move |x| x.slice_step(axis, start..end, step))
}

fn refused_axis(build: impl for<'g> Fn(Var<'g>) -> Var<'g> + 'static) -> Vec<Refused> {
    vec![Refused::new(vec![TensorType::f32([2, 3])], "has no axis", move |_, ins| build(ins[0]))]
}
