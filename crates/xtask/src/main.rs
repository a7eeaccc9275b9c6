//! The project's tasks: `cargo xtask TASK`. This file is the table of tasks and the dispatch; each task is a
//! file of its own. xtask depends on nothing of the workspace, so that it builds in seconds and also runs when
//! the engine does not compile.
#![allow(clippy::print_stdout, reason = "a task's result goes to stdout, its talk to stderr")]

mod adapters;
mod apt;
mod arrows;
mod ci;
mod examples;
mod failures;
mod file_size;
mod host;
mod mpi;
mod process;
mod sources;
mod summary;
mod swiftshader;
mod test;
mod vulkan;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

use workspace::Workspace;

/// What the caller typed is wrong (the same code as the `wgrad` binary's).
const USAGE: u8 = 2;

/// One row of the table that dispatch and help iterate.
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
        about: "set up what the tests need and run them all; ARGS go to cargo nextest (or cargo test)",
        run: test::task,
    },
    Task {
        name: "adapters",
        args: "",
        about: "set up the GPU adapters and print the `export` lines that show them to a process",
        run: |workspace, _| adapters::task(workspace),
    },
    Task {
        name: "arrows",
        args: "",
        about: "check the dependencies that must not be, the size of the tree and of each file",
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
        about: "all that a change must pass, in order, with the time of each step",
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
        eprintln!("xtask: no task `{name}`\n\n{}", help());
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
    text.push_str("\n  help           this list\n\nenvironment:");
    text.push_str("\n  WGRAD_REQUIRE_GPU=1   a missing adapter is a failure, not a skip");
    text.push_str("\n  WGRAD_NO_INSTALL=1    install nothing, use what is there");
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
            assert!(help.contains(&format!("\n  {}", task.name)), "{} is not in help", task.name);
        }
    }
}
