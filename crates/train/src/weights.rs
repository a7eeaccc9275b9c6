//! Reads initial weights from a file, or from the last checkpoint of a run.

use std::path::Path;

use wgrad_run::{Checkpoint, Run};
use wgrad_weights::{Tensor, Weights};

use crate::error::TrainError;

/// Name prefix of the moving-average tensors in a checkpoint.
const AVERAGE: &str = "average/";

/// Reads weights from a safetensors or PyTorch file, or from the last checkpoint of a run directory. If the checkpoint
/// has a moving average, the average is read.
///
/// The prefix `module.`, which PyTorch's `DataParallel` adds to every name, is removed.
///
/// # Errors
/// Returns an error if the file cannot be read or has neither format. For a run directory, returns an error if the
/// directory is invalid or has no checkpoint.
pub fn read_weights(path: &Path) -> Result<Weights, TrainError> {
    if !path.is_dir() {
        let mut weights = Weights::read(path)?;
        weights.strip_prefix("module.");
        return Ok(weights);
    }
    let run = Run::open(path)?;
    let latest = run.latest_checkpoint()?.ok_or_else(|| TrainError::NoCheckpoint(path.to_owned()))?;
    let checkpoint = Checkpoint::load(&latest)?;
    let mut weights = Weights::new();
    for (name, tensor) in checkpoint.tensors.iter().filter(|(name, _)| !name.contains('/')) {
        let averaged = checkpoint.tensors.get(&format!("{AVERAGE}{name}"));
        let tensor = averaged.unwrap_or(tensor);
        if let Some(values) = tensor.as_f32() {
            weights.insert(name.as_str(), Tensor::new(tensor.shape().to_vec(), values.to_vec())?)?;
        }
    }
    Ok(weights)
}
