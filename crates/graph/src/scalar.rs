//! Scalar functions: the words of the pointwise language, each with its WGSL and its Rust body side by side.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A function of one element. Two are equal when their names are: names are unique, which a test of the table holds.
pub struct ScalarFn {
    /// Unique name.
    pub name: &'static str,
    /// WGSL expression with `{0}`, `{1}`, `{2}` for the arguments, each an identifier.
    pub wgsl: &'static str,
    /// WGSL functions that the expression calls, or empty.
    pub prelude: &'static str,
    /// Floating-point operations it counts as; transcendental functions count as one each.
    pub flops: u32,
    /// Body over blocks of f32.
    pub f32: Call<f32>,
    /// Body over blocks of f64.
    pub f64: Call<f64>,
}

/// A body that runs over blocks of equal length; the signature says which arguments are floats and which are words.
///
/// Blocks, not elements, so that the loop inside vectorises and the call is paid once for many elements.
#[derive(Clone, Copy)]
#[allow(missing_docs, clippy::type_complexity)]
pub enum Call<T> {
    Unary(fn(&[T], &mut [T])),
    Binary(fn(&[T], &[T], &mut [T])),
    Ternary(fn(&[T], &[T], &[T], &mut [T])),
    /// From one word, e.g. a cast.
    FromWord(fn(&[u32], &mut [T])),
    /// To a word, e.g. a cast.
    ToWord(fn(&[T], &mut [u32])),
    /// A comparison of words.
    Words(fn(&[u32], &[u32], &mut [T])),
    /// From index, low and high word of the seed, stream and step: a random number.
    Random(fn([&[u32]; 5], &mut [T])),
}

impl<T> Call<T> {
    /// Number of arguments.
    pub fn arity(&self) -> usize {
        match self {
            Call::Unary(_) | Call::FromWord(_) | Call::ToWord(_) => 1,
            Call::Binary(_) | Call::Words(_) => 2,
            Call::Ternary(_) => 3,
            Call::Random(_) => 5,
        }
    }

    /// True when the arguments are words (u32).
    pub fn takes_words(&self) -> bool {
        matches!(self, Call::FromWord(_) | Call::Words(_) | Call::Random(_))
    }

    /// True when the result is a word.
    pub fn gives_words(&self) -> bool {
        matches!(self, Call::ToWord(_))
    }
}

/// The two number types the CPU computes in.
pub trait Number: Copy + Default + PartialEq + PartialOrd + fmt::Debug + Send + Sync + 'static {
    /// Rounded from f64.
    fn from_f64(x: f64) -> Self;
    /// Widened to f64.
    fn to_f64(self) -> f64;
    /// The body of a scalar function for this type.
    fn call(f: &ScalarFn) -> Call<Self>;
}

impl Number for f32 {
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

impl Number for f64 {
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
