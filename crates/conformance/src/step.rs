//! Compares training steps with the reference: forward pass, loss, gradient, clipping and AdamW.
//!
//! Two small residual networks, one of dense layers and one of convolutions, are trained for several steps from the
//! same initial state. A single linear layer is also checked, with each kernel variant.

use wgrad_cpu::reference::{self, Array, State};
use wgrad_graph::philox::Stream;
use wgrad_graph::{Graph, GraphError, GroupId, Shape, States, TensorType, Var, grad, grad_with};
use wgrad_nn::{
    Activation, AdamW, Block, Builder, Context, ImageNorm, Module, Norm, Optimizer, Params, ResNet,
    ResNetConfig, ResidualMlp, ResidualMlpConfig, Shortcut, Stem,
};
use wgrad_ops::{TensorOps, pack};
use wgrad_program::HostData;

use crate::harness::{Harness, Tolerance, compare, to_host_data};
use crate::random::distinct;
use crate::report::{Comparison, Failure};
use crate::trial::{evaluate, random_direction};

const BATCH: usize = 7;
const CLASSES: usize = 5;
const STEPS: u64 = 4;
/// Tolerance for training steps. It is larger than the tolerance for one operation, because errors grow from step to
/// step.
const TOLERANCE: f64 = 2e-4;

/// Graph of a training step, with the layout of its parameters.
pub(crate) struct Training {
    pub graph: Graph,
    params: Params,
    optimizer: Optimizer,
    /// Shape of an input batch of the model.
    batch: Shape,
}

impl Training {
    /// Builds a residual network with dropout, layer norm and GELU.
    pub fn dense() -> Result<Training, GraphError> {
        let mut builder = Builder::new();
        let inputs = 12;
        let config = ResidualMlpConfig {
            width: 16,
            depth: 2,
            activation: Activation::Gelu,
            norm: Norm::Layer,
            dropout: 0.25,
        };
        let model = ResidualMlp::new(&mut builder, &config, inputs, CLASSES);
        Self::new(&model, builder, [BATCH, inputs].into())
    }

    /// Builds a residual network for images of odd height and width. It contains max pooling, strided convolutions,
    /// and batch norms with running statistics.
    pub fn images() -> Result<Training, GraphError> {
        let mut builder = Builder::new();
        let config = ResNetConfig {
            stem: Stem::Large,
            block: Block::Basic,
            blocks: vec![1, 1],
            width: 4,
            shortcut: Shortcut::Projection,
            preactivation: false,
            zero_init: false,
            norm: ImageNorm::Batch,
        };
        let model = ResNet::new(&mut builder, config, 3, CLASSES);
        Self::new(&model, builder, [BATCH, 3, 19, 17].into())
    }

    /// Builds the training step of a model with AdamW and cross-entropy.
    ///
    /// ε is large, so that rounding errors of gradients near zero do not cause full-size updates.
    fn new(model: &dyn Module, builder: Builder, batch: Shape) -> Result<Training, GraphError> {
        let mut states = States::new();
        let params = builder.finish(&mut states);
        let optimizer =
            Optimizer::AdamW(AdamW { betas: [0.9, 0.99], eps: 1e-3, weight_decay: 0.1, ..AdamW::default() });
        let moments = optimizer.declare(&mut states, &params);
        let graph = wgrad_ops::graph(states);
        let x = graph.input("x", TensorType::f32(batch.clone()));
        let labels = graph.input("labels", TensorType::u32([BATCH]));
        let rng = graph.input("rng", TensorType::u32([3]));
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let context = Context::new(&graph, &params).training(rng);
        let loss = model.forward(&context, x).cross_entropy(labels).mean_all();
        let (vars, offsets): (Vec<Var<'_>>, Vec<usize>) = context.all_params().into_iter().unzip();
        let gradients = grad(loss, &vars)?;
        let flat = pack(&graph, &gradients, &offsets, graph.states().get(params.group()).len());
        let (flat, norm) = Optimizer::clip(flat, 1.0);
        optimizer.update(&graph, &moments, &params, flat, hyper);
        graph.output("loss", loss);
        graph.output("norm", norm);
        graph.finish()?;
        Ok(Training { graph, params, optimizer, batch })
    }

    /// Returns the parameters and other state before the first step.
    fn initial_state(&self) -> State {
        let states = self.graph.states();
        let mut state = State::zeros(states);
        let mut set = |group: GroupId, initial: Vec<f32>| {
            let initial = initial.into_iter().map(f64::from).collect();
            state.groups[group.0] = Array::float(state.groups[group.0].ty.clone(), initial);
        };
        let params = &self.params;
        set(params.group(), params.initial(states, params.group(), 1));
        params.buffer_group().into_iter().for_each(|group| set(group, params.initial_buffers(states)));
        state
    }

    /// Returns the inputs of training step number `t`. The first step has number 1.
    fn inputs(&self, t: u64) -> Vec<Array> {
        let mut random = Stream::new(t, 17);
        let x = (0..self.batch.numel()).map(|_| f64::from(random.uniform() * 2.0 - 1.0)).collect();
        let labels = (0..BATCH).map(|_| random.below(CLASSES as u32)).collect();
        let hyper = self.optimizer.hyper(0.02, t).map(f64::from).to_vec();
        vec![
            Array::float(TensorType::f32(self.batch.clone()), x),
            Array::u32([BATCH], labels),
            Array::u32([3], vec![1, 0, t as u32]),
            Array::float(TensorType::f32([Optimizer::HYPER]), hyper),
        ]
    }
}

/// Checks a residual network of dense layers, with dropout, layer norm and GELU.
pub fn dense(harness: &Harness<'_>, fuse: bool) -> Comparison {
    step(&Training::dense()?, harness, fuse)
}

/// Checks a residual network of convolutions, with max pooling, strided convolutions, and batch norms with running
/// statistics.
pub fn images(harness: &Harness<'_>, fuse: bool) -> Comparison {
    step(&Training::images()?, harness, fuse)
}

/// Trains for several steps. Checks the loss and the gradient norm of every step, then the final state, and that the
/// padding of the state is still zero.
fn step(training: &Training, harness: &Harness<'_>, fuse: bool) -> Comparison {
    let mut state = training.initial_state();
    let mut loaded = harness.load(&training.graph, fuse)?;
    for (i, group) in state.groups.iter().enumerate() {
        loaded.session.write_group(GroupId(i), to_host_data(group).as_data())?;
    }
    let tolerance = Tolerance::relative(TOLERANCE);
    let mut worst: f64 = 0.0;
    for t in 1..=STEPS {
        let inputs = training.inputs(t);
        let expected = reference::step(&training.graph, &inputs, &mut state)?;
        let found = loaded.run(&inputs)?;
        for ((name, found), expected) in ["loss", "norm"].iter().zip(&found).zip(&expected) {
            worst = worst.max(compare(&format!("{name} of step {t}"), found, expected, tolerance)?);
        }
    }
    for (i, group) in training.graph.states().groups().iter().enumerate() {
        let found = loaded.session.read_group(GroupId(i))?;
        padding_is_zero(group, &found)?;
        worst = worst.max(compare(
            &format!("{} after {STEPS} steps", group.name),
            &found,
            &state.groups[i],
            tolerance,
        )?);
    }
    let (planned, allocated) = (loaded.program.peak_bytes(), loaded.session.allocated_bytes());
    let doubled = allocated == 2 * planned && harness.device.info().features.iter().any(|f| f == "f64");
    if planned != allocated && !doubled {
        let message = format!("the plan predicted {planned} bytes, but {allocated} were allocated");
        return Err(Failure::Violation(message));
    }
    Ok(worst)
}

/// Checks a linear layer with an activation, and its gradients. These GEMMs have the longest epilogues, and their
/// sizes are not multiples of a tile.
pub fn layer(harness: &Harness<'_>) -> Comparison {
    let (rows, inputs, outputs) = (37, 21, 45);
    let graph = wgrad_ops::graph(States::new());
    let x = graph.input("x", TensorType::f32([rows, inputs]));
    let weight = graph.input("weight", TensorType::f32([outputs, inputs]));
    let bias = graph.input("bias", TensorType::f32([outputs]));
    let y = (x.matmul(weight.t()) + bias).gelu();
    let cotangent = graph.input("cotangent", y.ty());
    graph.output("y", y);
    for (name, gradient) in ["dx", "dw", "db"].iter().zip(grad_with(y, cotangent, &[x, weight, bias])?) {
        graph.output(name, gradient);
    }
    let mut random = Stream::new(5, 23);
    let inputs: Vec<Array> = graph.inputs().iter().map(|(_, ty)| random_direction(&mut random, ty)).collect();
    let expected = evaluate(&graph, &inputs)?;
    let found = harness.load(&graph, true)?.run(&inputs)?;
    let mut worst: f64 = 0.0;
    for (((name, _), found), expected) in graph.outputs().iter().zip(&found).zip(&expected) {
        worst = worst.max(compare(name, found, expected, Tolerance::relative(2e-5))?);
    }
    Ok(worst)
}

/// Checks that no two dropout layers of the network use the same random values.
pub fn distinct_streams() -> Comparison {
    let training = Training::dense()?;
    distinct(&training.graph, &training.inputs(1))
}

fn padding_is_zero(group: &wgrad_graph::Group, found: &HostData) -> Comparison {
    let ends = group.entries.iter().map(|e| e.offset + e.shape.numel());
    let starts = group.entries.iter().skip(1).map(|e| e.offset).chain([group.len()]);
    let values = found.to_f32();
    for (end, start) in ends.zip(starts) {
        if let Some(i) = (end..start).find(|&i| values.get(i) != Some(&0.0)) {
            let message = format!("padding element {i} of {} is {:?}, expected 0", group.name, values.get(i));
            return Err(Failure::Violation(message));
        }
    }
    Ok(0.0)
}
