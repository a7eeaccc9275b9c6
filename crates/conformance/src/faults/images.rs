//! Mistakes in operations on images. Most are of the kind that the judge makes with every device, since it evaluates what
//! the operation lowers to: only a definition from elsewhere finds them.

use std::rc::Rc;

use wgrad_graph::philox::Stream;
use wgrad_graph::{Affine, Contract, Graph, Lowered, Op, Rule, TensorType, Var, View, Vjp};
use wgrad_ops::{OpInfo, ImageOps, Input, GradientOrder, Pool, Sample, TensorOps, Distribution, full, iota};

use super::Fault;
use super::operations::{chosen, entry, trials};
use crate::definition::{self, EPSILON, Use, agrees, pooled_maximum};
use crate::gradient;
use crate::report::{Check, Failure, Verdict};

/// Uses of an operation: a fault need not show in each of them.
const USES: u64 = 8;

/// An operation that lowers to something else than the true one.
#[derive(Debug)]
struct Mislowered {
    truth: Rc<dyn Op>,
    edit: fn(&mut Contract),
}

impl Op for Mislowered {
    fn name(&self) -> &'static str {
        self.truth.name()
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        self.truth.infer(ins)
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        self.truth.vjp(ins, out, cotangent)
    }

    fn lower(&self, ins: &[TensorType], out: &TensorType) -> Lowered {
        let mut lowered = self.truth.lower(ins, out);
        if let Lowered::Contract(contract) = &mut lowered {
            (self.edit)(contract);
        }
        lowered
    }
}

/// The operation that gave `out`, recorded again with another lowering.
fn mislowered<'g>(out: Var<'g>, edit: fn(&mut Contract)) -> Var<'g> {
    let graph = out.graph();
    let node = graph.nodes()[out.id().0].clone();
    let ins: Vec<Var<'g>> = node.ins.iter().map(|&id| graph.var(id)).collect();
    graph.push(Mislowered { truth: node.op, edit }, &ins)
}

/// The coordinates of a convolution's windows that are rows and columns of the image.
fn pixels(contract: &mut Contract) -> Option<[&mut Affine; 2]> {
    let Some(View::Affine { coordinates, .. }) = contract.a.first_mut() else { return None };
    let [_, _, rows, columns] = coordinates.as_mut_slice() else { return None };
    Some([rows, columns])
}

/// Windows that begin a pixel too far to the right.
fn shift(contract: &mut Contract) {
    if let Some([_, columns]) = pixels(contract) {
        columns.offset += 1;
    }
}

/// The stride of the height for the width, and the other way round.
fn swap_strides(contract: &mut Contract) {
    if let Some([rows, columns]) = pixels(contract)
        && let ([rows, ..], [columns, ..]) = (rows.terms.as_mut_slice(), columns.terms.as_mut_slice())
    {
        std::mem::swap(&mut rows.1, &mut columns.1);
    }
}

/// The maximum of windows side by side, in which the first of elements that tie is looked for column by column.
fn first_by_columns(x: Var<'_>, pool: Pool) -> Var<'_> {
    let (graph, shape, [u, v]) = (x.graph(), x.shape(), pool.kernel);
    let (h, w) = (shape[2] / u, shape[3] / v);
    let blocks = x.reshape([shape[0], shape[1], h, u, w, v]).permute(&[0, 1, 2, 4, 5, 3]);
    let windows = blocks.reshape([shape[0], shape[1], h, w, u * v]);
    let first = windows.stop_gradient().argmax_keep(4);
    iota(graph, [u * v], 0).eq(first).select(windows, full(graph, [], 0.0)).sum(&[4])
}

/// Windows side by side that fill the image: all that [`first_by_columns`] knows.
fn maximum(random: &mut Stream, pooled: for<'g> fn(Var<'g>, Pool) -> Var<'g>) -> Use {
    let kernel = 2 + random.below(2) as usize;
    pooled_maximum(Pool::new(kernel), [2, 2, 2 * kernel, 3 * kernel], pooled)
}

/// A batch norm whose statistics are constants to the gradient, as those of a network that evaluates are.
static CONSTANT_STATISTICS: OpInfo = OpInfo {
    tolerance: 2e-5,
    gradient_order: GradientOrder::Any,
    ..entry("constant_statistics", |_| {
        let any = Distribution::Uniform(-2.0, 2.0);
        let inputs = vec![Input::f32([2, 3, 2, 5], any), Input::f32([3], any), Input::f32([3], any)];
        Sample::new(inputs, |_, ins| {
            let normed = ins[0].batch_norm(ins[1], ins[2], EPSILON);
            let (mean, variance) = (normed.mean.stop_gradient(), normed.variance.stop_gradient());
            ins[0].batch_norm_with(mean, variance, ins[1], ins[2], EPSILON)
        })
    })
};

/// A batch norm by what a network that has seen nothing yet would evaluate with.
fn with_running<'g>(graph: &'g Graph, ins: &[Var<'g>]) -> Var<'g> {
    let channels = [ins[1].shape().numel()];
    let (mean, variance) = (full(graph, channels, 0.0), full(graph, channels, 1.0));
    ins[0].batch_norm_with(mean, variance, ins[1], ins[2], EPSILON)
}

/// The operations on images with a mistake.
pub(super) fn faults() -> Vec<Fault> {
    vec![
        defined("a padding off by one", "conv2d", |drawn| rebuilt(drawn, |out| mislowered(out, shift))),
        defined("strides of height and width swapped", "conv2d", |drawn| {
            rebuilt(drawn, |out| mislowered(out, swap_strides))
        }),
        defined("a batch norm that trains with the running statistics", "batch_norm", |drawn| Use {
            build: Box::new(with_running),
            ..drawn
        }),
        Fault::new(
            "a batch norm that does not differentiate its statistics",
            Check::Gradient,
            |_, planted| trials(chosen("batch_norm", &CONSTANT_STATISTICS, planted), gradient::gradient),
        ),
        Fault::new("a maximum whose gradient goes to the wrong tie", Check::Definition, |_, planted| {
            let pooled: for<'g> fn(Var<'g>, Pool) -> Var<'g> =
                if planted { first_by_columns } else { |x, pool| x.max_pool2d(pool) };
            uses(|random| maximum(random, pooled))
        }),
    ]
}

/// A fault that the comparison with a definition finds.
fn defined(name: &'static str, operation: &'static str, edit: fn(Use) -> Use) -> Fault {
    Fault::new(name, Check::Definition, move |_, planted| {
        let Some(definition) = definition::of(operation) else {
            return Err(Failure::Broken(format!("{operation} has no definition")));
        };
        uses(|random| {
            let drawn = (definition.draw)(random);
            if planted { edit(drawn) } else { drawn }
        })
    })
}

/// The use with another result.
fn rebuilt(drawn: Use, other: for<'g> fn(Var<'g>) -> Var<'g>) -> Use {
    let Use { inputs, build, value, gradient } = drawn;
    Use { inputs, build: Box::new(move |graph, ins| other(build(graph, ins))), value, gradient }
}

/// Several uses; the first failure counts.
fn uses(draw: impl Fn(&mut Stream) -> Use) -> Verdict {
    (0..USES).try_fold(0.0f64, |worst, seed| {
        let mut random = Stream::new(seed, 43);
        let drawn = draw(&mut random);
        Ok(worst.max(agrees(&drawn, &mut random)?))
    })
}
