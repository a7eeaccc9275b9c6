//! Reductions over any axes: sum, mean, maximum, minimum, argmax and variance.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Combine, DType, Lowered, Op, Rule, Shape, TensorType, Var, Vjp};

use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::rules::{check_dtype, no_axis};
use crate::sample::{self, ANY, Distribution, Input, Sample, pick, shape_of_rank};
use crate::strided_view::StridedView;
use crate::tensor::TensorOps;
use crate::view::reshape;

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "sum",
        doc: "Sum along axes. Without axes, the tensor itself.",
        sample: |random| sample_axes(random, ANY, |x, axes| x.sum(axes), |x, axes| x.sum_keep(axes)),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x, axes| x.sum(axes)),
    },
    OpInfo {
        name: "mean",
        doc: "Mean along axes.",
        sample: |random| sample_axes(random, ANY, |x, axes| x.mean(axes), |x, axes| x.mean_keep(axes)),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x, axes| x.mean(axes)),
    },
    OpInfo {
        name: "sum_all",
        doc: "Sum of all elements, a scalar.",
        sample: |random| sample_all(random, |x| x.sum_all()),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            vec![ErrorInput::new(vec![TensorType::u32([2])], "elements must be f32", |_, ins| {
                ins[0].sum_all()
            })]
        },
    },
    OpInfo {
        name: "mean_all",
        doc: "Mean of all elements, a scalar.",
        sample: |random| sample_all(random, |x| x.mean_all()),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            vec![ErrorInput::new(vec![TensorType::u32([2])], "elements must be f32", |_, ins| {
                ins[0].mean_all()
            })]
        },
    },
    OpInfo {
        name: "max",
        doc: "Maximum along axes; NaN if an element is NaN. The gradient is divided evenly among equal maxima.",
        sample: |random| {
            sample_axes(random, Distribution::Distinct, |x, axes| x.max(axes), |x, axes| x.max_keep(axes))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x, axes| x.max(axes)),
    },
    OpInfo {
        name: "min",
        doc: "Minimum along axes; NaN if an element is NaN. The gradient is divided evenly among equal minima.",
        sample: |random| {
            sample_axes(random, Distribution::Distinct, |x, axes| x.min(axes), |x, axes| x.min_keep(axes))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x, axes| x.min(axes)),
    },
    OpInfo {
        name: "argmax",
        doc: "Index of the first maximum along an axis, as u32.",
        sample: |random| {
            let rank = pick(random, &[1, 2, 3]);
            let (shape, axis) = (shape_of_rank(random, rank), random.below(rank as u32) as usize);
            let keep = sample::chance(random, 2);
            // Includes equal elements, because the operation guarantees the index of the first maximum.
            let distribution =
                pick(random, &[Distribution::Distinct, Distribution::Grid { step: 1.0, offset: 0.0 }]);
            let (ty, view) = StridedView::draw(random, TensorType::f32(shape));
            Sample::new(vec![Input::new(ty, distribution)], move |_, ins| {
                let x = view.apply(ins[0]);
                if keep { x.argmax_keep(axis) } else { x.argmax(axis) }
            })
        },
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: || {
            vec![
                ErrorInput::new(vec![TensorType::f32([2, 3])], "has no axis 2", |_, ins| ins[0].argmax(2)),
                ErrorInput::new(vec![TensorType::u32([2, 3])], "elements must be f32", |_, ins| {
                    ins[0].argmax(1)
                }),
            ]
        },
    },
    OpInfo {
        name: "variance",
        doc: "Biased variance along axes (divided by n, not n − 1).",
        sample: |random| {
            sample_axes(random, ANY, |x, axes| x.variance(axes), |x, axes| x.variance_keep(axes))
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || axis_errors(|x, axes| x.variance(axes)),
    },
];

/// Combines the elements of `x` along `axes`. If `keep` is set, the axes are kept with size 1.
#[track_caller]
pub(crate) fn reduce<'g>(combine: Combine, x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    let shape = x.shape();
    let op = Reduce { combine, axes: sorted };
    let is_identity = combine != Combine::ArgMax
        && op.infer(&[x.ty()]).is_ok_and(|ty| ty.shape == shape)
        && !x.is_poisoned();
    let kept = if is_identity { x } else { x.graph().push(op, &[x]) };
    if keep || kept.is_poisoned() { kept } else { reshape(kept, without(&shape, axes)) }
}

/// Returns the mean along `axes`.
#[track_caller]
pub(crate) fn mean<'g>(x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let sum = reduce(Combine::Sum, x, axes, keep);
    let count = x.shape().numel() / sum.shape().numel().max(1);
    if count <= 1 { sum } else { sum * (1.0 / count as f64) }
}

/// Returns the biased variance along `axes`. Uses two passes, because the mean of the squares minus the square of the
/// mean suffers from cancellation.
#[track_caller]
pub(crate) fn variance<'g>(x: Var<'g>, axes: &[usize], keep: bool) -> Var<'g> {
    let centered = x.sub(mean(x, axes, true));
    mean(centered.square(), axes, keep)
}

/// Returns `shape` without `axes`.
fn without(shape: &Shape, axes: &[usize]) -> Vec<usize> {
    (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect()
}

/// Reduction that keeps its axes with size 1.
#[derive(Debug)]
struct Reduce {
    combine: Combine,
    /// Axes in ascending order.
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
        check_dtype(DType::F32, ins)?;
        let shape = &ins[0].shape;
        if let Some(&axis) = self.axes.iter().find(|&&axis| axis >= shape.len()) {
            return Err(no_axis(axis, shape));
        }
        if let Some(pair) = self.axes.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Rule::new(format!("each axis may appear only once; {} appears twice", pair[0])));
        }
        let dtype = if self.combine == Combine::ArgMax { DType::U32 } else { DType::F32 };
        Ok(TensorType::new(dtype, shape.reduced(&self.axes)))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let x = ins[0];
        match self.combine {
            Combine::Sum => Vjp::Grads(vec![Some(cotangent.broadcast_to(x.shape()))]),
            Combine::Max | Combine::Min => {
                let is_extreme = x.eq(out);
                let fraction = cotangent.div(is_extreme.sum_keep(&self.axes));
                Vjp::Grads(vec![Some(is_extreme.mul(fraction))])
            }
            Combine::ArgMax => Vjp::Zero("an index is piecewise constant"),
        }
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Reduce { views: Vec::new(), combine: self.combine, axes: self.axes.clone() }
    }
}

type AxesOp = for<'g> fn(Var<'g>, &[usize]) -> Var<'g>;

/// Draws a sample of a reduction over some axes of a tensor, sometimes with long rows. The axes are dropped or kept.
pub(crate) fn sample_axes(
    random: &mut Stream,
    distribution: Distribution,
    dropped: AxesOp,
    kept: AxesOp,
) -> Sample {
    let (shape, axes) = match random.below(5) {
        0 => (vec![pick(random, &[1, 2, 3]), pick(random, &[63, 64, 65, 257, 1025])], vec![1]),
        1 => (vec![pick(random, &[33, 65, 129]), pick(random, &[1, 3, 33])], vec![0]),
        _ => {
            let rank = pick(random, &[1, 2, 3, 4]);
            let mut axes = sample::axes(random, rank);
            random.shuffle(&mut axes);
            (shape_of_rank(random, rank), axes)
        }
    };
    let reduce = pick(random, &[dropped, kept]);
    let (ty, view) = StridedView::draw(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, distribution)], move |_, ins| reduce(view.apply(ins[0]), &axes))
}

/// Draws a sample of a reduction over all elements of a tensor.
fn sample_all(random: &mut Stream, reduce: for<'g> fn(Var<'g>) -> Var<'g>) -> Sample {
    let shape = sample::shape(random);
    let (ty, view) = StridedView::draw(random, TensorType::f32(shape));
    Sample::new(vec![Input::new(ty, ANY)], move |_, ins| reduce(view.apply(ins[0])))
}

/// Returns invalid uses: axes out of range, repeated axes, and a wrong element type.
pub(crate) fn axis_errors(reduce: AxesOp) -> Vec<ErrorInput> {
    let x = || vec![TensorType::f32([2, 3])];
    vec![
        ErrorInput::new(x(), "has no axis 2", move |_, ins| reduce(ins[0], &[0, 2])),
        ErrorInput::new(x(), "1 appears twice", move |_, ins| reduce(ins[0], &[1, 1])),
        ErrorInput::new(vec![TensorType::u32([2, 3])], "elements must be f32", move |_, ins| {
            reduce(ins[0], &[1])
        }),
    ]
}
