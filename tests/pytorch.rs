//! Comparison with PyTorch: the logits of a ResNet-18, and five steps of SGD on a network with every layer kind of a
//! residual network. `tests/fixtures/README.md` describes how the values of PyTorch were computed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::adapters;
use wgrad::graph::GroupId;
use wgrad::nn::{Block, Params};
use wgrad::prelude::*;
use wgrad::weights::Weights;

/// Maximum difference of elements, relative to the largest magnitude of the tensor (at least 1).
const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> Weights {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
    Weights::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn values<'w>(weights: &'w Weights, name: &str) -> &'w [f32] {
    weights.get(name).unwrap_or_else(|| panic!("tensor {name} is missing in the fixture")).values()
}

fn labels(weights: &Weights) -> Vec<u32> {
    let found = weights.integers().find(|(name, _)| *name == "labels");
    found.map(|(_, tensor)| tensor.values().iter().map(|&x| x as u32).collect()).expect("labels")
}

#[track_caller]
fn assert_close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= TOLERANCE * scale;
        assert!(close, "{name}: element {i} is {found}, expected {expected}");
    }
}

/// Runs a check on the CPU in f32 and f64, and on every adapter.
fn on_every_device(test: &str, check: impl Fn(&dyn Device, &str)) {
    check(&CpuDevice::new(), "cpu");
    check(&CpuDevice::f64(), "cpu, f64");
    for (index, info) in adapters(test) {
        let device = GpuDevice::open(index).unwrap_or_else(|error| panic!("{}: {error}", info.name));
        check(&device, &format!("{} ({})", info.name, info.backend));
    }
}

/// Writes all tensors of a model. `lookup` returns the values of a tensor by name.
fn write_model<'w>(
    session: &mut dyn Session,
    states: &States,
    params: &Params,
    lookup: impl Fn(&str) -> &'w [f32],
) {
    let groups = [Some(params.group()), params.frozen(), params.buffer_group()];
    for id in groups.into_iter().flatten() {
        let group = states.get(id);
        let mut flat = vec![0.0; group.len()];
        for entry in &group.entries {
            let values = lookup(&entry.name);
            flat[entry.offset..entry.offset + values.len()].copy_from_slice(values);
        }
        session.write_group(id, Data::F32(&flat)).expect("a group of the session");
    }
}

/// Reads the tensors of the given groups from the device. Returns them by name.
fn read_model(session: &mut dyn Session, states: &States, groups: &[GroupId]) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    for &id in groups {
        let values = session.read_group(id).expect("a group of the session").to_f32();
        for entry in &states.get(id).entries {
            all.insert(entry.name.clone(), values[entry.offset..entry.offset + entry.shape.numel()].to_vec());
        }
    }
    all
}

#[test]
fn resnet18_logits_match_pytorch() {
    let (weights, pth) = (fixture("resnet18-w4.safetensors"), fixture("resnet18-w4.pth"));
    let expected = fixture("resnet18-w4-expected.safetensors");
    on_every_device("resnet18_logits_match_pytorch", |device, name| {
        let base = ResNetConfig::imagenet(18).expect("depth 18 is supported");
        let config = ResNetConfig { stem: Stem::Small, width: 4, ..base };
        let mut builder = Builder::new();
        let model = ResNet::new(&mut builder, config, 3, 10);
        let mut states = States::new();
        let params = builder.finish(&mut states);
        let graph = graph(states);
        let x = graph.input("images", TensorType::f32([4, 3, 32, 32]));
        graph.output("logits", model.forward(&Context::new(&graph, &params), x));
        let program = compile(&graph, Options::within(&device.info().limits));
        let program = program.expect("a valid graph");
        let mut session = device.session(graph.states()).expect("a working device");
        let id = session.load(&program).expect("a working device");
        for file in [&weights, &pth] {
            write_model(&mut *session, graph.states(), &params, |name| values(file, name));
            session.run(id, &[Data::F32(values(&expected, "images"))]).expect("a working device");
            let logits = session.output(id, 0).expect("logits").to_f32();
            assert_close(&format!("{name}: logits"), &logits, values(&expected, "logits"));
        }
    });
}

/// Names and shapes must match in both directions: neither the model nor the file may have a tensor that the other
/// lacks.
#[test]
fn resnet18_tensor_names_match_torchvision() {
    let base = ResNetConfig::imagenet(18).expect("depth 18 is supported");
    let config = ResNetConfig { stem: Stem::Small, width: 4, ..base };
    assert_eq!(config.block, Block::Basic);
    let mut builder = Builder::new();
    ResNet::new(&mut builder, config, 3, 10);
    let params = builder.specs().iter().map(|spec| (spec.name.clone(), spec.shape.to_vec()));
    let buffers = builder.buffers().iter().map(|spec| (spec.name.clone(), spec.shape.to_vec()));
    let tensors: Vec<(String, Vec<usize>)> = params.chain(buffers).collect();
    let weights = fixture("resnet18-w4.pth");
    let assignment = weights.assign(&tensors, &Default::default()).unwrap_or_else(|error| panic!("{error}"));
    assignment.complete().unwrap_or_else(|error| panic!("{error}"));
    assert!(assignment.unused.is_empty(), "{:?}", assignment.unused);
}

/// The network `StepsNet` of `make_resnet.py`.
struct StepsNet {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    block: [(Conv2d, BatchNorm2d); 3],
    gn: GroupNorm,
    fc: Linear,
}

impl StepsNet {
    fn new(b: &mut Builder) -> Self {
        let conv = |stride, padding| Conv::default().stride(stride).padding(padding);
        let layer = |b: &mut Builder, [first, second]: [&str; 2], inputs, kernel, stride| {
            let layer = b.scope(first, |b| Conv2d::new(b, inputs, 8, kernel, conv(stride, kernel / 2)));
            (layer, b.scope(second, |b| BatchNorm2d::new(b, 8)))
        };
        Self {
            conv1: b.scope("conv1", |b| Conv2d::with_bias(b, 3, 6, 3, conv(2, 1))),
            bn1: b.scope("bn1", |b| BatchNorm2d::new(b, 6)),
            block: b.scope("layer1.0", |b| {
                let [first, second] = [["conv1", "bn1"], ["conv2", "bn2"]];
                [
                    layer(b, first, 6, 3, 2),
                    layer(b, second, 8, 3, 1),
                    layer(b, ["downsample.0", "downsample.1"], 6, 1, 2),
                ]
            }),
            gn: b.scope("gn", |b| GroupNorm::new(b, 2, 8)),
            fc: b.scope("fc", |b| Linear::new(b, 8, 5)),
        }
    }
}

impl Module for StepsNet {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let x = self.bn1.forward(cx, self.conv1.forward(cx, x)).relu();
        let x = MaxPool2d(Pool::new(3).stride(2).padding(1)).forward(cx, x);
        let normed = |i: usize, x| self.block[i].1.forward(cx, self.block[i].0.forward(cx, x));
        let x = (normed(1, normed(0, x).relu()) + normed(2, x)).relu();
        let x = self.gn.forward(cx, x).relu();
        self.fc.forward(cx, x.global_avg_pool2d())
    }
}

#[test]
fn five_sgd_steps_match_pytorch() {
    let expected = fixture("resnet-steps.safetensors");
    let (images, labels) = (values(&expected, "images"), labels(&expected));
    on_every_device("five_sgd_steps_match_pytorch", |device, name| {
        let optimizer = Optimizer::Sgd(Sgd::default());
        let mut builder = Builder::new();
        let model = StepsNet::new(&mut builder);
        let mut states = States::new();
        let params = builder.finish(&mut states);
        let moments = optimizer.declare(&mut states, &params);
        let graph = graph(states);
        let x = graph.input("images", TensorType::f32([8, 3, 17, 17]));
        let y = graph.input("labels", TensorType::u32([8]));
        let rng = graph.input("rng", TensorType::u32([3]));
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let cx = Context::new(&graph, &params).training(rng);
        let loss = model.forward(&cx, x).cross_entropy(y).mean_all();
        graph.output("loss", loss);
        let (vars, offsets): (Vec<Var<'_>>, Vec<usize>) = cx.all_params().into_iter().unzip();
        let grads = grad(loss, &vars).expect("a differentiable model");
        let flat = pack(&graph, &grads, &offsets, graph.states().get(params.group()).len());
        graph.output("gradient", flat + 0.0);
        optimizer.update(&graph, &moments, &params, flat, hyper);
        let options = Options::within(&device.info().limits);
        let program = compile(&graph, options).unwrap_or_else(|error| panic!("{error}"));
        let mut session = device.session(graph.states()).expect("a working device");
        let id = session.load(&program).expect("a working device");
        let initial = |name: &str| values(&expected, &format!("init.{name}"));
        write_model(&mut *session, graph.states(), &params, initial);
        for step in 1..=5 {
            let hyper = optimizer.hyper(0.05, step);
            let inputs =
                [Data::F32(images), Data::U32(&labels), Data::U32(&[0, 0, step as u32]), Data::F32(&hyper)];
            session.run(id, &inputs).expect("a working device");
            let loss = session.output(id, 0).expect("a loss").to_f32();
            let losses = values(&expected, "losses");
            assert_close(
                &format!("{name}: loss of step {step}"),
                &loss,
                &losses[step as usize - 1..step as usize],
            );
            if step != 1 && step != 5 {
                continue;
            }
            let flat = session.output(id, 1).expect("gradients").to_f32();
            for entry in &graph.states().get(params.group()).entries {
                let found = &flat[entry.offset..entry.offset + entry.shape.numel()];
                let gradient = values(&expected, &format!("step{step}.grad.{}", entry.name));
                assert_close(&format!("{name}: step {step}, gradient of {}", entry.name), found, gradient);
            }
        }
        let groups = [params.group(), params.buffer_group().expect("running statistics")];
        for (tensor, found) in read_model(&mut *session, graph.states(), &groups) {
            assert_close(
                &format!("{name}: {tensor} after five steps"),
                &found,
                values(&expected, &format!("final.{tensor}")),
            );
        }
    });
}
