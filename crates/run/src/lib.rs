//! Files of a training run: run directory, metrics, event files, checkpoints, scores and traces.
//!
//! This crate does not train and does not depend on graphs or devices. Tensors are named slices of values, so
//! everything can be tested without a model.
//!
//! A run directory contains:
//!
//! ```text
//! runs/digits-20260102-030405/
//!   recipe.toml                  the recipe, fully resolved
//!   metrics.jsonl                one JSON object per logged step
//!   events.out.tfevents.…        the same values for TensorBoard
//!   checkpoints/step-000660/     model.safetensors and state.json
//!   scores.json                  scores of a classifier, if it was evaluated
//!   report.html                  charts and final figures
//!   profile.json                 trace of a few steps, if they were profiled
//!   done.json                    exists once the run has finished
//! ```

pub mod checkpoint;
mod flops;
pub mod metrics;
pub mod rundir;
pub mod score;
pub mod tensorboard;
pub mod trace;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointState, Tensor};
pub use flops::Flops;
pub use metrics::{MetricsError, MetricsWriter, Row};
pub use rundir::{Run, RunDir, RunDirError};
pub use score::{Predictions, ScoreError, Scores};
pub use tensorboard::{EventError, EventWriter};
