//! A named array of numbers on its way to or from a file. Not a tensor of a graph: it has no operations.

use crate::WeightsError;

/// Numbers in a shape, row by row: f32, or i64 for what [`Weights::integers`](crate::Weights::integers) keeps apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<T = f32> {
    shape: Vec<usize>,
    values: Vec<T>,
}

impl<T> Tensor<T> {
    /// A tensor of these values.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if there are not as many values as the shape says.
    pub fn new(shape: Vec<usize>, values: Vec<T>) -> Result<Self, WeightsError> {
        match count(&shape) == Some(values.len()) {
            true => Ok(Self { shape, values }),
            false => Err(WeightsError::Shape { shape, found: values.len() }),
        }
    }

    /// The size of each dimension; empty for one number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers, row by row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The numbers, row by row, without a copy.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }
}

/// How many numbers a tensor of this shape has, if that can be said.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}
