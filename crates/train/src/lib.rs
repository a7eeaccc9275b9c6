//! Training of neural networks: plans, steps, evaluation, checkpoints and data-parallel replicas.
//!
//! [`Plan`] compiles a model with its loss, gradients and optimizer into the programs of a run. [`Trainer`] holds the
//! state on a device and runs steps. [`fit()`] runs a trainer over epochs with evaluation, early stopping, checkpoints
//! and callbacks. [`setup`] loads the data and creates the model and the configuration of a recipe.

mod checkpoint;
mod config;
mod device;
mod device_rate;
mod early_stopping;
mod error;
mod evaluate;
mod fit;
mod flops;
mod gradients;
mod log;
mod memory;
mod non_finite;
mod pass;
mod plan;
mod profile;
mod recipe;
mod records;
mod replicas;
mod score;
mod snapshot;
mod source;
mod trace;
mod trainer;
mod tuning;
mod weights;

pub use checkpoint::{load_parameters, restore, save};
pub use config::{Config, Task};
pub use device::{DeviceChoice, adapter_index, devices, open, open_for_replica};
pub use device_rate::{load_ceiling, save_ceiling};
pub use error::TrainError;
pub use evaluate::Evaluation;
pub use fit::{Callback, Finished, FitOptions, Stop, fit};
pub use flops::Throughput;
pub use memory::{Recomputation, Scratch};
pub use non_finite::{FirstNonFinite, find_first_non_finite};
pub use plan::{Model, Phase, Plan, SplitName, SplitShape};
pub use profile::{GradientTime, KernelTime, ProfileOptions, Profiler};
pub use recipe::{Setup, resnet, run_recipe, setup, setup_on};
pub use records::{NamedTensor, StepRecord};
pub use replicas::{CommStats, ProcessGroup, ProcessGroupOptions, RankConfig};
pub use score::score;
pub use trainer::Trainer;
pub use tuning::{Tuning, load_tuning, remove_tuning, save_tuning};
pub use weights::read_weights;
