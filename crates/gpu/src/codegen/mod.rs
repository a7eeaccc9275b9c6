//! WGSL from kernels. Pure text: no device is needed, so that every shader of a program can be checked without one.
//!
//! Everything about a kernel is baked into its text as literals: sizes, strides, bounds of loops. Two dispatches with the
//! same text share a pipeline.

mod body;
mod gemm;
mod index;
mod lanes;
mod loops;
mod tile;

use std::sync::Arc;

use wgrad_graph::DType;
use wgrad_program::{Access, Dispatch, Kernel, Operand};

pub use lanes::Lanes;
pub use tile::{GemmVariant, Split, Tile};

pub(crate) use body::arguments;

use crate::adapter::Class;
use crate::tune::Tuned;

/// What text is generated for.
#[derive(Debug, Clone)]
pub struct Target {
    /// Kind of adapter: what is fast on one is slow on another.
    pub class: Class,
    /// Invocations that a workgroup may have.
    pub invocations: u32,
    /// Bytes of memory that a workgroup may share.
    pub shared_bytes: u32,
    /// Workgroups that a dispatch may have in each dimension.
    pub groups: u32,
    /// Invocations of a subgroup, where the device has subgroups and all of one size.
    pub subgroup: Option<u32>,
    /// The variant of every matrix product, instead of the one chosen by its shape.
    pub gemm: Option<GemmVariant>,
    /// The variants of products that were timed on this device; they come before the choice by shape.
    pub tuned: Option<Arc<Tuned>>,
    /// The workgroup of every reduction, instead of the one chosen by its shape.
    pub lanes: Option<Lanes>,
}

impl Target {
    /// What every WebGPU device can run.
    pub fn portable(class: Class) -> Self {
        Self {
            class,
            invocations: 256,
            shared_bytes: 16 << 10,
            groups: 65_535,
            subgroup: None,
            gemm: None,
            tuned: None,
            lanes: None,
        }
    }
}

/// A compute shader: its entry point is `main`; operand i is bound to `@group(0) @binding(i)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shader {
    /// The WGSL.
    pub text: String,
    /// Workgroups to dispatch in each dimension.
    pub workgroups: [u32; 3],
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// For each operand, whether it is bound read-only.
    pub read_only: Vec<bool>,
    /// What was chosen, for people: e.g. `tiled 64×64×16` or `8 rows × 32 lanes`.
    pub choice: String,
}

/// The shader of a dispatch.
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

/// What tells a matrix product from others in a table of tuned ones: sizes, layouts, element types and epilogue, as a hash of
/// its plainest kernel. A version that generates another kernel gives another key. `None` for a loop.
pub fn product_key(dispatch: &Dispatch) -> Option<u64> {
    match &dispatch.kernel {
        Kernel::Gemm(gemm) => Some(gemm::key(gemm, &dispatch.operands)),
        Kernel::Loop(_) => None,
    }
}

/// The variant that a product gets by its shape; `None` for a loop.
pub(crate) fn chosen_by_shape(dispatch: &Dispatch, target: &Target) -> Option<GemmVariant> {
    match &dispatch.kernel {
        Kernel::Gemm(gemm) => Some(GemmVariant::by_shape(gemm, target)),
        Kernel::Loop(_) => None,
    }
}

/// A kernel without the declarations of its operands.
struct Generated {
    text: String,
    workgroups: [u32; 3],
    invocations: u32,
    choice: String,
}

/// wgpu refuses a buffer that a dispatch binds both read-only and read-write, even where the ranges are apart: what shares
/// a buffer with something written is bound read-write.
fn read_only(operands: &[Operand]) -> Vec<bool> {
    let written = |operand: &Operand| {
        operands
            .iter()
            .any(|other| other.tensor.buffer == operand.tensor.buffer && other.access != Access::Read)
    };
    operands.iter().map(|operand| !written(operand)).collect()
}

/// Spreads groups over three dimensions, none above `limit`. The grid may have more groups than asked for.
fn split(groups: usize, limit: u32) -> [u32; 3] {
    let limit = limit.max(1) as usize;
    let z = groups.div_ceil(limit * limit).max(1);
    let y = groups.div_ceil(limit * z).clamp(1, limit);
    let x = groups.div_ceil(y * z).clamp(1, limit);
    [x as u32, y as u32, z.min(limit) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_split_within_the_limit_and_none_is_lost() {
        for groups in [1, 2, 65_535, 65_536, 65_537, 1 << 20, 65_535 * 65_535, 65_535 * 65_535 + 1] {
            let grid = split(groups, 65_535).map(|n| n as usize);
            assert!(grid.iter().all(|&n| (1..=65_535).contains(&n)), "{groups}: {grid:?}");
            let all: usize = grid.iter().product();
            assert!(all >= groups && all - groups < groups / 100 + 2, "{groups}: {grid:?}");
        }
        assert_eq!(split(65_535, 65_535), [65_535, 1, 1]);
    }
}
