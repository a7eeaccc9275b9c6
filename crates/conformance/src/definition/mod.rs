//! Compares image operations with their definitions: loops written from the formula, independent of how an operation is
//! lowered.
//!
//! The reference evaluates the lowering of an operation. If the lowering itself is wrong, e.g. because a window is
//! shifted by a pixel, the reference and every device are wrong in the same way. The finite differences that gradients
//! are compared with are then also wrong. Elementwise operations have a body in Rust to compare with. Operations on
//! windows are compared with the loops in this module.

mod images;
mod norms;

use wgrad_cpu::reference::{Array, Values as Elements};
use wgrad_graph::philox::Stream;
use wgrad_graph::{Graph, States, TensorType, Var, grad_with};
use wgrad_ops::{BuildFn, Input, SampleData};

use crate::report::{Comparison, Failure};
use crate::trial::{evaluate, random_direction};

pub(crate) use images::max_pool_case;
pub use norms::EPSILON;

/// Maximum difference from the definition, relative to max(1, largest magnitude).
///
/// The reference and the definition compute in f64, but a graph may contain constants that were rounded to f32.
const TOLERANCE: f64 = 1e-6;

/// A random use of an operation, with functions that compute the expected result and gradient from the definition.
pub(crate) struct DefinitionCase {
    pub inputs: Vec<Input>,
    pub build: BuildFn,
    /// Computes the elements of the expected result from the inputs.
    pub value: Value,
    /// Computes the expected gradient of the first input from the inputs and the cotangent. Used for inputs with ties,
    /// at which finite differences are not valid.
    pub gradient: Option<Gradient>,
}

pub(crate) type Value = Box<dyn Fn(&[Array]) -> Vec<f64>>;
pub(crate) type Gradient = Box<dyn Fn(&[Array], &[f64]) -> Vec<f64>>;

impl DefinitionCase {
    /// Creates a case with an expected value and no expected gradient.
    pub fn new(
        inputs: Vec<Input>,
        build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g> + 'static,
        value: impl Fn(&[Array]) -> Vec<f64> + 'static,
    ) -> Self {
        Self { inputs, build: Box::new(build), value: Box::new(value), gradient: None }
    }
}

/// An operation whose expected results can be computed from a definition.
pub(crate) struct Definition {
    /// Name of the operation in the operation table.
    pub name: &'static str,
    /// Draws a random use of the operation.
    pub draw: fn(&mut Stream) -> DefinitionCase,
}

/// Returns the definition of the operation with this name, or `None` if the operation has no definition.
pub(crate) fn find(name: &str) -> Option<&'static Definition> {
    images::DEFINITIONS.iter().chain(norms::DEFINITIONS).find(|definition| definition.name == name)
}

/// Checks an operation against its definition. `seed` selects the random use of the operation.
pub(crate) fn definition(definition: &Definition, seed: u64) -> Comparison {
    let mut random = Stream::new(seed, 41);
    let case = (definition.draw)(&mut random);
    check_case(&case, &mut random)
}

/// Checks a use of an operation against its definition. `random` draws the values of the inputs.
pub(crate) fn check_case(case: &DefinitionCase, random: &mut Stream) -> Comparison {
    let graph = wgrad_ops::graph(States::new());
    let input = |(i, input): (usize, &Input)| graph.input(&format!("x{i}"), input.ty.clone());
    let ins: Vec<Var<'_>> = case.inputs.iter().enumerate().map(input).collect();
    let out = (case.build)(&graph, &ins);
    graph.finish()?;
    graph.output("y", out);
    let mut values: Vec<Array> =
        case.inputs.iter().map(|input| to_array(&input.ty, input.draw(random))).collect();
    let mut expected = vec![(case.value)(&values)];
    if let Some(gradient) = &case.gradient {
        let cotangent = random_direction(random, &out.ty());
        expected.push(gradient(&values, &cotangent.to_f64()));
        let input = graph.input("cotangent", out.ty());
        grad_with(out, input, &ins[..1])?.into_iter().for_each(|gradient| graph.output("gradient", gradient));
        values.push(cotangent);
    }
    let found = evaluate(&graph, &values)?;
    let mut worst: f64 = 0.0;
    for ((what, found), expected) in ["y", "gradient"].iter().zip(&found).zip(&expected) {
        worst = worst.max(compare(what, &found.to_f64(), expected)?);
    }
    Ok(worst)
}

fn compare(what: &str, found: &[f64], expected: &[f64]) -> Comparison {
    if found.len() != expected.len() {
        let message = format!("{what} has {} elements, expected {}", found.len(), expected.len());
        return Err(Failure::Violation(message));
    }
    let limit = TOLERANCE * expected.iter().fold(1.0f64, |max, x| max.max(x.abs()));
    let mut worst: f64 = 0.0;
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error_ratio = (found - expected).abs() / limit;
        if error_ratio.is_nan() || error_ratio > 1.0 {
            return Err(Failure::Differs { what: format!("{what}[{i}]"), found, expected, error_ratio });
        }
        worst = worst.max(error_ratio);
    }
    Ok(worst)
}

fn to_array(ty: &TensorType, drawn: SampleData) -> Array {
    let values = match drawn {
        SampleData::F32(values) => Elements::Float(values.into_iter().map(f64::from).collect()),
        SampleData::U32(values) => Elements::U32(values),
    };
    Array { ty: ty.clone(), values }
}

/// Returns a random element of `values`.
fn pick<T: Copy>(random: &mut Stream, values: &[T]) -> T {
    values[random.below(values.len() as u32) as usize]
}

fn pick_two(random: &mut Stream, values: &[usize]) -> [usize; 2] {
    [pick(random, values), pick(random, values)]
}

/// A tensor of four dimensions. Elements outside its height and width read as zero.
struct Tensor4 {
    shape: [usize; 4],
    values: Vec<f64>,
}

impl Tensor4 {
    fn of(array: &Array) -> Tensor4 {
        let mut shape = [1; 4];
        shape.iter_mut().zip(array.ty.shape.iter()).for_each(|(size, &of)| *size = of);
        Tensor4 { shape, values: array.to_f64() }
    }

    fn zeros(shape: [usize; 4]) -> Tensor4 {
        Tensor4 { shape, values: vec![0.0; shape.iter().product()] }
    }

    /// Returns the row-major index of element `[n, c, y, x]`, or `None` if `y` or `x` is out of bounds.
    fn index(&self, n: usize, c: usize, y: isize, x: isize) -> Option<usize> {
        let [_, channels, h, w] = self.shape;
        let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
        (y < h && x < w).then_some(((n * channels + c) * h + y) * w + x)
    }

    fn at(&self, n: usize, c: usize, y: isize, x: isize) -> f64 {
        self.index(n, c, y, x).map_or(0.0, |index| self.values[index])
    }

    /// Computes the elements of a tensor of this shape, in row-major order, from their four indices.
    fn from_fn(shape: [usize; 4], mut element: impl FnMut([usize; 4]) -> f64) -> Vec<f64> {
        let mut values = Vec::with_capacity(shape.iter().product());
        for n in 0..shape[0] {
            for c in 0..shape[1] {
                for y in 0..shape[2] {
                    for x in 0..shape[3] {
                        values.push(element([n, c, y, x]));
                    }
                }
            }
        }
        values
    }
}
