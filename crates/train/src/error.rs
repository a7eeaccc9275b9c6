//! What can stop a training run, and the exit code of each.

use wgrad_comm::CommError;
use wgrad_data::DataError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;
use wgrad_recipe::RecipeError;
use wgrad_run::score::ScoreError;
use wgrad_run::{CheckpointError, EventError, MetricsError, RunDirError};
use wgrad_weights::WeightsError;

/// Why training stopped or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration cannot be trained.
    #[error("{0}")]
    Config(String),
    /// The model is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The data is wrong or missing.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A loss or metric is not finite.
    #[error("{what} became {value} at step {step}; {culprit}")]
    NonFinite {
        /// Name of the value, e.g. `loss`.
        what: String,
        /// Its value.
        value: f32,
        /// The step, from 1.
        step: u64,
        /// The first operation whose output is not finite, in words.
        culprit: String,
    },
    /// A checkpoint cannot be written or read, or belongs to another model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is no checkpoint.
    #[error("{} has no checkpoint yet", .0.display())]
    NoCheckpoint(std::path::PathBuf),
    /// A checkpoint belongs to another model.
    #[error("the checkpoint does not fit the model: {0}")]
    WrongModel(String),
    /// Weights to start from cannot be read, or are of another model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model cannot be scored.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The run directory cannot be used.
    #[error(transparent)]
    Run(#[from] RunDirError),
    /// Metrics cannot be written.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The other replicas cannot be reached, or ended the run.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// Replicas hold other parameters than the rest, which should be the same bits.
    #[error(
        "at step {step} {} other parameters than the rest of the {of} replicas; all were the same {since} steps before. A \
         device computes wrongly, or memory is damaged",
        named(.ranks)
    )]
    Diverged {
        /// The step after which they were compared, from 1.
        step: u64,
        /// Steps between two comparisons.
        since: u64,
        /// The replicas that differ, from 0.
        ranks: Vec<usize>,
        /// How many replicas there are.
        of: usize,
    },
    /// Events cannot be written.
    #[error(transparent)]
    Events(#[from] EventError),
}

impl TrainError {
    /// The exit code of the process: 2 usage or recipe, 3 data, 4 device, 5 numeric, 6 checkpoint or run directory,
    /// 7 other replicas; what another replica ended the run for has its code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Graph(_) | Self::Recipe(_) => 2,
            Self::Data(_) => 3,
            Self::Device(_) => 4,
            Self::NonFinite { .. } | Self::Score(_) => 5,
            Self::Comm(CommError::Aborted { code, .. }) => *code,
            Self::Comm(_) | Self::Diverged { .. } => 7,
            Self::Checkpoint(_)
            | Self::Weights(_)
            | Self::NoCheckpoint(_)
            | Self::WrongModel(_)
            | Self::Run(_)
            | Self::Metrics(_)
            | Self::Events(_) => 6,
        }
    }
}

fn named(ranks: &[usize]) -> String {
    match ranks {
        [rank] => format!("replica {rank} has"),
        _ => {
            let ranks: Vec<String> = ranks.iter().map(ToString::to_string).collect();
            format!("replicas {} have", ranks.join(", "))
        }
    }
}
