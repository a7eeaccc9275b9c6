//! Whole training steps on one fixed random batch that already lies on the device: what other engines are measured with too.

use wgrad_graph::{GraphError, States, TensorType, Var, grad};
use wgrad_nn::{
    Adam, Builder, Context, Mlp, MlpConfig, Module, Optimizer, ResNet, ResNetConfig, Sgd, Shortcut,
};
use wgrad_ops::{TensorOps, pack};

use crate::error::BenchError;
use crate::work::{Recorder, Update, Work};

/// Names of the workloads, `matmul-N` aside.
pub const WORKLOADS: [&str; 3] = ["mlp", "mlp-big", "resnet"];

const MOMENTUM: Optimizer =
    Optimizer::Sgd(Sgd { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0, clip_norm: None });
const ADAM: Optimizer =
    Optimizer::Adam(Adam { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, clip_norm: None });
/// The workload of this name.
///
/// # Errors
/// There is none of this name.
pub fn workload(name: &str) -> Result<Work, BenchError> {
    let unknown = || BenchError::NoWorkload { name: name.to_owned() };
    match (name, name.strip_prefix("matmul-").map(str::parse::<usize>)) {
        ("mlp", _) => Ok(mlp(512, 256)?),
        ("mlp-big", _) => Ok(mlp_big()?),
        ("resnet", _) => resnet20().ok_or_else(unknown)?.map_err(Into::into),
        (_, Some(Ok(n))) if n > 0 => Ok(crate::cases::gemm::square(n)?),
        _ => Err(unknown()),
    }
}

/// 784-width-width-10, cross-entropy, SGD with momentum.
///
/// # Errors
/// A size is 0.
pub(crate) fn mlp(width: usize, batch: usize) -> Result<Work, GraphError> {
    let mut builder = Builder::new();
    let config = MlpConfig { hidden: vec![width; 2], ..MlpConfig::default() };
    let model = Mlp::new(&mut builder, &config, 784, 10);
    training(builder, &model, (MOMENTUM, 0.01), &[batch, 784], 10, true)
}

/// 1024-2048-2048-1024, batch 512, squared error, Adam.
pub(crate) fn mlp_big() -> Result<Work, GraphError> {
    let mut builder = Builder::new();
    let config = MlpConfig { hidden: vec![2048; 2], ..MlpConfig::default() };
    let model = Mlp::new(&mut builder, &config, 1024, 1024);
    training(builder, &model, (ADAM, 1e-3), &[512, 1024], 1024, false)
}

/// ResNet-20 with a projection where the width changes, 64 images of 3×32×32, SGD with momentum. None if there is no network
/// of that depth.
pub(crate) fn resnet20() -> Option<Result<Work, GraphError>> {
    let config = ResNetConfig { shortcut: Shortcut::Projection, ..ResNetConfig::cifar(20)? };
    let mut builder = Builder::new();
    let model = ResNet::new(&mut builder, config, 3, 10);
    Some(training(builder, &model, (MOMENTUM, 0.01), &[64, 3, 32, 32], 10, true))
}

/// The training step of a model on one batch of this shape.
fn training(
    builder: Builder,
    model: &dyn Module,
    (optimizer, rate): (Optimizer, f64),
    shape: &[usize],
    outputs: usize,
    classes: bool,
) -> Result<Work, GraphError> {
    let mut states = States::new();
    let params = builder.finish(&mut states);
    let moments = optimizer.declare(&mut states, &params);
    let mut recorder = Recorder::over(states);
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
    let work = recorder.record(|graph| {
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
    // The moments are the gradient, but for a factor; Adam's first step is the sign of the gradient times the rate.
    let absolute = match optimizer {
        Optimizer::Adam(_) | Optimizer::AdamW(_) => vec![(params.group(), 2.01 * rate)],
        Optimizer::Sgd(_) => Vec::new(),
    };
    let update = Some(Update { optimizer, rate, keyed: true });
    Ok(Work { update, absolute, kinked: true, ..work })
}
