//! Execution of graphs and programs on the CPU.
//!
//! Contains two independent implementations. [`reference`](mod@reference) evaluates a graph node by node in f64, with
//! plain loops. [`CpuDevice`] runs compiled programs, either in f32 (on machines without a GPU) or in f64 (to check
//! results).
//!
//! The crate contains no code for individual operations.

mod address;
mod analysis;
mod check;
mod compile;
mod device;
mod emit;
mod float;
mod gemm;
mod host;
mod kernel;
mod memory;
mod pack;
mod pass;
mod plan;
mod reduce;
pub mod reference;
mod session;

pub use device::{CpuDevice, Options, Precision};
