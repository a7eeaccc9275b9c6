//! Tables of tuned products on disk, a file for each adapter and driver: what `wgrad tune` found, for [`open`](crate::open).
//!
//! A file that cannot be used is never an error: what it holds can be found again, and training works without.

use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use wgrad_gpu::{GemmVariant, TuningTable};
use wgrad_program::{DeviceInfo, DeviceKind};
use wgrad_stdx::file;

/// Of the files. A change of what a key or a name means raises it, and files of before are left alone.
const FORMAT: u64 = 1;

/// Whether a device has a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tuning {
    /// It has none.
    None,
    /// It is used.
    Used(TuningTable),
    /// There is one that cannot be used, and why, with its path.
    Ignored(String),
}

impl Tuning {
    /// The table, if it is used.
    pub fn table(self) -> Option<TuningTable> {
        match self {
            Tuning::Used(table) => Some(table),
            Tuning::None | Tuning::Ignored(_) => None,
        }
    }
}

/// The table of a device, as it is on disk now.
pub fn tuning(info: &DeviceInfo) -> Tuning {
    let Some(path) = path_of(info) else { return Tuning::None };
    match std::fs::read_to_string(&path) {
        Ok(text) => match parse(&text, info) {
            Ok(table) => Tuning::Used(table),
            Err(why) => Tuning::Ignored(format!("{}: {why}", path.display())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Tuning::None,
        Err(error) => Tuning::Ignored(format!("{}: {error}", path.display())),
    }
}

/// Keeps a table in place of the device's former one, and says where.
///
/// # Errors
/// It cannot be written, or the platform has no folder for it.
pub fn keep_tuning(info: &DeviceInfo, table: &TuningTable) -> io::Result<PathBuf> {
    let path = path_of(info).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no folder for tuned products: neither a home nor a cache folder is set",
        )
    })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    file::replace(&path, format!("{:#}\n", to_json(table, info)).as_bytes())?;
    Ok(path)
}

/// Removes the table of a device; false where there was none.
///
/// # Errors
/// It cannot be removed.
pub fn clear_tuning(info: &DeviceInfo) -> io::Result<bool> {
    let Some(path) = path_of(info) else { return Ok(false) };
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `tuned/NAME.json` beside the data; `None` for the CPU, and where there is no such folder.
fn path_of(info: &DeviceInfo) -> Option<PathBuf> {
    kept_for(info, "tuned").filter(|_| info.kind == DeviceKind::Gpu)
}

/// `FOLDER/NAME.json` beside the data, with what is kept of a device; `None` where there is no such folder.
pub(crate) fn kept_for(info: &DeviceInfo, folder: &str) -> Option<PathBuf> {
    Some(wgrad_data::data_dir().ok()?.join(folder).join(file_name(info)))
}

/// Letters and digits of the adapter, its backend and driver, so that a new driver has a table of its own.
fn file_name(info: &DeviceInfo) -> String {
    let all = format!("{} {} {}", info.name, info.backend, info.driver).to_lowercase();
    let words = all.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    format!("{}.json", words.collect::<Vec<_>>().join("-"))
}

pub(crate) fn device_json(info: &DeviceInfo) -> Value {
    json!({ "name": info.name, "backend": info.backend, "driver": info.driver })
}

fn to_json(table: &TuningTable, info: &DeviceInfo) -> Value {
    let products: Map<String, Value> =
        table.iter().map(|(key, variant)| (format!("{key:016x}"), variant.to_string().into())).collect();
    json!({ "format": FORMAT, "device": device_json(info), "products": products })
}

fn parse(text: &str, info: &DeviceInfo) -> Result<TuningTable, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    if json["format"] != FORMAT {
        return Err(format!("its format is {}, and this version reads {FORMAT}", json["format"]));
    }
    if json["device"].is_null() {
        return Err("it does not say of which device it is".into());
    }
    if json["device"] != device_json(info) {
        return Err("it is of another device".into());
    }
    let mut table = TuningTable::default();
    let products = json["products"].as_object().ok_or("it has no products")?;
    for (key, name) in products {
        let number = u64::from_str_radix(key, 16).map_err(|_| format!("`{key}` is no key of a product"))?;
        let name = name.as_str().ok_or_else(|| format!("the variant of {key} is no name"))?;
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
    fn a_table_is_read_back_for_its_device() {
        let text = to_json(&table(), &device("1.0")).to_string();
        assert_eq!(parse(&text, &device("1.0")), Ok(table()));
        assert!(parse(&text, &device("1.1")).is_err_and(|why| why.contains("another device")));
    }

    #[test]
    fn a_driver_has_a_file_of_its_own() {
        assert_eq!(file_name(&device("1.0")), "a-gpu-rev-2-vulkan-1-0.json");
        assert_ne!(file_name(&device("1.0")), file_name(&device("1.1")));
    }

    #[test]
    fn a_damaged_or_foreign_table_is_refused_with_the_reason() {
        let info = device("1.0");
        let text = to_json(&table(), &info).to_string();
        let cases = [
            (text[..text.len() / 2].to_string(), "no JSON"),
            (text.replace("\"format\":1", "\"format\":2"), "format is 2"),
            (text.replace("naive", "clever"), "clever"),
            (text.replace("fffffffffffffffe", "first"), "`first`"),
            (text.replace("\"products\"", "\"things\""), "no products"),
            ("[]".into(), "format is null"),
        ];
        for (text, why) in cases {
            let error = parse(&text, &info).unwrap_err();
            assert!(error.contains(why), "{why:?} is missing in {error:?}");
        }
    }
}
