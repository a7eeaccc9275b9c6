//! What could not be set up, remembered in `target/adapters/failed.txt`: a machine without a network would
//! otherwise wait for apt in every run of the tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::adapters;

pub struct Failures {
    file: PathBuf,
    names: BTreeSet<String>,
    /// Something was added in this run.
    grew: bool,
}

impl Failures {
    /// What was remembered; nothing where an adapter is required, so that CI always tries.
    pub fn load(folder: &Path) -> Self {
        let file = folder.join("failed.txt");
        let text = if adapters::required() { None } else { std::fs::read_to_string(&file).ok() };
        let names = text.unwrap_or_default().lines().map(str::to_string).collect();
        Self { file, names, grew: false }
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Says what failed and remembers it.
    pub fn add(&mut self, name: &str, error: &anyhow::Error) -> Result<()> {
        eprintln!("xtask: {name} could not be set up: {error:#}");
        self.names.insert(name.to_string());
        self.grew = true;
        let text: String = self.names.iter().map(|name| format!("{name}\n")).collect();
        std::fs::write(&self.file, text).with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// Says how to have it tried again, once for all that failed.
    pub fn advise(&self) {
        if self.grew {
            eprintln!("xtask: what failed is tried again when {} is deleted", self.file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_remembered() {
        let folder = std::env::temp_dir().join(format!("xtask-failures-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut failures = Failures { file: folder.join("failed.txt"), names: BTreeSet::new(), grew: false };
        failures.add("one", &anyhow::anyhow!("planned")).unwrap();
        failures.add("two", &anyhow::anyhow!("planned")).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("failed.txt")).unwrap(), "one\ntwo\n");
        assert!(failures.has("one") && !failures.has("three"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
