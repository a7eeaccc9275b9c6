//! Random numbers: pure functions of (seed, stream, step, index), with the same bits in Rust and WGSL.
//!
//! The element with row-major index i of stream s at step t under a seed is made of the words of one Philox4x32-10 block:
//! its key is (low, high word of the seed), its counter (i, t, s, kind), kind being 0 for uniform and 1 for normal numbers.
//! The generator argument `rng` holds what is uploaded for a step: u32[3] = (low, high word of the seed, step).

use wgrad_graph::philox::{philox4x32, unit};
use wgrad_graph::{Call, DType, Expr, Lowered, Op, Rule, ScalarFn, Shape, TensorType, Var, Vjp};
use wgrad_shaders::PHILOX;

use crate::constant::full;
use crate::pointwise::all_of;
use crate::sample::{Input, Sample, shape};
use crate::scalar::{ANY, Values};
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;
use crate::view::{broadcast_to, reshape};

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "uniform",
        doc: "Random numbers, uniform in [0, 1): multiples of 2⁻²⁴.",
        sample: |random| {
            let (shape, stream) = (shape(random), random.next_u32());
            Sample::new(vec![generator()], move |_, ins| uniform(ins[0], stream, shape.clone()))
        },
        tolerance: 0.0,
        order: Order::Zero,
        refuses: || refused(|rng| uniform(rng, 0, [2])),
    },
    Entry {
        name: "normal",
        doc: "Random numbers, standard normal, by Box and Muller.",
        sample: |random| {
            let (shape, stream) = (shape(random), random.next_u32());
            Sample::new(vec![generator()], move |_, ins| normal(ins[0], stream, shape.clone()))
        },
        tolerance: 2e-3,
        order: Order::Zero,
        refuses: || refused(|rng| normal(rng, 0, [2])),
    },
    Entry {
        name: "dropout",
        doc: "Each element zeroed with probability p, the others divided by 1 − p (Srivastava et al., 2014).",
        sample: |random| {
            let p = f64::from(random.below(3)) * 0.25;
            let x = Input::f32(shape(random), ANY);
            Sample::new(vec![x, generator()], move |_, ins| ins[0].dropout(p, ins[1]))
        },
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || {
            let mut all = refused(|rng| full(rng.graph(), [2], 1.0).dropout(0.5, rng));
            for p in [-0.1, 1.0, f64::NAN] {
                let ins = vec![TensorType::f32([2]), TensorType::u32([3])];
                all.push(Refused::new(ins, "lies in [0, 1)", move |_, ins| ins[0].dropout(p, ins[1])));
            }
            all
        },
    },
];

fn generator() -> Input {
    Input::new(TensorType::u32([3]), Values::AnyWords)
}

fn refused(build: for<'g> fn(Var<'g>) -> Var<'g>) -> Vec<Refused> {
    vec![
        Refused::new(vec![TensorType::u32([2])], "u32[3]", move |_, ins| build(ins[0])),
        Refused::new(vec![TensorType::f32([3])], "u32[3]", move |_, ins| build(ins[0])),
    ]
}

static UNIFORM: ScalarFn = ScalarFn {
    name: "uniform",
    wgsl: "philox_uniform({0}, {1}, {2}, {3}, {4})",
    prelude: PHILOX,
    flops: 1,
    f32: Call::Random(|args, out| each(args, out, 0, |words| unit(words[0]))),
    f64: Call::Random(|args, out| each(args, out, 0, |words| f64::from(unit(words[0])))),
};

static NORMAL: ScalarFn = ScalarFn {
    name: "normal",
    wgsl: "philox_normal({0}, {1}, {2}, {3}, {4})",
    prelude: PHILOX,
    flops: 6,
    f32: Call::Random(|args, out| {
        each(args, out, 1, |words| {
            let (u, v) = (1.0 - unit(words[0]), unit(words[1]));
            (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
        })
    }),
    f64: Call::Random(|args, out| {
        each(args, out, 1, |words| {
            let (u, v) = (1.0 - f64::from(unit(words[0])), f64::from(unit(words[1])));
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        })
    }),
};

/// The value of a block for each index. Arguments: index, low and high word of the seed, stream, step.
fn each<T>(
    [index, low, high, stream, step]: [&[u32]; 5],
    out: &mut [T],
    kind: u32,
    value: impl Fn([u32; 4]) -> T,
) {
    for (i, o) in out.iter_mut().enumerate() {
        *o = value(philox4x32([index[i], step[i], stream[i], kind], [low[i], high[i]]));
    }
}

/// Uniform in [0, 1), drawn from the generator `rng`, `u32[3]` = (low, high word of the seed, step).
///
/// Streams of one graph must differ where their numbers must be independent; those from 2³¹ on belong to
/// [`TensorOps::dropout`].
#[track_caller]
pub fn uniform(rng: Var<'_>, stream: u32, shape: impl Into<Shape>) -> Var<'_> {
    draw(&UNIFORM, rng, stream, shape.into())
}

/// Standard normal, drawn from the generator `rng` as in [`uniform`].
#[track_caller]
pub fn normal(rng: Var<'_>, stream: u32, shape: impl Into<Shape>) -> Var<'_> {
    draw(&NORMAL, rng, stream, shape.into())
}

/// `x` with each element zeroed with probability `p` and the others scaled. The rows of `x` are those from `first` on of a
/// larger tensor, and are treated as they would be there.
///
/// The stream is the number of draws in the graph before, so two calls in one model differ, and a resumed run or another
/// part of the batch, which record the same model, draw what the first one would have.
#[track_caller]
pub(crate) fn dropout<'g>(x: Var<'g>, p: f64, rng: Var<'g>, first: usize) -> Var<'g> {
    let graph = x.graph();
    if !(0.0..1.0).contains(&p) {
        let rule = Rule::new(format!("the probability lies in [0, 1); {p} does not"));
        return graph.refuse("dropout", &[x, rng], rule);
    }
    if let Err(rule) = check(rng) {
        return graph.refuse("dropout", &[x, rng], rule);
    }
    if p == 0.0 {
        return x;
    }
    let draws =
        graph.nodes().iter().filter(|node| [UNIFORM.name, NORMAL.name].contains(&node.op.name())).count();
    let (stream, shape) = (1 << 31 | draws as u32, x.shape());
    let drawn = match shape.first() {
        Some(&rows) if first > 0 => {
            let whole: Vec<usize> = std::iter::once(first + rows).chain(shape[1..].iter().copied()).collect();
            // Through a slice, which a kernel computes no more of than it shows.
            uniform(rng, stream, whole).slice(0, first..first + rows)
        }
        _ => uniform(rng, stream, shape),
    };
    let kept = drawn.ge(full(graph, [], p));
    x.mul(kept * (1.0 / (1.0 - p)))
}

#[track_caller]
fn draw<'g>(function: &'static ScalarFn, rng: Var<'g>, stream: u32, shape: Shape) -> Var<'g> {
    let graph = rng.graph();
    if let Err(rule) = check(rng) {
        return graph.refuse(function.name, &[rng], rule);
    }
    let word = |i: usize| reshape(rng.slice(0, i..i + 1), []);
    let [low, high, step] = [word(0), word(1), word(2)].map(|word| broadcast_to(word, shape.clone()));
    graph.push(Random { function, stream }, &[low, high, step])
}

fn check(rng: Var<'_>) -> Result<(), Rule> {
    if rng.ty() == TensorType::u32([3]) {
        Ok(())
    } else {
        Err(Rule::new(format!("a generator is u32[3], (low, high word of the seed, step), not {}", rng.ty())))
    }
}

/// A random number for each index. Inputs, of the shape of the output: low and high word of the seed, step.
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
        all_of(DType::U32, ins)?;
        Ok(TensorType::f32(ins[0].shape.clone()))
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Zero("a random number depends on no float")
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

    /// Wanted values from the authors' test vectors, through the counter and key that the module documents.
    #[test]
    fn the_counter_is_index_step_stream_kind_and_the_key_is_the_seed() {
        let args: [&[u32]; 5] =
            [&[0x243f_6a88], &[0xa409_3822], &[0x299f_31d0], &[0x1319_8a2e], &[0x85a3_08d3]];
        let mut words = [[0; 4]];
        each(args, &mut words, 0x0370_7344, |words| words);
        assert_eq!(words, [[0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]]);
        let (mut out, Call::Random(body)) = ([0.0f32], UNIFORM.f32) else { unreachable!() };
        body([&[0], &[0], &[0], &[0], &[0]], &mut out);
        assert_eq!(out[0], (0x6627_e8d5_u32 >> 8) as f32 / 16_777_216.0);
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one_and_are_finite() {
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
