//! A trial: one random use of an operation with values, recorded with its gradient, and what the reference makes of it.

use wgrad_cpu::reference::{self, Array, State};
use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Graph, Lowered, States, TensorType, Var, fnv1a, grad_with};
use wgrad_ops::{SampleData, OpInfo, Input, GradientOrder, Sample};

use crate::report::Failure;

/// One random use of an operation, with values for its inputs.
pub struct Trial {
    /// The operation.
    pub entry: &'static OpInfo,
    /// Chooses everything random about it.
    pub seed: u64,
    sample: Sample,
    values: Vec<Array>,
}

/// What a trial's graph computes besides the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// Nothing.
    Value,
    /// The gradient of every float input, contracted with a cotangent that is one more input.
    Gradient,
}

impl Trial {
    /// The use that `seed` chooses.
    pub fn draw(entry: &'static OpInfo, seed: u64) -> Trial {
        let mut random = stream(entry.name, seed);
        let sample = (entry.sample)(&mut random);
        let values = sample.inputs.iter().map(|input| array(&input.ty, input.draw(&mut random))).collect();
        Trial { entry, seed, sample, values }
    }

    /// A random sequence of the trial's own; `purpose` keeps uses apart.
    pub(crate) fn random(&self, purpose: u64) -> Stream {
        stream(self.entry.name, self.seed ^ (purpose << 48))
    }

    /// The inputs.
    pub(crate) fn values(&self) -> &[Array] {
        &self.values
    }

    /// What the inputs are.
    pub(crate) fn inputs(&self) -> &[Input] {
        &self.sample.inputs
    }

    /// The trial at other inputs.
    pub(crate) fn at(&self, values: Vec<Array>) -> Trial {
        let mut random = stream(self.entry.name, self.seed);
        Trial { entry: self.entry, seed: self.seed, sample: (self.entry.sample)(&mut random), values }
    }

    /// Numbers of the inputs with respect to which there is a gradient; none where the result has none.
    pub(crate) fn differentiable(&self) -> Vec<usize> {
        if self.out_type().is_none_or(|ty| ty.dtype != DType::F32) {
            return Vec::new();
        }
        let inputs = self.sample.inputs.iter().enumerate();
        inputs.filter(|(_, input)| input.is_differentiable()).map(|(i, _)| i).collect()
    }

    /// True for an operation that is a sum of products itself, rather than composed of some.
    pub(crate) fn is_product(&self) -> bool {
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

    /// Records inputs and result.
    pub(crate) fn record<'g>(&self, graph: &'g Graph) -> Result<(Vec<Var<'g>>, Var<'g>), Failure> {
        let recorded = self.sample.record(graph);
        graph.finish()?;
        Ok(recorded)
    }

    /// The graph with its outputs named `y` and, with the gradient, `d0`, `d1` … by input; and all input values.
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

    /// A cotangent of either sign and no special value: one of ones lets three of four planted faults pass.
    pub(crate) fn cotangent(&self, ty: &TensorType) -> Array {
        direction(&mut self.random(1), ty)
    }

    /// What the reference makes of the graph.
    pub(crate) fn expected(&self, with: With) -> Result<Expected, Failure> {
        let (graph, inputs) = self.graph(with)?;
        let outputs = evaluate(&graph, &inputs)?;
        Ok(Expected { graph, inputs, outputs })
    }
}

/// A graph, its inputs, and what the reference makes of them.
pub(crate) struct Expected {
    pub graph: Graph,
    pub inputs: Vec<Array>,
    pub outputs: Vec<Array>,
}

/// Elements between 1/4 and 1 of either sign, exact in f32.
pub(crate) fn direction(random: &mut Stream, ty: &TensorType) -> Array {
    let element = |random: &mut Stream| {
        let magnitude = 0.25 + 0.75 * f64::from(random.uniform());
        let signed = if random.below(2) == 0 { magnitude } else { -magnitude };
        f64::from(signed as f32)
    };
    Array::float(TensorType::f32(ty.shape.clone()), (0..ty.shape.numel()).map(|_| element(random)).collect())
}

/// The outputs of a graph without state.
pub(crate) fn evaluate(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>, Failure> {
    Ok(reference::step(graph, inputs, &mut State { groups: Vec::new() })?)
}

fn array(ty: &TensorType, drawn: SampleData) -> Array {
    match drawn {
        SampleData::F32(values) => Array::float(ty.clone(), values.into_iter().map(f64::from).collect()),
        SampleData::U32(values) => Array::word(ty.shape.clone(), values),
    }
}

/// A stream that depends on the name, so that operations added elsewhere in the table change no other's samples.
fn stream(name: &str, seed: u64) -> Stream {
    Stream::new(seed, fnv1a(name.as_bytes()))
}
