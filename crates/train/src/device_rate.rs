//! Ceilings of devices: the highest rate measured on each device, stored on disk for comparison with training runs.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use wgrad_program::DeviceInfo;
use wgrad_stdx::file;

use crate::tuning::{device_file, device_json};

/// Version of the file format.
const FORMAT: u64 = 1;

/// Returns the highest measured rate of a device in floating-point operations per second, and the name of the workload
/// that reached it. Returns `None` if there is no valid file for the device. Unreadable files are not errors because
/// the rate can be measured again.
pub fn load_ceiling(info: &DeviceInfo) -> Option<(f64, String)> {
    let text = std::fs::read_to_string(device_file(info, "ceilings")?).ok()?;
    parse(&text, info)
}

/// Stores a measured rate unless an equal or higher rate is stored. The highest rate is kept because other work on the
/// machine makes measured rates too low, never too high. `by` is the name of the workload that reached the rate.
/// Returns the path if the file was written.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn save_ceiling(info: &DeviceInfo, flops_per_second: f64, by: &str) -> io::Result<Option<PathBuf>> {
    let Some(path) = device_file(info, "ceilings") else { return Ok(None) };
    if load_ceiling(info).is_some_and(|(known, _)| known >= flops_per_second) {
        return Ok(None);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let json = to_json(info, flops_per_second, by);
    file::replace(&path, format!("{json:#}\n").as_bytes())?;
    Ok(Some(path))
}

fn to_json(info: &DeviceInfo, flops_per_second: f64, by: &str) -> Value {
    json!({ "format": FORMAT, "device": device_json(info), "flops_per_second": flops_per_second, "by": by })
}

fn parse(text: &str, info: &DeviceInfo) -> Option<(f64, String)> {
    let json: Value = serde_json::from_str(text).ok()?;
    if json["format"] != FORMAT || json["device"] != device_json(info) {
        return None;
    }
    let rate = json["flops_per_second"].as_f64().filter(|rate| *rate > 0.0)?;
    Some((rate, json["by"].as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_rejects_invalid_ceilings_and_other_devices() {
        let info = crate::tuning::tests::device("1.0");
        let text = to_json(&info, 2e11, "matmul-512").to_string();
        assert_eq!(parse(&text, &info), Some((2e11, "matmul-512".into())));
        assert_eq!(parse(&text, &crate::tuning::tests::device("1.1")), None);
        for broken in [text.replace("2000", "-2000"), text.replace("\"by\"", "\"of\""), text[..9].into()] {
            assert_eq!(parse(&broken, &info), None, "{broken}");
        }
    }
}
