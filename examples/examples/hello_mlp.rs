//! Trains an MLP on images of handwritten digits, on a GPU if available.
//!
//!     cargo run --release -p wgrad-examples --example hello_mlp

use wgrad::prelude::*;

fn main() -> anyhow::Result<()> {
    let splits = wgrad::data::load(&"digits".parse()?)?.flattened();
    let device = open(DeviceChoice::Auto)?;

    let model = Model::new(|b| {
        Sequential::new()
            .push(b, |b| Linear::new(b, 64, 128))
            .push(b, |_| Activation::Relu)
            .push(b, |b| Linear::new(b, 128, 10))
    });
    let plan = Plan::new(model, &splits, Config::default(), &device.info().limits)?;
    println!("{} parameters, {} bytes on {}", plan.params.count(), plan.peak_bytes(), device.info().name);

    let mut trainer = Trainer::new(&*device, plan, splits, 440)?;
    for epoch in 1..=20 {
        for _ in 0..trainer.steps_per_epoch() {
            trainer.step()?;
        }
        let steps = trainer.records(true)?;
        let loss = steps.iter().map(|step| step.loss).sum::<f32>() / steps.len() as f32;
        let test = trainer.evaluate(SplitName::Test)?;
        println!(
            "epoch {epoch:2}  loss {loss:.4}  test accuracy {:.1}%",
            100.0 * test.accuracy.unwrap_or(0.0)
        );
    }
    Ok(())
}
