//! The project's tasks: `cargo xtask TASK`. This file contains the task table and the dispatch; each task has its own
//! file. xtask depends on no other crate of the workspace, so it builds in seconds and runs even if the engine does not
//! compile.
#![allow(clippy::print_stdout, reason = "results go to stdout, progress to stderr")]

mod adapters;
mod arrows;
mod ci;
mod examples;
mod mpi;
mod process;
mod sizes;
mod summary;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

use workspace::Workspace;

/// Exit code for invalid arguments, equal to the exit code of the `wgrad` binary.
const USAGE: u8 = 2;

/// Row of the task table. Dispatch and help iterate over this table.
struct Task {
    name: &'static str,
    args: &'static str,
    about: &'static str,
    run: fn(&Workspace, &[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "test",
        args: "[ARGS]",
        about: "install missing test requirements and run all tests; ARGS are passed to cargo nextest (or cargo test)",
        run: test::task,
    },
    Task {
        name: "adapters",
        args: "",
        about: "install software GPU adapters and print `export` lines that make them visible to a process",
        run: |workspace, _| adapters::task(workspace),
    },
    Task {
        name: "arrows",
        args: "",
        about: "check forbidden dependencies, the number of packages, and the sizes of crates and files",
        run: |workspace, _| arrows::task(workspace),
    },
    Task {
        name: "examples",
        args: "",
        about: "build and run every example",
        run: |workspace, _| examples::task(workspace),
    },
    Task {
        name: "ci",
        args: "",
        about: "run all checks that a change must pass, and print the time of each",
        run: |workspace, _| ci::task(workspace),
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = match args.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("help", &[][..]),
    };
    if matches!(name, "help" | "-h" | "--help") {
        println!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprintln!("xtask: unknown task `{name}`\n\n{}", help());
        return ExitCode::from(USAGE);
    };
    if task.args.is_empty() && !rest.is_empty() {
        eprintln!("xtask: `{name}` takes no arguments, got `{}`\n\n{}", rest.join(" "), help());
        return ExitCode::from(USAGE);
    }
    match Workspace::find().and_then(|workspace| (task.run)(&workspace, rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("cargo xtask TASK\n\ntasks:");
    for task in TASKS {
        let usage = format!("{} {}", task.name, task.args);
        text.push_str(&format!("\n  {usage:<14} {}", task.about));
    }
    text.push_str("\n  help           print this list\n\nenvironment:");
    text.push_str(
        "\n  WGRAD_REQUIRE_GPU=1   tests that need a missing adapter fail instead of being skipped",
    );
    text.push_str(
        "\n  WGRAD_REQUIRE_MPI=1   tests that need MPI fail instead of being skipped if MPI is missing",
    );
    text.push_str("\n  WGRAD_NO_INSTALL=1    install nothing; use the installed adapters and MPI");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_task_once() {
        let help = help();
        for task in TASKS {
            assert_eq!(TASKS.iter().filter(|other| other.name == task.name).count(), 1, "{}", task.name);
            assert!(help.contains(&format!("\n  {}", task.name)), "the help does not list {}", task.name);
        }
    }
}
