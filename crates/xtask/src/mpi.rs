//! MPI for the tests: the packages where they can be installed unasked (Debian, as root), and the programs with the feature
//! `mpi`, each under a name of its own, so that the binary that users build is tested beside them unchanged.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt};
use crate::host::{Host, Os};
use crate::process;
use crate::workspace::Workspace;

/// The library and mpirun, what its bindings are made with, and the tools that hosts are made of.
const PACKAGES: [&str; 5] = ["libopenmpi-dev", "openmpi-bin", "libclang-dev", "clang", "iproute2"];

/// With `WGRAD_REQUIRE_MPI=1` a missing MPI is a failure.
fn required() -> bool {
    std::env::var_os("WGRAD_REQUIRE_MPI").is_some_and(|value| value == "1")
}

/// Installs what is missing, where that can be done unasked.
pub fn install() -> Result<()> {
    let host = Host::detect();
    if matches!(host.os, Os::Debian { .. }) && host.root && std::env::var_os("WGRAD_NO_INSTALL").is_none() {
        let installed = apt::installed(&PACKAGES);
        let missing: Vec<&str> = PACKAGES.into_iter().filter(|name| !installed.contains_key(*name)).collect();
        if !missing.is_empty() {
            Apt::default().install(&missing, None)?;
        }
    }
    Ok(())
}

/// Whether programs can be built with MPI and started by it.
pub fn is_here() -> bool {
    let runs = |program: &str| process::output(Command::new(program).arg("--version")).is_ok();
    runs("mpirun") && runs("mpicc")
}

/// Builds `target/debug/wgrad-mpi` and `comm-suite` where there is an MPI; says so where there is none.
pub fn set_up(workspace: &Workspace) -> Result<()> {
    install()?;
    if !is_here() {
        if required() {
            bail!("no mpirun or no mpicc, and WGRAD_REQUIRE_MPI=1 asks for them");
        }
        eprintln!("xtask: no MPI here: its tests will be counted as skipped");
        return Ok(());
    }
    let build = |args: &[&str]| process::run(workspace.cargo(&["build", "--locked"]).args(args));
    build(&["--package", "wgrad-comm", "--features", "mpi", "--bin", "comm-suite"])?;
    build(&["--package", "wgrad", "--features", "mpi"])?;
    let folder = workspace.target().join("debug");
    std::fs::copy(folder.join("wgrad"), folder.join("wgrad-mpi"))
        .context("cannot keep the build with MPI")?;
    // The tests of the command line find what users build.
    build(&["--package", "wgrad"])
}
