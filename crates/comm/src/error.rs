//! What can go wrong between replicas.

/// Exit code of a job that ended because a replica was lost or did not answer.
pub const LOST: u8 = 7;
/// Exit code of a replica that panicked, as Rust's own.
pub const PANICKED: u8 = 101;

/// Why replicas cannot go on together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// Another replica ended the run.
    #[error("replica {rank} ended the run: {message}")]
    Aborted {
        /// Which one, from 0.
        rank: usize,
        /// The exit code of what it failed at.
        code: u8,
        /// What it said.
        message: String,
    },
    /// The others did not come.
    #[error(
        "no answer from the other replicas within {seconds} s, in {what}: one of them has stopped or cannot be reached"
    )]
    Timeout {
        /// What was waited for.
        what: String,
        /// Seconds waited.
        seconds: u64,
    },
    /// A call of MPI failed.
    #[error("{call} failed with code {code}: {text}")]
    Mpi {
        /// The function.
        call: &'static str,
        /// What it returned.
        code: i32,
        /// What the library says of that.
        text: String,
    },
    /// Replicas were asked for different things, or for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// This process was started as one of several, and finds another number of them.
    #[error(
        "this is one of {expected} processes that should train together, but it finds {found}: it would train alone"
    )]
    Alone {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The communication thread is gone.
    #[error("the communication thread has ended")]
    Closed,
}
