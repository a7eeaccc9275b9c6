//! The Vulkan adapters that the loader finds, as `vulkaninfo` tells them. xtask asks a program instead of
//! linking wgpu: it must build in seconds, also where nothing else builds.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::process;

/// The variables by which the loader is told what drivers to load; the second is the older name of the first.
pub const DRIVER_VARIABLES: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// The program that lists adapters.
pub const LISTER: &str = "vulkaninfo";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adapter {
    pub name: String,
    driver: String,
    api_version: String,
    device_type: String,
}

impl Adapter {
    /// Not a driver that runs on the CPU.
    pub fn is_hardware(&self) -> bool {
        self.device_type != "PHYSICAL_DEVICE_TYPE_CPU"
    }
}

impl std::fmt::Display for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}, Vulkan {}]", self.name, self.driver, self.api_version)
    }
}

/// The adapters a process with these variables would see; `None` where there is no program to ask.
pub fn adapters(env: &[(&str, OsString)]) -> Option<Vec<Adapter>> {
    if !process::in_path(LISTER) {
        return None;
    }
    let mut command = Command::new(LISTER);
    command.arg("--summary").envs(env.iter().cloned()).stdin(Stdio::null());
    // Where no driver is found it fails, which is an answer: no adapters.
    let output = command.output().ok()?;
    Some(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads the `GPUn:` sections of `vulkaninfo --summary`.
fn parse(summary: &str) -> Vec<Adapter> {
    let mut adapters: Vec<Adapter> = Vec::new();
    for line in summary.lines() {
        if line.starts_with("GPU") && line.trim_end().ends_with(':') {
            adapters.push(Adapter::default());
            continue;
        }
        let (Some(adapter), Some((key, value))) = (adapters.last_mut(), line.split_once('=')) else {
            continue;
        };
        let value = value.trim().to_string();
        match key.trim() {
            "deviceName" => adapter.name = value,
            "deviceType" => adapter.device_type = value,
            // Older ones add the number: `1.3.0 (4206592)`.
            "apiVersion" => adapter.api_version = value.split(' ').next().unwrap_or_default().to_string(),
            "driverName" => adapter.driver = value,
            // Says more than the name where it is there (Mesa and its version); it comes after the name.
            "driverInfo" if !value.is_empty() => adapter.driver = value,
            _ => {}
        }
    }
    adapters
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "\
Instance Extensions: count = 20
VK_KHR_surface : extension revision 25
Devices:
========
GPU0:
\tapiVersion         = 1.3.0
\tdeviceType         = PHYSICAL_DEVICE_TYPE_CPU
\tdeviceName         = SwiftShader Device (Subzero)
\tdriverName         = SwiftShader driver
\tdriverInfo         = 
GPU1:
\tapiVersion         = 1.4.305 (4210993)
\tdeviceType         = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU
\tdeviceName         = Some Card
\tdriverName         = radv
\tdriverInfo         = Mesa 25.0.7
";

    #[test]
    fn every_device_of_the_summary() {
        let adapters = parse(SUMMARY);
        let shown: Vec<String> = adapters.iter().map(Adapter::to_string).collect();
        assert_eq!(
            shown,
            [
                "SwiftShader Device (Subzero) [SwiftShader driver, Vulkan 1.3.0]",
                "Some Card [Mesa 25.0.7, Vulkan 1.4.305]"
            ]
        );
        assert_eq!(adapters.iter().map(Adapter::is_hardware).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_failed_listing_has_no_devices() {
        assert_eq!(parse("ERROR: vkCreateInstance failed with ERROR_INCOMPATIBLE_DRIVER\n"), []);
    }
}
