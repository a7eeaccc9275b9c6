//! Execution of graphs and programs on the CPU.
//!
//! Contains two independent implementations: [`reference`](mod@reference), which evaluates a graph node by node in f64
//! with plain loops, and [`CpuDevice`], which replays programs fast in f32 (where there is no GPU) or in f64.
//!
//! Nothing here knows an operation by name.

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
