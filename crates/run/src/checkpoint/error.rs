//! Why a checkpoint cannot be written or read. Every message names the file.

use std::io;
use std::path::PathBuf;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no room for it. Checkpoints before it are as they were.
    #[error("no space left for the checkpoint {} of {bytes} bytes; those before it are kept", path.display())]
    Full {
        /// The checkpoint.
        path: PathBuf,
        /// What its files need.
        bytes: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused for another reason.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not what was written: truncated, changed, or no such file at all.
    #[error("the checkpoint file {} is damaged: {message}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Written by another version of wgrad.
    #[error("{} has format version {found}; this wgrad reads version {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this wgrad reads.
        known: u32,
    },
    /// A tensor of a type that is no part of a checkpoint.
    #[error("{}: tensor `{tensor}` is {dtype}; a checkpoint holds F32 and U32", path.display())]
    DType {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// Its type, as safetensors names it.
        dtype: String,
    },
    /// A tensor that was put together wrongly.
    #[error("tensor of shape {shape:?} has {found} values")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// How many values came with it.
        found: usize,
    },
    /// A name that safetensors keeps for itself, or an empty one.
    #[error("a tensor cannot be named `{0}`")]
    Name(String),
    /// State that JSON cannot say.
    #[error("the training state cannot be written as JSON: {0}")]
    Encode(String),
}
