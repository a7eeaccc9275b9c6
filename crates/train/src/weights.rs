//! Weights to start from: a file of weights, or the last checkpoint of a run.

use std::path::Path;

use wgrad_run::{Checkpoint, Run};
use wgrad_weights::{Tensor, Weights};

use crate::error::TrainError;

/// Prefix of the moving average's tensors in a checkpoint; it is what a run evaluates, where it keeps one.
const AVERAGE: &str = "average/";

/// The weights in a safetensors or PyTorch file, or those of a run directory's last checkpoint.
///
/// Names that PyTorch's `DataParallel` has put a prefix to lose it.
///
/// # Errors
/// A file that cannot be read or is no such file; a run without a checkpoint.
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
