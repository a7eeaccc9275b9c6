//! The best rate that was ever measured on each device, kept on disk: what a training is set against.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use wgrad_program::DeviceInfo;
use wgrad_stdx::file;

use crate::tuned::{device_json, kept_for};

/// Of the files.
const FORMAT: u64 = 1;

/// A device's best rate in floating-point operations a second, and what reached it; `None` where none was kept, or what was kept
/// cannot be read, since it can be measured again.
pub fn kept_ceiling(info: &DeviceInfo) -> Option<(f64, String)> {
    let text = std::fs::read_to_string(kept_for(info, "ceilings")?).ok()?;
    parse(&text, info)
}

/// Keeps a rate, unless a higher one is known: other work on the machine makes rates too low, nothing makes them too high.
/// Gives the file, if it was written.
///
/// # Errors
/// It cannot be written.
pub fn raise_ceiling(info: &DeviceInfo, flops_per_second: f64, by: &str) -> io::Result<Option<PathBuf>> {
    let Some(path) = kept_for(info, "ceilings") else { return Ok(None) };
    if kept_ceiling(info).is_some_and(|(known, _)| known >= flops_per_second) {
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
    fn a_ceiling_is_of_its_device_or_of_none() {
        let info = crate::tuned::tests::device("1.0");
        let text = to_json(&info, 2e11, "matmul-512").to_string();
        assert_eq!(parse(&text, &info), Some((2e11, "matmul-512".into())));
        assert_eq!(parse(&text, &crate::tuned::tests::device("1.1")), None);
        for broken in [text.replace("2000", "-2000"), text.replace("\"by\"", "\"of\""), text[..9].into()] {
            assert_eq!(parse(&broken, &info), None, "{broken}");
        }
    }
}
