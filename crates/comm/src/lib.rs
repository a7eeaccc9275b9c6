//! Collectives: what several replicas of a training do together.
//!
//! [`Collective`] is the contract; [`Single`], [`Local`] (threads of a process), [`Nested`] (threads first, then processes)
//! and, with the feature `mpi`, `Mpi` keep it. [`Worker`] makes the calls on a thread of its own, so that communication runs
//! beside computing, and ends the job where one takes too long.

mod collective;
mod environment;
mod error;
mod local;
mod meeting;
#[cfg(feature = "mpi")]
mod mpi;
mod nested;
mod worker;

pub use collective::{Abort, Collective, Single};
pub use environment::{Launched, environment};
pub use error::{CommError, LOST, PANICKED};
pub use local::Local;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use nested::Nested;
pub use worker::{Done, Job, Ticket, Worker};
