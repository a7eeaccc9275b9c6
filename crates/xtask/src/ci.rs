//! `cargo xtask ci`: runs the checks that a change must pass, until one fails, and prints the time of each check.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::adapters::Adapters;
use crate::workspace::Workspace;
use crate::{arrows, examples, mpi, process, test};

/// Times of the finished steps, and the summary of the test results.
#[derive(Default)]
struct Log {
    times: Vec<(&'static str, Duration)>,
    test_summary: Vec<String>,
}

pub fn task(workspace: &Workspace) -> Result<()> {
    let mut log = Log::default();
    let result = run_steps(workspace, &mut log);
    println!("\n=== steps ===");
    for (name, time) in &log.times {
        println!("{name:<10} {:>7.1} s", time.as_secs_f64());
    }
    // Printed last, because readers look at the end of the output first.
    if !log.test_summary.is_empty() {
        println!("\n=== tests ===\n{}", log.test_summary.join("\n"));
    }
    result
}

/// Runs all steps, the fastest checks first.
fn run_steps(workspace: &Workspace, log: &mut Log) -> Result<()> {
    step(log, "fmt", |_| process::run(&mut workspace.cargo(&["fmt", "--all", "--check"])))?;
    step(log, "arrows", |_| arrows::task(workspace))?;
    step(log, "clippy", |_| clippy(workspace))?;
    let adapters = step(log, "adapters", |_| Adapters::set_up(workspace))?;
    step(log, "test", |log| {
        let outcome = test::run(workspace, &adapters, &[])?;
        let result = outcome.check();
        log.test_summary = outcome.summary;
        result
    })?;
    step(log, "doc", |_| doc(workspace))?;
    step(log, "examples", |_| examples::run(workspace, &adapters))
}

fn step<T>(log: &mut Log, name: &'static str, run: impl FnOnce(&mut Log) -> Result<T>) -> Result<T> {
    eprintln!("\n=== {name} ===");
    let start = Instant::now();
    let result = run(log).with_context(|| format!("step {name} failed"));
    log.times.push((name, start.elapsed()));
    result
}

/// Lints the workspace, and the two packages with MPI code a second time with the feature `mpi`.
fn clippy(workspace: &Workspace) -> Result<()> {
    const WITH_MPI: &[&str] = &["--package", "wgrad-comm", "--package", "wgrad", "--features", "mpi"];
    let lint = |selection: &[&str]| {
        let mut command = workspace.cargo(&["clippy", "--locked", "--all-targets"]);
        process::run(command.args(selection).args(["--", "-D", "warnings"]))
    };
    if mpi::set_up(workspace)? {
        lint(WITH_MPI)?;
    }
    lint(&["--workspace"])
}

fn doc(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}
