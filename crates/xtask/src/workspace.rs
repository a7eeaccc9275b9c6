//! Where the workspace lies, and commands that run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The checkout that the tasks work on.
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Found from the manifest of xtask, two folders below the root. `cargo run` names it at run time; the name
    /// from compile time would be stale in a checkout that was moved together with its `target`.
    pub fn find() -> Result<Self> {
        let manifest_dir =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_dir)
            .ancestors()
            .nth(2)
            .filter(|root| root.join("Cargo.lock").is_file())
            .with_context(|| format!("no workspace two folders above {}", manifest_dir.display()))?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `target/`, whatever `CARGO_TARGET_DIR` says: what is set up there is shared by all builds.
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Unpacked drivers and notes about what failed.
    pub fn adapters(&self) -> PathBuf {
        self.target().join("adapters")
    }

    /// `cargo ARGS` at the root, with the cargo that runs us.
    pub fn cargo(&self, args: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(args).current_dir(&self.root);
        command
    }
}
