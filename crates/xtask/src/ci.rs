//! `cargo xtask ci`: the checks that a change must pass, in order, up to the first failure, with the time of each.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::adapters::Adapters;
use crate::workspace::Workspace;
use crate::{arrows, examples, mpi, process, test};

/// Results of a step that later steps and the end of the output need.
#[derive(Default)]
struct State {
    adapters: Option<Adapters>,
    test_summary: Vec<String>,
}

struct Step {
    name: &'static str,
    run: fn(&Workspace, &mut State) -> Result<()>,
}

/// The fastest checks come first.
const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        run: |workspace, _| process::run(&mut workspace.cargo(&["fmt", "--all", "--check"])),
    },
    Step { name: "arrows", run: |workspace, _| arrows::task(workspace) },
    Step { name: "clippy", run: |workspace, _| clippy(workspace) },
    Step { name: "adapters", run: set_up_adapters },
    Step { name: "test", run: run_tests },
    Step { name: "doc", run: |workspace, _| doc(workspace) },
    Step { name: "examples", run: run_examples },
];

pub fn task(workspace: &Workspace) -> Result<()> {
    let mut state = State::default();
    let mut times = Vec::new();
    let mut failure = None;
    for step in STEPS {
        eprintln!("\n=== {} ===", step.name);
        let start = Instant::now();
        let result = (step.run)(workspace, &mut state);
        times.push(start.elapsed());
        if let Err(error) = result {
            failure = Some((step.name, error));
            break;
        }
    }
    println!("\n=== steps ===\n{}", table(&times, failure.is_some()));
    // At the end of the log, where a reader looks first.
    if !state.test_summary.is_empty() {
        println!("\n=== tests ===\n{}", state.test_summary.join("\n"));
    }
    match failure {
        Some((name, error)) => bail!("step {name}: {error:#}"),
        None => Ok(()),
    }
}

fn clippy(workspace: &Workspace) -> Result<()> {
    if mpi::set_up(workspace)? {
        let mut command = workspace.cargo(&["clippy", "--package", "wgrad-comm", "--package", "wgrad"]);
        command.args(["--features", "mpi", "--all-targets", "--locked", "--", "-D", "warnings"]);
        process::run(&mut command)?;
    }
    process::run(&mut workspace.cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

fn set_up_adapters(workspace: &Workspace, state: &mut State) -> Result<()> {
    state.adapters = Some(Adapters::set_up(workspace)?);
    Ok(())
}

fn run_tests(workspace: &Workspace, state: &mut State) -> Result<()> {
    let outcome = test::run(workspace, adapters(state)?, &[])?;
    let passed = outcome.check();
    state.test_summary = outcome.summary;
    passed
}

fn doc(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn run_examples(workspace: &Workspace, state: &mut State) -> Result<()> {
    examples::run(workspace, adapters(state)?)
}

fn adapters(state: &State) -> Result<&Adapters> {
    state.adapters.as_ref().ok_or_else(|| anyhow::anyhow!("the step `adapters` has not run"))
}

/// One line per step. If a step failed, it is the last one with a time.
fn table(times: &[Duration], failed: bool) -> String {
    let rows = STEPS.iter().enumerate().map(|(index, step)| match times.get(index) {
        None => format!("{:<10} not run", step.name),
        Some(time) => {
            let result = if failed && index + 1 == times.len() { "FAILED" } else { "ok" };
            format!("{:<10} {:>7.1} s  {result}", step.name, time.as_secs_f64())
        }
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_marks_the_failed_step_and_those_not_run() {
        let second = Duration::from_secs(1);
        let all = table(&vec![second; STEPS.len()], false);
        assert_eq!(all.lines().count(), STEPS.len());
        assert!(all.lines().all(|line| line.ends_with("1.0 s  ok")), "{all}");

        let rows = table(&[second, second], true);
        let results: Vec<&str> = rows.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(results[..3], ["ok", "FAILED", "run"]);
    }
}
