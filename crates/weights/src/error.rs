//! Errors of reading, matching and writing weights. Every message about a file contains its path.

use std::io;
use std::path::PathBuf;
use wgrad_stdx::{ErrorKind, InternalError};

/// Error of reading, matching or writing weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file system returned an error.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// Attempted action, such as `read the weights`.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// The file has an unknown format.
    #[error(
        "{} is not a weights file: expected a safetensors file, or a file that PyTorch 1.6 or later wrote with \
         `torch.save`",
        path.display()
    )]
    Format {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file has the format of PyTorch before version 1.6, or is a bare pickle.
    #[error(
        "{} is a pickle without a zip archive, as PyTorch wrote before version 1.6; to convert it, run \
         `torch.save(torch.load(OLD, map_location=\"cpu\", weights_only=True), NEW)` in a current PyTorch",
        path.display()
    )]
    OldFormat {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file is truncated, corrupted or deliberately malformed.
    #[error("{} is damaged: {message}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Description of the damage.
        message: String,
    },
    /// The file is intact but does not hold named weights, or holds them in an unsupported way.
    #[error("{} cannot be used: {message}", path.display())]
    Unsupported {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem and how to fix it.
        message: String,
    },
    /// The pickle refers to a Python class or function that tensors do not need.
    #[error("{} refers to the Python name `{global}`: {reason}", path.display())]
    Global {
        /// Path of the file.
        path: PathBuf,
        /// Module and name, separated by a dot.
        global: String,
        /// Reason for the rejection and how to fix the file.
        reason: &'static str,
    },
    /// The file describes a tensor incorrectly, for example with an offset outside its storage.
    #[error("{}: tensor `{tensor}` {message}", path.display())]
    Tensor {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// End of the message, after the name of the tensor, such as `has 2 sizes and 1 strides`.
        message: String,
    },
    /// A tensor has an unsupported dtype, or holds integers where floats are needed.
    #[error("{}: tensor `{tensor}` is {dtype}; {expected}", path.display())]
    DType {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Dtype of the tensor in the file.
        dtype: String,
        /// End of the message, which states the supported or required dtypes.
        expected: &'static str,
    },
    /// A tensor has different shapes in the file and in the model.
    #[error(
        "{}: tensor `{tensor}` has shape {found:?}, but the model needs {expected:?}; to keep the model's own values, \
         add the name or a pattern such as `fc.*` to the tensors to replace",
        path.display()
    )]
    Mismatch {
        /// Path of the file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape in the model.
        expected: Vec<usize>,
    },
    /// The file lacks tensors that the model needs.
    #[error("{} lacks {} of the model's tensors: {}{hint}", path.display(), missing.len(), format_names(missing))]
    Missing {
        /// Path of the file.
        path: PathBuf,
        /// Names of the missing tensors.
        missing: Vec<String>,
        /// End of the message: the unused names in the file, and a hint if all names in the file start with `module.`.
        /// May be empty.
        hint: String,
    },
    /// A pattern matches no name, probably because of a typing mistake.
    #[error("the pattern `{pattern}` matches none of the model's tensors: {}", format_names(names))]
    Unmatched {
        /// Text of the pattern.
        pattern: String,
        /// Names of the model's tensors.
        names: Vec<String>,
    },
    /// The text is not a valid pattern.
    #[error(
        "`{0}` is not a valid pattern: use a name such as `fc.weight`, or `*` for any characters, as in `fc.*`"
    )]
    Pattern(String),
    /// The number of values does not match the shape of a tensor.
    #[error("{found} values do not match the shape {shape:?} of a tensor")]
    Shape {
        /// Shape of the tensor.
        shape: Vec<usize>,
        /// Number of given values.
        found: usize,
    },
    /// The name is empty or reserved by safetensors.
    #[error("a tensor cannot be named `{0}`: the name is empty or reserved by safetensors")]
    Name(String),
    /// An invariant of this crate is broken.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

impl WeightsError {
    /// Returns the kind of the error: internal for a broken invariant, otherwise storage.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Internal(_) => ErrorKind::Internal,
            _ => ErrorKind::Storage,
        }
    }
}

/// Formats the first few names and the number of the others.
pub(crate) fn format_names<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
