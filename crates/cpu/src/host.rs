//! Memory size and CPU model of the host, and device errors that contain the name of the CPU.

use wgrad_graph::TensorType;
use wgrad_program::DeviceError;

use crate::memory::Memory;

/// Properties of the host that a session needs: the name of the CPU for errors, and the option
/// [`poison`](crate::Options::poison).
pub(crate) struct Host {
    pub name: String,
    pub poison: bool,
}

impl Host {
    /// Returns an error if an allocation of `bytes` bytes exceeds the available memory. The error contains `what` and
    /// a table of the `largest` tensors. Returns `Ok` if the system does not report the available memory.
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
                    reason: format!("{what} needs {bytes} bytes, but only {available} bytes are available"),
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

    /// Creates the error for a kernel that violates the rules for programs.
    pub fn invalid_kernel(&self, kernel: &str, reason: String) -> DeviceError {
        DeviceError::Internal { name: self.name.clone(), reason: format!("{kernel}: {reason}") }
    }
}

/// Returns the text after the colon in the first line of a `/proc` file that starts with `key`. Returns `None` if
/// there is no such line.
fn read_proc_field(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

pub(crate) fn model_name() -> String {
    read_proc_field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn available_bytes() -> Option<u64> {
    meminfo("MemAvailable")
}

/// Returns the total memory of the machine in bytes. If the system does not report the memory, returns the size of the
/// address space.
pub(crate) fn memory_bytes() -> u64 {
    meminfo("MemTotal").unwrap_or(isize::MAX as u64)
}

fn meminfo(key: &str) -> Option<u64> {
    let kibibytes: u64 = read_proc_field("/proc/meminfo", key)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
