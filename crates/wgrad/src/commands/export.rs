//! `wgrad export`: writes weights as safetensors.

use std::process::ExitCode;

use anyhow::Result;
use wgrad_train::read_weights;

use crate::cli::Export;
use crate::terminal::{self, say};

/// Writes the weights of a run's last checkpoint as a safetensors file with PyTorch's names.
pub fn run(args: &Export) -> Result<ExitCode> {
    let weights = read_weights(&args.run)?;
    let to = args.to.clone().unwrap_or_else(|| args.run.join("weights.safetensors"));
    weights.write_safetensors(&to)?;
    say(&format!("{} tensors from {}:", weights.len(), args.run.display()));
    terminal::result(&to.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
