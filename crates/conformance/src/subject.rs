//! Devices under test: the CPU in both precisions, and every adapter as it chooses its kernels and with each variant of them.

use wgrad_cpu::{CpuDevice, Precision};
use wgrad_gpu::{Adapter, GemmVariant, GpuDevice, Lanes};
use wgrad_program::{Device, DeviceError, Kernel};

use crate::shader::LANES;
use crate::trial::{Trial, With};

/// A device under test.
pub struct Subject {
    /// How reports name it.
    pub name: String,
    /// The device, with its memory poisoned before each run.
    pub device: Box<dyn Device>,
    /// What is checked on it.
    pub scope: Scope,
}

/// What is checked on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// The values of operations that are sums of products: the device has a variant of that kernel. What is
    /// composed of products runs the same kernels, and drivers are slow to compile each once more.
    Products,
    /// The values of programs that reduce: the device has a variant of that kernel.
    Reductions,
}

impl Scope {
    /// Whether a trial is in scope.
    pub(crate) fn applies(self, trial: &Trial) -> bool {
        if self == Scope::Products && !trial.is_product() {
            return false;
        }
        let is_in = |kernel: &Kernel| match (self, kernel) {
            (Scope::All, _) | (Scope::Products, Kernel::Gemm(_)) => true,
            (Scope::Reductions, Kernel::Loop(kernel)) => !kernel.inner.is_empty(),
            _ => false,
        };
        let program = trial.graph(With::Gradient).ok().map(|(graph, _)| {
            wgrad_program::compile(&graph, wgrad_program::Options::default()).unwrap_or_default()
        });
        // A trial that cannot be planned is a failure to report, not one to pass over.
        program.is_none_or(|p| self == Scope::All || p.dispatches.iter().any(|d| is_in(&d.kernel)))
    }
}

impl Subject {
    /// The CPU backend.
    pub fn cpu(precision: Precision) -> Subject {
        let device = CpuDevice::with_options(wgrad_cpu::Options { precision, poison: true });
        let name = match precision {
            Precision::F32 => "cpu",
            Precision::F64 => "cpu f64",
        };
        Subject { name: name.into(), device: Box::new(device), scope: Scope::All }
    }

    /// An adapter that chooses its kernels by shape, as in training.
    ///
    /// # Errors
    /// Its driver refuses.
    pub fn adapter(adapter: &Adapter) -> Result<Subject, DeviceError> {
        Self::open(adapter, "", Scope::All, None, None)
    }

    /// An adapter with each variant of the matrix product and of the reduction in turn.
    ///
    /// # Errors
    /// Its driver refuses.
    pub fn variants(adapter: &Adapter) -> Result<Vec<Subject>, DeviceError> {
        let plain = GpuDevice::open(adapter.index)?;
        let fitting = GemmVariant::ALL.into_iter().filter(|variant| variant.fits(plain.target()));
        let products = fitting.map(|variant| {
            Self::open(adapter, &format!(", {variant}"), Scope::Products, Some(variant), None)
        });
        let reductions = LANES.iter().map(|&lanes| {
            let name = format!(", {} rows × {} lanes", lanes.rows, lanes.lanes);
            Self::open(adapter, &name, Scope::Reductions, None, Some(lanes))
        });
        products.chain(reductions).collect()
    }

    fn open(
        adapter: &Adapter,
        variant: &str,
        scope: Scope,
        gemm: Option<GemmVariant>,
        lanes: Option<Lanes>,
    ) -> Result<Subject, DeviceError> {
        let options = wgrad_gpu::Options { poison: true, gemm, lanes, ..wgrad_gpu::Options::default() };
        let device = GpuDevice::with_options(adapter.index, options)?;
        let name = format!("gpu:{} {} ({}){variant}", adapter.index, adapter.info.name, adapter.info.backend);
        Ok(Subject { name, device: Box::new(device), scope })
    }
}
