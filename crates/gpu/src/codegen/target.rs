//! Target of code generation.

use std::sync::Arc;

use super::tuning::TuningTable;
use super::variant::{GemmVariant, Lanes};
use crate::adapter::Class;

/// Properties of a device that code generation depends on.
#[derive(Debug, Clone)]
pub struct Target {
    /// Kind of adapter. Variants that are fast on one kind are slow on another.
    pub class: Class,
    /// Maximum number of invocations per workgroup.
    pub max_invocations: u32,
    /// Maximum size of workgroup memory in bytes.
    pub max_workgroup_bytes: u32,
    /// Maximum number of workgroups of a dispatch in each dimension.
    pub max_workgroups: u32,
    /// Subgroup size. `None` if the device has no subgroups or their size varies.
    pub subgroup_size: Option<u32>,
    /// Variant for all GEMMs, instead of the variant chosen by shape. Ignored if the device cannot run this variant.
    pub gemm: Option<GemmVariant>,
    /// Tuning table of this device, which takes precedence over the choice by shape.
    pub tuned: Option<Arc<TuningTable>>,
    /// Workgroup size for all reductions, instead of the size chosen by shape.
    pub lanes: Option<Lanes>,
}

impl Target {
    /// Returns a target with the limits that every WebGPU device supports.
    pub fn portable(class: Class) -> Self {
        Self {
            class,
            max_invocations: 256,
            max_workgroup_bytes: 16 << 10,
            max_workgroups: 65_535,
            subgroup_size: None,
            gemm: None,
            tuned: None,
            lanes: None,
        }
    }
}
