//! Element types and shapes.

use std::fmt;
use std::ops::Deref;

use crate::error::Rule;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit float. All computation uses this type (the reference uses f64).
    F32,
    /// 16-bit float, for storage only. Cast to F32 to compute.
    F16,
    /// 32-bit unsigned integer, for indices and class labels.
    U32,
}

impl DType {
    /// Size of one element on a device, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::U32 => "u32",
        })
    }
}

/// Sizes of the dimensions, outermost first. A scalar has no dimensions.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.0.iter().product()
    }

    /// Returns the shape that both shapes broadcast to. Dimensions are aligned at the last dimension; aligned sizes
    /// must be equal, or one of them must be 1.
    ///
    /// # Errors
    /// Returns an error if two aligned sizes differ and neither is 1.
    pub fn broadcast(&self, other: &Shape) -> Result<Shape, Rule> {
        let rank = self.len().max(other.len());
        let size = |shape: &Shape, i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
        (0..rank)
            .map(|i| match (size(self, i), size(other, i)) {
                (a, b) if a == b || b == 1 => Ok(a),
                (1, b) => Ok(b),
                (a, b) => Err(Rule::new(format!(
                    "sizes, aligned at the last dimension, must agree or be 1; {a} and {b} do not"
                ))),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Shape)
    }

    /// Returns the shape with the sizes of `axes` replaced by 1, as after a reduction.
    pub fn reduced(&self, axes: &[usize]) -> Shape {
        Shape(self.0.iter().enumerate().map(|(i, &size)| if axes.contains(&i) { 1 } else { size }).collect())
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Self {
        Shape(sizes)
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Self {
        Shape(sizes.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        Shape(sizes.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Element type and shape of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Type of each element.
    pub dtype: DType,
    /// Sizes of the dimensions.
    pub shape: Shape,
}

impl TensorType {
    /// Creates a type from an element type and a shape.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// Returns the type of an f32 tensor of this shape.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self::new(DType::F32, shape)
    }

    /// Returns the type of a u32 tensor of this shape.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        Self::new(DType::U32, shape)
    }

    /// Size of all elements in bytes, without padding.
    pub fn bytes(&self) -> usize {
        self.shape.numel() * self.dtype.bytes()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
