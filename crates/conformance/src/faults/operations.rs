//! Operations with a bug, written as entries of the operation table.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Combine, Expr, Graph, Lowered, Op, Rule, ScalarFn, TensorType, Var, Vjp};
use wgrad_ops::{
    Distribution, ErrorInput, GradientOrder, Input, OpInfo, Sample, TensorOps, ops, scalar_functions, uniform,
};

use super::Fault;
use crate::harness::Harness;
use crate::report::{Check, Comparison};
use crate::trial::Trial;
use crate::{device, gradient, lint, random, shader, shape};

/// Number of random samples checked per operation. A fault may have no effect in some of the samples.
const SAMPLES: u64 = 8;

type Grads = for<'g> fn(&[Var<'g>], Var<'g>) -> Vec<Option<Var<'g>>>;

/// An elementwise operation with a custom gradient.
#[derive(Debug)]
struct Custom {
    body: fn() -> Expr,
    grads: Grads,
}

impl Op for Custom {
    fn name(&self) -> &'static str {
        "custom"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        Vjp::Grads((self.grads)(ins, cotangent))
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Map((self.body)())
    }
}

/// A sum over rows. The inferred type is wrong: it keeps the dimension of the rows.
#[derive(Debug)]
struct Mistyped;

impl Op for Mistyped {
    fn name(&self) -> &'static str {
        "mistyped"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        Vjp::Grads(vec![Some(cotangent)])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Reduce { views: Vec::new(), combine: Combine::Sum, axes: vec![0] }
    }
}

/// Returns an expression: a call of the scalar function `name` from the operation table on the first `arity` inputs.
fn call(name: &str, arity: usize) -> Expr {
    let function = scalar_functions().into_iter().find(|f| f.name == name);
    let function = function.unwrap_or_else(|| panic!("the table should have the scalar function `{name}`"));
    Expr::Call(function, (0..arity).map(Expr::Input).collect())
}

fn custom<'g>(graph: &'g Graph, ins: &[Var<'g>], body: fn() -> Expr, grads: Grads) -> Var<'g> {
    graph.push(Custom { body, grads }, ins)
}

const ANY: Distribution = Distribution::Uniform(-2.0, 2.0);

fn sample(inputs: usize, build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g> + 'static) -> Sample {
    Sample::new((0..inputs).map(|_| Input::f32([3, 5], ANY)).collect(), build)
}

pub(super) const fn entry(name: &'static str, sample: fn(&mut Stream) -> Sample) -> OpInfo {
    let error_inputs: fn() -> Vec<ErrorInput> = Vec::new;
    OpInfo {
        name,
        doc: "A planted fault.",
        sample,
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs,
    }
}

static DROPPED: OpInfo = entry("dropped", |_| {
    sample(2, |graph, ins| custom(graph, ins, || call("mul", 2), |ins, ct| vec![Some(ct * ins[1]), None]))
});
static SIGN: OpInfo = entry("sign_of_the_gradient", |_| {
    sample(2, |graph, ins| custom(graph, ins, || call("sub", 2), |_, ct| vec![Some(ct), Some(ct)]))
});
static FACTOR: OpInfo = entry("factor", |_| {
    sample(1, |graph, ins| custom(graph, ins, || call("square", 1), |ins, ct| vec![Some(ct * ins[0])]))
});
static SWAPPED: OpInfo = entry("swapped_gradients", |_| {
    sample(2, |graph, ins| {
        custom(graph, ins, || call("mul", 2), |ins, ct| vec![Some(ct * ins[0]), Some(ct * ins[1])])
    })
});
static TWICE: OpInfo = entry("used_twice", |_| {
    // x·e^x: the incorrect gradient lacks the term for the second use of x.
    sample(1, |graph, ins| {
        let body = || match (call("mul", 2), call("exp", 1)) {
            (Expr::Call(mul, _), exp) => Expr::Call(mul, vec![Expr::Input(0), exp]),
            (other, _) => other,
        };
        custom(graph, ins, body, |ins, ct| vec![Some(ct * ins[0].exp())])
    })
});
static DETACHED: OpInfo = entry("detached", |_| {
    sample(1, |graph, ins| {
        custom(graph, ins, || call("square", 1), |ins, ct| vec![Some(ct * (ins[0].stop_gradient() * 2.0))])
    })
});
static NOT_ZERO: OpInfo = OpInfo {
    gradient_order: GradientOrder::Zero,
    ..entry("not_zero", |_| {
        sample(1, |graph, ins| custom(graph, ins, || call("floor", 1), |_, ct| vec![Some(ct)]))
    })
};
static NAIVE: OpInfo = OpInfo {
    tolerance: 1e-5,
    ..entry("naive_softmax", |_| {
        let logits = Input::f32([3, 7], Distribution::Uniform(-6.0, 6.0));
        Sample::new(vec![logits], |_, ins| {
            let e = ins[0].exp();
            e / e.sum_keep(&[1])
        })
    })
};
static ACCEPTED: OpInfo = OpInfo {
    error_inputs: || {
        let types = vec![TensorType::f32([2, 3]), TensorType::f32([4])];
        vec![ErrorInput::new(types, "sizes agree", |graph, ins| {
            custom(graph, ins, || call("add", 2), |_, ct| vec![Some(ct), Some(ct)])
        })]
    },
    ..entry("accepted", |_| sample(1, |_, ins| ins[0]))
};
static UNDOCUMENTED: OpInfo = OpInfo { doc: "", ..entry("undocumented", |_| sample(1, |_, ins| ins[0])) };
static MISTYPED: OpInfo = entry("mistyped", |_| sample(1, |graph, ins| graph.push(Mistyped, ins)));
static SAME_STREAM: OpInfo = OpInfo {
    gradient_order: GradientOrder::Zero,
    ..entry("same_stream", |_| {
        let rng = Input::u32([3], 0);
        Sample::new(vec![rng], |_, ins| uniform(ins[0], 3, [4, 5]) * uniform(ins[0], 3, [20]).reshape([4, 5]))
    })
};
static BAD_WGSL: ScalarFn = ScalarFn {
    name: "planted_typo",
    wgsl: "({0} * {0}",
    prelude: "",
    flops: 1,
    f32: wgrad_graph::Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x * x)),
    f64: wgrad_graph::Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x * x)),
};
static TYPO: OpInfo = entry("typo", |_| {
    sample(1, |graph, ins| {
        let body = || Expr::Call(&BAD_WGSL, vec![Expr::Input(0)]);
        custom(graph, ins, body, |ins, ct| vec![Some(ct * ins[0] * 2.0)])
    })
});

/// Returns the faults of operations.
pub(super) fn faults() -> Vec<Fault> {
    let (first, second) = (
        gradient::gradient as fn(&Trial) -> Comparison,
        gradient::second_gradient as fn(&Trial) -> Comparison,
    );
    vec![
        trial_fault("a dropped cotangent", Check::Gradient, "mul", &DROPPED, first),
        trial_fault("a gradient with the wrong sign", Check::Gradient, "sub", &SIGN, first),
        trial_fault("a derivative without its factor", Check::Gradient, "square", &FACTOR, first),
        trial_fault("gradients of two inputs swapped", Check::Gradient, "mul", &SWAPPED, first),
        trial_fault(
            "a variable used twice whose gradients are not summed",
            Check::Gradient,
            "silu",
            &TWICE,
            first,
        ),
        trial_fault(
            "a nonzero gradient where it is zero by definition",
            Check::Gradient,
            "floor",
            &NOT_ZERO,
            first,
        ),
        trial_fault(
            "a gradient cut off from the next one",
            Check::SecondGradient,
            "square",
            &DETACHED,
            second,
        ),
        trial_fault("a shape rule that promises another shape", Check::Shape, "sum", &MISTYPED, shape::shape),
        trial_fault("a random stream used twice", Check::Random, "uniform", &SAME_STREAM, random::random),
        trial_fault("a syntax error in the WGSL", Check::Shader, "square", &TYPO, shader::trial),
        entry_fault("wrong shapes accepted", Check::Refusal, "add", &ACCEPTED, shape::refusal),
        entry_fault("an operation without documentation", Check::Lint, "add", &UNDOCUMENTED, lint::lint),
        Fault::new("a softmax without its maximum", Check::Magnitude, |device, planted| {
            let harness = Harness::new(device);
            check_trials(select("softmax", &NAIVE, planted), |trial| device::magnitude(&harness, trial))
        }),
    ]
}

/// Creates a fault that a check of single trials must detect. `fault` is the table entry with the bug. `correct` is
/// the name of the correct table entry, which must pass the check.
fn trial_fault(
    name: &'static str,
    check: Check,
    correct: &'static str,
    fault: &'static OpInfo,
    run: fn(&Trial) -> Comparison,
) -> Fault {
    Fault::new(name, check, move |_, planted| check_trials(select(correct, fault, planted), run))
}

/// Creates a fault that a check of whole table entries must detect, from the same arguments as [`trial_fault`].
fn entry_fault(
    name: &'static str,
    check: Check,
    correct: &'static str,
    fault: &'static OpInfo,
    run: fn(&OpInfo) -> Comparison,
) -> Fault {
    Fault::new(name, check, move |_, planted| run(select(correct, fault, planted)))
}

pub(super) fn select(correct: &'static str, fault: &'static OpInfo, planted: bool) -> &'static OpInfo {
    if planted { fault } else { table_entry(correct).unwrap_or(fault) }
}

/// Returns the entry of the operation table with this name.
pub(super) fn table_entry(name: &str) -> Option<&'static OpInfo> {
    ops().find(|entry| entry.name == name)
}

/// Checks several samples of a table entry and stops at the first failure.
pub(super) fn check_trials(entry: &'static OpInfo, check: impl Fn(&Trial) -> Comparison) -> Comparison {
    (0..SAMPLES).try_fold(0.0f64, |worst, seed| Ok(worst.max(check(&Trial::draw(entry, seed))?)))
}
