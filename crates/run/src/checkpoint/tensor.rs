//! Tensors of a safetensors file: a shape and values. These are not the tensors of a computation graph.

use super::CheckpointError;
use safetensors::tensor::{Dtype, TensorView, View};
use std::borrow::Cow;
use std::path::Path;

/// Tensor in a checkpoint. The values are borrowed for saving and owned after loading.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'a> {
    shape: Vec<usize>,
    values: Values<'a>,
}

/// Elements of a [`Tensor`] in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<'a> {
    /// 32-bit floats, e.g. parameters and optimizer moments.
    F32(Cow<'a, [f32]>),
    /// Unsigned 32-bit integers, e.g. counters and indices.
    U32(Cow<'a, [u32]>),
}

impl<'a> Tensor<'a> {
    /// Creates a tensor of 32-bit floats.
    ///
    /// # Errors
    /// Returns [`CheckpointError::Shape`] if the number of values differs from the number of elements of the shape.
    pub fn f32(shape: &[usize], values: impl Into<Cow<'a, [f32]>>) -> Result<Self, CheckpointError> {
        Self::new(shape, Values::F32(values.into()))
    }

    /// Creates a tensor of unsigned 32-bit integers.
    ///
    /// # Errors
    /// Returns [`CheckpointError::Shape`] if the number of values differs from the number of elements of the shape.
    pub fn u32(shape: &[usize], values: impl Into<Cow<'a, [u32]>>) -> Result<Self, CheckpointError> {
        Self::new(shape, Values::U32(values.into()))
    }

    fn new(shape: &[usize], values: Values<'a>) -> Result<Self, CheckpointError> {
        let expected = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if expected != Some(values.len()) {
            return Err(CheckpointError::Shape { shape: shape.to_vec(), found: values.len() });
        }
        Ok(Self { shape: shape.to_vec(), values })
    }

    /// Returns the size of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the elements in row-major order.
    pub fn values(&self) -> &Values<'a> {
        &self.values
    }

    /// Returns the elements if the tensor contains floats, otherwise `None`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.values {
            Values::F32(values) => Some(values),
            Values::U32(_) => None,
        }
    }

    /// Returns the elements if the tensor contains integers, otherwise `None`.
    pub fn as_u32(&self) -> Option<&[u32]> {
        match &self.values {
            Values::U32(values) => Some(values),
            Values::F32(_) => None,
        }
    }

    /// Converts a tensor of a safetensors file, whose size the `safetensors` crate has checked.
    pub(super) fn from_view(
        path: &Path,
        name: &str,
        view: &TensorView<'_>,
    ) -> Result<Tensor<'static>, CheckpointError> {
        let elements = view.data().as_chunks::<4>().0.iter();
        match view.dtype() {
            Dtype::F32 => Tensor::f32(
                view.shape(),
                elements.map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>(),
            ),
            Dtype::U32 => Tensor::u32(
                view.shape(),
                elements.map(|bytes| u32::from_le_bytes(*bytes)).collect::<Vec<_>>(),
            ),
            other => Err(CheckpointError::DType {
                path: path.to_owned(),
                tensor: name.to_owned(),
                dtype: other.to_string(),
            }),
        }
    }
}

impl Values<'_> {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U32(values) => values.len(),
        }
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Serialization to safetensors, which is little-endian on every machine.
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
