//! Random uses of an operation, for every check that draws them: inputs, their types and what their values are.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Graph, Shape, TensorType, Var};

use crate::tensor::TensorOps;
use crate::view::permute;

/// Records an operation on inputs.
pub type Build = Box<dyn for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g>>;

/// One random use of an operation.
pub struct Sample {
    /// Types and values of the inputs.
    pub inputs: Vec<Input>,
    /// Records the operation on them.
    pub build: Build,
}

/// An input of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Element type and shape.
    pub ty: TensorType,
    /// What its elements are drawn from.
    pub values: Values,
}

/// What the elements of an input are drawn from: where the operation is defined, smooth and well conditioned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// Uniform between the bounds.
    Uniform(f64, f64),
    /// The same, but not differentiated: the operation rounds, and differences would see the steps.
    Rounded(f64, f64),
    /// Magnitude uniform between the bounds, either sign: keeps away from zero.
    Away(f64, f64),
    /// `offset + k · step` for random whole k, magnitude at most about 3. Two inputs with different offsets never tie;
    /// two with the same one often do.
    Grid {
        /// Distance of neighbours.
        step: f64,
        /// Where the grid lies.
        offset: f64,
    },
    /// All different and evenly spaced, in random order: no ties for a maximum.
    Distinct,
    /// 0 or 1. Not differentiated.
    Mask,
    /// Words below the bound.
    Words(u32),
    /// Any words.
    AnyWords,
}

/// Values of an input.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Drawn {
    F32(Vec<f32>),
    U32(Vec<u32>),
}

impl Sample {
    /// A use of an operation.
    pub fn new(
        inputs: Vec<Input>,
        build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g> + 'static,
    ) -> Self {
        Self { inputs, build: Box::new(build) }
    }

    /// Declares the inputs, named `x0`, `x1` …, and records the operation: the inputs and the result.
    pub fn record<'g>(&self, graph: &'g Graph) -> (Vec<Var<'g>>, Var<'g>) {
        let input = |(i, input): (usize, &Input)| graph.input(&format!("x{i}"), input.ty.clone());
        let ins: Vec<Var<'g>> = self.inputs.iter().enumerate().map(input).collect();
        let out = (self.build)(graph, &ins);
        (ins, out)
    }
}

impl Input {
    /// An input.
    pub fn new(ty: TensorType, values: Values) -> Self {
        Self { ty, values }
    }

    /// An f32 input.
    pub fn f32(shape: impl Into<Shape>, values: Values) -> Self {
        Self::new(TensorType::f32(shape), values)
    }

    /// A u32 input of words below `bound`.
    pub fn words(shape: impl Into<Shape>, bound: u32) -> Self {
        Self::new(TensorType::u32(shape), Values::Words(bound))
    }

    /// True when a gradient with respect to it can be asked for.
    pub fn is_differentiable(&self) -> bool {
        self.ty.dtype == DType::F32 && !matches!(self.values, Values::Mask | Values::Rounded(..))
    }

    /// Draws its elements. All of them are exact in f32.
    pub fn draw(&self, random: &mut Stream) -> Drawn {
        let n = self.ty.shape.numel();
        let mut unit = || f64::from(random.uniform());
        let floats: Vec<f64> = match self.values {
            Values::Uniform(low, high) | Values::Rounded(low, high) => {
                (0..n).map(|_| low + (high - low) * unit()).collect()
            }
            Values::Away(low, high) => (0..n)
                .map(|_| {
                    let magnitude = low + (high - low) * unit();
                    if unit() < 0.5 { -magnitude } else { magnitude }
                })
                .collect(),
            Values::Grid { step, offset } => {
                let count = (6.0 / step).floor();
                (0..n).map(|_| offset + step * ((unit() * count).floor() - (count / 2.0).floor())).collect()
            }
            Values::Distinct => {
                let mut order: Vec<usize> = (0..n).collect();
                random.shuffle(&mut order);
                order.into_iter().map(|i| 0.0625 * (i as f64 - n as f64 / 2.0)).collect()
            }
            Values::Mask => (0..n).map(|_| f64::from(u8::from(unit() < 0.5))).collect(),
            Values::Words(bound) => return Drawn::U32((0..n).map(|_| random.below(bound)).collect()),
            Values::AnyWords => return Drawn::U32((0..n).map(|_| random.next_u32()).collect()),
        };
        Drawn::F32(floats.into_iter().map(|x| x as f32).collect())
    }
}

/// True once in `n` times.
pub(crate) fn chance(random: &mut Stream, n: u32) -> bool {
    random.below(n) == 0
}

/// One of these.
pub(crate) fn pick<T: Copy>(random: &mut Stream, of: &[T]) -> T {
    of[random.below(of.len() as u32) as usize]
}

/// A size: 1, odd, even, and around the widths of vectors and tiles.
pub(crate) fn size(random: &mut Stream) -> usize {
    pick(random, &[1, 2, 3, 4, 5, 7, 8, 9])
}

/// A shape of up to four dimensions, sometimes one long one.
pub(crate) fn shape(random: &mut Stream) -> Vec<usize> {
    if chance(random, 8) {
        return vec![pick(random, &[63, 64, 65, 127, 255, 256, 257, 1000])];
    }
    let rank = pick(random, &[0, 1, 2, 2, 3, 4]);
    shape_of(random, rank)
}

/// A shape with this many dimensions.
pub(crate) fn shape_of(random: &mut Stream, rank: usize) -> Vec<usize> {
    (0..rank).map(|_| if rank > 3 { pick(random, &[1, 2, 3, 5]) } else { size(random) }).collect()
}

/// Some of the axes of a tensor of this rank, at least one, ascending.
pub(crate) fn axes(random: &mut Stream, rank: usize) -> Vec<usize> {
    let kept: Vec<usize> = (0..rank).filter(|_| chance(random, 2)).collect();
    if kept.is_empty() { vec![random.below(rank as u32) as usize] } else { kept }
}

/// A shape that broadcasts to `shape`: leading dimensions missing, others 1.
pub(crate) fn broadcastable(random: &mut Stream, shape: &[usize]) -> Vec<usize> {
    let missing = if chance(random, 3) { random.below(shape.len() as u32 + 1) as usize } else { 0 };
    shape[missing..].iter().map(|&n| if chance(random, 4) { 1 } else { n }).collect()
}

/// How an argument reaches the operation: as it is, or seen through a view with other strides.
#[derive(Debug, Clone)]
pub(crate) enum Dressing {
    Plain,
    /// Dimensions in reverse order.
    Reversed,
    /// Every other element of the last dimension, from the second on.
    Strided,
}

/// A type for an input that has type `ty` once it is dressed.
pub(crate) fn dressed(random: &mut Stream, ty: TensorType) -> (TensorType, Dressing) {
    let dressing = pick(random, &[0, 0, 0, 1, 2]);
    let mut shape = ty.shape.to_vec();
    match (dressing, shape.last_mut()) {
        (1, Some(_)) => {
            shape.reverse();
            (TensorType::new(ty.dtype, shape), Dressing::Reversed)
        }
        (2, Some(last)) => {
            *last = *last * 2 + 1;
            (TensorType::new(ty.dtype, shape), Dressing::Strided)
        }
        _ => (ty, Dressing::Plain),
    }
}

impl Dressing {
    /// The argument as the operation sees it.
    pub fn apply<'g>(&self, x: Var<'g>) -> Var<'g> {
        match self {
            Dressing::Plain => x,
            Dressing::Reversed => permute(x, &(0..x.rank()).rev().collect::<Vec<_>>()),
            Dressing::Strided => {
                let last = x.rank() - 1;
                let size = x.shape()[last];
                x.slice_step(last, 1..size, 2)
            }
        }
    }
}
