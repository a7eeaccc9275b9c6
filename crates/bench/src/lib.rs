//! Benchmarks of `wgrad bench`: kernels and training steps on any [`Device`](wgrad_program::Device). The result of each
//! case is checked before the case is timed.
//!
//! A [`Workload`] is a graph with random inputs. A [`LoadedWorkload`] is a workload on a device, ready to run.
//! [`Expected`] holds the expected results of a workload. [`measure`](fn@measure) measures cases, e.g. those that
//! [`cases`](fn@cases) returns, on all given devices. It returns the measurements that a
//! [`Bench`](crate::results::Bench) contains.
//!
//! This crate does not print and does not open devices. Only [`Bench::write`](crate::results::Bench::write) writes
//! files.

pub mod cases;
mod ceiling;
mod check;
mod cold;
mod error;
mod host;
mod loaded;
mod measure;
pub mod results;
mod time;
mod workload;
mod workloads;

pub use cases::{Case, cases, selected};
pub use ceiling::{Ceiling, ceiling};
pub use check::{Comparison, Expected, Reference};
pub use cold::cold_start;
pub use error::BenchError;
pub use host::{CpuTime, now_ns, peak_rss_bytes};
pub use loaded::LoadedWorkload;
pub use measure::{Budget, NamedDevice, Progress, measure};
pub use wgrad_stdx::stats::quantile;
pub use workload::{NonSmoothTolerance, Recorder, Update, Workload};
pub use workloads::{WORKLOADS, workload};
