//! `cargo xtask test`: sets up adapters and MPI, runs all tests, and lists the skipped ones by name.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::adapters::Adapters;
use crate::mpi;
use crate::process::{self, Captured};
use crate::summary;
use crate::workspace::Workspace;

/// Environment variable with the path of the skip log. A test that cannot run appends `skipped: TEST_NAME: reason` to
/// this file.
const SKIP_LOG: &str = "WGRAD_SKIP_LOG";

/// Environment variable that disables optimisations in Mesa's llvmpipe; other drivers ignore it. The tests compile
/// thousands of short-running shaders. Without optimisations and with vectors of 4 instead of 8 lanes, llvmpipe
/// compiles three times faster.
const FAST_SHADER_COMPILER: (&str, &str) = ("GALLIVM_PERF", "nopt");
/// Environment variable that makes llvmpipe use vectors of 4 lanes. Not set in CI, which tests subgroups of 8 lanes.
const NARROW_VECTORS: (&str, &str) = ("LP_NATIVE_VECTOR_WIDTH", "128");

/// Result of a test run.
pub struct Outcome {
    /// Summary lines of the test runner, and the list of skipped tests.
    pub summary: Vec<String>,
    /// Kinds of tests that failed: `tests`, `doc tests`.
    failed: Vec<&'static str>,
}

impl Outcome {
    /// Returns an error if a test failed.
    pub fn check(&self) -> Result<()> {
        if self.failed.is_empty() { Ok(()) } else { bail!("{} failed", self.failed.join(" and ")) }
    }

    fn add(&mut self, kind: &'static str, captured: &Captured, summary: Vec<String>) {
        self.summary.extend(summary);
        if !captured.status.success() {
            self.failed.push(kind);
        }
    }
}

pub fn task(workspace: &Workspace, args: &[String]) -> Result<()> {
    let adapters = Adapters::set_up(workspace)?;
    let outcome = run(workspace, &adapters, args)?;
    println!("\n{}", outcome.summary.join("\n"));
    outcome.check()
}

/// Runs the tests selected by `args`, which are passed to the test runner. Doc tests run only if `args` is empty,
/// because their runner accepts different arguments.
pub fn run(workspace: &Workspace, adapters: &Adapters, args: &[String]) -> Result<Outcome> {
    let with_mpi = uses_mpi(args) && mpi::set_up(workspace)?;
    if with_mpi {
        mpi::build_binary(workspace)?;
    }
    let skip_log = workspace.target().join("skipped.txt");
    std::fs::create_dir_all(workspace.target())?;
    std::fs::write(&skip_log, "").with_context(|| format!("cannot write {}", skip_log.display()))?;

    let runner = Runner { workspace, adapters, with_mpi, skip_log };
    let mut outcome = Outcome { summary: Vec::new(), failed: Vec::new() };
    runner.run_unit_tests(args, &mut outcome)?;
    if args.is_empty() {
        runner.run_doc_tests(&mut outcome)?;
    } else {
        outcome.summary.push("doc tests: not run, because arguments were given".into());
    }
    outcome.summary.extend(summary::of_skips(&std::fs::read_to_string(&runner.skip_log)?));
    Ok(outcome)
}

struct Runner<'a> {
    workspace: &'a Workspace,
    adapters: &'a Adapters,
    with_mpi: bool,
    skip_log: PathBuf,
}

impl Runner<'_> {
    fn run_unit_tests(&self, args: &[String], outcome: &mut Outcome) -> Result<()> {
        let has_nextest = process::output(&mut self.workspace.cargo(&["nextest", "--version"])).is_ok();
        let runner: &[&str] = if has_nextest { &["nextest", "run"] } else { &["test", "--no-fail-fast"] };
        let mut command = self.workspace.cargo(runner);
        // Exclude examples, which `cargo xtask examples` builds, and doc tests.
        command.args(["--locked", "--lib", "--bins", "--tests"]);
        if selected_packages(args).is_empty() {
            command.arg("--workspace");
        }
        let captured = self.capture(command.args(self.features()).args(args))?;
        let summary = if has_nextest {
            summary::of_nextest(&captured.lines)
        } else {
            summary::of_libtest("tests", &captured.lines)
        };
        outcome.add("tests", &captured, summary);
        Ok(())
    }

    fn run_doc_tests(&self, outcome: &mut Outcome) -> Result<()> {
        let mut command =
            self.workspace.cargo(&["test", "--doc", "--workspace", "--locked", "--no-fail-fast"]);
        let captured = self.capture(command.args(self.features()))?;
        outcome.add("doc tests", &captured, summary::of_libtest("doc tests", &captured.lines));
        Ok(())
    }

    fn features(&self) -> &'static [&'static str] {
        if self.with_mpi { mpi::features() } else { &[] }
    }

    fn capture(&self, command: &mut Command) -> Result<Captured> {
        self.adapters.apply(command);
        command.envs([FAST_SHADER_COMPILER]);
        if !process::is_set("WGRAD_REQUIRE_GPU") {
            command.envs([NARROW_VECTORS]);
        }
        // Disable colours, because the summary is parsed as plain text.
        process::run_and_capture(command.env(SKIP_LOG, &self.skip_log).env("CARGO_TERM_COLOR", "never"))
    }
}

/// Whether the selected packages include tests that use MPI.
fn uses_mpi(args: &[String]) -> bool {
    let packages = selected_packages(args);
    packages.is_empty() || packages.iter().any(|package| ["wgrad", "wgrad-comm"].contains(package))
}

/// Returns the packages named by `-p` and `--package`. If any is named, `--workspace` is omitted because it would
/// select all packages.
fn selected_packages(args: &[String]) -> Vec<&str> {
    let mut args = args.iter().map(String::as_str).take_while(|&arg| arg != "--");
    let mut packages = Vec::new();
    while let Some(arg) = args.next() {
        let attached = arg.strip_prefix("--package=").or_else(|| arg.strip_prefix("-p"));
        match attached {
            _ if arg == "-p" || arg == "--package" => packages.extend(args.next()),
            Some(package) => packages.push(package),
            None => {}
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn selected_packages_accepts_all_spellings() {
        let args = words("-p wgrad-ops x --package=wgrad-gpu --package wgrad -pwgrad-cpu -- -p other");
        assert_eq!(selected_packages(&args), ["wgrad-ops", "wgrad-gpu", "wgrad", "wgrad-cpu"]);
        assert!(selected_packages(&words("matmul --no-capture --profile ci")).is_empty());
    }

    #[test]
    fn mpi_is_used_for_the_workspace_and_for_packages_with_mpi_tests() {
        assert!(uses_mpi(&[]) && uses_mpi(&words("ranks")) && uses_mpi(&words("-p wgrad-ops -p wgrad")));
        assert!(!uses_mpi(&words("-p wgrad-ops")));
    }
}
