//! Test helpers: fixtures, and functions that write invalid PyTorch files.

// Each test binary uses only some of the helpers.
#![allow(dead_code)]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use wgrad_weights::{Weights, WeightsError};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Returns the path of a file in `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Parses a file in memory.
pub fn parse(bytes: &[u8]) -> Result<Weights, WeightsError> {
    Weights::parse(Path::new("bad.pth"), bytes)
}

/// Parses a file that must be rejected, and returns the error message.
pub fn rejection(bytes: &[u8]) -> String {
    let error = parse(bytes).expect_err("these weights should be rejected").to_string();
    assert!(error.contains("bad.pth"), "the error does not name the file: {error}");
    error
}

/// Returns all elements by name, with floats as bits: NaN equals itself, and 0 differs from -0.
pub fn bits(weights: &Weights) -> Vec<(String, Vec<usize>, Vec<i64>)> {
    let floats = weights.iter().map(|(name, tensor)| {
        let bits = tensor.values().iter().map(|value| i64::from(value.to_bits()));
        (name.to_owned(), tensor.shape().to_vec(), bits.collect())
    });
    let integers = weights
        .integers()
        .map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec(), tensor.values().to_vec()));
    floats.chain(integers).collect()
}

/// Like [`bits`], sorted by name.
pub fn sorted_bits(weights: &Weights) -> Vec<(String, Vec<usize>, Vec<i64>)> {
    let mut bits = bits(weights);
    bits.sort();
    bits
}

/// Builds a zip archive as `torch.save` writes it: stored entries in the folder `archive`.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Builds a PyTorch file that holds the pickled value `root`, and one storage with the key `0` and the f32 values 0,
/// 1, 2, 3.
pub fn file(root: &[u8]) -> Vec<u8> {
    let elements: Vec<u8> = [0f32, 1.0, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    archive(&[("data.pkl", &pickle(root)), ("byteorder", b"little"), ("data/0", &elements)])
}

pub fn pickle(root: &[u8]) -> Vec<u8> {
    [&[0x80, 2], root, b"."].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8], &value.to_le_bytes()[..]].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &entries[..], b"u"].concat()
}

pub fn storage(kind: &str, key: &str, len: i64) -> Vec<u8> {
    let id = tuple(&[text("storage"), global("torch", kind), text(key), text("cpu"), int(len)]);
    [&id[..], b"Q"].concat()
}

pub fn tensor_of(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let sizes = |sizes: &[i64]| tuple(&sizes.iter().map(|size| int(*size)).collect::<Vec<_>>());
    let arguments =
        tuple(&[storage, int(offset), sizes(shape), sizes(strides), vec![0x89], [b"}".to_vec()].concat()]);
    [&global("torch._utils", "_rebuild_tensor_v2")[..], &arguments, b"R"].concat()
}

/// Pickles a tensor that is a view of the storage of [`file`]. Offset and strides are in elements.
pub fn tensor(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    tensor_of(storage("FloatStorage", "0", 4), offset, shape, strides)
}
