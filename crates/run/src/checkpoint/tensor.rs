//! A named array of numbers on its way to or from a safetensors file. Not a tensor of a graph: it has no operations.

use super::CheckpointError;
use safetensors::tensor::{Dtype, TensorView, View};
use std::borrow::Cow;
use std::path::Path;

/// Numbers in a shape: borrowed from a buffer to be saved, owned once loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'a> {
    shape: Vec<usize>,
    values: Values<'a>,
}

/// The numbers of a [`Tensor`], row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<'a> {
    /// Parameters, moments …
    F32(Cow<'a, [f32]>),
    /// Counters, indices …
    U32(Cow<'a, [u32]>),
}

impl<'a> Tensor<'a> {
    /// A tensor of 32-bit floats.
    ///
    /// # Errors
    /// [`CheckpointError::Shape`] if there are not as many values as the shape says.
    pub fn f32(shape: &[usize], values: impl Into<Cow<'a, [f32]>>) -> Result<Self, CheckpointError> {
        Self::new(shape, Values::F32(values.into()))
    }

    /// A tensor of unsigned 32-bit integers.
    ///
    /// # Errors
    /// [`CheckpointError::Shape`] if there are not as many values as the shape says.
    pub fn u32(shape: &[usize], values: impl Into<Cow<'a, [u32]>>) -> Result<Self, CheckpointError> {
        Self::new(shape, Values::U32(values.into()))
    }

    fn new(shape: &[usize], values: Values<'a>) -> Result<Self, CheckpointError> {
        let wanted = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if wanted != Some(values.len()) {
            return Err(CheckpointError::Shape { shape: shape.to_vec(), found: values.len() });
        }
        Ok(Self { shape: shape.to_vec(), values })
    }

    /// The size of each dimension; empty for one number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers, row by row.
    pub fn values(&self) -> &Values<'a> {
        &self.values
    }

    /// The numbers if they are floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.values {
            Values::F32(values) => Some(values),
            Values::U32(_) => None,
        }
    }

    /// The numbers if they are integers.
    pub fn as_u32(&self) -> Option<&[u32]> {
        match &self.values {
            Values::U32(values) => Some(values),
            Values::F32(_) => None,
        }
    }

    /// Reads a tensor of a file, whose sizes safetensors has checked.
    pub(super) fn from_view(
        path: &Path,
        name: &str,
        view: &TensorView<'_>,
    ) -> Result<Tensor<'static>, CheckpointError> {
        let words = view.data().as_chunks::<4>().0.iter();
        match view.dtype() {
            Dtype::F32 => {
                Tensor::f32(view.shape(), words.map(|word| f32::from_le_bytes(*word)).collect::<Vec<_>>())
            }
            Dtype::U32 => {
                Tensor::u32(view.shape(), words.map(|word| u32::from_le_bytes(*word)).collect::<Vec<_>>())
            }
            other => Err(CheckpointError::DType {
                path: path.to_owned(),
                tensor: name.to_owned(),
                dtype: other.to_string(),
            }),
        }
    }
}

impl Values<'_> {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U32(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How safetensors takes a tensor: little-endian on every machine.
impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::U32(_) => Dtype::U32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        match &self.values {
            Values::F32(values) => {
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()))
            }
            Values::U32(values) => {
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()))
            }
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.values.len() * size_of::<u32>()
    }
}
