//! MPI for the tests: installs packages, and builds a `wgrad` binary with the feature `mpi` in addition to the default
//! binary.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Installs MPI if packages may be installed. Returns whether programs can be built with MPI and started by mpirun.
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
    eprintln!("xtask: mpirun or mpicc is missing: tests with MPI are skipped, and listed at the end");
    Ok(false)
}

/// Whether programs can be built with MPI and started by mpirun.
fn is_available() -> bool {
    let runs = |program: &str| process::output(Command::new(program).arg("--version")).is_ok();
    runs("mpirun") && runs("mpicc")
}

/// Returns the cargo arguments that enable features for the test build: the MPI collectives of `wgrad-comm`, if MPI is
/// installed. `wgrad` itself keeps its default features, so that tests run the binary that users build.
pub fn features() -> &'static [&'static str] {
    if is_available() { &["--features", "wgrad-comm/mpi"] } else { &[] }
}

/// Builds `wgrad` with the feature `mpi` and copies the binary to `wgrad-mpi` in the same folder.
pub fn build_binary(workspace: &Workspace) -> Result<()> {
    // Select the packages of the test run and include a test target. Only then does cargo select the same features of
    // all dependencies as in the test run, so that only `wgrad` itself is compiled twice.
    let mut build = workspace.cargo(&["build", "--locked", "--workspace", "--features", "wgrad/mpi"]);
    process::run(build.args(["--bin", "wgrad", "--test", "processes"]))?;
    let folder = workspace.binaries();
    std::fs::copy(folder.join("wgrad"), folder.join("wgrad-mpi"))
        .context("cannot copy the binary with MPI")?;
    Ok(())
}
