//! `cargo xtask test`: the adapters, then all tests, then what was skipped, by name.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::adapters::Adapters;
use crate::mpi;
use crate::process;
use crate::summary;
use crate::workspace::Workspace;

/// The file to which a test that cannot run here appends `skipped: TEST_NAME: reason`.
const SKIP_LOG: &str = "WGRAD_SKIP_LOG";

/// How a run of the tests ended.
pub struct Outcome {
    /// The runner's closing lines and the skipped tests.
    pub closing: Vec<String>,
    /// The parts that failed.
    failed: Vec<&'static str>,
}

impl Outcome {
    pub fn check(&self) -> Result<()> {
        if self.failed.is_empty() { Ok(()) } else { bail!("{} failed", self.failed.join(" and ")) }
    }

    fn add(&mut self, part: &'static str, heard: &process::Heard, closing: Vec<String>) {
        self.closing.extend(closing);
        if !heard.status.success() {
            self.failed.push(part);
        }
    }
}

pub fn task(workspace: &Workspace, args: &[String]) -> Result<()> {
    let adapters = Adapters::set_up(workspace)?;
    let outcome = run(workspace, &adapters, args)?;
    println!("\n{}", outcome.closing.join("\n"));
    outcome.check()
}

/// Runs the tests. With arguments only those that they select: no doc tests, which know no such arguments.
pub fn run(workspace: &Workspace, adapters: &Adapters, args: &[String]) -> Result<Outcome> {
    mpi::set_up(workspace)?;
    let skip_log = workspace.target().join("skipped.txt");
    std::fs::create_dir_all(workspace.target())?;
    std::fs::write(&skip_log, "").with_context(|| format!("cannot write {}", skip_log.display()))?;

    let mut outcome = Outcome { closing: Vec::new(), failed: Vec::new() };
    unit_tests(workspace, adapters, args, &skip_log, &mut outcome)?;
    if args.is_empty() {
        doc_tests(workspace, adapters, &skip_log, &mut outcome)?;
    } else {
        outcome.closing.push("doc tests: left out, as arguments were given".into());
    }
    outcome.closing.extend(summary::of_skips(&std::fs::read_to_string(&skip_log)?));
    Ok(outcome)
}

fn unit_tests(
    workspace: &Workspace,
    adapters: &Adapters,
    args: &[String],
    skip_log: &Path,
    outcome: &mut Outcome,
) -> Result<()> {
    let has_nextest = process::output(&mut workspace.cargo(&["nextest", "--version"])).is_ok();
    // `cargo test` runs the doc tests too unless told which targets; they have a run of their own.
    let runner: &[&str] = if has_nextest {
        &["nextest", "run", "--locked"]
    } else {
        &["test", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"]
    };
    let mut command = workspace.cargo(runner);
    if !selects_packages(args) {
        command.arg("--workspace");
    }
    let heard = hear(command.args(args), adapters, skip_log)?;
    let closing = if has_nextest {
        summary::of_nextest(&heard.lines)
    } else {
        summary::of_libtest("tests", &heard.lines)
    };
    outcome.add("tests", &heard, closing);
    Ok(())
}

fn doc_tests(
    workspace: &Workspace,
    adapters: &Adapters,
    skip_log: &Path,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut command = workspace.cargo(&["test", "--doc", "--workspace", "--locked", "--no-fail-fast"]);
    let heard = hear(&mut command, adapters, skip_log)?;
    outcome.add("doc tests", &heard, summary::of_libtest("doc tests", &heard.lines));
    Ok(())
}

fn hear(command: &mut Command, adapters: &Adapters, skip_log: &Path) -> Result<process::Heard> {
    adapters.apply(command);
    process::run_and_hear(command.env(SKIP_LOG, skip_log))
}

/// `--workspace` would win over `-p`.
fn selects_packages(args: &[String]) -> bool {
    let own = args.iter().take_while(|&arg| arg != "--");
    own.into_iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_replaces_the_workspace() {
        let selects = |text: &str| selects_packages(&text.split(' ').map(str::to_string).collect::<Vec<_>>());
        assert!(selects("-p wgrad-ops") && selects("x --package=wgrad-ops") && selects("-pwgrad-ops"));
        assert!(!selects("matmul") && !selects("-- -p") && !selects("--no-capture --profile ci"));
    }
}
