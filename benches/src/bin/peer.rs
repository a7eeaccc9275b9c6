//! One workload on one device, timed; prints one JSON line, so that a script can measure engines side by side.
//!
//!     peer cpu|gpu WORKLOAD [--secs S] [--warm S] [--max-steps N] [--cold]

use anyhow::{Context, Result, bail};
use wgrad::prelude::*;
use wgrad_bench::{Loaded, workload};
use wgrad_benches::clock::{Effort, measure, start_ns};

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let t0 = start_ns();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, name, options @ ..] = arguments.as_slice() else {
        bail!("usage: peer cpu|gpu WORKLOAD [--secs S] [--warm S] [--max-steps N] [--cold]");
    };
    let effort = effort(options)?;
    let choice = match backend.as_str() {
        "cpu" => DeviceChoice::Cpu,
        "gpu" => DeviceChoice::Gpu,
        other => other.parse().map_err(anyhow::Error::msg)?,
    };
    let device = open(choice)?;
    let work = workload(name)?;
    let mut loaded = Loaded::new(&*device, &work)?;
    let mut figures = measure(effort, t0, loaded.cost.flops as f64, |sync| Ok(loaded.step(sync)?))?;
    figures.insert("peer".into(), format!("wgrad-{backend}").into());
    figures.insert("workload".into(), name.as_str().into());
    figures.insert("device".into(), device.info().name.clone().into());
    figures.insert("dispatches".into(), loaded.dispatches.into());
    println!("{}", serde_json::Value::Object(figures));
    Ok(())
}

fn effort(options: &[String]) -> Result<Effort> {
    let mut effort = Effort { seconds: 10.0, warm: 4.0, most_steps: 2000, cold: false };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if option == "--cold" {
            effort.cold = true;
            continue;
        }
        let value = rest.next().with_context(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--secs" => effort.seconds = value.parse().context("--secs")?,
            "--warm" => effort.warm = value.parse().context("--warm")?,
            "--max-steps" => effort.most_steps = value.parse().context("--max-steps")?,
            _ => bail!("unknown option {option}"),
        }
    }
    Ok(effort)
}
