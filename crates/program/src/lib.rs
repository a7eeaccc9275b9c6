//! From a graph to a program: lowering, fusion and memory planning.
//!
//! A [`Program`] is plain data that any device can replay; nothing here knows a device's API, so all of planning is tested
//! without one.

mod device;
mod ir;

pub use device::{Data, Device, DeviceError, DeviceInfo, DeviceKind, HostData, Limits, ProgramId, Record, Session};
pub use ir::{
    Access, Buffer, Cost, Dispatch, Gemm, Instr, Kernel, Loop, Operand, Output, Program, ProgramInput, Store, TensorRef, ValueId,
};
