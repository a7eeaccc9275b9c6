//! `cargo xtask examples`: builds and runs every example.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::adapters::Adapters;
use crate::mpi;
use crate::process;
use crate::workspace::Workspace;

/// Folder with one file per example, relative to the root.
const FOLDER: &str = "examples/examples";

pub fn task(workspace: &Workspace) -> Result<()> {
    let adapters = Adapters::set_up(workspace)?;
    run(workspace, &adapters)
}

/// Builds all examples, then runs them in alphabetical order until one fails.
pub fn run(workspace: &Workspace, adapters: &Adapters) -> Result<()> {
    // Select the entire workspace, as in the test run. Cargo then selects the same features of all dependencies and
    // does not compile any dependency again.
    let mut build = workspace.cargo(&["build", "--locked", "--workspace", "--examples"]);
    process::run(build.args(mpi::features()))?;
    let names = names(workspace)?;
    for name in &names {
        let program = workspace.binaries().join("examples").join(name);
        let mut command = Command::new(program.with_extension(std::env::consts::EXE_EXTENSION));
        command.current_dir(workspace.root());
        adapters.apply(&mut command);
        let start = Instant::now();
        process::run(&mut command).with_context(|| format!("example {name} failed"))?;
        eprintln!("example {name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    println!("examples: {} ran", names.len());
    Ok(())
}

/// Returns the names of the examples in alphabetical order.
fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root().join(FOLDER);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let stem = path.file_stem().filter(|_| path.extension().is_some_and(|extension| extension == "rs"));
        names.extend(stem.and_then(|stem| stem.to_str()).map(str::to_string));
    }
    names.sort();
    Ok(names)
}
