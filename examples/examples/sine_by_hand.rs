//! Training loop without `Trainer`. A small network learns one period of a sine curve from 64 noisy points. The task is
//! the introductory example of Bishop & Bishop (2024), §1.2.
//!
//!     cargo run --release -p wgrad-examples --example sine_by_hand

use wgrad::graph::philox::Stream;
use wgrad::prelude::*;

const POINTS: usize = 64;
const RATE: f64 = 0.05;

fn main() -> anyhow::Result<()> {
    // Layers declare their parameters; `finish` adds the parameters to the state, which is kept on the device.
    let mut states = States::new();
    let mut builder = Builder::new();
    let config = MlpConfig { hidden: vec![32, 32], activation: Activation::Tanh, ..MlpConfig::default() };
    let model = Mlp::new(&mut builder, &config, 1, 1);
    let params = builder.finish(&mut states);

    // Record the training step once: loss, gradients, and the update of the parameters.
    let graph = graph(states);
    let x = graph.input("x", TensorType::f32([POINTS, 1]));
    let target = graph.input("target", TensorType::f32([POINTS, 1]));
    let context = Context::new(&graph, &params);
    let output = model.forward(&context, x);
    let loss = (output - target).square().mean_all();
    let (weights, offsets): (Vec<Var>, Vec<usize>) = context.all_params().into_iter().unzip();
    let gradients = grad(loss, &weights)?;
    let flat = pack(&graph, &gradients, &offsets, graph.states().get(params.group()).len());
    graph.update_group(params.group(), graph.group(params.group()) - flat * RATE);
    graph.output("loss", loss);
    graph.output("output", output);

    // Compile the step once.
    let program = compile(&graph, Options::default())?;
    println!(
        "a training step has {} kernels and uses {} bytes",
        program.dispatches.len(),
        program.peak_bytes()
    );
    let device = open(DeviceChoice::Auto)?;
    let mut session = device.session(&program.states)?;
    session.write_group(params.group(), Data::F32(&params.initial(&program.states, params.group(), 1)))?;
    let step = session.load(&program)?;

    // Run the step 2000 times.
    let mut noise = Stream::new(1, 1);
    let xs: Vec<f32> = (0..POINTS).map(|i| 2.0 * i as f32 / POINTS as f32 - 1.0).collect();
    let ys: Vec<f32> = xs.iter().map(|x| (std::f32::consts::PI * x).sin() + 0.1 * noise.normal()).collect();
    for _ in 0..2000 {
        session.run(step, &[Data::F32(&xs), Data::F32(&ys)])?;
    }
    let losses = session.records(step, true)?;
    for record in losses.iter().filter(|record| record.run % 400 == 0 || record.run == 1999) {
        println!("step {:4}  loss {:.4}", record.run, record.values[0]);
    }
    let last = losses.last().map_or(f32::NAN, |record| record.values[0]);
    anyhow::ensure!(last < 0.05, "the last loss is {last}, expected less than 0.05");

    let curve = session.output(step, 1)?.to_f32();
    for (x, y) in xs.iter().zip(&curve).step_by(4) {
        println!("{x:6.2} {y:6.2} {}*", " ".repeat((20.0 * (y + 1.2)) as usize));
    }
    Ok(())
}
