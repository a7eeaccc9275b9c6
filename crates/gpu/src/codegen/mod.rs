//! Generates WGSL from kernels. Code generation needs no device, so shaders can be checked on any machine.
//!
//! Sizes, strides and loop bounds of a kernel are literals in its text. Dispatches with the same text share a pipeline.

mod body;
mod choose;
mod gemm;
mod index;
mod kernel;
mod lanes;
mod loops;
mod target;
mod tuning;
mod variant;

use wgrad_graph::DType;
use wgrad_program::{Access, Dispatch, Kernel, Operand};

pub use target::Target;
pub use tuning::TuningTable;
pub use variant::{GemmVariant, Lanes, SplitK, Tile};

pub(crate) use body::arguments;

/// A compute shader. Its entry point is `main`, and operand `i` is bound to `@group(0) @binding(i)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shader {
    /// WGSL source text.
    pub text: String,
    /// Number of workgroups to dispatch in each dimension.
    pub workgroups: [u32; 3],
    /// Number of invocations per workgroup.
    pub invocations: u32,
    /// Whether each operand is bound read-only.
    pub read_only: Vec<bool>,
    /// Chosen variant, for logs and reports: e.g. `tiled 64×64×16` or `8 rows × 32 lanes`.
    pub choice: String,
}

/// Generates the shader of a dispatch.
pub fn wgsl(dispatch: &Dispatch, target: &Target) -> Shader {
    let read_only = read_only(&dispatch.operands);
    let kernel = match &dispatch.kernel {
        Kernel::Loop(kernel) => loops::generate(kernel, &dispatch.operands, target),
        Kernel::Gemm(kernel) => gemm::generate(kernel, &dispatch.operands, target),
    };
    let mut text = String::new();
    if dispatch.operands.iter().any(|operand| operand.tensor.dtype == DType::F16) {
        text.push_str("enable f16;\n");
    }
    for (i, (operand, &read_only)) in dispatch.operands.iter().zip(&read_only).enumerate() {
        let access = if read_only { "read" } else { "read_write" };
        let ty = operand.tensor.dtype;
        text.push_str(&format!("@group(0) @binding({i}) var<storage, {access}> operand{i}: array<{ty}>;\n"));
    }
    text.push_str(&kernel.text);
    Shader {
        text,
        workgroups: kernel.workgroups,
        invocations: kernel.invocations,
        read_only,
        choice: kernel.choice,
    }
}

/// Returns the key of a GEMM in the tuning table, or `None` for a loop.
///
/// The key is a hash of the naive kernel and the dtypes of the operands, so it depends on sizes, layouts, dtypes and
/// the epilogue. A version of wgrad that generates a different naive kernel has different keys.
pub fn gemm_key(dispatch: &Dispatch) -> Option<u64> {
    match &dispatch.kernel {
        Kernel::Gemm(gemm) => Some(gemm::key(gemm, &dispatch.operands)),
        Kernel::Loop(_) => None,
    }
}

/// Returns the GEMM variant chosen by shape; `None` for a loop.
pub(crate) fn gemm_by_shape(dispatch: &Dispatch, target: &Target) -> Option<GemmVariant> {
    match &dispatch.kernel {
        Kernel::Gemm(gemm) => Some(GemmVariant::by_shape(gemm, target)),
        Kernel::Loop(_) => None,
    }
}

/// Returns whether each operand can be bound read-only.
///
/// wgpu rejects a dispatch that binds a buffer both read-only and read-write, even if the ranges are disjoint. Operands
/// in a buffer that the dispatch writes are therefore bound read-write.
fn read_only(operands: &[Operand]) -> Vec<bool> {
    let written = |operand: &Operand| {
        operands
            .iter()
            .any(|other| other.tensor.buffer == operand.tensor.buffer && other.access != Access::Read)
    };
    operands.iter().map(|operand| !written(operand)).collect()
}
