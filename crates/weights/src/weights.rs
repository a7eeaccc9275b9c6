//! Named tensors, and functions that read and write them.

use crate::{Tensor, WeightsError, safetensors, torch};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Named tensors, in the order of their file or of insertion.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    source: Option<PathBuf>,
    tensors: IndexMap<String, Tensor>,
    integers: IndexMap<String, Tensor<i64>>,
    metadata: BTreeMap<String, String>,
}

impl Weights {
    /// Creates an empty set of weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a safetensors or PyTorch file. The format is detected from the first bytes.
    ///
    /// Names are in the order of the dict in a PyTorch file, and in the order of the data in a safetensors file.
    ///
    /// # Errors
    /// Returns [`WeightsError::File`] if the file cannot be read, [`WeightsError::Format`] or
    /// [`WeightsError::OldFormat`] if its format is not supported, and [`WeightsError::Damaged`],
    /// [`WeightsError::Unsupported`], [`WeightsError::Global`], [`WeightsError::Tensor`] or [`WeightsError::DType`] if
    /// its contents cannot be used.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let failed =
            |source| WeightsError::File { action: "read the weights", path: path.to_owned(), source };
        if !fs::metadata(path).map_err(failed)?.is_file() {
            // A device file may have no end.
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        Self::parse(path, &fs::read(path).map_err(failed)?)
    }

    /// Parses the bytes of a safetensors or PyTorch file. Errors name the path `source`; the function does not read
    /// that file.
    ///
    /// # Errors
    /// Returns the errors of [`read`](Self::read), except [`WeightsError::File`].
    pub fn parse(source: &Path, bytes: &[u8]) -> Result<Self, WeightsError> {
        let mut weights = if safetensors::is_safetensors(bytes) {
            safetensors::read(source, bytes)?
        } else if bytes.starts_with(b"PK") {
            torch::read(source, bytes)?
        } else if bytes.first() == Some(&0x80) {
            return Err(WeightsError::OldFormat { path: source.to_owned() });
        } else {
            return Err(WeightsError::Format { path: source.to_owned() });
        };
        weights.source = Some(source.to_owned());
        Ok(weights)
    }

    /// Writes a safetensors file atomically.
    ///
    /// Floats are written as F32 and integers as I64. Integer tensors come first; within each of the two groups,
    /// tensors keep the order of these weights. The metadata is also written. Its entry `format` is set to `pt`, as
    /// PyTorch's loaders require. Equal weights give equal bytes.
    ///
    /// # Errors
    /// Returns [`WeightsError::File`] if the file cannot be written. In this case, an existing file is unchanged.
    pub fn write_safetensors(&self, path: &Path) -> Result<(), WeightsError> {
        safetensors::write(self, path).map_err(|source| WeightsError::File {
            action: "write the weights",
            path: path.to_owned(),
            source,
        })
    }

    /// Inserts a float tensor, or replaces the tensor of the same name.
    ///
    /// # Errors
    /// Returns [`WeightsError::Name`] if the name is empty or `__metadata__`, which a file cannot store.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Result<(), WeightsError> {
        let name = checked_name(name.into())?;
        self.integers.shift_remove(&name);
        self.tensors.insert(name, tensor);
        Ok(())
    }

    /// Inserts an integer tensor, or replaces the tensor of the same name.
    ///
    /// # Errors
    /// Returns [`WeightsError::Name`] if the name is empty or `__metadata__`, which a file cannot store.
    pub fn insert_integers(
        &mut self,
        name: impl Into<String>,
        tensor: Tensor<i64>,
    ) -> Result<(), WeightsError> {
        let name = checked_name(name.into())?;
        self.tensors.shift_remove(&name);
        self.integers.insert(name, tensor);
        Ok(())
    }

    /// Returns the float tensor with this name, or `None` if there is none.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Iterates over the float tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Returns the number of float tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no float tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Iterates over the integer and boolean tensors, in order: counters such as `num_batches_tracked`, and indices.
    pub fn integers(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor<i64>)> {
        self.integers.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Returns the metadata of a safetensors file, including `format`. Empty for a PyTorch file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns a mutable reference to the metadata, which is written to safetensors files.
    pub fn metadata_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.metadata
    }

    /// Returns the path of the file that these weights were read from, or `None` if they were not read from a file.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// Removes `prefix` from the names if every name begins with it. Returns whether names were changed.
    ///
    /// Models saved from PyTorch's `DataParallel` have the prefix `module.`. Either all names are changed or none, so
    /// that no two names can become equal.
    pub fn strip_prefix(&mut self, prefix: &str) -> bool {
        if !self.all_start_with(prefix) {
            return false;
        }
        let strip = |name: String| name[prefix.len()..].to_owned();
        let tensors = std::mem::take(&mut self.tensors);
        self.tensors = tensors.into_iter().map(|(name, tensor)| (strip(name), tensor)).collect();
        let integers = std::mem::take(&mut self.integers);
        self.integers = integers.into_iter().map(|(name, tensor)| (strip(name), tensor)).collect();
        true
    }

    /// Returns the float tensor of this name, together with the name as stored in these weights; `None` if there is
    /// none.
    pub(crate) fn get_entry(&self, name: &str) -> Option<(&str, &Tensor)> {
        self.tensors.get_key_value(name).map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether the tensor of this name holds integers.
    pub(crate) fn is_integer_tensor(&self, name: &str) -> bool {
        self.integers.contains_key(name)
    }

    /// Whether there is at least one name, and removing `prefix` from each of them leaves a valid name.
    pub(crate) fn all_start_with(&self, prefix: &str) -> bool {
        let mut names = self.tensors.keys().chain(self.integers.keys());
        let stripped = |name: &String| name.strip_prefix(prefix).is_some_and(is_valid_name);
        !(self.tensors.is_empty() && self.integers.is_empty()) && names.all(stripped)
    }
}

/// Returns the name, or an error if the name is not valid.
fn checked_name(name: String) -> Result<String, WeightsError> {
    if is_valid_name(&name) { Ok(name) } else { Err(WeightsError::Name(name)) }
}

/// Whether a file can store a tensor of this name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && name != "__metadata__"
}
