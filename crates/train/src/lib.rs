//! Training.
//!
//! [`Plan`] traces a model with its loss, gradients and optimizer into the programs of a run. [`Trainer`] holds their state
//! on a device and steps. [`fit`] drives a trainer through epochs with evaluation, early stopping, checkpoints and
//! callbacks. [`setup`] makes all of it from a recipe.

mod checkpoint;
mod device;
mod device_rate;
mod error;
mod fit;
mod flops;
mod gradients;
mod inputs;
mod memory;
mod non_finite;
mod plan;
mod profile;
mod recipe;
mod replicas;
mod score;
mod snapshot;
mod source;
mod trace;
mod trainer;
mod tuning;
mod weights;

pub use device_rate::{kept_ceiling, raise_ceiling};
pub use checkpoint::{load_parameters, restore, save};
pub use non_finite::{Culprit, first_bad_operation};
pub use error::TrainError;
pub use fit::{Callback, Finished, FitOptions, Stop, fit};
pub use flops::Pace;
pub use memory::{Recomputation, Scratch};
pub use replicas::rank::Part;
pub use plan::{Config, Model, Phase, Plan, SplitName, SplitShape, Task};
pub use profile::{GradientTime, KernelTime, ProfileOptions, Profiler};
pub use recipe::{Setup, resnet, run_recipe, setup, setup_on};
pub use score::score;
pub use device::{DeviceChoice, adapter, devices, open, open_for};
pub use weights::read_weights;
pub use replicas::group::{Team, TeamOptions, Traffic};
pub use trainer::{Evaluation, NamedTensor, StepRecord, Trainer};
pub use tuning::{Tuning, clear_tuning, keep_tuning, tuning};
