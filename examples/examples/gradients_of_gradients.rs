//! Second derivatives: Newton's method on Rosenbrock's function f(x, y) = (1 − x)² + 100 (y − x²)². Gradients are
//! values in the graph, so a second differentiation computes the Hessian.
//!
//!     cargo run --release -p wgrad-examples --example gradients_of_gradients

use wgrad::prelude::*;

fn main() -> anyhow::Result<()> {
    let graph = graph(States::new());
    let x = graph.input("x", TensorType::f32([1]));
    let y = graph.input("y", TensorType::f32([1]));
    let f = (1.0 - x).square() + 100.0 * (y - x.square()).square();
    let first = grad(f.sum_all(), &[x, y])?;
    let hessian: Vec<Vec<Var>> =
        first.iter().map(|g| grad(g.sum_all(), &[x, y])).collect::<Result<_, _>>()?;
    graph.output("f", f);
    first.iter().chain(hessian.iter().flatten()).for_each(|&value| graph.output("derivative", value));

    let device = open(DeviceChoice::Auto)?;
    let program = compile(&graph, Options::default())?;
    println!("value, gradient and Hessian in {} kernels", program.dispatches.len());
    let mut session = device.session(&program.states)?;
    let id = session.load(&program)?;

    let mut at = [-1.2f32, 1.0];
    for step in 0..8 {
        session.run(id, &[Data::F32(&at[..1]), Data::F32(&at[1..])])?;
        let values: Vec<f32> = (0..program.outputs.len())
            .map(|i| Ok(session.output(id, i)?.to_f32()[0]))
            .collect::<anyhow::Result<_>>()?;
        let [f, gx, gy, xx, xy, yx, yy] = values[..] else {
            anyhow::bail!("expected seven outputs, found {}", values.len())
        };
        println!("step {step}: f({:8.5}, {:8.5}) = {f:.6}", at[0], at[1]);
        let determinant = xx * yy - xy * yx;
        at[0] -= (yy * gx - xy * gy) / determinant;
        at[1] -= (xx * gy - yx * gx) / determinant;
    }
    anyhow::ensure!(
        (at[0] - 1.0).abs() < 1e-3 && (at[1] - 1.0).abs() < 1e-3,
        "Newton's method ended at {at:?}, expected [1, 1]"
    );
    println!("the minimum is at ({:.4}, {:.4})", at[0], at[1]);
    Ok(())
}
