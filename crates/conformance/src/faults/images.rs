//! Bugs in image operations. Most of these bugs change the results of the reference and of every device in the same
//! way, because the reference evaluates the lowering of an operation. Only an independent definition detects these
//! bugs.

use std::rc::Rc;

use wgrad_graph::philox::Stream;
use wgrad_graph::{Affine, Contract, Graph, Lowered, Op, Rule, TensorType, Var, View, Vjp};
use wgrad_ops::{Distribution, GradientOrder, ImageOps, Input, OpInfo, Pool, Sample, TensorOps, full, iota};

use super::Fault;
use super::operations::{check_trials, entry, select};
use crate::definition::{self, DefinitionCase, EPSILON, check_case, max_pool_case};
use crate::gradient;
use crate::report::{Check, Comparison, Failure};

/// Number of random uses checked per operation. A fault may have no effect in some of the uses.
const CASES: u64 = 8;

/// An operation with a modified lowering.
#[derive(Debug)]
struct ModifiedLowering {
    correct: Rc<dyn Op>,
    edit: fn(&mut Contract),
}

impl Op for ModifiedLowering {
    fn name(&self) -> &'static str {
        self.correct.name()
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        self.correct.infer(ins)
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        self.correct.vjp(ins, out, cotangent)
    }

    fn lower(&self, ins: &[TensorType], out: &TensorType) -> Lowered {
        let mut lowered = self.correct.lower(ins, out);
        if let Lowered::Contract(contract) = &mut lowered {
            (self.edit)(contract);
        }
        lowered
    }
}

/// Records a copy of the operation that produced `out`, with a modified lowering.
fn with_lowering<'g>(out: Var<'g>, edit: fn(&mut Contract)) -> Var<'g> {
    let graph = out.graph();
    let node = graph.nodes()[out.id().0].clone();
    let ins: Vec<Var<'g>> = node.ins.iter().map(|&id| graph.var(id)).collect();
    graph.push(ModifiedLowering { correct: node.op, edit }, &ins)
}

/// Returns the row and column coordinates of a convolution's windows, or `None` if operand A has no such view.
fn pixels(contract: &mut Contract) -> Option<[&mut Affine; 2]> {
    let Some(View::Affine { coordinates, .. }) = contract.a.first_mut() else { return None };
    let [_, _, rows, columns] = coordinates.as_mut_slice() else { return None };
    Some([rows, columns])
}

/// Shifts windows one pixel to the right.
fn shift(contract: &mut Contract) {
    if let Some([_, columns]) = pixels(contract) {
        columns.offset += 1;
    }
}

/// Swaps the strides of height and width.
fn swap_strides(contract: &mut Contract) {
    if let Some([rows, columns]) = pixels(contract)
        && let ([rows, ..], [columns, ..]) = (rows.terms.as_mut_slice(), columns.terms.as_mut_slice())
    {
        std::mem::swap(&mut rows.1, &mut columns.1);
    }
}

/// Max pooling over adjacent windows. Among equal elements, the first in column-major order gets the gradient.
fn first_by_columns(x: Var<'_>, pool: Pool) -> Var<'_> {
    let (graph, shape, [u, v]) = (x.graph(), x.shape(), pool.kernel);
    let (h, w) = (shape[2] / u, shape[3] / v);
    let blocks = x.reshape([shape[0], shape[1], h, u, w, v]).permute(&[0, 1, 2, 4, 5, 3]);
    let windows = blocks.reshape([shape[0], shape[1], h, w, u * v]);
    let first = windows.stop_gradient().argmax_keep(4);
    iota(graph, [u * v], 0).eq(first).select(windows, full(graph, [], 0.0)).sum(&[4])
}

/// Draws adjacent windows that fill the image, as [`first_by_columns`] requires.
fn maximum(random: &mut Stream, pooled: for<'g> fn(Var<'g>, Pool) -> Var<'g>) -> DefinitionCase {
    let kernel = 2 + random.below(2) as usize;
    max_pool_case(Pool::new(kernel), [2, 2, 2 * kernel, 3 * kernel], pooled)
}

/// A batch norm whose gradient treats mean and variance as constants, as in evaluation mode.
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

/// Builds a batch norm whose running statistics have their initial values.
fn with_running<'g>(graph: &'g Graph, ins: &[Var<'g>]) -> Var<'g> {
    let channels = [ins[1].shape().numel()];
    let (mean, variance) = (full(graph, channels, 0.0), full(graph, channels, 1.0));
    ins[0].batch_norm_with(mean, variance, ins[1], ins[2], EPSILON)
}

/// Returns the faults of image operations.
pub(super) fn faults() -> Vec<Fault> {
    vec![
        definition_fault("a padding off by one", "conv2d", |case| {
            with_result(case, |out| with_lowering(out, shift))
        }),
        definition_fault("strides of height and width swapped", "conv2d", |case| {
            with_result(case, |out| with_lowering(out, swap_strides))
        }),
        definition_fault("a batch norm that trains with the running statistics", "batch_norm", |case| {
            DefinitionCase { build: Box::new(with_running), ..case }
        }),
        Fault::new(
            "a batch norm that does not differentiate its statistics",
            Check::Gradient,
            |_, planted| {
                check_trials(select("batch_norm", &CONSTANT_STATISTICS, planted), gradient::gradient)
            },
        ),
        Fault::new("a maximum whose gradient goes to the wrong tie", Check::Definition, |_, planted| {
            let pooled: for<'g> fn(Var<'g>, Pool) -> Var<'g> =
                if planted { first_by_columns } else { |x, pool| x.max_pool2d(pool) };
            check_cases(|random| maximum(random, pooled))
        }),
    ]
}

/// Creates a fault that the comparison with a definition must detect.
fn definition_fault(
    name: &'static str,
    operation: &'static str,
    edit: fn(DefinitionCase) -> DefinitionCase,
) -> Fault {
    Fault::new(name, Check::Definition, move |_, planted| {
        let Some(definition) = definition::find(operation) else {
            return Err(Failure::Violation(format!("{operation} has no definition")));
        };
        check_cases(|random| {
            let case = (definition.draw)(random);
            if planted { edit(case) } else { case }
        })
    })
}

/// Replaces the result of a case with `other(result)`. The expected result is unchanged.
fn with_result(case: DefinitionCase, other: for<'g> fn(Var<'g>) -> Var<'g>) -> DefinitionCase {
    let DefinitionCase { inputs, build, value, gradient } = case;
    DefinitionCase { inputs, build: Box::new(move |graph, ins| other(build(graph, ins))), value, gradient }
}

/// Checks several random uses and stops at the first failure.
fn check_cases(draw: impl Fn(&mut Stream) -> DefinitionCase) -> Comparison {
    (0..CASES).try_fold(0.0f64, |worst, seed| {
        let mut random = Stream::new(seed, 43);
        let case = draw(&mut random);
        Ok(worst.max(check_case(&case, &mut random)?))
    })
}
