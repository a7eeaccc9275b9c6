//! Whole training steps on one fixed random batch that already lies on the device.

use anyhow::{Context as _, Result, bail};
use wgrad::graph::philox::Stream;
use wgrad::graph::{EntryId, GroupId};
use wgrad::prelude::*;
use wgrad::program::{HostData, ProgramId};

/// A workload on a device, ready to step.
pub struct Workload {
    session: Box<dyn Session>,
    program: ProgramId,
    /// Floating-point operations of a step.
    pub flops: f64,
    /// Dispatches of a step.
    pub dispatches: usize,
    steps: u64,
    optimizer: Option<(Optimizer, f64)>,
}

/// Names of the workloads, `matmul-N` aside.
pub const NAMES: [&str; 3] = ["mlp", "mlp-big", "resnet"];

impl Workload {
    /// Prepares the workload of this name.
    ///
    /// # Errors
    /// There is none of this name; what the device reports.
    pub fn new(device: &dyn Device, name: &str) -> Result<Self> {
        let momentum = Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let adam = Optimizer::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false };
        match (name, name.strip_prefix("matmul-").map(str::parse::<usize>)) {
            ("mlp", _) => mlp(device, &[784, 512, 512, 10], 256, (momentum, 0.01), true),
            ("mlp-big", _) => mlp(device, &[1024, 2048, 2048, 1024], 512, (adam, 1e-3), false),
            ("resnet", _) => resnet(device, (momentum, 0.01)),
            (_, Some(Ok(n))) if n > 0 => matmul(device, n),
            _ => bail!("unknown workload {name}; there are {}, matmul-N", NAMES.join(", ")),
        }
    }

    /// Runs a step. With `sync` it returns when the device is done, with the loss if there is one.
    ///
    /// # Errors
    /// What the device reports.
    pub fn step(&mut self, sync: bool) -> Result<Option<f32>> {
        self.steps += 1;
        match self.optimizer {
            Some((optimizer, rate)) => {
                let rng = [1, 0, self.steps as u32];
                let hyper = optimizer.hyper(rate, self.steps);
                self.session.run(self.program, &[Data::U32(&rng), Data::F32(&hyper)])?;
            }
            None => self.session.run(self.program, &[])?,
        }
        if !sync {
            return Ok(None);
        }
        self.session.wait()?;
        Ok(self.session.records(self.program, true)?.last().and_then(|record| record.values.first().copied()))
    }
}

/// The fixed batch of a workload: groups of the state, and what goes in.
struct Batch {
    x: EntryId,
    y: EntryId,
    data: Vec<(GroupId, HostData)>,
}

fn mlp(
    device: &dyn Device,
    sizes: &[usize],
    batch: usize,
    update: (Optimizer, f64),
    classes: bool,
) -> Result<Workload> {
    let [inputs, hidden @ .., outputs] = sizes else { bail!("an MLP has inputs and outputs") };
    let mut builder = Builder::new();
    let model = Mlp::new(&mut builder, *inputs, hidden, *outputs, Activation::Relu, Norm::None, 0.0);
    training(device, builder, &model, update, &[batch, *inputs], *outputs, classes)
}

/// ResNet-20 with a projection where the width changes, 64 images of 3×32×32.
fn resnet(device: &dyn Device, update: (Optimizer, f64)) -> Result<Workload> {
    let config = ResNetConfig::cifar(20).context("there is a network of depth 20")?;
    let config = ResNetConfig { shortcut: Shortcut::Projection, ..config };
    let mut builder = Builder::new();
    let model = ResNet::new(&mut builder, config, 3, 10);
    training(device, builder, &model, update, &[64, 3, 32, 32], 10, true)
}

/// The training step of a model on one batch of this shape.
fn training(
    device: &dyn Device,
    builder: Builder,
    model: &dyn Module,
    (optimizer, rate): (Optimizer, f64),
    shape: &[usize],
    outputs: usize,
    classes: bool,
) -> Result<Workload> {
    let mut states = States::new();
    let params = builder.finish(&mut states);
    let moments = optimizer.declare(&mut states, &params);
    let fixed = fixed_batch(&mut states, shape, outputs, classes);
    let graph = graph(states);
    let rng = graph.input("rng", TensorType::u32([3]));
    let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
    let cx = Context::new(&graph, &params).training(rng);
    let out = model.forward(&cx, graph.entry(fixed.x));
    let y = graph.entry(fixed.y);
    let loss = if classes { out.cross_entropy(y).mean_all() } else { (out - y).square().mean_all() };
    graph.output("loss", loss);
    let (vars, offsets): (Vec<Var>, Vec<usize>) = cx.all_params().into_iter().unzip();
    let grads = pack(&graph, &grad(loss, &vars)?, &offsets, graph.states().get(params.group()).len());
    optimizer.update(&graph, &moments, &params, grads, hyper);
    let initial = params.initial(graph.states(), params.group(), 1);
    let mut workload = load(device, &graph, Some((optimizer, rate)), fixed.data)?;
    workload.session.write_group(params.group(), Data::F32(&initial))?;
    if let Some(buffers) = params.buffer_group() {
        workload.session.write_group(buffers, Data::F32(&params.initial_buffers(graph.states())))?;
    }
    Ok(workload)
}

fn fixed_batch(states: &mut States, shape: &[usize], outputs: usize, classes: bool) -> Batch {
    let batch = shape[0];
    let mut random = Stream::new(1, 0);
    let mut floats = |n: usize| HostData::F32((0..n).map(|_| 2.0 * random.uniform() - 1.0).collect());
    let x_group = states.group("x", DType::F32);
    let x = states.entry(x_group, "x", shape);
    let x_data = floats(states.get(x_group).len());
    let (y_group, y, y_data) = if classes {
        let group = states.group("y", DType::U32);
        let y = states.entry(group, "y", [batch]);
        let len = states.get(group).len();
        (group, y, HostData::U32((0..len).map(|_| random.below(outputs as u32)).collect()))
    } else {
        let group = states.group("y", DType::F32);
        let y = states.entry(group, "y", [batch, outputs]);
        let data = floats(states.get(group).len());
        (group, y, data)
    };
    Batch { x, y, data: vec![(x_group, x_data), (y_group, y_data)] }
}

fn matmul(device: &dyn Device, n: usize) -> Result<Workload> {
    let mut states = States::new();
    let mut random = Stream::new(1, 0);
    let mut operand = |name: &str| {
        let group = states.group(name, DType::F32);
        let entry = states.entry(group, name, [n, n]);
        let len = states.get(group).len();
        (entry, (group, HostData::F32((0..len).map(|_| 2.0 * random.uniform() - 1.0).collect())))
    };
    let ((a, a_data), (b, b_data)) = (operand("a"), operand("b"));
    let graph = graph(states);
    graph.output("product", graph.entry(a).matmul(graph.entry(b)));
    load(device, &graph, None, vec![a_data, b_data])
}

fn load(
    device: &dyn Device,
    graph: &Graph,
    optimizer: Option<(Optimizer, f64)>,
    data: Vec<(GroupId, HostData)>,
) -> Result<Workload> {
    let program = compile(graph, Options::within(&device.info().limits))?;
    let mut session = device.session(&program.states)?;
    let id = session.load(&program)?;
    for (group, values) in &data {
        session.write_group(*group, values.as_data())?;
    }
    let (flops, dispatches) = (program.cost().flops as f64, program.dispatches.len());
    Ok(Workload { session, program: id, flops, dispatches, steps: 0, optimizer })
}
