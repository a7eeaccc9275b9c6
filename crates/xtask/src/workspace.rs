//! Paths of the workspace, and commands that run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Source checkout on which the tasks run.
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the workspace two folders above the manifest of xtask. `cargo run` sets the manifest path at run time. The
    /// compile-time path is only a fallback, because it is wrong after a checkout is moved together with its `target`.
    pub fn find() -> Result<Self> {
        let manifest_dir =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_dir)
            .ancestors()
            .nth(2)
            .filter(|root| root.join("Cargo.lock").is_file())
            .with_context(|| format!("no Cargo.lock two folders above {}", manifest_dir.display()))?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// Folder of the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder `target/` at the root, regardless of `CARGO_TARGET_DIR`, so that all builds share the drivers unpacked
    /// there.
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Folder of the binaries that cargo builds in the profile `dev`.
    pub fn binaries(&self) -> PathBuf {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(self.target(), |folder| self.root.join(folder));
        target.join("debug")
    }

    /// Returns the command `cargo ARGS` at the root, with the cargo that runs xtask.
    pub fn cargo(&self, args: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(args).current_dir(&self.root);
        command
    }

    /// Returns the command `setup.sh TASK`.
    pub fn setup(&self, task: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg(self.root.join("crates/xtask/setup.sh")).arg(task).arg(self.target().join("adapters"));
        command
    }
}
