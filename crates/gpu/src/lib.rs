//! Runs programs on any GPU through wgpu.
//!
//! [`adapters`] lists what there is, [`GpuDevice`] opens one of them. A session allocates the buffers that a program plans,
//! generates a shader for each of its dispatches ([`wgsl`]), compiles each distinct one once, and then replays the same
//! commands for every run: inputs in one upload, all dispatches in one pass, one submission.
//!
//! Nothing here knows an operation by name.

mod adapter;
mod buffers;
mod cache;
mod check;
mod codegen;
mod compile;
mod device;
mod errors;
mod mapping;
mod readings;
mod replay;
mod ring;
mod session;
mod timing;
mod transfer;
mod tune;
mod upload;
mod validate;

pub use adapter::{Adapter, Class, adapters};
pub use codegen::{GemmVariant, Lanes, Shader, Split, Target, Tile, product_key, wgsl};
pub use device::{GpuDevice, Options};
pub use tune::{Outcome, Timing, Tuned, Tuner, plain_product};
pub use validate::validate;
