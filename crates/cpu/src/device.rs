//! The CPU as a device: its description, options and sessions.

use wgrad_graph::States;
use wgrad_program::{Device, DeviceError, DeviceInfo, DeviceKind, Limits, Session};

use crate::host::{Host, memory_bytes, model_name};
use crate::session::CpuSession;

/// Floating-point type in which a device computes and stores values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32, for training.
    #[default]
    F32,
    /// f64, to check results. Needs twice the memory of the plan.
    F64,
}

/// Options of a [`CpuDevice`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Floating-point type in which the device computes and stores values.
    pub precision: Precision,
    /// Whether intermediates and outputs are filled with NaN before every run. Elements that a kernel does not write
    /// are then NaN, so the error is detected.
    pub poison: bool,
}

/// The CPU as a device. Runs are synchronous and use the threads of the current rayon thread pool.
#[derive(Debug, Clone)]
pub struct CpuDevice {
    options: Options,
    info: DeviceInfo,
}

impl Default for CpuDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl CpuDevice {
    /// Creates a device that computes in f32.
    pub fn new() -> Self {
        Self::with_options(Options::default())
    }

    /// Creates a device that computes in f64.
    pub fn f64() -> Self {
        Self::with_options(Options { precision: Precision::F64, ..Options::default() })
    }

    /// Creates a device with these options.
    pub fn with_options(options: Options) -> Self {
        let features = if options.precision == Precision::F64 { vec!["f64".to_owned()] } else { Vec::new() };
        let info = DeviceInfo {
            kind: DeviceKind::Cpu,
            name: model_name(),
            backend: "rayon".into(),
            driver: format!("gemm 0.19, {} threads", rayon::current_num_threads()),
            class: "cpu",
            features,
            limits: Limits {
                buffer_bytes: memory_bytes(),
                operand_bytes: memory_bytes(),
                operands: 64,
                f16: true,
            },
        };
        Self { options, info }
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn session(&self, states: &States) -> Result<Box<dyn Session>, DeviceError> {
        let host = Host { name: self.info.name.clone(), poison: self.options.poison };
        Ok(match self.options.precision {
            Precision::F32 => Box::new(CpuSession::<f32>::new(host, states)?),
            Precision::F64 => Box::new(CpuSession::<f64>::new(host, states)?),
        })
    }
}
