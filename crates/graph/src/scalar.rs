//! Scalar functions, the primitives of elementwise expressions. Each function has a WGSL and a Rust implementation.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A scalar function. Two functions are equal if their names are equal; a test of the operation table checks that names
/// are unique.
pub struct ScalarFn {
    /// Unique name, e.g. `exp`.
    pub name: &'static str,
    /// WGSL expression in which `{0}`, `{1}` and `{2}` stand for the arguments. Each argument is an identifier.
    pub wgsl: &'static str,
    /// WGSL functions that the expression calls, or empty.
    pub prelude: &'static str,
    /// Number of floating-point operations; a transcendental function counts as one.
    pub flops: u32,
    /// Implementation for blocks of f32 elements.
    pub f32: Call<f32>,
    /// Implementation for blocks of f64 elements.
    pub f64: Call<f64>,
}

/// Implementation of a scalar function over blocks of equal length. The variant determines which arguments are floats
/// and which are u32.
///
/// The functions take blocks instead of single elements so that the inner loop vectorises and the cost of the call is
/// amortized.
#[derive(Clone, Copy)]
#[allow(missing_docs, clippy::type_complexity)]
pub enum Call<T> {
    Unary(fn(&[T], &mut [T])),
    Binary(fn(&[T], &[T], &mut [T])),
    Ternary(fn(&[T], &[T], &[T], &mut [T])),
    /// From a u32 to a float, e.g. a cast.
    FromU32(fn(&[u32], &mut [T])),
    /// From a float to a u32, e.g. a cast.
    ToU32(fn(&[T], &mut [u32])),
    /// A comparison of two u32 values. The result is the float 1 or 0.
    CompareU32(fn(&[u32], &[u32], &mut [T])),
    /// A random value from the index, the low and high 32 bits of the seed, the stream and the step.
    Random(fn([&[u32]; 5], &mut [T])),
}

impl<T> Call<T> {
    /// Number of arguments.
    pub fn arity(&self) -> usize {
        match self {
            Call::Unary(_) | Call::FromU32(_) | Call::ToU32(_) => 1,
            Call::Binary(_) | Call::CompareU32(_) => 2,
            Call::Ternary(_) => 3,
            Call::Random(_) => 5,
        }
    }

    /// Whether the arguments are u32.
    pub fn takes_u32(&self) -> bool {
        matches!(self, Call::FromU32(_) | Call::CompareU32(_) | Call::Random(_))
    }

    /// Whether the result is u32.
    pub fn returns_u32(&self) -> bool {
        matches!(self, Call::ToU32(_))
    }
}

/// Floating-point type that the CPU computes in: f32 or f64.
pub trait FloatType: Copy + Default + PartialEq + PartialOrd + fmt::Debug + Send + Sync + 'static {
    /// Converts from f64, rounding to nearest.
    fn from_f64(x: f64) -> Self;
    /// Converts to f64 exactly.
    fn to_f64(self) -> f64;
    /// Returns the implementation of a scalar function for this type.
    fn call(f: &ScalarFn) -> Call<Self>;
}

impl FloatType for f32 {
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn call(f: &ScalarFn) -> Call<f32> {
        f.f32
    }
}

impl FloatType for f64 {
    fn from_f64(x: f64) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn call(f: &ScalarFn) -> Call<f64> {
        f.f64
    }
}

impl fmt::Debug for ScalarFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for ScalarFn {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ScalarFn {}

impl Hash for ScalarFn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
