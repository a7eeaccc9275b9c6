//! Reductions over any axes, and the means and variances made of them.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Combine, DType, Lowered, Op, Rule, Shape, TensorType, Var, Vjp};

use crate::pointwise::all_of;
use crate::sample::{self, Input, Sample, Values, dressed, pick, shape_of};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;
use crate::view::{no_axis, reshape};

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "sum",
        doc: "Sum along axes. Without axes it is the tensor itself.",
        sample: |random| over_axes(random, ANY, |x, axes| x.sum(axes), |x, axes| x.sum_keep(axes)),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused(|x, axes| x.sum(axes)),
    },
    Entry {
        name: "mean",
        doc: "Mean along axes.",
        sample: |random| over_axes(random, ANY, |x, axes| x.mean(axes), |x, axes| x.mean_keep(axes)),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused(|x, axes| x.mean(axes)),
    },
    Entry {
        name: "sum_all",
        doc: "Sum of all elements, a scalar.",
        sample: |random| over_all(random, |x| x.sum_all()),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || {
            vec![Refused::new(vec![TensorType::u32([2])], "elements must be f32", |_, ins| ins[0].sum_all())]
        },
    },
    Entry {
        name: "mean_all",
        doc: "Mean of all elements, a scalar.",
        sample: |random| over_all(random, |x| x.mean_all()),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || {
            vec![Refused::new(vec![TensorType::u32([2])], "elements must be f32", |_, ins| ins[0].mean_all())]
        },
    },
    Entry {
        name: "max",
        doc: "Maximum along axes; NaN if there is one. Elements that tie share the gradient evenly.",
        sample: |random| {
            over_axes(random, Values::Distinct, |x, axes| x.max(axes), |x, axes| x.max_keep(axes))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || refused(|x, axes| x.max(axes)),
    },
    Entry {
        name: "min",
        doc: "Minimum along axes; NaN if there is one. Elements that tie share the gradient evenly.",
        sample: |random| {
            over_axes(random, Values::Distinct, |x, axes| x.min(axes), |x, axes| x.min_keep(axes))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || refused(|x, axes| x.min(axes)),
    },
    Entry {
        name: "argmax",
        doc: "Index of the first maximum along an axis, as a word.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of(random, rank), random.below(rank as u32) as usize);
            let keep = sample::chance(random, 2);
            // Ties on purpose: which of them is first is part of the contract.
            let values = pick(random, &[Values::Distinct, Values::Grid { step: 1.0, offset: 0.0 }]);
            let (ty, dressing) = dressed(random, TensorType::f32(shape));
            Sample::new(vec![Input::new(ty, values)], move |_, ins| {
                let x = dressing.apply(ins[0]);
                if keep { x.argmax_keep(axis) } else { x.argmax(axis) }
            })
        },
        tolerance: 0.0,
        order: Order::Zero,
        refuses: || {
            vec![
                Refused::new(vec![TensorType::f32([2, 3])], "has no axis 2", |_, ins| ins[0].argmax(2)),
                Refused::new(vec![TensorType::u32([2, 3])], "elements must be f32", |_, ins| {
                    ins[0].argmax(1)
                }),
            ]
        },
    },
    Entry {
        name: "variance",
        doc: "Mean of the squared distance from the mean along axes (of the population: divided by n, not n − 1).",
        sample: |random| over_axes(random, ANY, |x, axes| x.variance(axes), |x, axes| x.variance_keep(axes)),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused(|x, axes| x.variance(axes)),
    },
];

/// Elements of `x` combined along `axes`, which stay with size 1 if `keep`.
#[track_caller]
pub(crate) fn reduce<'g>(combine: Combine, x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    let shape = x.shape();
    let op = Reduce { combine, axes: sorted };
    let combines_nothing = combine != Combine::ArgMax
        && op.infer(&[x.ty()]).is_ok_and(|ty| ty.shape == shape)
        && !x.is_poisoned();
    let kept = if combines_nothing { x } else { x.graph().push(op, &[x]) };
    if keep || kept.is_poisoned() { kept } else { reshape(kept, without(&shape, axes)) }
}

/// Mean along `axes`.
#[track_caller]
pub(crate) fn mean<'g>(x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let sum = reduce(Combine::Sum, x, axes, keep);
    let count = x.shape().numel() / sum.shape().numel().max(1);
    if count <= 1 { sum } else { sum * (1.0 / count as f64) }
}

/// Mean of the squared distance from the mean: two passes, since the mean of squares less the squared mean cancels.
#[track_caller]
pub(crate) fn variance<'g>(x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let centered = x.sub(mean(x, axes, true));
    mean(centered.square(), axes, keep)
}

fn without(shape: &Shape, axes: &[usize]) -> Vec<usize> {
    (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect()
}

/// A reduction. The axes stay with size 1.
#[derive(Debug)]
struct Reduce {
    combine: Combine,
    /// Ascending.
    axes: Vec<usize>,
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        match self.combine {
            Combine::Sum => "sum",
            Combine::Max => "max",
            Combine::Min => "min",
            Combine::ArgMax => "argmax",
        }
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        all_of(DType::F32, ins)?;
        let shape = &ins[0].shape;
        if let Some(&axis) = self.axes.iter().find(|&&axis| axis >= shape.len()) {
            return Err(no_axis(axis, shape));
        }
        if let Some(pair) = self.axes.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Rule::new(format!("each axis is named once; {} is named twice", pair[0])));
        }
        let dtype = if self.combine == Combine::ArgMax { DType::U32 } else { DType::F32 };
        Ok(TensorType::new(dtype, shape.reduced(&self.axes)))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let x = ins[0];
        match self.combine {
            Combine::Sum => Vjp::Grads(vec![Some(cotangent.broadcast_to(x.shape()))]),
            Combine::Max | Combine::Min => {
                let winners = x.eq(out);
                let share = cotangent.div(winners.sum_keep(&self.axes));
                Vjp::Grads(vec![Some(winners.mul(share))])
            }
            Combine::ArgMax => Vjp::Zero("an index is constant but where the maximum changes place"),
        }
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Reduce { views: Vec::new(), combine: self.combine, axes: self.axes.clone() }
    }
}

type OverAxes = for<'g> fn(Var<'g>, &[usize]) -> Var<'g>;

/// A sample over some axes of a tensor, now and then of a long row, with the axes dropped or kept.
pub(crate) fn over_axes(random: &mut Stream, values: Values, dropped: OverAxes, kept: OverAxes) -> Sample {
    let (shape, axes) = match random.below(5) {
        0 => (vec![pick(random, &[1, 2, 3]), pick(random, &[63, 64, 65, 257, 1025])], vec![1]),
        1 => (vec![pick(random, &[33, 65, 129]), pick(random, &[1, 3, 33])], vec![0]),
        _ => {
            let rank = pick(random, &[1, 2, 3, 4]);
            let mut axes = sample::axes(random, rank);
            random.shuffle(&mut axes);
            (shape_of(random, rank), axes)
        }
    };
    let reduced = pick(random, &[dropped, kept]);
    let (ty, dressing) = dressed(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, values)], move |_, ins| reduced(dressing.apply(ins[0]), &axes))
}

fn over_all(random: &mut Stream, reduced: for<'g> fn(Var<'g>) -> Var<'g>) -> Sample {
    let shape = sample::shape(random);
    let (ty, dressing) = dressed(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, ANY)], move |_, ins| reduced(dressing.apply(ins[0])))
}

/// What every reduction over axes refuses.
pub(crate) fn refused(reduced: OverAxes) -> Vec<Refused> {
    let x = || vec![TensorType::f32([2, 3])];
    vec![
        Refused::new(x(), "has no axis 2", move |_, ins| reduced(ins[0], &[0, 2])),
        Refused::new(x(), "1 is named twice", move |_, ins| reduced(ins[0], &[1, 1])),
        Refused::new(vec![TensorType::u32([2, 3])], "elements must be f32", move |_, ins| {
            reduced(ins[0], &[1])
        }),
    ]
}
