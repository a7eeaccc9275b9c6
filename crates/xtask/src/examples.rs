//! `cargo xtask examples`: every example builds, runs and ends well.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::adapters::Adapters;
use crate::process;
use crate::workspace::Workspace;

const PACKAGE: &str = "wgrad-examples";

pub fn task(workspace: &Workspace) -> Result<()> {
    let adapters = Adapters::set_up(workspace)?;
    run(workspace, &adapters)
}

/// Builds all once, then runs them in the order of their names up to the first that fails.
pub fn run(workspace: &Workspace, adapters: &Adapters) -> Result<()> {
    let metadata =
        process::output(&mut workspace.cargo(&["metadata", "--no-deps", "--format-version=1", "--locked"]))?;
    let examples = parse(&metadata)?;
    if examples.is_empty() {
        println!("examples: {PACKAGE} has none");
        return Ok(());
    }
    process::run(&mut workspace.cargo(&["build", "--locked", "--package", PACKAGE, "--examples"]))?;
    let mut ran = 0;
    for example in &examples {
        if !example.required_features.is_empty() {
            eprintln!("skipped: example {}: needs features {}", example.name, example.required_features);
            continue;
        }
        let mut command = workspace.cargo(&["run", "--quiet", "--locked", "--package", PACKAGE, "--example"]);
        command.arg(&example.name);
        adapters.apply(&mut command);
        let start = Instant::now();
        process::run(&mut command).with_context(|| format!("example {} failed", example.name))?;
        eprintln!("example {}: {:.1} s", example.name, start.elapsed().as_secs_f64());
        ran += 1;
    }
    println!("examples: {ran} of {} ran", examples.len());
    Ok(())
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Example {
    name: String,
    /// Features without which cargo does not build it, joined by commas.
    required_features: String,
}

/// The examples of `cargo metadata`, by name.
fn parse(metadata: &str) -> Result<Vec<Example>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let Some(package) = packages.into_iter().find(|package| package["name"] == PACKAGE) else {
        bail!("the workspace has no package {PACKAGE}");
    };
    let targets = package["targets"].as_array().into_iter().flatten();
    let mut examples: Vec<Example> =
        targets.filter(|target| target["kind"][0] == "example").filter_map(example).collect();
    examples.sort();
    Ok(examples)
}

fn example(target: &Value) -> Option<Example> {
    let features = target["required-features"].as_array().into_iter().flatten();
    let required_features = features.filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    Some(Example { name: target["name"].as_str()?.to_string(), required_features })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found_with_their_features() {
        let metadata = r#"{"packages": [
            {"name": "other", "targets": [{"kind": ["example"], "name": "not_ours"}]},
            {"name": "wgrad-examples", "targets": [
                {"kind": ["lib"], "name": "wgrad_examples"},
                {"kind": ["example"], "name": "z_mpi", "required-features": ["mpi", "x"]},
                {"kind": ["example"], "name": "a_first"}]}]}"#;
        let example =
            |name: &str, features: &str| Example { name: name.into(), required_features: features.into() };
        assert_eq!(parse(metadata).unwrap(), [example("a_first", ""), example("z_mpi", "mpi,x")]);
        assert!(parse(r#"{"packages": []}"#).is_err());
    }
}
