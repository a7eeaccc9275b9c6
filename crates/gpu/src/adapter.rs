//! Enumeration of the GPU adapters of this machine.

use std::sync::OnceLock;

use wgpu::{Backends, DeviceType, Features, InstanceDescriptor, InstanceFlags};
use wgrad_program::{DeviceInfo, DeviceKind, Limits};

/// Kind of adapter, which selects kernel variants. The kinds are ordered from fast to slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A GPU of a virtual machine, or an adapter that does not report its type.
    Virtual,
    /// A software implementation that runs on the CPU.
    Software,
}

impl Class {
    /// Returns the name in lower case, as in [`DeviceInfo::class`].
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
    /// Index in [`adapters`].
    pub index: usize,
    /// Name, driver, features and limits.
    pub info: DeviceInfo,
    /// Kind of adapter, which selects kernel variants.
    pub class: Class,
    pub(crate) handle: wgpu::Adapter,
}

impl Adapter {
    /// Returns the subgroup size, or `None` if there are no subgroups or their size varies.
    pub(crate) fn subgroup_size(&self) -> Option<u32> {
        let info = self.handle.get_info();
        let fixed = info.subgroup_min_size == info.subgroup_max_size;
        (fixed && used_features(&self.handle).contains(Features::SUBGROUP)).then_some(info.subgroup_min_size)
    }
}

/// Lists the adapters that can run compute shaders. The adapters are enumerated once per process.
///
/// Discrete GPUs come first, then integrated GPUs, then software adapters. Within a class the GL backend comes last;
/// otherwise the order of the drivers is kept.
///
/// `WGPU_BACKEND` (e.g. `vulkan,gl`) restricts the backends. `WGPU_ADAPTER_NAME` keeps only adapters whose name
/// contains the value of the variable.
pub fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(enumerate)
}

fn enumerate() -> Vec<Adapter> {
    if wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let instance = wgpu::Instance::new(InstanceDescriptor {
        backends: Backends::all().with_env(),
        flags: InstanceFlags::empty().with_env(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    let wanted = std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default().to_lowercase();
    // On native targets, this future is ready immediately.
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

/// Returns the optional wgpu features that this crate uses and the adapter supports.
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

/// Classifies an adapter by its type and name. Some software drivers, mainly GL ones, do not report themselves as
/// software.
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
    fn software_drivers_are_recognized_by_name() {
        assert_eq!(classify(DeviceType::Other, "llvmpipe (LLVM 15.0.6, 256 bits)"), Class::Software);
        assert_eq!(classify(DeviceType::Cpu, "anything"), Class::Software);
        assert_eq!(classify(DeviceType::DiscreteGpu, "NVIDIA H200"), Class::Discrete);
    }
}
