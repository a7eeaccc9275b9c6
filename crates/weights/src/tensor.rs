//! A tensor in a file. It has no operations and is unrelated to the tensors of a graph.

use crate::WeightsError;

/// A tensor: its shape, and its values in row-major order. The values are f32, or i64 for
/// [`Weights::integers`](crate::Weights::integers).
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<T = f32> {
    shape: Vec<usize>,
    values: Vec<T>,
}

impl<T> Tensor<T> {
    /// Creates a tensor from its shape and its values in row-major order.
    ///
    /// # Errors
    /// Returns [`WeightsError::Shape`] if the number of values does not match the shape.
    pub fn new(shape: Vec<usize>, values: Vec<T>) -> Result<Self, WeightsError> {
        match element_count(&shape) == Some(values.len()) {
            true => Ok(Self { shape, values }),
            false => Err(WeightsError::Shape { shape, found: values.len() }),
        }
    }

    /// Returns the size of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the values in row-major order.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Converts the tensor to its values in row-major order, without copying them.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }
}

/// Returns the number of elements of a shape, or `None` on overflow.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}
