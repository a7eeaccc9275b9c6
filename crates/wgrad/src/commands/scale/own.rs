//! Finds finished runs on this machine, which are shown in the history.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use wgrad_studies::scaling::history::{Date, LocalRun};

use crate::terminal::say;

/// Returns the finished runs in a folder, sorted by name. The list is empty if the folder does not exist. Runs without
/// a FLOP count are skipped with a message.
pub fn runs(folder: &Path) -> Result<Vec<LocalRun>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut runs = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path().join("done.json");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        match run(&text) {
            Some(run) => runs.push(run),
            None => {
                say(&format!("{} has no FLOP count; the run is left out of the history.", path.display()))
            }
        }
    }
    runs.sort_by(|a, b| a.name.cmp(&b.name).then(a.flops.total_cmp(&b.flops)));
    Ok(runs)
}

fn run(text: &str) -> Option<LocalRun> {
    let done: Value = serde_json::from_str(text).ok()?;
    let summary = &done["summary"];
    Some(LocalRun {
        name: summary["recipe"].as_str()?.to_owned(),
        date: done["finished"].as_str()?.get(..10)?.parse::<Date>().ok()?,
        flops: summary["flops"].as_f64().filter(|flops| *flops > 0.0)?,
        parameters: summary["parameters"].as_u64()?,
    })
}
