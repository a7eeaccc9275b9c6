//! MPI for the tests: its packages, and a `wgrad` binary with the feature `mpi` beside the default one.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Installs MPI where packages may be installed. Returns whether programs can be built with MPI and started by it.
pub fn set_up(workspace: &Workspace) -> Result<bool> {
    if cfg!(windows) {
        return Ok(false);
    }
    process::stdout(&mut workspace.setup("mpi"))?;
    if is_available() {
        return Ok(true);
    }
    if process::is_set("WGRAD_REQUIRE_MPI") {
        bail!("WGRAD_REQUIRE_MPI=1 requires MPI: mpirun or mpicc is missing");
    }
    eprintln!("xtask: no mpirun or no mpicc: the tests with MPI are skipped, and listed at the end");
    Ok(false)
}

/// Whether programs can be built with MPI and started by it.
fn is_available() -> bool {
    let runs = |program: &str| process::output(Command::new(program).arg("--version")).is_ok();
    runs("mpirun") && runs("mpicc")
}

/// Cargo arguments for the features that tests are built with: the MPI collectives of `wgrad-comm` where MPI is installed.
/// `wgrad` itself keeps its default features, so that the binary under test is the one that users build.
pub fn features() -> &'static [&'static str] {
    if is_available() { &["--features", "wgrad-comm/mpi"] } else { &[] }
}

/// Builds `wgrad` with the feature `mpi` and keeps it as `wgrad-mpi` beside the default binary.
pub fn build_binary(workspace: &Workspace) -> Result<()> {
    // The packages are those of the test run, and a test target is among the targets: only then does cargo choose the same
    // features of all dependencies as for the tests, and only `wgrad` itself is compiled twice.
    let mut build = workspace.cargo(&["build", "--locked", "--workspace", "--features", "wgrad/mpi"]);
    process::run(build.args(["--bin", "wgrad", "--test", "processes"]))?;
    let folder = workspace.binaries();
    std::fs::copy(folder.join("wgrad"), folder.join("wgrad-mpi"))
        .context("cannot copy the binary with MPI")?;
    Ok(())
}
