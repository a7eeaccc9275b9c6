//! Operations on images against their definition: loops written from the formula, which know nothing of how an operation is
//! lowered.
//!
//! The judge evaluates what an operation lowers to. Where that is wrong by itself, a window a pixel further, say, the judge is
//! wrong with every device, and so are the differences that judge a gradient. Elementwise rows have a body in Rust for this;
//! what is made of windows has the loops here.

mod images;
mod norms;

use wgrad_cpu::reference::{Array, Values as Elements};
use wgrad_graph::philox::Stream;
use wgrad_graph::{Graph, States, TensorType, Var, grad_with};
use wgrad_ops::{BuildFn, Input, SampleData};

use crate::report::{Failure, Verdict};
use crate::trial::{direction, evaluate};

pub(crate) use images::pooled_maximum;
pub use norms::EPSILON;

/// Largest difference from the definition, relative to the largest magnitude or 1: both compute in f64, but constants of a
/// graph may have passed f32.
const TOLERANCE: f64 = 1e-6;

/// A random use of an operation, and what it is by definition.
pub(crate) struct Use {
    pub inputs: Vec<Input>,
    pub build: BuildFn,
    /// The result, from the inputs.
    pub value: Value,
    /// The gradient of the first input, from the inputs and the cotangent, where differences cannot tell: at ties.
    pub gradient: Option<Gradient>,
}

pub(crate) type Value = Box<dyn Fn(&[Array]) -> Vec<f64>>;
pub(crate) type Gradient = Box<dyn Fn(&[Array], &[f64]) -> Vec<f64>>;

impl Use {
    pub fn new(
        inputs: Vec<Input>,
        build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g> + 'static,
        value: impl Fn(&[Array]) -> Vec<f64> + 'static,
    ) -> Self {
        Self { inputs, build: Box::new(build), value: Box::new(value), gradient: None }
    }
}

/// An operation that has a definition here.
pub(crate) struct Definition {
    /// Its name in the table.
    pub name: &'static str,
    /// Draws a use of it.
    pub draw: fn(&mut Stream) -> Use,
}

/// The definition of the operation of this name, if there is one.
pub(crate) fn of(name: &str) -> Option<&'static Definition> {
    images::DEFINITIONS.iter().chain(norms::DEFINITIONS).find(|definition| definition.name == name)
}

/// The use that `seed` chooses is what the operation is by definition.
pub(crate) fn definition(definition: &Definition, seed: u64) -> Verdict {
    let mut random = Stream::new(seed, 41);
    let drawn = (definition.draw)(&mut random);
    agrees(&drawn, &mut random)
}

/// A use of an operation computes what its definition says, at inputs drawn at random.
pub(crate) fn agrees(drawn: &Use, random: &mut Stream) -> Verdict {
    let graph = wgrad_ops::graph(States::new());
    let input = |(i, input): (usize, &Input)| graph.input(&format!("x{i}"), input.ty.clone());
    let ins: Vec<Var<'_>> = drawn.inputs.iter().enumerate().map(input).collect();
    let out = (drawn.build)(&graph, &ins);
    graph.finish()?;
    graph.output("y", out);
    let mut values: Vec<Array> =
        drawn.inputs.iter().map(|input| array(&input.ty, input.draw(random))).collect();
    let mut wanted = vec![(drawn.value)(&values)];
    if let Some(gradient) = &drawn.gradient {
        let cotangent = direction(random, &out.ty());
        wanted.push(gradient(&values, &cotangent.to_f64()));
        let input = graph.input("cotangent", out.ty());
        grad_with(out, input, &ins[..1])?.into_iter().for_each(|gradient| graph.output("gradient", gradient));
        values.push(cotangent);
    }
    let found = evaluate(&graph, &values)?;
    let mut worst: f64 = 0.0;
    for ((what, found), wanted) in ["y", "gradient"].iter().zip(&found).zip(&wanted) {
        worst = worst.max(close(what, &found.to_f64(), wanted)?);
    }
    Ok(worst)
}

fn close(what: &str, found: &[f64], wanted: &[f64]) -> Verdict {
    if found.len() != wanted.len() {
        let message = format!("{what} has {} elements, by definition {}", found.len(), wanted.len());
        return Err(Failure::Broken(message));
    }
    let limit = TOLERANCE * wanted.iter().fold(1.0f64, |max, x| max.max(x.abs()));
    let mut worst: f64 = 0.0;
    for (i, (&found, &expected)) in found.iter().zip(wanted).enumerate() {
        let times = (found - expected).abs() / limit;
        if times.is_nan() || times > 1.0 {
            return Err(Failure::Differs { what: format!("{what}[{i}]"), found, expected, times });
        }
        worst = worst.max(times);
    }
    Ok(worst)
}

fn array(ty: &TensorType, drawn: SampleData) -> Array {
    let values = match drawn {
        SampleData::F32(values) => Elements::Float(values.into_iter().map(f64::from).collect()),
        SampleData::U32(values) => Elements::Word(values),
    };
    Array { ty: ty.clone(), values }
}

fn pick<T: Copy>(random: &mut Stream, of: &[T]) -> T {
    of[random.below(of.len() as u32) as usize]
}

fn two(random: &mut Stream, of: &[usize]) -> [usize; 2] {
    [pick(random, of), pick(random, of)]
}

/// A tensor of four dimensions by its indices, zero outside.
struct Four {
    shape: [usize; 4],
    values: Vec<f64>,
}

impl Four {
    fn of(array: &Array) -> Four {
        let mut shape = [1; 4];
        shape.iter_mut().zip(array.ty.shape.iter()).for_each(|(size, &of)| *size = of);
        Four { shape, values: array.to_f64() }
    }

    fn zeros(shape: [usize; 4]) -> Four {
        Four { shape, values: vec![0.0; shape.iter().product()] }
    }

    /// Where the element lies; `None` where there is none.
    fn place(&self, n: usize, c: usize, y: isize, x: isize) -> Option<usize> {
        let [_, channels, h, w] = self.shape;
        let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
        (y < h && x < w).then_some(((n * channels + c) * h + y) * w + x)
    }

    fn at(&self, n: usize, c: usize, y: isize, x: isize) -> f64 {
        self.place(n, c, y, x).map_or(0.0, |place| self.values[place])
    }

    /// The tensor of this shape with an element for every index.
    fn each(shape: [usize; 4], mut element: impl FnMut([usize; 4]) -> f64) -> Vec<f64> {
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
