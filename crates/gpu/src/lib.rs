//! Runs programs on GPUs through wgpu.
//!
//! [`adapters`] lists the adapters and [`GpuDevice`] opens one of them. A session allocates the buffers that a program
//! plans, generates a shader for each dispatch ([`wgsl`]) and compiles each distinct shader once. Every run then
//! replays the same commands: one upload of the inputs, all dispatches in one pass, one submission.
//!
//! Invariant: this crate does not refer to any operation by name.

mod adapter;
mod buffers;
mod cache;
mod check;
mod codegen;
mod compile;
mod context;
mod device;
mod errors;
mod mapping;
mod options;
mod readback;
mod replay;
mod ring;
mod session;
mod timing;
mod transfer;
mod tune;
mod upload;
mod validate;

pub use adapter::{Adapter, Class, adapters};
pub use codegen::{GemmVariant, Lanes, Shader, SplitK, Target, Tile, TuningTable, gemm_key, wgsl};
pub use device::GpuDevice;
pub use options::Options;
pub use tune::{Tuner, TuningResult, VariantTiming, plain_gemm};
pub use validate::validate;
