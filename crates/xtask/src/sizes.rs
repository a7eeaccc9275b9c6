//! Checks size limits: lines per source file, and source lines per crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Largest number of lines in a source file.
const MAX_FILE: usize = 600;
/// Largest number of lines in a crate's `src`, excluding tests.
const MAX_CRATE: usize = 6000;
/// Crates with a different limit. `None` means no limit.
const EXCEPTIONS: [(&str, Option<usize>); 5] =
    [("ops", None), ("data", None), ("gpu", None), ("studies", None), ("run", Some(3000))];
const FOLDERS: [&str; 5] = ["crates", "shaders", "tests", "benches", "examples"];
const EXTENSIONS: [&str; 2] = ["rs", "wgsl"];

/// Result of the check.
#[derive(Default)]
pub struct Sizes {
    /// Number of source files.
    pub files: usize,
    /// Names and line counts of the three largest crates.
    pub largest_crates: String,
    /// One message for each file or crate that exceeds its limit.
    pub violations: Vec<String>,
}

/// Measures every source file in the workspace.
pub fn check(root: &Path) -> Result<Sizes> {
    let mut sizes = Sizes::default();
    let mut crates: BTreeMap<String, usize> = BTreeMap::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|&e| extension == e)) {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let path = path.strip_prefix(root).unwrap_or(&path);
                sizes.files += 1;
                sizes.violations.extend(file_violation(path, &text));
                if let Some(name) = crate_of(path) {
                    *crates.entry(name).or_default() += source_lines(&text);
                }
            }
        }
    }
    sizes.violations.extend(crates.iter().filter_map(|(name, &lines)| crate_violation(name, lines)));
    sizes.violations.sort();
    let mut largest: Vec<_> = crates.into_iter().collect();
    largest.sort_by_key(|&(_, lines)| std::cmp::Reverse(lines));
    let shown: Vec<String> = largest.iter().take(3).map(|(name, lines)| format!("{name} {lines}")).collect();
    sizes.largest_crates = shown.join(", ");
    Ok(sizes)
}

fn file_violation(path: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_FILE).then(|| format!("{} has {lines} lines, more than {MAX_FILE}", path.display()))
}

fn crate_violation(name: &str, lines: usize) -> Option<String> {
    let exception = EXCEPTIONS.iter().find(|(crate_name, _)| *crate_name == name);
    let limit = exception.map_or(Some(MAX_CRATE), |(_, limit)| *limit)?;
    (lines > limit).then(|| format!("crates/{name}/src has {lines} lines without tests, more than {limit}"))
}

/// Returns the name of the crate whose `src` contains a file, or `None` for test files. `path` is relative to the root.
fn crate_of(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["crates", name, "src", rest @ ..]
            if !rest.iter().any(|&part| part == "tests" || part == "tests.rs") =>
        {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// Returns the number of lines before the test module of a file.
fn source_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_test_module =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(is_test_module).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_the_limit_is_reported_with_its_lines() {
        let root = std::env::temp_dir().join(format!("xtask-sizes-{}", std::process::id()));
        for folder in FOLDERS {
            std::fs::create_dir_all(root.join(folder).join("deep")).unwrap();
        }
        std::fs::write(root.join("crates/deep/full.rs"), "x\n".repeat(MAX_FILE)).unwrap();
        std::fs::write(root.join("shaders/deep/long.wgsl"), "x\n".repeat(MAX_FILE + 1)).unwrap();
        std::fs::write(root.join("shaders/long.md"), "x\n".repeat(MAX_FILE + 1)).unwrap();
        let sizes = check(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let long = Path::new("shaders").join("deep").join("long.wgsl");
        assert_eq!(sizes.violations, [format!("{} has 601 lines, more than 600", long.display())]);
        assert_eq!(sizes.files, 2);
    }

    #[test]
    fn crates_have_limits_and_exceptions() {
        assert_eq!(crate_violation("ops", 99_999), None);
        assert_eq!(crate_violation("nn", MAX_CRATE), None);
        assert!(crate_violation("nn", MAX_CRATE + 1).unwrap().contains("crates/nn/src has 6001 lines"));
        assert!(crate_violation("run", 3001).unwrap().contains("more than 3000"));
    }

    #[test]
    fn source_lines_exclude_tests() {
        assert_eq!(source_lines("a\n#[cfg(test)]\nmod tests;\nb\n"), 4);
        assert_eq!(source_lines("a\n\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(crate_of(Path::new("crates/gpu/src/deep/lib.rs")).as_deref(), Some("gpu"));
        for path in [
            "crates/gpu/tests/it.rs",
            "crates/gpu/src/deep/tests.rs",
            "crates/gpu/src/tests/a.rs",
            "tests/a.rs",
        ] {
            assert_eq!(crate_of(Path::new(path)), None, "{path}");
        }
    }
}
