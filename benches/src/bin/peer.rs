//! Times one workload on one device and prints one line of JSON, for scripts that compare engines.
//!
//!     peer cpu|gpu WORKLOAD [--secs S] [--warm S] [--max-steps N] [--cold]

use anyhow::{Context, Result, bail};
use wgrad::prelude::*;
use wgrad_bench::{LoadedWorkload, workload};
use wgrad_benches::clock::{Budget, measure, start_ns};

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let t0 = start_ns();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, name, options @ ..] = arguments.as_slice() else {
        bail!("usage: peer cpu|gpu WORKLOAD [--secs S] [--warm S] [--max-steps N] [--cold]");
    };
    let budget = budget(options)?;
    let choice = match backend.as_str() {
        "cpu" => DeviceChoice::Cpu,
        "gpu" => DeviceChoice::Gpu,
        other => other.parse().map_err(anyhow::Error::msg)?,
    };
    let device = open(choice)?;
    let workload = workload(name)?;
    let mut loaded = LoadedWorkload::new(&*device, &workload)?;
    let mut results = measure(budget, t0, loaded.cost.flops as f64, |sync| Ok(loaded.step(sync)?))?;
    results.insert("peer".into(), format!("wgrad-{backend}").into());
    results.insert("workload".into(), name.as_str().into());
    results.insert("device".into(), device.info().name.clone().into());
    results.insert("dispatches".into(), loaded.dispatches.into());
    println!("{}", serde_json::Value::Object(results));
    Ok(())
}

fn budget(options: &[String]) -> Result<Budget> {
    let mut budget = Budget { seconds: 10.0, warmup: 4.0, max_steps: 2000, cold: false };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if option == "--cold" {
            budget.cold = true;
            continue;
        }
        let value = options.next().with_context(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--secs" => budget.seconds = value.parse().context("--secs")?,
            "--warm" => budget.warmup = value.parse().context("--warm")?,
            "--max-steps" => budget.max_steps = value.parse().context("--max-steps")?,
            _ => bail!("unknown option {option}"),
        }
    }
    Ok(budget)
}
