//! A whole training step: forward, loss, gradient, clipping and AdamW of two small residual networks, one of dense layers
//! and one of convolutions, on a device and in the reference, for several steps from the same start. And one layer, for the
//! variants of a kernel.

use wgrad_cpu::reference::{self, Array, State};
use wgrad_graph::philox::Stream;
use wgrad_graph::{Graph, GraphError, GroupId, Shape, States, TensorType, Var, grad, grad_with};
use wgrad_nn::{
    Activation, Block, Builder, Context, ImageNorm, Module, Norm, Optimizer, Params, ResNet, ResNetConfig,
    ResidualMlp, ResidualMlpConfig, Shortcut, Stem,
};
use wgrad_ops::{TensorOps, pack};
use wgrad_program::HostData;

use crate::random::distinct;
use crate::report::{Failure, Verdict};
use crate::rig::{Rig, Tolerance, compare, uploaded};
use crate::trial::{direction, evaluate};

const BATCH: usize = 7;
const CLASSES: usize = 5;
const STEPS: u64 = 4;
/// Errors grow from step to step, so this is more than an operation may have.
const TOLERANCE: f64 = 2e-4;

/// The graph of a training step and where its parameters begin.
pub(crate) struct Training {
    pub graph: Graph,
    params: Params,
    optimizer: Optimizer,
    /// Shape of a batch.
    batch: Shape,
}

impl Training {
    /// A residual network with dropout, layer norm and GELU.
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
        Self::of(&model, builder, [BATCH, inputs].into())
    }

    /// A residual network with a maximum over windows, strides, and batch norms with their running statistics, of images
    /// of odd sizes.
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
        Self::of(&model, builder, [BATCH, 3, 19, 17].into())
    }

    /// A model trained by AdamW on the cross-entropy.
    ///
    /// ε is large, so that where a gradient is nearly zero its rounding is not blown up to a whole step.
    fn of(model: &dyn Module, builder: Builder, batch: Shape) -> Result<Training, GraphError> {
        let mut states = States::new();
        let params = builder.finish(&mut states);
        let optimizer = Optimizer::Adam { betas: [0.9, 0.99], eps: 1e-3, weight_decay: 0.1, decoupled: true };
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

    /// The state before the first step.
    fn start(&self) -> State {
        let states = self.graph.states();
        let mut state = State::zeros(states);
        let mut begin = |group: GroupId, initial: Vec<f32>| {
            let initial = initial.into_iter().map(f64::from).collect();
            state.groups[group.0] = Array::float(state.groups[group.0].ty.clone(), initial);
        };
        let params = &self.params;
        begin(params.group(), params.initial(states, params.group(), 1));
        params.buffer_group().into_iter().for_each(|group| begin(group, params.initial_buffers(states)));
        state
    }

    /// The inputs of step number `t`, from 1.
    fn inputs(&self, t: u64) -> Vec<Array> {
        let mut random = Stream::new(t, 17);
        let x = (0..self.batch.numel()).map(|_| f64::from(random.uniform() * 2.0 - 1.0)).collect();
        let labels = (0..BATCH).map(|_| random.below(CLASSES as u32)).collect();
        let hyper = self.optimizer.hyper(0.02, t).map(f64::from).to_vec();
        vec![
            Array::float(TensorType::f32(self.batch.clone()), x),
            Array::word([BATCH], labels),
            Array::word([3], vec![1, 0, t as u32]),
            Array::float(TensorType::f32([Optimizer::HYPER]), hyper),
        ]
    }
}

/// A residual network of dense layers, with dropout, layer norm and GELU.
pub fn dense(rig: &Rig<'_>, fuse: bool) -> Verdict {
    step(&Training::dense()?, rig, fuse)
}

/// A residual network of convolutions, with a maximum over windows, strides, and batch norms with running statistics.
pub fn images(rig: &Rig<'_>, fuse: bool) -> Verdict {
    step(&Training::images()?, rig, fuse)
}

/// Loss, norm of the gradient and the whole state after several steps agree with the reference, and the padding is still
/// zero.
fn step(training: &Training, rig: &Rig<'_>, fuse: bool) -> Verdict {
    let mut state = training.start();
    let mut loaded = rig.load(&training.graph, fuse)?;
    for (i, group) in state.groups.iter().enumerate() {
        loaded.session.write_group(GroupId(i), uploaded(group).as_data())?;
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
    let doubled = allocated == 2 * planned && rig.device.info().features.iter().any(|f| f == "f64");
    if planned != allocated && !doubled {
        let message = format!("the plan foretold {planned} bytes and {allocated} were allocated");
        return Err(Failure::Broken(message));
    }
    Ok(worst)
}

/// A linear layer with an activation and its gradients: products with the longest epilogues there are, at sizes that no tile
/// divides.
pub fn layer(rig: &Rig<'_>) -> Verdict {
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
    let inputs: Vec<Array> = graph.inputs().iter().map(|(_, ty)| direction(&mut random, ty)).collect();
    let expected = evaluate(&graph, &inputs)?;
    let found = rig.load(&graph, true)?.run(&inputs)?;
    let mut worst: f64 = 0.0;
    for (((name, _), found), expected) in graph.outputs().iter().zip(&found).zip(&expected) {
        worst = worst.max(compare(name, found, expected, Tolerance::relative(2e-5))?);
    }
    Ok(worst)
}

/// No two dropouts of the network use the same random numbers.
pub fn streams() -> Verdict {
    let training = Training::dense()?;
    distinct(&training.graph, &training.inputs(1))
}

fn padding_is_zero(group: &wgrad_graph::Group, found: &HostData) -> Verdict {
    let ends = group.entries.iter().map(|e| e.offset + e.shape.numel());
    let starts = group.entries.iter().skip(1).map(|e| e.offset).chain([group.len()]);
    let values = found.to_f32();
    for (end, start) in ends.zip(starts) {
        if let Some(i) = (end..start).find(|&i| values.get(i) != Some(&0.0)) {
            let message =
                format!("element {i} of {} is padding, but not zero: {:?}", group.name, values.get(i));
            return Err(Failure::Broken(message));
        }
    }
    Ok(0.0)
}
