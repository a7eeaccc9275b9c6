//! Files of PyTorch's `torch.save`, version 1.6 and later: a zip archive with `data.pkl` and the data of each storage.
//!
//! ```text
//! archive/data.pkl      saved object; each tensor names its storage, offset, sizes and strides
//! archive/byteorder     `little` or `big`
//! archive/data/0        elements of storage 0 …
//! ```
//!
//! Parsing has three steps, one file each: [`archive`] finds the entries, [`pickle`] turns the pickle into plain nodes,
//! and [`view`] reads the elements of a tensor. This file selects the tensors.

mod archive;
mod globals;
mod pickle;
mod view;

use crate::element::Values;
use crate::error::format_names;
use crate::{Tensor, Weights, WeightsError};
use archive::Archive;
use pickle::{Id, Node, Pickle};
use std::path::Path;
use view::View;

/// Keys under which checkpoints usually store their state dict.
const STATE_DICT: [&str; 3] = ["state_dict", "model_state_dict", "model"];
/// Maximum number of nested keys, such as `model` and then `state_dict`. The limit is needed because a dict may contain
/// itself.
const MAX_NESTING: usize = 4;
/// Maximum number of elements read per byte of the file.
///
/// Tensors may share storages, and a stride of 0 repeats an element, so a small file could request any amount of
/// memory. A file in which sixteen names share each f32 storage can still be read.
const ELEMENTS_PER_BYTE: usize = 4;

/// Reads the state dict of a file. Entries that are not tensors are ignored.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Weights, WeightsError> {
    let mut archive = Archive::open(path, bytes)?;
    let pickle = Pickle::parse(path, archive.entry("data.pkl")?)?;
    let mut budget = bytes.len().saturating_mul(ELEMENTS_PER_BYTE);
    let mut weights = Weights::new();
    for (name, view) in tensors(path, &pickle)? {
        let tensor_error =
            |message| WeightsError::Tensor { path: path.to_owned(), tensor: name.to_owned(), message };
        let storage = archive.entry(&format!("data/{}", view.storage.key))?;
        let bytes = view.bytes(storage, &mut budget).map_err(tensor_error)?;
        let values = view.storage.element.decode(&bytes);
        let inserted = match values {
            Some(Values::F32(values)) => {
                Tensor::new(view.shape.clone(), values).and_then(|tensor| weights.insert(name, tensor))
            }
            Some(Values::I64(values)) => Tensor::new(view.shape.clone(), values)
                .and_then(|tensor| weights.insert_integers(name, tensor)),
            None => return Err(tensor_error("has an integer that does not fit in an i64".to_owned())),
        };
        inserted.map_err(|error| tensor_error(format!("is not valid: {error}")))?;
    }
    Ok(weights)
}

/// Returns the tensors of the state dict, with their names.
fn tensors<'p, 'b>(
    path: &Path,
    pickle: &'p Pickle<'b>,
) -> Result<Vec<(&'b str, &'p View<'b>)>, WeightsError> {
    let unsupported = |message: String| WeightsError::Unsupported { path: path.to_owned(), message };
    let mut entries = match pickle.node(pickle.root) {
        Node::Dict(entries) => entries,
        Node::Tensor(_) => {
            return Err(unsupported(
                "it holds a single tensor without a name; save a dict of tensors".to_owned(),
            ));
        }
        _ => {
            return Err(unsupported(
                "it does not hold a dict of tensors; save `model.state_dict()`".to_owned(),
            ));
        }
    };
    for _ in 0..MAX_NESTING {
        let Some(inner) = STATE_DICT.iter().find_map(|key| dict_at(pickle, entries, key)) else { break };
        entries = inner;
    }
    let mut tensors = Vec::new();
    let mut keys = Vec::new();
    for (key, value) in entries {
        let Node::Text(key) = pickle.node(*key) else { continue };
        keys.push(*key);
        if let Node::Tensor(view) = pickle.node(*value) {
            tensors.push((*key, &**view));
        }
    }
    if tensors.is_empty() {
        let keys = if keys.is_empty() { "none".to_owned() } else { format_names(&keys) };
        return Err(unsupported(format!(
            "it has no tensors at the top level or in a dict named `{}`; its keys: {keys}",
            STATE_DICT.join("`, `")
        )));
    }
    Ok(tensors)
}

/// Returns the dict that `entries` has under `key`, or `None` if there is none. As in Python, the last of several
/// equal keys is used.
fn dict_at<'p, 'b>(pickle: &'p Pickle<'b>, entries: &[(Id, Id)], key: &str) -> Option<&'p Vec<(Id, Id)>> {
    let is_key = |id: Id| matches!(pickle.node(id), Node::Text(text) if *text == key);
    let (_, value) = entries.iter().rev().find(|(name, _)| is_key(*name))?;
    match pickle.node(*value) {
        Node::Dict(inner) => Some(inner),
        _ => None,
    }
}
