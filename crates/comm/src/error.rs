//! Errors of collectives.

use wgrad_stdx::{ErrorKind, InternalError};

/// Exit code of a job that ends because a replica was lost or did not answer.
pub const LOST: u8 = 7;
/// Exit code of a replica that panicked; the same as Rust's own.
pub const PANICKED: u8 = 101;
/// Exit code of a job that was set up wrongly.
const MISUSED: u8 = 2;

/// Error of a collective or of the communication thread.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// Another replica aborted the run.
    #[error("replica {rank} aborted the run: {message}")]
    Aborted {
        /// Rank of that replica, from 0.
        rank: usize,
        /// Exit code of that replica's error.
        code: u8,
        /// Message of that replica's error.
        message: String,
    },
    /// The other replicas did not join a call in time.
    #[error(
        "{operation}: no answer from the other replicas within {seconds} s; a replica has stopped or cannot be reached"
    )]
    Timeout {
        /// Call that timed out.
        operation: String,
        /// Seconds waited.
        seconds: u64,
    },
    /// A call of MPI failed.
    #[error("{call} failed with MPI error {code}: {text}")]
    Mpi {
        /// MPI function.
        call: &'static str,
        /// Error code that it returned.
        code: i32,
        /// MPI's description of the code.
        text: String,
    },
    /// The replicas made different calls, or their groups have different sizes.
    #[error("{0}")]
    Mismatch(String),
    /// Invalid arguments, or a setup that is not supported.
    #[error("{0}")]
    Usage(String),
    /// The number of processes differs from the number that were started.
    #[error(
        "this process is one of {expected} processes that should train together, but it finds {found} and would \
         train alone"
    )]
    WorldSize {
        /// Number of processes that were started.
        expected: usize,
        /// Number of processes found.
        found: usize,
    },
    /// The communication thread could not be started.
    #[error("the communication thread cannot be started: {0}")]
    Spawn(String),
    /// The communication thread has exited.
    #[error("the communication thread has exited")]
    Closed,
    /// A broken invariant of this crate.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

impl CommError {
    /// Kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) | Self::WorldSize { .. } => ErrorKind::Usage,
            Self::Internal(_) => ErrorKind::Internal,
            Self::Aborted { .. }
            | Self::Timeout { .. }
            | Self::Mpi { .. }
            | Self::Mismatch(_)
            | Self::Spawn(_)
            | Self::Closed => ErrorKind::Replica,
        }
    }

    /// Returns the exit code that the other replicas of the group report for this error.
    pub(crate) fn abort_code(&self) -> u8 {
        match self {
            Self::Aborted { code, .. } => *code,
            _ if self.kind() == ErrorKind::Usage => MISUSED,
            _ => LOST,
        }
    }
}
