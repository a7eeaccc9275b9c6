//! Why weights cannot be read, matched or written. Every message about a file names it.

use std::io;
use std::path::PathBuf;

/// Why weights cannot be read, matched or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of another kind.
    #[error(
        "{} holds no weights that can be read: it is neither a safetensors file nor one that PyTorch 1.6 or later \
         wrote with `torch.save`",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// What PyTorch wrote before version 1.6, or a bare pickle.
    #[error(
        "{} is a pickle without a zip file around it, as PyTorch wrote before version 1.6; to convert it, run \
         `torch.save(torch.load(OLD, map_location=\"cpu\", weights_only=True), NEW)` in a current PyTorch",
        path.display()
    )]
    OldFormat {
        /// The file.
        path: PathBuf,
    },
    /// Truncated, changed, or made to mislead.
    #[error("{} is damaged: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A sound file of the right kind that holds something else than weights by name, or in a way that is not read.
    #[error("{} cannot be used: {message}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, and what would be right.
        message: String,
    },
    /// The pickle asks for a Python class or function that tensors do not need.
    #[error("{} asks for the Python name `{global}`: {reason}", path.display())]
    Global {
        /// The file.
        path: PathBuf,
        /// Module and name.
        global: String,
        /// Why it is refused, and what would be right.
        reason: &'static str,
    },
    /// A tensor that the file describes wrongly.
    #[error("{}: tensor `{tensor}` {message}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        message: String,
    },
    /// A tensor of a type that is not read, or of integers where floats are wanted.
    #[error("{}: tensor `{tensor}` is {dtype}; {wanted}", path.display())]
    DType {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// Its type.
        dtype: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A tensor of another shape than the model's.
    #[error(
        "{}: tensor `{tensor}` has shape {found:?}, the model wants {wanted:?}; to keep the model's own values \
         instead, name it or a pattern such as `fc.*` among those to replace",
        path.display()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// Its shape in the model.
        wanted: Vec<usize>,
    },
    /// Tensors that the model wants and the file lacks.
    #[error("{} lacks {} of the model's tensors: {}{hint}", path.display(), missing.len(), listed(missing))]
    Missing {
        /// The file.
        path: PathBuf,
        /// Their names.
        missing: Vec<String>,
        /// What the file has instead.
        hint: String,
    },
    /// A pattern that matches no name: a typing error, most likely.
    #[error("the pattern `{pattern}` matches none of the model's tensors: {}", listed(names))]
    Unmatched {
        /// The pattern.
        pattern: String,
        /// The names that it was tried on.
        names: Vec<String>,
    },
    /// What is no pattern.
    #[error(
        "`{0}` is no pattern of names; one is a name such as `fc.weight`, or has `*` for any characters: `fc.*`"
    )]
    Pattern(String),
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
}

/// The first few names, and how many more there are.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
