//! What `wgrad bench` measures, and how: kernels and whole training steps on any [`Device`](wgrad_program::Device), each
//! result judged before it is timed.
//!
//! A [`Work`] is a graph over state with random contents; [`Loaded`] is one on a device, ready to run; [`Expected`] is what has
//! to come out. [`measure`](fn@measure) takes the cases of [`cases`](fn@cases) through all devices and gives what
//! [`crate::results::Bench`] is made of.
//!
//! Nothing here prints, opens a device or writes a file.

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
mod work;
mod workload;

pub use cases::{Case, cases, selected};
pub use ceiling::{Ceiling, ceiling};
pub use check::{Expected, Judge, Verdict};
pub use cold::cold_start;
pub use error::BenchError;
pub use host::{Processor, now_ns, peak_rss_bytes};
pub use loaded::Loaded;
pub use measure::{Effort, Progress, Subject, measure};
pub use wgrad_stdx::stats::quantile;
pub use work::{Kinked, Recorder, Update, Work};
pub use workload::{WORKLOADS, workload};
