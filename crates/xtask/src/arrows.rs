//! `cargo xtask arrows`: the architecture that the compiler does not hold, read off `cargo tree`: which package
//! must not depend on which, how large the binary's tree may grow, and how long a file.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::file_size;
use crate::process;
use crate::workspace::Workspace;

/// None of `from` may depend on any of `to`, in any number of steps, on any platform.
struct Forbidden {
    from: &'static [&'static str],
    /// Package names; each also stands for the packages `NAME-…`.
    to: &'static [&'static str],
    why: &'static str,
}

const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        from: &["wgrad-gpu", "wgrad-cpu"],
        to: &["wgrad-ops"],
        why: "a backend knows two kinds of kernel and names no op",
    },
    Forbidden {
        from: &["wgrad-graph", "wgrad-ops", "wgrad-program", "wgrad-nn", "wgrad-data", "wgrad-bench"],
        to: &["wgpu", "naga"],
        why: "all of planning is tested without a GPU",
    },
];

/// The package with the binary, and the number of packages that its build must stay under.
const BINARY: &str = "wgrad";
const TREE_LIMIT: usize = 300;

pub fn task(workspace: &Workspace) -> Result<()> {
    let mut faults = Vec::new();
    for rule in FORBIDDEN {
        for package in rule.from {
            let tree = tree(workspace, package, &["--edges", "normal", "--target", "all"])?;
            faults.extend(broken(package, &tree, rule));
        }
    }
    let size = tree(workspace, BINARY, &["--edges", "normal,build"])?.len();
    if size >= TREE_LIMIT {
        faults.push(format!("`{BINARY}` builds from {size} packages, the limit is {TREE_LIMIT}"));
    }
    let files = file_size::check(workspace.root())?;
    faults.extend(files.faults);
    if !faults.is_empty() {
        bail!("{} broken:\n  {}", faults.len(), faults.join("\n  "));
    }
    let arrows: usize = FORBIDDEN.iter().map(|rule| rule.from.len() * rule.to.len()).sum();
    println!(
        "arrows: {arrows} forbidden ones absent, {size} packages, {} files of a readable size",
        files.files
    );
    Ok(())
}

/// `name version` of every package that `package` is built from, itself included.
fn tree(workspace: &Workspace, package: &str, args: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = workspace.cargo(&["tree", "--locked", "--prefix", "none", "--format", "{p}"]);
    command.args(["--package", package]).args(args);
    Ok(parse(&process::output(&mut command)?))
}

/// Lines are `name v1.2.3 (path or note) (*)`, one package as often as it is used.
fn parse(tree: &str) -> BTreeSet<String> {
    let packages = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
    });
    packages.collect()
}

fn broken(package: &str, tree: &BTreeSet<String>, rule: &Forbidden) -> Vec<String> {
    let is_forbidden = |entry: &&String| {
        let name = entry.split(' ').next().unwrap_or_default();
        rule.to
            .iter()
            .any(|to| name.strip_prefix(to).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    let found: Vec<&str> = tree.iter().filter(is_forbidden).map(String::as_str).collect();
    if found.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "`{package}` must not depend on {}: {} (find the way with `cargo tree -p {package} -i NAME`)",
        found.join(", "),
        rule.why
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
wgrad-gpu v0.1.0 (/a/crates/gpu)
half v2.7.1
wgpu v30.0.1
wgpu-types v30.0.1
half v2.7.1 (*)

half v1.8.3
";

    #[test]
    fn a_tree_counts_each_version_once() {
        let packages: Vec<String> = parse(TREE).into_iter().collect();
        assert_eq!(
            packages,
            ["half 1.8.3", "half 2.7.1", "wgpu 30.0.1", "wgpu-types 30.0.1", "wgrad-gpu 0.1.0"]
        );
    }

    #[test]
    fn a_forbidden_arrow_is_named_with_its_reason() {
        let rule = |to| Forbidden { from: &[], to, why: "because" };
        let faults = broken("wgrad-gpu", &parse(TREE), &rule(&["wgpu", "naga"]));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("`wgrad-gpu` must not depend on wgpu 30.0.1, wgpu-types 30.0.1: because"));
        assert!(broken("wgrad-gpu", &parse(TREE), &rule(&["wgrad-ops", "wg", "hal"])).is_empty());
    }
}
