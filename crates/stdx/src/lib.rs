//! Additions to the standard library that several crates of wgrad share: atomic files, JSON floats, quantiles, formats of
//! bytes, counts, durations and dates, kinds of errors, and internal errors.
//!
//! Knows nothing of the engine. Whatever only one crate needs stays in that crate.

pub mod date;
mod error;
pub mod file;
pub mod float;
pub mod format;
pub mod random;
pub mod stats;

pub use error::{ErrorKind, InternalError};
