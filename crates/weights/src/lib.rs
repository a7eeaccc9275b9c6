//! Weights by name, on their way between files and a model: reads safetensors and what PyTorch's `torch.save` wrote,
//! writes safetensors, and matches names and shapes with what a model wants. Knows no graph and no device.
//!
//! ```
//! use wgrad_weights::{AssignOptions, Pattern, Tensor, Weights};
//!
//! let mut weights = Weights::new();
//! weights.insert("conv1.weight", Tensor::new(vec![4, 3, 3, 3], vec![0.5; 108])?)?;
//! weights.insert("fc.weight", Tensor::new(vec![1000, 4], vec![0.0; 4000])?)?;
//!
//! // Ten classes instead of a thousand: the head keeps its fresh values.
//! let wanted = [("conv1.weight".to_owned(), vec![4, 3, 3, 3]), ("fc.weight".to_owned(), vec![10, 4])];
//! let options = AssignOptions { replace: vec![Pattern::new("fc.*")?] };
//! let assignment = weights.assign(&wanted, &options)?;
//! assert_eq!(assignment.found[0].0, "conv1.weight");
//! assert_eq!(assignment.replaced, ["fc.weight"]);
//! # Ok::<(), wgrad_weights::WeightsError>(())
//! ```
//!
//! # What is read
//!
//! The kind of a file is seen from its first bytes, not from its name.
//!
//! - **safetensors**, with any metadata.
//! - **PyTorch**, the zip files of PyTorch 1.6 and later: a state dict, or a checkpoint that has one under `state_dict`,
//!   `model_state_dict` or `model`. Nothing in the file is executed. Its pickle is walked by a small machine that knows
//!   the few names which tensors need, and refuses every other by its name.
//!
//! Floats of 16, 32 and 64 bits become f32; an f64 that is too large for it becomes infinite. Integers and booleans, such
//! as the `num_batches_tracked` of a batch norm, are kept apart as i64 ([`Weights::integers`]): no parameter is one.
//!
//! Files may come from anyone. A bad one is an error that says what is wrong with it, never a panic, and memory is only
//! allocated in proportion to bytes that are there.

mod assign;
mod element;
mod error;
mod files;
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
