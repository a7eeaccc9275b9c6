//! Everything a training run reads and leaves on disk: recipes, metrics, event files, checkpoints and the report.
//!
//! Nothing here trains, and nothing knows a graph or a device: tensors arrive as named slices of numbers. So all of it
//! is tested without a model.
//!
//! A run directory:
//!
//! ```text
//! runs/digits-20260102-030405/
//!   recipe.toml                  the recipe, fully resolved
//!   metrics.jsonl                one JSON object a logged step
//!   events.out.tfevents.…        the same for TensorBoard
//!   checkpoints/step-000660/     model.safetensors and state.json
//!   scores.json                  scores of a classifier, if it was scored
//!   report.html                  charts and final figures
//!   profile.json                 a timeline of a few steps, if they were profiled
//!   done.json                    there once the run has finished
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
