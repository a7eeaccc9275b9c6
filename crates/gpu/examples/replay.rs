//! Measures the host time per dispatch: `cargo run --release -p wgrad-gpu --example replay -- [ADAPTER] [DISPATCHES]`.
//!
//! Each kernel computes one element, so that the work of the host dominates the measured time. The dispatches alternate
//! between a few distinct kernels, as in a training step.

#[allow(dead_code)]
#[path = "../tests/common/plan.rs"]
mod plan;

use std::time::Instant;

use wgrad_gpu::{GpuDevice, adapters};
use wgrad_graph::{DType, Layout, States};
use wgrad_program::{Access, Data, Device, Program};

use plan::{Body, Plan};

/// Number of timed runs. This is below the number of queued runs at which the next run waits.
const RUNS: usize = 100;

/// Builds a program in which each dispatch reads the input and the result of the previous dispatch.
fn program(dispatches: usize) -> Program {
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &[64]);
    let y = plan.output("y", DType::F32, &[]);
    let tensors: Vec<_> = (0..4).map(|i| plan.scratch(DType::F32, &[64 + i])).collect();
    for i in 0..dispatches {
        let (from, to) = (&tensors[i % 4], if i + 1 == dispatches { &y } else { &tensors[(i + 1) % 4] });
        let mut body = Body::over(&[], &[]);
        let value = body.load(i % 2, Layout::strided(&[], Vec::new(), (i % 5) as isize));
        body.store(value, 2, Layout::contiguous(&[]));
        plan.dispatch(
            &format!("kernel {i}"),
            body.build(),
            &[(&x, Access::Read), (from, Access::Read), (to, Access::Write)],
        );
    }
    plan.program
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let (index, dispatches) = (args.next().unwrap_or(0), args.next().unwrap_or(200));
    let Some(adapter) = adapters().get(index) else {
        println!("no adapter {index}");
        return Ok(());
    };
    println!("{} ({}, {})", adapter.info.name, adapter.info.backend, adapter.info.driver);
    let program = program(dispatches);
    let mut session = GpuDevice::open(index)?.session(&States::new())?;
    let id = session.load(&program)?;
    let x = vec![1.0; 64];
    // Measure with and without waiting for each run. Waiting keeps the threads of a software adapter off the host's
    // cores. Training queues runs without waiting.
    for waits in [true, false, true, false] {
        session.wait()?;
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            if waits {
                session.wait()?;
            }
            let start = Instant::now();
            session.run(id, &[Data::F32(&x)])?;
            times.push(start.elapsed().as_secs_f64() * 1e6 / dispatches as f64);
        }
        times.sort_by(f64::total_cmp);
        let at = |fraction: f64| times[(fraction * (RUNS - 1) as f64) as usize];
        println!(
            "{}: {dispatches} dispatches, host µs per dispatch: min {:.2}, median {:.2}, max {:.2}",
            if waits { "one at a time" } else { "queued" },
            at(0.0),
            at(0.5),
            at(1.0)
        );
    }
    Ok(())
}
