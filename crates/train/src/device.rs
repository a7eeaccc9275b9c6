//! Selection of a device.

use std::str::FromStr;
use std::sync::Arc;

use wgrad_cpu::CpuDevice;
use wgrad_gpu::{GpuDevice, Options};
use wgrad_program::{Device, DeviceError, DeviceInfo};

use crate::tuning::load_tuning;

/// Choice of a device, parsed from `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best hardware GPU, or the CPU if there is none. Software adapters are skipped because the CPU backend is
    /// faster.
    Auto,
    /// The CPU backend.
    Cpu,
    /// The best adapter, which may be a software adapter.
    Gpu,
    /// The adapter with this index in the list printed by `wgrad devices`.
    Adapter(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.strip_prefix("gpu:").and_then(|n| n.parse().ok());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => number(text).map(Self::Adapter).ok_or_else(|| "expected auto, cpu, gpu or gpu:N".into()),
        }
    }
}

/// Lists the devices of this machine: the CPU, then the adapters by index.
pub fn devices() -> Vec<DeviceInfo> {
    let cpu = CpuDevice::new().info().clone();
    std::iter::once(cpu).chain(adapters()).collect()
}

fn adapters() -> Vec<DeviceInfo> {
    wgrad_gpu::adapters().iter().map(|adapter| adapter.info.clone()).collect()
}

/// Opens a device. If there is a valid table of tuned GEMM kernels for the device, the device uses it; see
/// [`load_tuning`].
///
/// # Errors
/// Returns an error if there is no such device, or if it cannot be opened.
pub fn open(choice: DeviceChoice) -> Result<Box<dyn Device>, DeviceError> {
    open_adapter(adapter_index(choice)?)
}

/// Opens a device for the replica with the index `replica` in this process. The replicas are distributed over the
/// adapters with the same class and backend as the best adapter. If there is only one of these, or if the adapter was
/// chosen by its index, all replicas share it.
///
/// # Errors
/// Returns an error if there is no such device, if it cannot be opened, or if more than one replica would share an
/// OpenGL adapter.
pub fn open_for_replica(choice: DeviceChoice, replica: usize) -> Result<Box<dyn Device>, DeviceError> {
    let Some(first) = adapter_index(choice)? else { return open_adapter(None) };
    let all = adapters();
    let equals = match choice {
        DeviceChoice::Adapter(_) => vec![first],
        _ => same_kind(&all, first),
    };
    // Threads that share a GL context block each other until one times out.
    if let Some(info) = all.get(first).filter(|info| info.backend == "gl" && replica >= equals.len()) {
        let reason = "an OpenGL adapter serves one replica; choose another adapter, or fewer replicas".into();
        return Err(DeviceError::Unsupported { name: info.name.clone(), reason });
    }
    open_adapter(Some(equals.get(replica % equals.len().max(1)).copied().unwrap_or(first)))
}

/// Returns the indices of the adapters with the class and backend of adapter `first`, starting with `first`. A card
/// that is available through two backends is listed once because the backends are compared.
fn same_kind(adapters: &[DeviceInfo], first: usize) -> Vec<usize> {
    let Some(model) = adapters.get(first) else { return Vec::new() };
    let is_same = |info: &DeviceInfo| info.class == model.class && info.backend == model.backend;
    let others = (0..adapters.len()).filter(|&i| i != first && is_same(&adapters[i]));
    std::iter::once(first).chain(others).collect()
}

/// Opens the adapter with the given index, or the CPU for `None`.
fn open_adapter(adapter: Option<usize>) -> Result<Box<dyn Device>, DeviceError> {
    let Some(index) = adapter else { return Ok(Box::new(CpuDevice::new())) };
    let cache = wgrad_data::data_dir().ok().map(|folder| folder.join("kernels"));
    let options = |info: &DeviceInfo| {
        let tuned = load_tuning(info).table().map(Arc::new);
        Options { tuned, cache, ..Options::default() }
    };
    Ok(Box::new(GpuDevice::open_with(index, options)?))
}

/// Returns the index of the chosen adapter, or `None` for the CPU. An explicit index is not validated.
///
/// # Errors
/// Returns [`DeviceError::NotFound`] if a GPU is requested but none is found.
pub fn adapter_index(choice: DeviceChoice) -> Result<Option<usize>, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Adapter(index) => Ok(Some(index)),
        DeviceChoice::Gpu => match best(&adapters()) {
            Some(index) => Ok(Some(index)),
            None => Err(DeviceError::NotFound { wanted: "gpu".into(), found: "no GPU adapter".into() }),
        },
        DeviceChoice::Auto => {
            let all = adapters();
            Ok(best(&all).filter(|&i| all[i].class != "software"))
        }
    }
}

/// Returns the index of the best adapter, or `None` if there is no adapter. The order is discrete, integrated,
/// virtual, software. Of equal adapters, the one with the lowest index is returned.
fn best(adapters: &[DeviceInfo]) -> Option<usize> {
    let rank = |class: &str| {
        ["discrete", "integrated", "virtual", "software"].iter().position(|c| *c == class).unwrap_or(4)
    };
    (0..adapters.len()).min_by_key(|&i| (rank(adapters[i].class), i))
}
