//! Choosing a device.

use std::str::FromStr;
use std::sync::Arc;

use wgrad_cpu::CpuDevice;
use wgrad_gpu::{GpuDevice, Options};
use wgrad_program::{Device, DeviceError, DeviceInfo};

use crate::tuning::tuning;

/// What `--device` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best GPU, else the CPU. An adapter that is software is no GPU: the CPU backend is faster.
    Auto,
    /// The CPU backend.
    Cpu,
    /// The best adapter, software included.
    Gpu,
    /// The adapter of this number, as `wgrad devices` counts.
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

/// Every device here: the CPU, then the adapters by number.
pub fn devices() -> Vec<DeviceInfo> {
    let cpu = CpuDevice::new().info().clone();
    std::iter::once(cpu).chain(adapters()).collect()
}

fn adapters() -> Vec<DeviceInfo> {
    wgrad_gpu::adapters().iter().map(|adapter| adapter.info.clone()).collect()
}

/// Opens a device, with its table of tuned products where there is one that can be used: see [`tuning`].
///
/// # Errors
/// There is no such device, or it cannot be opened.
pub fn open(choice: DeviceChoice) -> Result<Box<dyn Device>, DeviceError> {
    opened(adapter(choice)?)
}

/// Opens the device of replica number `replica` of those of one process: equal adapters are handed out in turn, the best ones
/// first; where there is one, all share it.
///
/// # Errors
/// Those of [`open`].
pub fn open_for(choice: DeviceChoice, replica: usize) -> Result<Box<dyn Device>, DeviceError> {
    let Some(first) = adapter(choice)? else { return opened(None) };
    let all = adapters();
    let equals = match choice {
        DeviceChoice::Adapter(_) => vec![first],
        _ => alike(&all, first),
    };
    // Threads that share a GL context wait for each other until one gives up.
    if let Some(info) = all.get(first).filter(|info| info.backend == "gl" && replica >= equals.len()) {
        let reason = "through GL an adapter serves one replica; choose another one, or fewer replicas".into();
        return Err(DeviceError::Unsupported { name: info.name.clone(), reason });
    }
    opened(Some(equals.get(replica % equals.len().max(1)).copied().unwrap_or(first)))
}

/// The adapters of the class and the API of one of them, which comes first: one card that shows through two APIs counts once.
fn alike(adapters: &[DeviceInfo], first: usize) -> Vec<usize> {
    let Some(model) = adapters.get(first) else { return Vec::new() };
    let is_alike = |info: &DeviceInfo| info.class == model.class && info.backend == model.backend;
    let others = (0..adapters.len()).filter(|&i| i != first && is_alike(&adapters[i]));
    std::iter::once(first).chain(others).collect()
}

fn opened(adapter: Option<usize>) -> Result<Box<dyn Device>, DeviceError> {
    let Some(index) = adapter else { return Ok(Box::new(CpuDevice::new())) };
    let cache = wgrad_data::data_dir().ok().map(|folder| folder.join("kernels"));
    let options = |info: &DeviceInfo| {
        let tuned = tuning(info).table().map(Arc::new);
        Options { tuned, cache, ..Options::default() }
    };
    Ok(Box::new(GpuDevice::open_with(index, options)?))
}

/// The number of the adapter that is meant, `None` for the CPU. It may be one that does not exist.
///
/// # Errors
/// [`DeviceError::NotFound`] where a GPU is asked for and there is none.
pub fn adapter(choice: DeviceChoice) -> Result<Option<usize>, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Adapter(index) => Ok(Some(index)),
        DeviceChoice::Gpu => match best(&adapters()) {
            Some(index) => Ok(Some(index)),
            None => {
                Err(DeviceError::NotFound { wanted: "gpu".into(), found: "wgpu finds no adapter".into() })
            }
        },
        DeviceChoice::Auto => {
            let all = adapters();
            Ok(best(&all).filter(|&i| all[i].class != "software"))
        }
    }
}

/// Discrete before integrated before virtual before software; among equals the first.
fn best(adapters: &[DeviceInfo]) -> Option<usize> {
    let rank = |class: &str| {
        ["discrete", "integrated", "virtual", "software"].iter().position(|c| *c == class).unwrap_or(4)
    };
    (0..adapters.len()).min_by_key(|&i| (rank(adapters[i].class), i))
}
