//! Random tensors: pure functions of (seed, stream, step, index), with the same bits in Rust and WGSL.
//!
//! The element with row-major index i of stream s at step t is computed from one Philox4x32-10 block. The key of the
//! block is the seed as (low u32, high u32), and the counter is (i, t, s, kind), where kind is 0 for uniform and 1 for
//! normal values. The argument `rng` is uploaded at every step: u32[3] = (low u32 of the seed, high u32 of the seed,
//! step).

use wgrad_graph::philox::{philox4x32, unit};
use wgrad_graph::{Call, DType, Expr, Lowered, Op, Rule, ScalarFn, Shape, TensorType, Var, Vjp};
use wgrad_shaders::PHILOX;

use crate::constant::full;
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::rules::check_dtype;
use crate::sample::{ANY, Distribution, Input, Sample, shape};
use crate::tensor::TensorOps;
use crate::view::{broadcast_to, reshape};

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "uniform",
        doc: "Uniform random values in [0, 1), multiples of 2⁻²⁴.",
        sample: |random| {
            let (shape, stream) = (shape(random), random.next_u32());
            Sample::new(vec![rng_input()], move |_, ins| uniform(ins[0], stream, shape.clone()))
        },
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: || rng_errors(|rng| uniform(rng, 0, [2])),
    },
    OpInfo {
        name: "normal",
        doc: "Standard normal random values, computed with the Box–Muller transform.",
        sample: |random| {
            let (shape, stream) = (shape(random), random.next_u32());
            Sample::new(vec![rng_input()], move |_, ins| normal(ins[0], stream, shape.clone()))
        },
        tolerance: 2e-3,
        gradient_order: GradientOrder::Zero,
        error_inputs: || rng_errors(|rng| normal(rng, 0, [2])),
    },
    OpInfo {
        name: "dropout",
        doc: "Each element zeroed with probability p, the others divided by 1 − p (Srivastava et al., 2014).",
        sample: |random| {
            let p = f64::from(random.below(3)) * 0.25;
            let x = Input::f32(shape(random), ANY);
            Sample::new(vec![x, rng_input()], move |_, ins| ins[0].dropout(p, ins[1]))
        },
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let mut all = rng_errors(|rng| full(rng.graph(), [2], 1.0).dropout(0.5, rng));
            for p in [-0.1, 1.0, f64::NAN] {
                let ins = vec![TensorType::f32([2]), TensorType::u32([3])];
                all.push(ErrorInput::new(ins, "must be in [0, 1)", move |_, ins| ins[0].dropout(p, ins[1])));
            }
            all
        },
    },
];

fn rng_input() -> Input {
    Input::new(TensorType::u32([3]), Distribution::AnyU32)
}

/// Returns invalid uses: an `rng` of a wrong type.
fn rng_errors(build: for<'g> fn(Var<'g>) -> Var<'g>) -> Vec<ErrorInput> {
    vec![
        ErrorInput::new(vec![TensorType::u32([2])], "u32[3]", move |_, ins| build(ins[0])),
        ErrorInput::new(vec![TensorType::f32([3])], "u32[3]", move |_, ins| build(ins[0])),
    ]
}

static UNIFORM: ScalarFn = ScalarFn {
    name: "uniform",
    wgsl: "philox_uniform({0}, {1}, {2}, {3}, {4})",
    prelude: PHILOX,
    flops: 1,
    f32: Call::Random(|args, out| map_blocks(args, out, 0, |block| unit(block[0]))),
    f64: Call::Random(|args, out| map_blocks(args, out, 0, |block| f64::from(unit(block[0])))),
};

static NORMAL: ScalarFn = ScalarFn {
    name: "normal",
    wgsl: "philox_normal({0}, {1}, {2}, {3}, {4})",
    prelude: PHILOX,
    flops: 6,
    f32: Call::Random(|args, out| {
        map_blocks(args, out, 1, |block| {
            let (u, v) = (1.0 - unit(block[0]), unit(block[1]));
            (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
        })
    }),
    f64: Call::Random(|args, out| {
        map_blocks(args, out, 1, |block| {
            let (u, v) = (1.0 - f64::from(unit(block[0])), f64::from(unit(block[1])));
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        })
    }),
};

/// Computes the Philox block of each index and maps it to a value. Arguments: index, seed (low, high u32), stream,
/// step.
fn map_blocks<T>(
    [index, low, high, stream, step]: [&[u32]; 5],
    out: &mut [T],
    kind: u32,
    value: impl Fn([u32; 4]) -> T,
) {
    for (i, o) in out.iter_mut().enumerate() {
        *o = value(philox4x32([index[i], step[i], stream[i], kind], [low[i], high[i]]));
    }
}

/// Draws uniform values in [0, 1). `rng` is `u32[3]` = (low u32 of the seed, high u32 of the seed, step).
///
/// Values that must be independent need different streams. Streams from 2³¹ on are reserved for [`TensorOps::dropout`].
#[track_caller]
pub fn uniform(rng: Var<'_>, stream: u32, shape: impl Into<Shape>) -> Var<'_> {
    draw(&UNIFORM, rng, stream, shape.into())
}

/// Draws standard normal values. See [`uniform`] for `rng` and `stream`.
#[track_caller]
pub fn normal(rng: Var<'_>, stream: u32, shape: impl Into<Shape>) -> Var<'_> {
    draw(&NORMAL, rng, stream, shape.into())
}

/// Zeroes each element of `x` with probability `p` and scales the others by 1 / (1 − p). `x` contains consecutive rows
/// of a larger tensor, starting at row `first`. The mask is part of the mask of the larger tensor.
///
/// The stream is the number of random operations recorded before, so two calls in one model use different streams. A
/// resumed run and another replica record the same model and therefore draw the same mask.
#[track_caller]
pub(crate) fn dropout<'g>(x: Var<'g>, p: f64, rng: Var<'g>, first: usize) -> Var<'g> {
    let graph = x.graph();
    if !(0.0..1.0).contains(&p) {
        let rule = Rule::new(format!("the probability must be in [0, 1), not {p}"));
        return graph.refuse("dropout", &[x, rng], rule);
    }
    if let Err(rule) = check_rng(rng) {
        return graph.refuse("dropout", &[x, rng], rule);
    }
    if p == 0.0 {
        return x;
    }
    let random_ops =
        graph.nodes().iter().filter(|node| [UNIFORM.name, NORMAL.name].contains(&node.op.name())).count();
    let (stream, shape) = (1 << 31 | random_ops as u32, x.shape());
    let values = match shape.first() {
        Some(&rows) if first > 0 => {
            let whole: Vec<usize> = std::iter::once(first + rows).chain(shape[1..].iter().copied()).collect();
            // A kernel computes only the elements that the slice reads.
            uniform(rng, stream, whole).slice(0, first..first + rows)
        }
        _ => uniform(rng, stream, shape),
    };
    let mask = values.ge(full(graph, [], p));
    x.mul(mask * (1.0 / (1.0 - p)))
}

#[track_caller]
fn draw<'g>(function: &'static ScalarFn, rng: Var<'g>, stream: u32, shape: Shape) -> Var<'g> {
    let graph = rng.graph();
    if let Err(rule) = check_rng(rng) {
        return graph.refuse(function.name, &[rng], rule);
    }
    let element = |i: usize| reshape(rng.slice(0, i..i + 1), []);
    let [low, high, step] =
        [element(0), element(1), element(2)].map(|element| broadcast_to(element, shape.clone()));
    graph.push(Random { function, stream }, &[low, high, step])
}

fn check_rng(rng: Var<'_>) -> Result<(), Rule> {
    if rng.ty() == TensorType::u32([3]) {
        Ok(())
    } else {
        Err(Rule::new(format!(
            "`rng` must be u32[3] = (low u32 of the seed, high u32 of the seed, step), not {}",
            rng.ty()
        )))
    }
}

/// Operation that computes a random value for each index. Inputs, each with the shape of the output: low and high u32
/// of the seed, and step.
#[derive(Debug)]
struct Random {
    function: &'static ScalarFn,
    stream: u32,
}

impl Op for Random {
    fn name(&self) -> &'static str {
        self.function.name
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        check_dtype(DType::U32, ins)?;
        Ok(TensorType::f32(ins[0].shape.clone()))
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Zero("a random value does not depend on float inputs")
    }

    fn lower(&self, _: &[TensorType], out: &TensorType) -> Lowered {
        let mut strides = vec![1; out.shape.len()];
        for i in (1..strides.len()).rev() {
            strides[i - 1] = strides[i] * out.shape[i];
        }
        let (low, high, step) = (Expr::Input(0), Expr::Input(1), Expr::Input(2));
        Lowered::Map(Expr::Call(
            self.function,
            vec![Expr::Iota(strides), low, high, Expr::U32(self.stream), step],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from the test vectors of the authors of Philox.
    #[test]
    fn counter_is_index_step_stream_kind_and_key_is_the_seed() {
        let args: [&[u32]; 5] =
            [&[0x243f_6a88], &[0xa409_3822], &[0x299f_31d0], &[0x1319_8a2e], &[0x85a3_08d3]];
        let mut block = [[0; 4]];
        map_blocks(args, &mut block, 0x0370_7344, |block| block);
        assert_eq!(block, [[0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]]);
        let (mut out, Call::Random(body)) = ([0.0f32], UNIFORM.f32) else { unreachable!() };
        body([&[0], &[0], &[0], &[0], &[0]], &mut out);
        assert_eq!(out[0], (0x6627_e8d5_u32 >> 8) as f32 / 16_777_216.0);
    }

    #[test]
    fn normal_values_are_finite_with_mean_zero_and_variance_one() {
        let n = 20_000;
        let (index, same): (Vec<u32>, Vec<u32>) = ((0..n).collect(), vec![7; n as usize]);
        let (mut out, Call::Random(body)) = (vec![0.0f64; n as usize], NORMAL.f64) else { unreachable!() };
        body([&index, &same, &same, &same, &same], &mut out);
        let mean = out.iter().sum::<f64>() / f64::from(n);
        let variance = out.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        assert!(out.iter().all(|x| x.is_finite()));
    }
}
