//! Errors of collectives.

use wgrad_stdx::{ErrorKind, InternalError};

/// Exit code of a replica that panicked; Rust programs exit with the same code after a panic.
pub const PANICKED: u8 = 101;

/// Error of a collective or of the communication thread.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// Another replica aborted the run.
    #[error("replica {rank} aborted the run: {message}")]
    Aborted {
        /// Rank of the replica that aborted, from 0.
        rank: usize,
        /// Exit code for the error of that replica.
        code: u8,
        /// Error message of that replica.
        message: String,
    },
    /// The other replicas did not join a call in time.
    #[error(
        "{operation}: no answer from the other replicas within {seconds} s; a replica has stopped or cannot be reached"
    )]
    Timeout {
        /// Description of the call that timed out, such as `all-reduce of 5 elements`.
        operation: String,
        /// Timeout in seconds.
        seconds: u64,
    },
    /// An MPI function returned an error.
    #[error("{call} failed with MPI error {code}: {text}")]
    Mpi {
        /// Name of the MPI function.
        call: &'static str,
        /// Error code that the function returned.
        code: i32,
        /// MPI's description of the error code.
        text: String,
    },
    /// The replicas made different calls, or their groups have different sizes.
    #[error("{0}")]
    Mismatch(String),
    /// Invalid arguments, or a setup that is not supported.
    #[error("{0}")]
    Usage(String),
    /// The number of processes in the launcher's environment variables differs from the number of processes started.
    #[error(
        "expected a group of {expected} processes, but the launcher's environment variables give {found}; start the \
         processes with an mpirun of Open MPI, MPICH or MVAPICH"
    )]
    WorldSize {
        /// Number of processes that were started.
        expected: usize,
        /// Number of processes in the launcher's environment variables; 1 without a launcher.
        found: usize,
    },
    /// The communication thread could not be started.
    #[error("the communication thread cannot be started: {0}")]
    Spawn(String),
    /// The communication thread has exited.
    #[error(
        "the communication thread of this replica has ended; look for an earlier error or panic of this replica"
    )]
    Closed,
    /// An invariant of this crate is broken.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

impl CommError {
    /// Returns the kind of the error.
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
            _ if self.kind() == ErrorKind::Usage => ErrorKind::Usage.exit_code(),
            _ => ErrorKind::Replica.exit_code(),
        }
    }
}
