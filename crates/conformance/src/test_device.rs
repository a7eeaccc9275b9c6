//! Devices under test: the CPU in both precisions, and every GPU adapter. Adapters are tested with default kernels,
//! and also with each kernel variant.

use wgrad_cpu::{CpuDevice, Precision};
use wgrad_gpu::{Adapter, GemmVariant, GpuDevice, Lanes};
use wgrad_program::{Device, DeviceError, Kernel};

use crate::shader::LANES;
use crate::trial::{Trial, With};

/// A device under test.
pub struct TestDevice {
    /// Name of the device in reports.
    pub name: String,
    /// The opened device. Its memory is filled with NaN before each run.
    pub device: Box<dyn Device>,
    /// Checks that run on this device.
    pub scope: Scope,
}

/// Set of checks and programs that run on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All checks.
    All,
    /// Value checks of operations that lower to a GEMM themselves. Used for a device that is restricted to one GEMM
    /// variant.
    ///
    /// Operations composed of several operations run the same GEMM kernels. They are not in scope, because drivers
    /// take long to compile each kernel again.
    Gemms,
    /// Value checks of programs with reductions. Used for a device that is restricted to one reduction variant.
    Reductions,
}

impl Scope {
    /// Whether a trial is in scope.
    pub(crate) fn applies(self, trial: &Trial) -> bool {
        if self == Scope::Gemms && !trial.is_gemm() {
            return false;
        }
        let is_in = |kernel: &Kernel| match (self, kernel) {
            (Scope::All, _) | (Scope::Gemms, Kernel::Gemm(_)) => true,
            (Scope::Reductions, Kernel::Loop(kernel)) => !kernel.inner.is_empty(),
            _ => false,
        };
        let graph = trial.graph(With::Gradient).ok();
        let program = graph
            .and_then(|(graph, _)| wgrad_program::compile(&graph, wgrad_program::Options::default()).ok());
        // A trial that cannot be planned is in scope, because it must be reported as a failure.
        program.is_none_or(|p| self == Scope::All || p.dispatches.iter().any(|d| is_in(&d.kernel)))
    }
}

impl TestDevice {
    /// Creates a CPU device with the given precision.
    pub fn cpu(precision: Precision) -> TestDevice {
        let device = CpuDevice::with_options(wgrad_cpu::Options { precision, poison: true });
        let name = match precision {
            Precision::F32 => "cpu",
            Precision::F64 => "cpu f64",
        };
        TestDevice { name: name.into(), device: Box::new(device), scope: Scope::All }
    }

    /// Opens an adapter with default kernels. As in training, each kernel is chosen by its shape.
    ///
    /// # Errors
    /// Returns an error if the driver refuses to open the adapter.
    pub fn adapter(adapter: &Adapter) -> Result<TestDevice, DeviceError> {
        Self::open(adapter, "", Scope::All, None, None)
    }

    /// Opens an adapter once for each GEMM variant and once for each reduction variant.
    ///
    /// # Errors
    /// Returns an error if the driver refuses to open the adapter.
    pub fn variants(adapter: &Adapter) -> Result<Vec<TestDevice>, DeviceError> {
        let plain = GpuDevice::open(adapter.index)?;
        let fitting = GemmVariant::ALL.into_iter().filter(|variant| variant.fits(plain.target()));
        let gemms = fitting
            .map(|variant| Self::open(adapter, &format!(", {variant}"), Scope::Gemms, Some(variant), None));
        let reductions = LANES.iter().map(|&lanes| {
            let name = format!(", {} rows × {} lanes", lanes.rows, lanes.lanes);
            Self::open(adapter, &name, Scope::Reductions, None, Some(lanes))
        });
        gemms.chain(reductions).collect()
    }

    fn open(
        adapter: &Adapter,
        variant: &str,
        scope: Scope,
        gemm: Option<GemmVariant>,
        lanes: Option<Lanes>,
    ) -> Result<TestDevice, DeviceError> {
        let options = wgrad_gpu::Options { poison: true, gemm, lanes, ..wgrad_gpu::Options::default() };
        let device = GpuDevice::with_options(adapter.index, options)?;
        let name = format!("gpu:{} {} ({}){variant}", adapter.index, adapter.info.name, adapter.info.backend);
        Ok(TestDevice { name, device: Box::new(device), scope })
    }
}
