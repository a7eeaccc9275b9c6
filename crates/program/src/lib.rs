//! Compiles graphs into programs: lowering, fusion and memory planning.
//!
//! A [`Program`] is plain data that any device can replay. The crate does not depend on a device API, so planning is
//! tested without a device. [`compile`] has four stages, one file each: `value` (with `order`) resolves views, `fuse`
//! (with `cluster`) assigns operations to kernels, `kernel` emits the instructions, and `memory` places the tensors.
//! `share` places the tensors of several programs together.

mod cluster;
mod compile;
mod device;
mod evaluate;
mod fuse;
mod ir;
mod kernel;
mod memory;
mod order;
mod profile;
mod share;
mod value;

pub use compile::{Options, compile};
pub use device::{
    Data, Device, DeviceError, DeviceInfo, DeviceKind, HostData, Limits, ProgramId, Readback,
    ReadbackHandler, Record, Session, check_f32_range,
};
pub use evaluate::{EvaluateError, evaluate};
pub use ir::{
    Access, Buffer, Cost, Dispatch, Gemm, Instr, Kernel, Loop, Operand, Output, Program, ProgramInput, Store,
    TensorRef, ValueId, session_bytes, slab_bytes,
};
pub use profile::{Clock, HostSpan, Profile, Span, Stopwatch};
pub use share::share_slabs;
