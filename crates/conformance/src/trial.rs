//! Trials: random uses of operations, with input values. The reference evaluates them.

use wgrad_cpu::reference::{self, Array, State};
use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Graph, Lowered, States, TensorType, Var, fnv1a, grad_with};
use wgrad_ops::{GradientOrder, Input, OpInfo, Sample, SampleData};

use crate::report::Failure;

/// One random use of an operation, with values for its inputs.
pub struct Trial {
    /// Entry of the operation in the operation table.
    pub entry: &'static OpInfo,
    /// Seed of all random choices of the trial.
    pub seed: u64,
    sample: Sample,
    values: Vec<Array>,
}

/// Outputs of a trial's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// The result only.
    Value,
    /// The result, and the gradient of every float input. The cotangent of the result is an additional input of the
    /// graph.
    Gradient,
}

impl Trial {
    /// Draws a random use of an operation and its input values. Equal seeds give equal trials.
    pub fn draw(entry: &'static OpInfo, seed: u64) -> Trial {
        let mut random = random_stream(entry.name, seed);
        let sample = (entry.sample)(&mut random);
        let values = sample.inputs.iter().map(|input| to_array(&input.ty, input.draw(&mut random))).collect();
        Trial { entry, seed, sample, values }
    }

    /// Returns a random stream of this trial. Different values of `purpose` give different streams.
    pub(crate) fn random(&self, purpose: u64) -> Stream {
        random_stream(self.entry.name, self.seed ^ (purpose << 48))
    }

    /// Returns the values of the inputs.
    pub(crate) fn values(&self) -> &[Array] {
        &self.values
    }

    /// Returns the descriptions of the inputs.
    pub(crate) fn inputs(&self) -> &[Input] {
        &self.sample.inputs
    }

    /// Returns the same trial with other input values.
    pub(crate) fn with_values(&self, values: Vec<Array>) -> Trial {
        let mut random = random_stream(self.entry.name, self.seed);
        Trial { entry: self.entry, seed: self.seed, sample: (self.entry.sample)(&mut random), values }
    }

    /// Returns the indices of the inputs that have a gradient. The list is empty if the result is not differentiable.
    pub(crate) fn differentiable(&self) -> Vec<usize> {
        if self.out_type().is_none_or(|ty| ty.dtype != DType::F32) {
            return Vec::new();
        }
        let inputs = self.sample.inputs.iter().enumerate();
        inputs.filter(|(_, input)| input.is_differentiable()).map(|(i, _)| i).collect()
    }

    /// Whether the operation itself lowers to a GEMM. Returns false for an operation composed of operations that lower
    /// to GEMMs.
    pub(crate) fn is_gemm(&self) -> bool {
        let graph = wgrad_ops::graph(States::new());
        self.sample.record(&graph);
        graph.nodes().iter().any(|node| {
            let types: Vec<TensorType> = node.ins.iter().map(|&id| graph.var(id).ty()).collect();
            node.op.name() == self.entry.name
                && matches!(node.op.lower(&types, &node.ty), Lowered::Contract(_))
        })
    }

    fn out_type(&self) -> Option<TensorType> {
        let graph = wgrad_ops::graph(States::new());
        let (_, out) = self.sample.record(&graph);
        graph.finish().is_ok().then(|| out.ty())
    }

    /// Records the inputs and the result of the trial in a graph.
    pub(crate) fn record<'g>(&self, graph: &'g Graph) -> Result<(Vec<Var<'g>>, Var<'g>), Failure> {
        let recorded = self.sample.record(graph);
        graph.finish()?;
        Ok(recorded)
    }

    /// Builds the graph of the trial and returns it with its input values. The output `y` is the result. With
    /// gradients, there are also outputs `d0`, `d1`, …, one for each differentiable input.
    pub(crate) fn graph(&self, with: With) -> Result<(Graph, Vec<Array>), Failure> {
        let graph = wgrad_ops::graph(States::new());
        let (ins, out) = self.record(&graph)?;
        graph.output("y", out);
        let mut values = self.values.clone();
        let wrt = self.differentiable();
        if with == With::Gradient && !wrt.is_empty() && self.entry.gradient_order != GradientOrder::Zero {
            let cotangent = graph.input("cotangent", out.ty());
            values.push(self.cotangent(&out.ty()));
            let vars: Vec<Var<'_>> = wrt.iter().map(|&i| ins[i]).collect();
            for (i, gradient) in wrt.iter().zip(grad_with(out, cotangent, &vars)?) {
                graph.output(&format!("d{i}"), gradient);
            }
        }
        Ok((graph, values))
    }

    /// Returns a random cotangent with elements of both signs. With a cotangent of ones, three of four planted faults
    /// were not detected.
    pub(crate) fn cotangent(&self, ty: &TensorType) -> Array {
        random_direction(&mut self.random(1), ty)
    }

    /// Builds the graph of the trial and evaluates it with the reference.
    pub(crate) fn run_reference(&self, with: With) -> Result<ReferenceRun, Failure> {
        let (graph, inputs) = self.graph(with)?;
        let outputs = evaluate(&graph, &inputs)?;
        Ok(ReferenceRun { graph, inputs, outputs })
    }
}

/// A graph, its input values, and the output values that the reference computed.
pub(crate) struct ReferenceRun {
    pub graph: Graph,
    pub inputs: Vec<Array>,
    pub outputs: Vec<Array>,
}

/// Returns a tensor of type `ty` with random signs and magnitudes from 1/4 to 1. The elements are exact in f32.
pub(crate) fn random_direction(random: &mut Stream, ty: &TensorType) -> Array {
    let element = |random: &mut Stream| {
        let magnitude = 0.25 + 0.75 * f64::from(random.uniform());
        let signed = if random.below(2) == 0 { magnitude } else { -magnitude };
        f64::from(signed as f32)
    };
    Array::float(TensorType::f32(ty.shape.clone()), (0..ty.shape.numel()).map(|_| element(random)).collect())
}

/// Evaluates all outputs of a graph without state, with the reference.
pub(crate) fn evaluate(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>, Failure> {
    Ok(reference::step(graph, inputs, &mut State { groups: Vec::new() })?)
}

fn to_array(ty: &TensorType, drawn: SampleData) -> Array {
    match drawn {
        SampleData::F32(values) => Array::float(ty.clone(), values.into_iter().map(f64::from).collect()),
        SampleData::U32(values) => Array::u32(ty.shape.clone(), values),
    }
}

/// Returns a random stream that depends on the operation's name and on the seed. New operations in the table therefore
/// do not change the samples of other operations.
fn random_stream(name: &str, seed: u64) -> Stream {
    Stream::new(seed, fnv1a(name.as_bytes()))
}
