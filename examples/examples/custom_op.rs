//! Custom operation, defined outside wgrad by a shape rule, a gradient rule and an expression that all backends
//! compile: `softsign(x) = x / (1 + |x|)`.
//!
//!     cargo run --release -p wgrad-examples --example custom_op

use wgrad::graph::{Call, Expr, Lowered, Op, Rule, ScalarFn, Vjp};
use wgrad::prelude::*;

/// The scalar function softsign, as WGSL for GPUs and as Rust functions for the CPU.
static SOFTSIGN: ScalarFn = ScalarFn {
    name: "softsign",
    wgsl: "{0} / (1.0 + abs({0}))",
    prelude: "",
    flops: 3,
    f32: Call::Unary(|x, out| out.iter_mut().zip(x).for_each(|(out, x)| *out = x / (1.0 + x.abs()))),
    f64: Call::Unary(|x, out| out.iter_mut().zip(x).for_each(|(out, x)| *out = x / (1.0 + x.abs()))),
};

#[derive(Debug)]
struct Softsign;

impl Op for Softsign {
    fn name(&self) -> &'static str {
        "softsign"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        match ins {
            [x] if x.dtype == DType::F32 => Ok(x.clone()),
            _ => Err(Rule::new("softsign expects one f32 tensor")),
        }
    }

    /// Returns the gradient, with softsign′(x) = (1 − |softsign(x)|)². The formula uses the output, so the input is not
    /// kept.
    fn vjp<'g>(&self, _: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        Vjp::Grads(vec![Some(cotangent * (1.0 - out.abs()).square())])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Map(Expr::Call(&SOFTSIGN, vec![Expr::Input(0)]))
    }
}

fn main() -> anyhow::Result<()> {
    let xs = [-3.0f32, -1.0, -0.25, 0.5, 2.0];
    let graph = graph(States::new());
    let x = graph.input("x", TensorType::f32([xs.len()]));
    let y = graph.push(Softsign, &[x]);
    let first = grad(y.sum_all(), &[x])?[0];
    let second = grad(first.sum_all(), &[x])?[0];
    [y, first, second].into_iter().for_each(|value| graph.output("", value));

    let device = open(DeviceChoice::Auto)?;
    let outputs = evaluate(&*device, &graph, &[Data::F32(&xs)])?;
    println!("{:>8} {:>10} {:>10} {:>10}", "x", "softsign", "first", "second");
    for (i, x) in xs.iter().enumerate() {
        let [y, first, second] = [0, 1, 2].map(|o| outputs[o].to_f32()[i]);
        println!("{x:8.2} {y:10.5} {first:10.5} {second:10.5}");
        let exact = 1.0 / (1.0 + x.abs()).powi(2);
        anyhow::ensure!((first - exact).abs() < 1e-6, "the gradient at {x} is {first}, expected {exact}");
    }
    Ok(())
}
