//! Tables of tuned GEMM kernels on disk, one file per adapter and driver. `wgrad tune` writes them, and
//! [`open`](crate::open) reads them.
//!
//! An unusable file is never an error: tuning can be repeated, and training works without a table.

use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use wgrad_gpu::{GemmVariant, TuningTable};
use wgrad_program::{DeviceInfo, DeviceKind};
use wgrad_stdx::file;

/// Version of the file format, increased when the meaning of a key or a name changes. Files of other versions are
/// ignored.
const FORMAT: u64 = 1;

/// Result of looking up the tuned kernels of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tuning {
    /// There is no table.
    None,
    /// The table is valid and used.
    Used(TuningTable),
    /// The table cannot be used. Holds a message with the path of the file and the reason.
    Ignored(String),
}

impl Tuning {
    /// Returns the table, or `None` if there is no table or it cannot be used.
    pub fn table(self) -> Option<TuningTable> {
        match self {
            Tuning::Used(table) => Some(table),
            Tuning::None | Tuning::Ignored(_) => None,
        }
    }
}

/// Reads the table of a device from disk.
pub fn load_tuning(info: &DeviceInfo) -> Tuning {
    let Some(path) = table_path(info) else { return Tuning::None };
    match std::fs::read_to_string(&path) {
        Ok(text) => match parse(&text, info) {
            Ok(table) => Tuning::Used(table),
            Err(why) => Tuning::Ignored(format!("{}: {why}", path.display())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Tuning::None,
        Err(error) => Tuning::Ignored(format!("{}: {error}", path.display())),
    }
}

/// Writes the table of a device, replacing the previous table. Returns the path of the file.
///
/// # Errors
/// Returns an error if the file cannot be written, or if neither a home nor a cache folder is set.
pub fn save_tuning(info: &DeviceInfo, table: &TuningTable) -> io::Result<PathBuf> {
    let path = table_path(info).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no folder for tuned kernels: neither a home nor a cache folder is set",
        )
    })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    file::replace(&path, format!("{:#}\n", to_json(table, info)).as_bytes())?;
    Ok(path)
}

/// Removes the table of a device. Returns false if there was no table.
///
/// # Errors
/// Returns an error if the file cannot be removed.
pub fn remove_tuning(info: &DeviceInfo) -> io::Result<bool> {
    let Some(path) = table_path(info) else { return Ok(false) };
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Path of the table of a device; `None` for the CPU, or if there is no data folder.
fn table_path(info: &DeviceInfo) -> Option<PathBuf> {
    device_file(info, "tuned").filter(|_| info.kind == DeviceKind::Gpu)
}

/// Returns the path of a device's file in the subfolder `folder` of the data folder, or `None` if there is no data
/// folder.
pub(crate) fn device_file(info: &DeviceInfo, folder: &str) -> Option<PathBuf> {
    Some(wgrad_data::data_dir().ok()?.join(folder).join(file_name(info)))
}

/// Returns the file name of a device, made of name, backend and driver. A new driver therefore gets a new file.
fn file_name(info: &DeviceInfo) -> String {
    let all = format!("{} {} {}", info.name, info.backend, info.driver).to_lowercase();
    let words = all.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    format!("{}.json", words.collect::<Vec<_>>().join("-"))
}

/// Returns name, backend and driver of a device as JSON. Files of a device store this object to identify the device.
pub(crate) fn device_json(info: &DeviceInfo) -> Value {
    json!({ "name": info.name, "backend": info.backend, "driver": info.driver })
}

fn to_json(table: &TuningTable, info: &DeviceInfo) -> Value {
    let products: Map<String, Value> =
        table.iter().map(|(key, variant)| (format!("{key:016x}"), variant.to_string().into())).collect();
    json!({ "format": FORMAT, "device": device_json(info), "products": products })
}

fn parse(text: &str, info: &DeviceInfo) -> Result<TuningTable, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("the file is not JSON: {error}"))?;
    if json["format"] != FORMAT {
        return Err(format!(
            "the format version is {}, but this wgrad reads version {FORMAT}",
            json["format"]
        ));
    }
    if json["device"].is_null() {
        return Err("the device is missing".into());
    }
    if json["device"] != device_json(info) {
        return Err("the table belongs to another device".into());
    }
    let mut table = TuningTable::default();
    let products = json["products"].as_object().ok_or("the products are missing")?;
    for (key, name) in products {
        let number = u64::from_str_radix(key, 16).map_err(|_| format!("`{key}` is not a key of a GEMM"))?;
        let name = name.as_str().ok_or_else(|| format!("the variant of {key} is not a string"))?;
        table.insert(number, name.parse::<GemmVariant>()?);
    }
    Ok(table)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn device(driver: &str) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Gpu,
            name: "A GPU (rev 2)".into(),
            backend: "vulkan".into(),
            driver: driver.into(),
            class: "discrete",
            features: Vec::new(),
            limits: wgrad_program::Limits::default(),
        }
    }

    fn table() -> TuningTable {
        let mut table = TuningTable::default();
        for (i, variant) in GemmVariant::ALL.into_iter().enumerate() {
            table.insert(u64::MAX - i as u64, variant);
        }
        table
    }

    #[test]
    fn a_table_is_read_only_for_its_device() {
        let text = to_json(&table(), &device("1.0")).to_string();
        assert_eq!(parse(&text, &device("1.0")), Ok(table()));
        assert!(parse(&text, &device("1.1")).is_err_and(|why| why.contains("another device")));
    }

    #[test]
    fn the_file_name_depends_on_the_driver() {
        assert_eq!(file_name(&device("1.0")), "a-gpu-rev-2-vulkan-1-0.json");
        assert_ne!(file_name(&device("1.0")), file_name(&device("1.1")));
    }

    #[test]
    fn an_invalid_table_is_rejected_with_the_reason() {
        let info = device("1.0");
        let text = to_json(&table(), &info).to_string();
        let cases = [
            (text[..text.len() / 2].to_string(), "not JSON"),
            (text.replace("\"format\":1", "\"format\":2"), "version is 2"),
            (text.replace("naive", "clever"), "clever"),
            (text.replace("fffffffffffffffe", "first"), "`first`"),
            (text.replace("\"products\"", "\"things\""), "products are missing"),
            ("[]".into(), "version is null"),
        ];
        for (text, why) in cases {
            let error = parse(&text, &info).unwrap_err();
            assert!(error.contains(why), "{why:?} is missing in {error:?}");
        }
    }
}
