//! Options for opening a device.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::codegen::{GemmVariant, Lanes, TuningTable};

/// Options of a device. The defaults are suitable for training; most other values are for tests.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to fill intermediates and outputs with NaN before each run, which exposes elements that no kernel
    /// writes.
    pub poison: bool,
    /// Variant for all GEMMs, instead of the variant chosen by shape. Ignored if the device cannot run this variant.
    pub gemm: Option<GemmVariant>,
    /// Tuning table of this adapter, which takes precedence over the choice by shape.
    pub tuned: Option<Arc<TuningTable>>,
    /// Workgroup size for all reductions, instead of the size chosen by shape.
    pub lanes: Option<Lanes>,
    /// Time to wait for the device before it is reported as hung.
    pub timeout: Duration,
    /// Folder of the on-disk cache of compiled kernels, used only if the driver supports a cache. `None` disables the
    /// cache.
    pub cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let timeout = Duration::from_secs(120);
        Self { poison: false, gemm: None, tuned: None, lanes: None, timeout, cache: None }
    }
}
