//! Samples: random uses of an operation, with the types of the inputs and the distributions of their elements.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Graph, Shape, TensorType, Var};

/// Function that records an operation on inputs.
pub type BuildFn = Box<dyn for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g>>;

/// Random use of an operation.
pub struct Sample {
    /// Types and distributions of the inputs.
    pub inputs: Vec<Input>,
    /// Records the operation on the inputs.
    pub build: BuildFn,
}

/// Input of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Element type and shape.
    pub ty: TensorType,
    /// Distribution of the elements.
    pub distribution: Distribution,
}

/// Distribution of the elements of an input, chosen so that the operation is defined, smooth and well conditioned for
/// these elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// Uniform between the bounds.
    Uniform(f64, f64),
    /// Uniform between the bounds. Not differentiated, because the operation rounds and finite differences would detect
    /// the rounding.
    Rounded(f64, f64),
    /// Magnitude uniform between the bounds, with a random sign. For functions with a kink or a pole at zero.
    AwayFromZero(f64, f64),
    /// `offset + k · step` for random integers k, of magnitude up to about 3. Elements of inputs with different offsets
    /// are never equal; elements of inputs with the same offset are often equal.
    Grid {
        /// Distance between neighbouring points of the grid.
        step: f64,
        /// Offset of the grid from zero.
        offset: f64,
    },
    /// Distinct, evenly spaced values in random order, so that a maximum has no ties.
    Distinct,
    /// 0 or 1. Not differentiated.
    Mask,
    /// Uniform u32 values below the bound.
    U32Below(u32),
    /// Uniform over all u32 values.
    AnyU32,
}

/// Uniform between −2 and 2.
pub(crate) const ANY: Distribution = Distribution::Uniform(-2.0, 2.0);
/// Magnitudes between 0.3 and 2.5, for functions with a kink or pole at zero.
pub(crate) const AWAY: Distribution = Distribution::AwayFromZero(0.3, 2.5);
/// Uniform between 0.25 and 3, for functions that are defined only for positive values.
pub(crate) const POSITIVE: Distribution = Distribution::Uniform(0.25, 3.0);
/// Values on a grid, so that two arguments may be equal.
pub(crate) const GRID: Distribution = Distribution::Grid { step: 0.25, offset: 0.0 };
/// Values between the points of [`GRID`], which never equal a value of `GRID` and are never integers.
pub(crate) const BETWEEN: Distribution = Distribution::Grid { step: 0.25, offset: 0.125 };

/// Elements of an input.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum SampleData {
    F32(Vec<f32>),
    U32(Vec<u32>),
}

impl Sample {
    /// Creates a sample from its inputs and the function that records the operation.
    pub fn new(
        inputs: Vec<Input>,
        build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g> + 'static,
    ) -> Self {
        Self { inputs, build: Box::new(build) }
    }

    /// Declares the inputs, named `x0`, `x1` …, and records the operation. Returns the inputs and the result.
    pub fn record<'g>(&self, graph: &'g Graph) -> (Vec<Var<'g>>, Var<'g>) {
        let input = |(i, input): (usize, &Input)| graph.input(&format!("x{i}"), input.ty.clone());
        let ins: Vec<Var<'g>> = self.inputs.iter().enumerate().map(input).collect();
        let out = (self.build)(graph, &ins);
        (ins, out)
    }
}

impl Input {
    /// Creates an input.
    pub fn new(ty: TensorType, distribution: Distribution) -> Self {
        Self { ty, distribution }
    }

    /// Creates an f32 input.
    pub fn f32(shape: impl Into<Shape>, distribution: Distribution) -> Self {
        Self::new(TensorType::f32(shape), distribution)
    }

    /// Creates a u32 input with elements below `bound`.
    pub fn u32(shape: impl Into<Shape>, bound: u32) -> Self {
        Self::new(TensorType::u32(shape), Distribution::U32Below(bound))
    }

    /// Whether a gradient with respect to this input can be computed.
    pub fn is_differentiable(&self) -> bool {
        self.ty.dtype == DType::F32
            && !matches!(self.distribution, Distribution::Mask | Distribution::Rounded(..))
    }

    /// Draws the elements. Floats are rounded to f32.
    pub fn draw(&self, random: &mut Stream) -> SampleData {
        let n = self.ty.shape.numel();
        let mut unit = || f64::from(random.uniform());
        let floats: Vec<f64> = match self.distribution {
            Distribution::Uniform(low, high) | Distribution::Rounded(low, high) => {
                (0..n).map(|_| low + (high - low) * unit()).collect()
            }
            Distribution::AwayFromZero(low, high) => (0..n)
                .map(|_| {
                    let magnitude = low + (high - low) * unit();
                    if unit() < 0.5 { -magnitude } else { magnitude }
                })
                .collect(),
            Distribution::Grid { step, offset } => {
                let count = (6.0 / step).floor();
                (0..n).map(|_| offset + step * ((unit() * count).floor() - (count / 2.0).floor())).collect()
            }
            Distribution::Distinct => {
                let mut order: Vec<usize> = (0..n).collect();
                random.shuffle(&mut order);
                order.into_iter().map(|i| 0.0625 * (i as f64 - n as f64 / 2.0)).collect()
            }
            Distribution::Mask => (0..n).map(|_| f64::from(u8::from(unit() < 0.5))).collect(),
            Distribution::U32Below(bound) => {
                return SampleData::U32((0..n).map(|_| random.below(bound)).collect());
            }
            Distribution::AnyU32 => return SampleData::U32((0..n).map(|_| random.next_u32()).collect()),
        };
        SampleData::F32(floats.into_iter().map(|x| x as f32).collect())
    }
}

/// Returns true with probability 1 / `n`.
pub(crate) fn chance(random: &mut Stream, n: u32) -> bool {
    random.below(n) == 0
}

/// Returns a random element of `choices`.
pub(crate) fn pick<T: Copy>(random: &mut Stream, choices: &[T]) -> T {
    choices[random.below(choices.len() as u32) as usize]
}

/// Draws the size of a dimension, from 1 to 9, often close to the width of a vector.
pub(crate) fn size(random: &mut Stream) -> usize {
    pick(random, &[1, 2, 3, 4, 5, 7, 8, 9])
}

/// Draws a shape of up to four dimensions, or sometimes a shape with one long dimension.
pub(crate) fn shape(random: &mut Stream) -> Vec<usize> {
    if chance(random, 8) {
        return vec![pick(random, &[63, 64, 65, 127, 255, 256, 257, 1000])];
    }
    let rank = pick(random, &[0, 1, 2, 2, 3, 4]);
    shape_of_rank(random, rank)
}

/// Draws a shape with this many dimensions.
pub(crate) fn shape_of_rank(random: &mut Stream, rank: usize) -> Vec<usize> {
    (0..rank).map(|_| if rank > 3 { pick(random, &[1, 2, 3, 5]) } else { size(random) }).collect()
}

/// Draws one or more axes of a tensor of this rank, in ascending order.
pub(crate) fn axes(random: &mut Stream, rank: usize) -> Vec<usize> {
    let kept: Vec<usize> = (0..rank).filter(|_| chance(random, 2)).collect();
    if kept.is_empty() { vec![random.below(rank as u32) as usize] } else { kept }
}

/// Draws a shape that broadcasts to `shape`, with leading dimensions missing or sizes of 1.
pub(crate) fn broadcastable(random: &mut Stream, shape: &[usize]) -> Vec<usize> {
    let missing = if chance(random, 3) { random.below(shape.len() as u32 + 1) as usize } else { 0 };
    shape[missing..].iter().map(|&n| if chance(random, 4) { 1 } else { n }).collect()
}
