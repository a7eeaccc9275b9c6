//! The CPU as a device: what it is called, how much memory it has, and how precisely it computes.

use wgrad_graph::{States, TensorType};
use wgrad_program::{Device, DeviceError, DeviceInfo, DeviceKind, Limits, Session};

use crate::memory::Memory;
use crate::session::CpuSession;

/// What floats are computed and stored in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// For training.
    #[default]
    F32,
    /// For checking. Takes twice the memory of the plan.
    F64,
}

/// How a [`CpuDevice`] behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// What floats are computed and stored in.
    pub precision: Precision,
    /// Fill intermediates and outputs with NaN before every run, so that a kernel that leaves something out is found.
    pub poison: bool,
}

/// The CPU. A run is over when the call returns; the threads are those of the current rayon pool.
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
    /// Computes in f32.
    pub fn new() -> Self {
        Self::with_options(Options::default())
    }

    /// Computes in f64.
    pub fn f64() -> Self {
        Self::with_options(Options { precision: Precision::F64, ..Options::default() })
    }

    /// Computes as the options say.
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

/// What a session knows of its device.
pub(crate) struct Host {
    name: String,
    pub poison: bool,
}

impl Host {
    /// Refuses what is larger than the memory available now, where the system says how much that is.
    pub fn ensure_fits(
        &self,
        bytes: usize,
        what: &str,
        largest: &[(String, TensorType, usize)],
    ) -> Result<(), DeviceError> {
        match available_bytes() {
            Some(available) if bytes as u64 > available => {
                let line =
                    |(name, ty, bytes): &(String, TensorType, usize)| format!("{bytes:>14}  {name}: {ty}");
                Err(DeviceError::DoesNotFit {
                    name: self.name.clone(),
                    reason: format!("{what} needs {bytes} bytes, {available} are available"),
                    table: largest.iter().map(line).collect::<Vec<_>>().join("\n"),
                })
            }
            _ => Ok(()),
        }
    }

    pub fn allocate(&self, bytes: usize, what: &str) -> Result<Memory, DeviceError> {
        Memory::zeroed(bytes).ok_or_else(|| self.out_of_memory(what, bytes))
    }

    pub fn out_of_memory(&self, what: &str, bytes: usize) -> DeviceError {
        DeviceError::OutOfMemory { name: self.name.clone(), what: what.to_owned(), needed: bytes as u64 }
    }

    /// The engine is wrong: a kernel breaks the rules of the program.
    pub fn refuse(&self, kernel: &str, reason: String) -> DeviceError {
        DeviceError::Internal { name: self.name.clone(), reason: format!("{kernel}: {reason}") }
    }
}

/// The value after `key` and a colon in one of the files that Linux describes itself in.
fn described(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn model_name() -> String {
    described("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn available_bytes() -> Option<u64> {
    meminfo("MemAvailable")
}

/// The machine's memory; where it does not say, what an address can reach.
fn memory_bytes() -> u64 {
    meminfo("MemTotal").unwrap_or(isize::MAX as u64)
}

fn meminfo(key: &str) -> Option<u64> {
    let kibibytes: u64 = described("/proc/meminfo", key)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
