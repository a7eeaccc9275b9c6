//! Utilities shared by several wgrad crates: atomic file operations, JSON floats, quantiles, random numbers,
//! formatting of numbers and dates, error kinds, and internal errors.
//!
//! This crate does not depend on the engine. A utility that only one crate uses belongs in that crate.

pub mod date;
mod error;
pub mod file;
pub mod float;
pub mod format;
pub mod random;
pub mod stats;

pub use error::{ErrorKind, InternalError};
