//! Errors of training.

use std::path::PathBuf;

use wgrad_comm::CommError;
use wgrad_data::DataError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;
use wgrad_recipe::RecipeError;
use wgrad_run::score::ScoreError;
use wgrad_run::{CheckpointError, EventError, MetricsError, RunDirError};
use wgrad_stdx::{ErrorKind, InternalError};
use wgrad_weights::WeightsError;

/// Error that stops a training run or prevents it from starting.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration is invalid, or does not fit the model or the data.
    #[error("{0}")]
    Config(String),
    /// The graph of the model is invalid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The recipe is invalid.
    #[error(transparent)]
    Recipe(Box<RecipeError>),
    /// The data is invalid or missing.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A loss or metric is not finite.
    #[error("{what} is {value} at step {step}; {cause}")]
    NonFinite {
        /// Name of the value, e.g. `loss`.
        what: String,
        /// Non-finite value: NaN or an infinity.
        value: f32,
        /// Step that computed the value, counted from 1.
        step: u64,
        /// Description of the first operation whose output is not finite.
        cause: String,
    },
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A run directory has no checkpoint.
    #[error("{} has no checkpoint yet", .0.display())]
    NoCheckpoint(PathBuf),
    /// A checkpoint belongs to a different model.
    #[error("the checkpoint does not fit the model: {0}")]
    WrongModel(String),
    /// Initial weights cannot be read, or belong to a different model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model cannot be scored.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The run directory cannot be used.
    #[error(transparent)]
    Run(#[from] RunDirError),
    /// The metrics file cannot be written.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The event file cannot be written.
    #[error(transparent)]
    Events(#[from] EventError),
    /// The other replicas cannot be reached, or aborted the run.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The parameters of the replicas, which should be bit-identical, differ.
    #[error(
        "after step {step}, the parameters of {} differ from those of the other replicas ({size} replicas in total); all were \
         equal {since} steps earlier. The likely cause is a faulty device or corrupted memory",
        replica_list(.ranks)
    )]
    Diverged {
        /// Step after which the parameters were compared, counted from 1.
        step: u64,
        /// Number of steps between two comparisons.
        since: u64,
        /// Ranks of the replicas that differ from the majority.
        ranks: Vec<usize>,
        /// Number of replicas.
        size: usize,
    },
    /// A broken invariant of wgrad.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

impl From<RecipeError> for TrainError {
    /// Boxes the error because it is large and would increase the size of every `Result<_, TrainError>`.
    fn from(error: RecipeError) -> Self {
        Self::Recipe(Box::new(error))
    }
}

impl TrainError {
    /// Returns the kind of the error, which determines the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) => ErrorKind::Usage,
            Self::Graph(error) => error.kind(),
            Self::Recipe(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::NonFinite { .. } | Self::Score(_) => ErrorKind::Numeric,
            Self::Comm(error) => error.kind(),
            Self::Diverged { .. } => ErrorKind::Replica,
            Self::Checkpoint(_)
            | Self::Weights(_)
            | Self::NoCheckpoint(_)
            | Self::WrongModel(_)
            | Self::Run(_)
            | Self::Metrics(_)
            | Self::Events(_) => ErrorKind::Storage,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

/// Formats a list of ranks: `replica 1`, or `replicas 0, 2`.
fn replica_list(ranks: &[usize]) -> String {
    let list: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    format!("{} {}", if ranks.len() == 1 { "replica" } else { "replicas" }, list.join(", "))
}
