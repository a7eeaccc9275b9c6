//! Named workloads: training steps on one fixed random batch in device memory.
//!
//! Comparisons with other engines run the same training steps.

use wgrad_graph::{GraphError, States, TensorType, Var, grad};
use wgrad_nn::{
    Adam, Builder, Context, Mlp, MlpConfig, Module, Optimizer, ResNet, ResNetConfig, Sgd, Shortcut,
};
use wgrad_ops::{TensorOps, pack};

use crate::error::BenchError;
use crate::workload::{Recorder, Update, Workload};

/// Names of the workloads that [`workload`] accepts, in addition to `matmul-N`.
pub const WORKLOADS: [&str; 3] = ["mlp", "mlp-big", "resnet"];

/// Optimizer of `mlp` and `resnet`: SGD with momentum.
const MOMENTUM: Optimizer =
    Optimizer::Sgd(Sgd { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0, clip_norm: None });
/// Optimizer of `mlp-big`.
const ADAM: Optimizer =
    Optimizer::Adam(Adam { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, clip_norm: None });

/// Creates the workload with the given name.
///
/// # Errors
/// Returns [`BenchError::NoWorkload`] if no workload has the name, and [`BenchError::Graph`] if its graph is invalid.
pub fn workload(name: &str) -> Result<Workload, BenchError> {
    let unknown = || BenchError::NoWorkload { name: name.to_owned() };
    match (name, name.strip_prefix("matmul-").map(str::parse::<usize>)) {
        ("mlp", _) => Ok(mlp(512, 256)?),
        ("mlp-big", _) => Ok(mlp_big()?),
        ("resnet", _) => resnet20().ok_or_else(unknown)?.map_err(Into::into),
        (_, Some(Ok(n))) if n > 0 => Ok(crate::cases::gemm::square(n)?),
        _ => Err(unknown()),
    }
}

/// Training step of an MLP 784-`width`-`width`-10 with cross-entropy loss and SGD with momentum.
pub(crate) fn mlp(width: usize, batch: usize) -> Result<Workload, GraphError> {
    let mut builder = Builder::new();
    let config = MlpConfig { hidden: vec![width; 2], ..MlpConfig::default() };
    let model = Mlp::new(&mut builder, &config, 784, 10);
    training(builder, &model, (MOMENTUM, 0.01), &[batch, 784], 10, true)
}

/// Training step of an MLP 1024-2048-2048-1024 with squared error and Adam, at a batch size of 512.
pub(crate) fn mlp_big() -> Result<Workload, GraphError> {
    let mut builder = Builder::new();
    let config = MlpConfig { hidden: vec![2048; 2], ..MlpConfig::default() };
    let model = Mlp::new(&mut builder, &config, 1024, 1024);
    training(builder, &model, (ADAM, 1e-3), &[512, 1024], 1024, false)
}

/// Training step of ResNet-20 with projection shortcuts and SGD with momentum, on 64 images of 3×32×32.
///
/// Returns `None` if `wgrad_nn` does not support ResNets of depth 20.
pub(crate) fn resnet20() -> Option<Result<Workload, GraphError>> {
    let config = ResNetConfig { shortcut: Shortcut::Projection, ..ResNetConfig::cifar(20)? };
    let mut builder = Builder::new();
    let model = ResNet::new(&mut builder, config, 3, 10);
    Some(training(builder, &model, (MOMENTUM, 0.01), &[64, 3, 32, 32], 10, true))
}

/// Creates the workload of a training step of a model on one batch of the given shape.
fn training(
    builder: Builder,
    model: &dyn Module,
    (optimizer, rate): (Optimizer, f64),
    shape: &[usize],
    outputs: usize,
    classes: bool,
) -> Result<Workload, GraphError> {
    let mut states = States::new();
    let params = builder.finish(&mut states);
    let moments = optimizer.declare(&mut states, &params);
    let mut recorder = Recorder::with_states(states);
    let x = recorder.floats("x", shape);
    let y = match classes {
        true => recorder.classes("y", shape[0], outputs),
        false => recorder.floats("y", [shape[0], outputs]),
    };
    let initial = params.initial(recorder.states(), params.group(), 1);
    recorder.fill(params.group(), initial);
    if let Some(buffers) = params.buffer_group() {
        let initial = params.initial_buffers(recorder.states());
        recorder.fill(buffers, initial);
    }
    let workload = recorder.record(|graph| {
        let rng = graph.input("rng", TensorType::u32([3]));
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let cx = Context::new(graph, &params).training(rng);
        let (x, y) = (graph.entry(x), graph.entry(y));
        let out = model.forward(&cx, x);
        let loss = if classes { out.cross_entropy(y).mean_all() } else { (out - y).square().mean_all() };
        graph.output("loss", loss);
        let (vars, offsets): (Vec<Var>, Vec<usize>) = cx.all_params().into_iter().unzip();
        let grads = pack(graph, &grad(loss, &vars)?, &offsets, graph.states().get(params.group()).len());
        optimizer.update(graph, &moments, &params, grads, hyper);
        Ok(())
    })?;
    // Adam's first update is the learning rate times the sign of the gradient. Two results can differ by twice the
    // rate if the sign of a gradient near 0 differs.
    let absolute = match optimizer {
        Optimizer::Adam(_) | Optimizer::AdamW(_) => vec![(params.group(), 2.01 * rate)],
        Optimizer::Sgd(_) => Vec::new(),
    };
    let update = Some(Update { optimizer, rate, has_rng: true });
    Ok(Workload { update, absolute, non_smooth: true, ..workload })
}
