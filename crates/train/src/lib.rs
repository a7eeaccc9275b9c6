//! Training.
//!
//! [`Plan`] traces a model with its loss, gradients and optimizer into the programs of a run. [`Trainer`] holds their state
//! on a device and steps. [`fit`] drives a trainer through epochs with evaluation, early stopping, checkpoints and
//! callbacks. [`setup`] makes all of it from a recipe.

mod ceiling;
mod checkpoint;
mod diagnose;
mod error;
mod feed;
mod fit;
mod inputs;
mod ledger;
mod memory;
mod part;
mod plan;
mod probe;
mod profile;
mod recipe;
mod rewind;
mod score;
mod select;
mod start;
mod step;
mod team;
mod trace;
mod trainer;
mod tuned;

pub use ceiling::{kept_ceiling, raise_ceiling};
pub use checkpoint::{load_parameters, restore, save};
pub use diagnose::{Culprit, first_bad_operation};
pub use error::TrainError;
pub use fit::{Callback, Finished, FitOptions, Stop, fit};
pub use ledger::Pace;
pub use memory::{Recomputation, Scratch};
pub use part::Part;
pub use plan::{Config, Model, Phase, Plan, SplitName, SplitShape, Task};
pub use profile::{GradientTime, KernelTime, ProfileOptions, Profiler};
pub use recipe::{Setup, resnet, run_recipe, setup, setup_on};
pub use score::score;
pub use select::{DeviceChoice, adapter, devices, open, open_for};
pub use start::read_weights;
pub use team::{Team, TeamOptions, Traffic};
pub use trainer::{Evaluation, NamedTensor, StepRecord, Trainer};
pub use tuned::{Tuning, clear_tuning, keep_tuning, tuning};
