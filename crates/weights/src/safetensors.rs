//! safetensors files: eight bytes with the length of a JSON header, the header, and the data of the tensors.
//!
//! Reading uses the `safetensors` crate, which checks header and sizes. The writer of that crate would sort the
//! tensors by name. The writer in this file keeps their order, which is the order of the model.

use crate::element::{Element, Values};
use crate::{Tensor, Weights, WeightsError};
use ::safetensors::SafeTensors;
use ::safetensors::tensor::{Dtype, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use wgrad_stdx::{file, never};

/// Alignment of the data section in bytes.
const ALIGNMENT: usize = 8;

/// Whether a file begins like a safetensors file: with a length and a JSON object.
pub(crate) fn is_safetensors(bytes: &[u8]) -> bool {
    // The `safetensors` crate accepts headers of up to 100 MB. A larger length indicates another format, such as text.
    const LARGEST: u64 = 100_000_000;
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length <= LARGEST) && bytes.get(8) == Some(&b'{')
}

pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Weights, WeightsError> {
    let damaged = |message: String| WeightsError::Damaged { path: path.to_owned(), message };
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
    let data = bytes
        .get(size_of::<u64>() + header..)
        .ok_or_else(|| never!("the checked header ends beyond the file"))?;
    let mut weights = Weights::new();
    if let Some(entries) = metadata.metadata() {
        weights.metadata_mut().extend(entries.clone());
    }
    for name in metadata.offset_keys() {
        let tensor_error =
            |message| WeightsError::Tensor { path: path.to_owned(), tensor: name.clone(), message };
        let info = metadata.info(&name).ok_or_else(|| never!("the listed tensor `{name}` has no entry"))?;
        let (start, end) = info.data_offsets;
        let bytes =
            data.get(start..end).ok_or_else(|| never!("the checked tensor `{name}` is out of bounds"))?;
        let element = element(info.dtype).ok_or_else(|| WeightsError::DType {
            path: path.to_owned(),
            tensor: name.clone(),
            dtype: info.dtype.to_string(),
            expected: "expected floats of 16, 32 or 64 bits, integers or booleans",
        })?;
        let inserted = match element.decode(bytes) {
            Some(Values::F32(values)) => {
                Tensor::new(info.shape.clone(), values).and_then(|tensor| weights.insert(&name, tensor))
            }
            Some(Values::I64(values)) => Tensor::new(info.shape.clone(), values)
                .and_then(|tensor| weights.insert_integers(&name, tensor)),
            None => return Err(tensor_error("has an integer that does not fit in an i64".to_owned())),
        };
        inserted.map_err(|error| tensor_error(format!("is not valid: {error}")))?;
    }
    Ok(weights)
}

pub(crate) fn write(weights: &Weights, path: &Path) -> io::Result<()> {
    let header = header(weights)?;
    // Convert one tensor at a time: a copy of all tensors would double the memory.
    let integers =
        weights.integers().map(|(_, tensor)| to_bytes(tensor.values(), |value| value.to_le_bytes()));
    let floats = weights.iter().map(|(_, tensor)| to_bytes(tensor.values(), |value| value.to_le_bytes()));
    file::replace_with(path, std::iter::once(header).chain(integers).chain(floats))
}

fn header(weights: &Weights) -> io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec(&Header(weights))?;
    json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

/// Concatenates the bytes of all values.
fn to_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

/// JSON header of the file, with the tensors in the order of their data.
///
/// Integer tensors come first because their elements are wider. Every tensor is then aligned to its element size, as
/// required by loaders that map the file into memory.
struct Header<'a>(&'a Weights);

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut metadata: BTreeMap<&str, &str> =
            self.0.metadata().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        metadata.insert("format", "pt");
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("__metadata__", &metadata)?;
        let mut end = 0;
        let mut info = |dtype, shape: &[usize], bytes: usize| {
            let begin = end;
            end += bytes;
            TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (begin, end) }
        };
        for (name, tensor) in self.0.integers() {
            let bytes = size_of_val(tensor.values());
            map.serialize_entry(name, &info(Dtype::I64, tensor.shape(), bytes))?;
        }
        for (name, tensor) in self.0.iter() {
            let bytes = size_of_val(tensor.values());
            map.serialize_entry(name, &info(Dtype::F32, tensor.shape(), bytes))?;
        }
        map.end()
    }
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U64 => Element::U64,
        Dtype::U32 => Element::U32,
        Dtype::U16 => Element::U16,
        Dtype::U8 => Element::U8,
        Dtype::BOOL => Element::Bool,
        _ => return None,
    })
}
