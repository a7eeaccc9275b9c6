//! Errors that occur while writing or reading checkpoints. Messages about a file include the path of the file.

use std::io;
use std::path::PathBuf;

use wgrad_stdx::ErrorKind;

/// Error while writing or reading a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk is full. Earlier checkpoints are unchanged.
    #[error("no space left for the checkpoint {} ({bytes} bytes); earlier checkpoints are unchanged", path.display())]
    Full {
        /// Directory of the checkpoint.
        path: PathBuf,
        /// Total bytes of the files of the checkpoint.
        bytes: u64,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// A file operation failed for a reason other than a full disk.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// Operation that failed, e.g. `read` or `write the checkpoint`.
        action: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// A file is truncated, changed or missing.
    #[error("the checkpoint file {} is damaged: {message}", path.display())]
    Corrupt {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        message: String,
    },
    /// The checkpoint has a format version that this version of wgrad cannot read.
    #[error("{} has format version {found}; this wgrad reads version {known}", path.display())]
    Version {
        /// Path of the file.
        path: PathBuf,
        /// Version found in the file.
        found: String,
        /// Version that this version of wgrad reads.
        known: u32,
    },
    /// A tensor has a dtype that checkpoints do not support.
    #[error("{}: tensor `{tensor}` has dtype {dtype}; checkpoints support F32 and U32", path.display())]
    DType {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Dtype of the tensor, as named by safetensors.
        dtype: String,
    },
    /// The number of values does not match the shape.
    #[error("a tensor of shape {shape:?} cannot have {found} values")]
    Shape {
        /// Shape of the tensor.
        shape: Vec<usize>,
        /// Number of values given.
        found: usize,
    },
    /// The name of a tensor is empty or reserved by safetensors.
    #[error("tensor name `{0}` is empty or reserved by safetensors")]
    Name(String),
    /// The model or the state cannot be encoded.
    #[error("the checkpoint cannot be encoded: {0}")]
    Encode(String),
}

impl CheckpointError {
    /// Returns the kind of the error, always [`ErrorKind::Storage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Storage
    }
}
