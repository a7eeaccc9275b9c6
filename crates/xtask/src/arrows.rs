//! `cargo xtask arrows`: checks architecture rules that the compiler does not enforce: forbidden dependencies (read
//! from `cargo tree`), the number of packages in the binary's build, and the sizes of crates and files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::process;
use crate::sizes;
use crate::workspace::Workspace;

/// Rule: no package in `from` may depend on a package in `to`, directly or indirectly, on any platform.
///
/// A name that ends in `*` matches all names with the prefix before the `*`.
struct Forbidden {
    from: &'static [&'static str],
    to: &'static [&'static str],
    /// Packages that are exempt from the rule, in `from` or in `to`.
    except: &'static [&'static str],
    reason: &'static str,
}

const FORBIDDEN: &[Forbidden] = &[
    forbid(
        &["wgrad-gpu", "wgrad-cpu"],
        &["wgrad-ops"],
        "a backend executes kernels and does not know operations",
    ),
    forbid(
        &["wgrad-graph", "wgrad-ops", "wgrad-program", "wgrad-nn", "wgrad-data", "wgrad-bench"],
        &["wgpu*", "naga*"],
        "planning is tested without a GPU",
    ),
    forbid(
        &["wgrad-report", "wgrad-run", "wgrad-cluster", "wgrad-recipe", "wgrad-bench"],
        &["wgrad-train"],
        "these crates process data and do not train",
    ),
    forbid(
        &["wgrad-run"],
        &["wgrad-recipe", "wgrad-report"],
        "a run directory stores its recipe as text and contains no pages",
    ),
    forbid(&["wgrad-recipe"], &["wgrad-run"], "a recipe does not know the runs made from it"),
    forbid(&["wgrad-train"], &["wgrad-studies", "wgrad-report"], "studies and pages are built on training"),
    forbid(&["wgrad-stdx"], &["wgrad*"], "every crate may use wgrad-stdx"),
    forbid(&["wgrad-report"], &["wgrad*"], "pages and charts do not depend on what they show")
        .except(&["wgrad-stdx"]),
    forbid(&["wgrad-*"], &["wgrad"], "the facade is for users").except(&["wgrad-benches", "wgrad-examples"]),
];

const fn forbid(
    from: &'static [&'static str],
    to: &'static [&'static str],
    reason: &'static str,
) -> Forbidden {
    Forbidden { from, to, except: &[], reason }
}

impl Forbidden {
    const fn except(self, except: &'static [&'static str]) -> Self {
        Self { except, ..self }
    }
}

/// Package that contains the `wgrad` binary.
const BINARY: &str = "wgrad";
/// Largest number of packages in the build of [`BINARY`].
const MAX_PACKAGES: usize = 300;

pub fn task(workspace: &Workspace) -> Result<()> {
    let members = names(&tree(workspace, &["--workspace", "--depth", "0"])?);
    let mut trees = BTreeMap::new();
    for member in &members {
        let packages = tree(workspace, &["--package", member, "--edges", "normal", "--target", "all"])?;
        trees.insert(member.as_str(), names(&packages));
    }
    let mut violations: Vec<String> = FORBIDDEN.iter().flat_map(|rule| violations(rule, &trees)).collect();
    let packages = tree(workspace, &["--package", BINARY, "--edges", "normal,build"])?.len();
    if packages > MAX_PACKAGES {
        violations.push(format!("`{BINARY}` is built from {packages} packages; the limit is {MAX_PACKAGES}"));
    }
    let sizes = sizes::check(workspace.root())?;
    violations.extend(sizes.violations);
    if !violations.is_empty() {
        bail!("{} violations:\n  {}", violations.len(), violations.join("\n  "));
    }
    println!(
        "arrows: {} rules hold; {packages} packages, {} files, largest crates: {}",
        FORBIDDEN.len(),
        sizes.files,
        sizes.largest_crates
    );
    Ok(())
}

/// Returns `name version` of every package that `cargo tree` lists.
fn tree(workspace: &Workspace, args: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = workspace.cargo(&["tree", "--locked", "--prefix", "none", "--format", "{p}"]);
    Ok(parse_tree(&process::output(command.args(args))?))
}

/// Parses lines of the form `name v1.2.3 (path or note) (*)`. A package may occur several times.
fn parse_tree(tree: &str) -> BTreeSet<String> {
    let packages = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
    });
    packages.collect()
}

fn names(packages: &BTreeSet<String>) -> BTreeSet<String> {
    packages.iter().filter_map(|package| package.split(' ').next()).map(str::to_string).collect()
}

/// Returns one message for each package in `rule.from` that violates the rule. `trees` holds the dependencies of each
/// member.
fn violations(rule: &Forbidden, trees: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut messages = Vec::new();
    for (&member, tree) in trees {
        if !matches_any(rule.from, member) || rule.except.contains(&member) {
            continue;
        }
        let is_forbidden =
            |name: &&str| *name != member && matches_any(rule.to, name) && !rule.except.contains(name);
        let found: Vec<&str> = tree.iter().map(String::as_str).filter(is_forbidden).collect();
        if let Some(first) = found.first() {
            messages.push(format!(
                "`{member}` must not depend on {}: {} (`cargo tree -p {member} -i {first}` prints the path)",
                found.join(", "),
                rule.reason
            ));
        }
    }
    messages
}

fn matches_any(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *pattern,
    })
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

    fn trees() -> BTreeMap<&'static str, BTreeSet<String>> {
        BTreeMap::from([("wgrad-gpu", names(&parse_tree(TREE)))])
    }

    #[test]
    fn parse_tree_returns_each_version_once() {
        let packages: Vec<String> = parse_tree(TREE).into_iter().collect();
        assert_eq!(
            packages,
            ["half 1.8.3", "half 2.7.1", "wgpu 30.0.1", "wgpu-types 30.0.1", "wgrad-gpu 0.1.0"]
        );
    }

    #[test]
    fn a_forbidden_dependency_is_reported_with_its_reason() {
        let found = violations(&forbid(&["wgrad-*"], &["wgpu*", "naga"], "a reason"), &trees());
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("`wgrad-gpu` must not depend on wgpu, wgpu-types: a reason"), "{found:?}");
        assert!(found[0].contains("cargo tree -p wgrad-gpu -i wgpu`"), "{found:?}");
    }

    #[test]
    fn exceptions_exact_names_and_the_package_itself_are_allowed() {
        for (to, except) in [
            (&["wgpu"][..], &["wgpu"][..]),
            (&["wgpu*"], &["wgpu", "wgpu-types"]),
            (&["wgpu"], &["wgrad-gpu"]),
            (&["wgrad*", "wg", "hal"], &[]),
        ] {
            let found = violations(&forbid(&["wgrad-*"], to, "a reason").except(except), &trees());
            assert!(found.is_empty(), "{to:?} except {except:?}: {found:?}");
        }
    }

    #[test]
    fn every_rule_matches_packages_of_the_workspace() {
        let workspace = Workspace::find().unwrap();
        let members = names(&tree(&workspace, &["--workspace", "--depth", "0"]).unwrap());
        for rule in FORBIDDEN {
            for pattern in rule.from.iter().chain(rule.except) {
                assert!(members.iter().any(|member| matches_any(&[pattern], member)), "{pattern}");
            }
        }
    }
}
