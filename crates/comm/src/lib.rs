//! Collectives between the replicas of a data-parallel training run.
//!
//! [`Collective`] is the interface. [`Single`] (one replica), [`Local`] (threads of a process), [`Hierarchical`]
//! (threads within processes) and, with the feature `mpi`, `Mpi` (processes) implement it. [`Worker`] calls a
//! collective on a separate thread, so that communication overlaps computation, and aborts the job if a call exceeds
//! the timeout.

mod barrier;
mod collective;
mod environment;
mod error;
mod hierarchical;
mod local;
#[cfg(feature = "mpi")]
mod mpi;
mod worker;

pub use collective::{AbortHandle, Collective, Single};
pub use environment::{LaunchInfo, launch_info};
pub use error::{CommError, PANICKED};
pub use hierarchical::Hierarchical;
pub use local::Local;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use worker::{Completion, Job, Ticket, Worker};
