//! Runs graphs and programs on the CPU.
//!
//! Two things that share no code: [`reference`](mod@reference), the judge, which walks a graph node by node in f64 with the
//! plainest loops there are; and [`CpuDevice`], which replays programs fast in f32 (where there is no GPU) or in f64.
//!
//! Nothing here knows an operation by name.

mod address;
mod check;
mod compile;
mod device;
mod emit;
mod float;
mod gemm;
mod kernel;
mod memory;
mod pack;
mod pass;
mod plan;
mod reduce;
pub mod reference;
mod session;

pub use device::{CpuDevice, Options, Precision};
