//! Named weights: reads safetensors and PyTorch files, writes safetensors, and matches tensors with a model by name.
//!
//! Invariant: this crate depends neither on graphs nor on devices.
//!
//! ```
//! use wgrad_weights::{AssignOptions, Pattern, Tensor, Weights};
//!
//! let mut weights = Weights::new();
//! weights.insert("conv1.weight", Tensor::new(vec![4, 3, 3, 3], vec![0.5; 108])?)?;
//! weights.insert("fc.weight", Tensor::new(vec![1000, 4], vec![0.0; 4000])?)?;
//!
//! // The model has 10 classes instead of 1000, so its head keeps its initial values.
//! let model_tensors = [("conv1.weight".to_owned(), vec![4, 3, 3, 3]), ("fc.weight".to_owned(), vec![10, 4])];
//! let options = AssignOptions { replace: vec![Pattern::new("fc.*")?] };
//! let assignment = weights.assign(&model_tensors, &options)?;
//! assert_eq!(assignment.found[0].0, "conv1.weight");
//! assert_eq!(assignment.replaced, ["fc.weight"]);
//! # Ok::<(), wgrad_weights::WeightsError>(())
//! ```
//!
//! # Formats
//!
//! The format of a file is detected from its first bytes, not from its name.
//!
//! - **safetensors**, with any metadata.
//! - **PyTorch**, the zip files of PyTorch 1.6 and later: a state dict, or a checkpoint with a state dict under
//!   `state_dict`, `model_state_dict` or `model`. Nothing in the file is executed. The pickle is parsed by an
//!   interpreter that supports only the few Python names that tensors need. Any other name causes an error that states
//!   this name.
//!
//! Floats of 16, 32 and 64 bits become f32; an f64 that is too large for f32 becomes infinite. Integers and booleans,
//! such as the `num_batches_tracked` of a batch norm, are stored separately as i64 ([`Weights::integers`]), because
//! parameters are never integers.
//!
//! Files may come from untrusted sources. An invalid file causes an error that states the problem, never a panic, and
//! memory is allocated only in proportion to the size of the file.

mod assign;
mod element;
mod error;
mod pattern;
mod safetensors;
mod tensor;
mod torch;
mod weights;

pub use assign::{AssignOptions, Assignment};
pub use error::WeightsError;
pub use pattern::Pattern;
pub use tensor::Tensor;
pub use weights::Weights;
