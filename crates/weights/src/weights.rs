//! The map of names to tensors, and how it comes from a file.

use crate::{Tensor, WeightsError, safetensors, torch};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Tensors by name, in the order of their file or of their insertion.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    source: Option<PathBuf>,
    tensors: IndexMap<String, Tensor>,
    integers: IndexMap<String, Tensor<i64>>,
    metadata: BTreeMap<String, String>,
}

impl Weights {
    /// No weights yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a safetensors or a PyTorch file; which of them it is, its first bytes say.
    ///
    /// The order of the names is that of the dict in a PyTorch file, and that of the data in a safetensors file.
    ///
    /// # Errors
    /// [`WeightsError::File`] if it cannot be read, [`WeightsError::Format`] and [`WeightsError::OldFormat`] if it is
    /// another kind of file; [`WeightsError::Damaged`], [`WeightsError::Unsupported`], [`WeightsError::Global`],
    /// [`WeightsError::Tensor`] and [`WeightsError::DType`] for what it holds.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let failed =
            |source| WeightsError::File { action: "read the weights", path: path.to_owned(), source };
        if !fs::metadata(path).map_err(failed)?.is_file() {
            // A device may have no end.
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        Self::parse(path, &fs::read(path).map_err(failed)?)
    }

    /// What [`read`](Self::read) does, with the bytes of a file that is called `source` in errors.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), without [`WeightsError::File`].
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

    /// Writes a safetensors file, atomically: at every moment there is the old file or the new one. F32 for floats, I64
    /// for integers, in the order they have here, integers first; the metadata, and `format = pt`, which PyTorch's
    /// loaders ask for.
    ///
    /// The same weights give the same bytes.
    ///
    /// # Errors
    /// [`WeightsError::File`] if the system refuses. A file that was there is then as it was.
    pub fn write_safetensors(&self, path: &Path) -> Result<(), WeightsError> {
        safetensors::write(self, path).map_err(|source| WeightsError::File {
            action: "write the weights",
            path: path.to_owned(),
            source,
        })
    }

    /// Adds a tensor, or replaces the one of that name.
    ///
    /// # Errors
    /// [`WeightsError::Name`] for a name that no file can hold: an empty one, or `__metadata__`.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Result<(), WeightsError> {
        let name = checked(name.into())?;
        self.integers.shift_remove(&name);
        self.tensors.insert(name, tensor);
        Ok(())
    }

    /// Adds a tensor of integers, or replaces the tensor of that name.
    ///
    /// # Errors
    /// [`WeightsError::Name`], as for [`insert`](Self::insert).
    pub fn insert_integers(
        &mut self,
        name: impl Into<String>,
        tensor: Tensor<i64>,
    ) -> Result<(), WeightsError> {
        let name = checked(name.into())?;
        self.tensors.shift_remove(&name);
        self.integers.insert(name, tensor);
        Ok(())
    }

    /// The tensor of this name, if there is one of floats.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensors of floats, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// How many tensors of floats there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensors of integers and booleans, in order: counters such as `num_batches_tracked`, and indices.
    pub fn integers(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor<i64>)> {
        self.integers.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// What a safetensors file says about itself, `format` included; empty for a PyTorch file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The same, to be changed before writing.
    pub fn metadata_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.metadata
    }

    /// The file that these weights were read from.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// Takes `prefix` off the names if every name begins with it, and says whether. `module.` is what a model has that
    /// was saved out of PyTorch's `DataParallel`.
    ///
    /// All or none, so that no two names can become one.
    pub fn strip_prefix(&mut self, prefix: &str) -> bool {
        if !self.all_begin_with(prefix) {
            return false;
        }
        let strip = |name: String| name[prefix.len()..].to_owned();
        let tensors = std::mem::take(&mut self.tensors);
        self.tensors = tensors.into_iter().map(|(name, tensor)| (strip(name), tensor)).collect();
        let integers = std::mem::take(&mut self.integers);
        self.integers = integers.into_iter().map(|(name, tensor)| (strip(name), tensor)).collect();
        true
    }

    /// The tensor of floats of this name, with the name as it lives here.
    pub(crate) fn get_entry(&self, name: &str) -> Option<(&str, &Tensor)> {
        self.tensors.get_key_value(name).map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether the tensor of this name is one of integers.
    pub(crate) fn has_integers(&self, name: &str) -> bool {
        self.integers.contains_key(name)
    }

    /// Whether there are names, and every one is `prefix` and something more that is a name itself.
    pub(crate) fn all_begin_with(&self, prefix: &str) -> bool {
        let mut names = self.tensors.keys().chain(self.integers.keys());
        let stripped = |name: &String| name.strip_prefix(prefix).is_some_and(is_name);
        !(self.tensors.is_empty() && self.integers.is_empty()) && names.all(stripped)
    }
}

fn checked(name: String) -> Result<String, WeightsError> {
    if is_name(&name) { Ok(name) } else { Err(WeightsError::Name(name)) }
}

/// Whether a file can hold a tensor of this name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "__metadata__"
}
