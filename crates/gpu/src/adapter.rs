//! The adapters of this machine.

use std::sync::OnceLock;

use wgpu::{Backends, DeviceType, Features, InstanceDescriptor, InstanceFlags};
use wgrad_program::{DeviceInfo, DeviceKind, Limits};

/// Kind of adapter, best first; decides which kernels are fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A card with memory of its own.
    Discrete,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A GPU of a virtual machine, or one that does not say what it is.
    Virtual,
    /// The CPU, posing as a GPU.
    Software,
}

impl Class {
    /// In lower case, as [`DeviceInfo::class`] has it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Discrete => "discrete",
            Class::Integrated => "integrated",
            Class::Virtual => "virtual",
            Class::Software => "software",
        }
    }
}

/// An adapter that can be opened as a device.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Position in [`adapters`].
    pub index: usize,
    /// What it is.
    pub info: DeviceInfo,
    /// What kernels are chosen by.
    pub class: Class,
    pub(crate) handle: wgpu::Adapter,
}

impl Adapter {
    /// Invocations of a subgroup, where there are subgroups and all of one size.
    pub(crate) fn subgroup(&self) -> Option<u32> {
        let info = self.handle.get_info();
        let fixed = info.subgroup_min_size == info.subgroup_max_size;
        (fixed && used_features(&self.handle).contains(Features::SUBGROUP)).then_some(info.subgroup_min_size)
    }
}

/// The adapters that can run compute shaders: cards before integrated GPUs before software, GL after the other backends,
/// else in the order in which their drivers list them. Looked for once in a process.
///
/// `WGPU_BACKEND` (e.g. `vulkan,gl`) limits the backends, `WGPU_ADAPTER_NAME` keeps those whose name contains it.
pub fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(find)
}

fn find() -> Vec<Adapter> {
    if wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let instance = wgpu::Instance::new(InstanceDescriptor {
        backends: Backends::all().with_env(),
        flags: InstanceFlags::empty().with_env(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    let wanted = std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default().to_lowercase();
    // A native future is ready at once.
    let found = pollster::block_on(instance.enumerate_adapters(Backends::all()));
    let computes = |adapter: &wgpu::Adapter| {
        let flags = adapter.get_downlevel_capabilities().flags;
        flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
            && adapter.limits().max_storage_buffers_per_shader_stage >= 4
    };
    let named = |adapter: &wgpu::Adapter| adapter.get_info().name.to_lowercase().contains(&wanted);
    let mut kept: Vec<wgpu::Adapter> =
        found.into_iter().filter(|adapter| computes(adapter) && named(adapter)).collect();
    kept.sort_by_key(|adapter| {
        let info = adapter.get_info();
        (classify(info.device_type, &info.name) as u8, info.backend == wgpu::Backend::Gl)
    });
    kept.into_iter().enumerate().map(|(index, handle)| describe(index, handle)).collect()
}

fn describe(index: usize, handle: wgpu::Adapter) -> Adapter {
    let (info, features) = (handle.get_info(), used_features(&handle));
    let class = classify(info.device_type, &info.name);
    let names = [
        (Features::SHADER_F16, "shader-f16"),
        (Features::SUBGROUP, "subgroup"),
        (Features::TIMESTAMP_QUERY, "timestamp-query"),
    ];
    let driver = [info.driver.as_str(), info.driver_info.as_str()];
    let info = DeviceInfo {
        kind: DeviceKind::Gpu,
        name: info.name.clone(),
        backend: info.backend.to_str().to_string(),
        driver: driver.iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" "),
        class: class.name(),
        features: names
            .iter()
            .filter(|(f, _)| features.contains(*f))
            .map(|(_, name)| name.to_string())
            .collect(),
        limits: limits(&handle.limits(), features),
    };
    Adapter { index, info, class, handle }
}

/// The optional features that are asked for where they exist.
pub(crate) fn used_features(adapter: &wgpu::Adapter) -> Features {
    adapter.features()
        & (Features::SHADER_F16 | Features::SUBGROUP | Features::TIMESTAMP_QUERY | Features::PIPELINE_CACHE)
}

fn limits(limits: &wgpu::Limits, features: Features) -> Limits {
    Limits {
        buffer_bytes: limits.max_buffer_size,
        operand_bytes: limits.max_storage_buffer_binding_size,
        operands: limits.max_storage_buffers_per_shader_stage.min(limits.max_bindings_per_bind_group)
            as usize,
        f16: features.contains(Features::SHADER_F16),
    }
}

/// Some software drivers, GL ones above all, do not say that they are software.
fn classify(kind: DeviceType, name: &str) -> Class {
    let name = name.to_lowercase();
    if ["llvmpipe", "softpipe", "swiftshader", "basic render"].iter().any(|known| name.contains(known)) {
        return Class::Software;
    }
    match kind {
        DeviceType::DiscreteGpu => Class::Discrete,
        DeviceType::IntegratedGpu => Class::Integrated,
        DeviceType::Cpu => Class::Software,
        DeviceType::VirtualGpu | DeviceType::Other => Class::Virtual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_is_known_by_name_where_the_driver_does_not_say() {
        assert_eq!(classify(DeviceType::Other, "llvmpipe (LLVM 15.0.6, 256 bits)"), Class::Software);
        assert_eq!(classify(DeviceType::Cpu, "anything"), Class::Software);
        assert_eq!(classify(DeviceType::DiscreteGpu, "NVIDIA H200"), Class::Discrete);
    }
}
