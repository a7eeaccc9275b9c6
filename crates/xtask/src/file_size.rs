//! No source file over 600 lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const LIMIT: usize = 600;
const FOLDERS: [&str; 5] = ["crates", "shaders", "tests", "benches", "examples"];
const EXTENSIONS: [&str; 2] = ["rs", "wgsl"];

/// What a check of all files found.
pub struct Sizes {
    pub files: usize,
    /// One sentence a file that is too long.
    pub faults: Vec<String>,
}

/// Measures every source file below the workspace's folders.
pub fn check(root: &Path) -> Result<Sizes> {
    let mut sizes = Sizes { files: 0, faults: Vec::new() };
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if is_source(&path) {
                sizes.files += 1;
                sizes.faults.extend(fault(root, &path)?);
            }
        }
    }
    sizes.faults.sort();
    Ok(sizes)
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|&known| extension == known))
}

fn fault(root: &Path, path: &Path) -> Result<Option<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    let lines = text.lines().count();
    Ok((lines > LIMIT).then(|| format!("{shown} has {lines} lines, over {LIMIT}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_the_limit_is_named_with_its_lines() {
        let root = std::env::temp_dir().join(format!("xtask-file-size-{}", std::process::id()));
        for folder in FOLDERS {
            std::fs::create_dir_all(root.join(folder).join("deep")).unwrap();
        }
        std::fs::write(root.join("crates/deep/full.rs"), "x\n".repeat(LIMIT)).unwrap();
        std::fs::write(root.join("shaders/deep/long.wgsl"), "x\n".repeat(LIMIT + 1)).unwrap();
        std::fs::write(root.join("shaders/long.md"), "x\n".repeat(LIMIT + 1)).unwrap();
        let sizes = check(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let long = Path::new("shaders").join("deep").join("long.wgsl");
        assert_eq!(sizes.faults, [format!("{} has 601 lines, over 600", long.display())]);
        assert_eq!(sizes.files, 2);
    }
}
