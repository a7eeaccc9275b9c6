//! Planned memory: slabs are only slightly larger than the largest set of live intermediates. This also holds with
//! recomputation.
//!
//! Plans depend only on the shape of the data, so every recipe is planned on examples of zeros.

use crate::support::{adapters, last_json, wgrad};
use wgrad::data::DataError;
use wgrad::graph::{EntryId, GroupId, grad_recomputing};
use wgrad::prelude::*;
use wgrad::program::Limits;
use wgrad::recipe;
use wgrad::recipe::Recipe;
use wgrad::train::setup_on;

/// Maximum ratio of the bytes of all slabs to the bytes of the largest live set.
const MAX_RATIO: f64 = 1.15;

/// Workloads of the benchmarks that are not built-in recipes.
const WORKLOADS: [&str; 3] = [
    "name = 'mlp'
     data.kind = 'fashion-mnist'
     model = { kind = 'mlp', hidden = [512, 512] }
     optimizer = { kind = 'sgd' }
     train = { batch = 256 }",
    "name = 'mlp-big'
     data = { kind = 'csv', path = 'none', task = 'regression' }
     model = { kind = 'mlp', hidden = [2048, 2048] }
     optimizer = { kind = 'adam' }
     train = { batch = 512, eval_batch = 512 }",
    "name = 'resnet'
     data.kind = 'cifar-10'
     model = { kind = 'resnet', depth = 20, shortcut = 'projection' }
     optimizer = { kind = 'sgd' }
     train = { batch = 64 }",
];

/// Two sets of device limits. With the first, the data set is kept on the device; with the second, each batch is
/// uploaded.
const LIMITS: [Limits; 2] = [
    Limits { buffer_bytes: 1 << 40, operand_bytes: 1 << 40, operands: 8, f16: false },
    Limits { buffer_bytes: 1 << 40, operand_bytes: 1 << 20, operands: 8, f16: false },
];

/// Returns examples of zeros with the shape of a recipe's data.
fn zero_splits(recipe: &Recipe) -> Result<Splits, DataError> {
    let count = recipe.train.batch.max(recipe.train.eval_batch);
    let part = |classes: usize, shape: [usize; 3]| {
        let names = (0..classes).map(|class| class.to_string()).collect();
        let labels = (0..count).map(|i| (i % classes) as u32).collect();
        let bytes = vec![0; count * shape.iter().product::<usize>()];
        Dataset::from_pixels("zero", bytes, shape, 255, Targets::Classes { labels, names })
    };
    let part = || match &recipe.data {
        recipe::Data::Digits(_) => part(10, [1, 8, 8]),
        recipe::Data::FashionMnist(_) | recipe::Data::Mnist(_) => part(10, [1, 28, 28]),
        recipe::Data::Cifar10(_) => part(10, [3, 32, 32]),
        recipe::Data::Isic2017(isic) => {
            let classes = isic.classes.as_ref().map_or(3, Vec::len);
            part(classes, [isic.channels, isic.size, isic.size])
        }
        recipe::Data::Csv(_) => {
            let targets = Targets::Values { values: vec![0.0; count * 1024], width: 1024 };
            Dataset::new("zero", vec![0.0; count * 1024], vec![1024], targets)
        }
        other => panic!("zero_splits does not support data of kind {}", other.kind()),
    };
    Ok(Splits::new(part()?, part()?))
}

fn plan(recipe: &Recipe, limits: &Limits) -> Plan {
    let parts = setup_on(recipe, zero_splits(recipe).unwrap()).unwrap();
    Plan::new(parts.model, &parts.splits, parts.config, limits).unwrap()
}

fn every_recipe() -> Vec<Recipe> {
    let builtin = recipe::builtin_names().map(|name| recipe::load(name).unwrap());
    builtin.chain(WORKLOADS.map(|text| Recipe::parse(text, "a workload").unwrap())).collect()
}

/// Returns two ratios of slab bytes to the bytes of the largest live set, each with a name. The first is for the slabs
/// that training and evaluation share, the second for the separately planned prediction program.
fn slab_ratios(recipe: &Recipe, limits: &Limits) -> Vec<(String, f64)> {
    let plan = plan(recipe, limits);
    let ratio = |program: &str, slabs: usize, live: usize| {
        assert!(slabs >= live && live > 0, "{} {program}: {slabs} bytes cannot hold {live}", recipe.name);
        let ratio = slabs as f64 / live as f64;
        eprintln!("{} {program}: {slabs} bytes for {live}, {ratio:.3}", recipe.name);
        (format!("{} {program}", recipe.name), ratio)
    };
    let prediction = plan.prediction(recipe.train.eval_batch).unwrap();
    vec![
        ratio("run", plan.scratch().slab_bytes, plan.scratch().live_bytes),
        ratio("prediction", prediction.slab_bytes(), prediction.live_bytes),
    ]
}

#[test]
fn slabs_are_at_most_15_percent_larger_than_the_live_set() {
    let all =
        every_recipe().into_iter().flat_map(|recipe| LIMITS.map(|limits| slab_ratios(&recipe, &limits)));
    let over: Vec<_> = all.flatten().filter(|(_, ratio)| *ratio > MAX_RATIO).collect();
    assert!(over.is_empty(), "{over:#?}");
}

/// Checks residual networks only, for which recomputation is intended.
#[test]
fn slabs_with_recomputation_are_at_most_15_percent_larger_than_the_live_set() {
    let mut over = Vec::new();
    for mut recipe in every_recipe() {
        recipe.train.recompute = true;
        if matches!(recipe.model, recipe::Model::ResNet(_)) {
            over.extend(LIMITS.iter().flat_map(|limits| slab_ratios(&recipe, limits)));
        }
    }
    over.retain(|(_, ratio)| *ratio > MAX_RATIO);
    assert!(over.is_empty(), "{over:#?}");
}

/// Returns the plan of a recipe without recomputation, and the effect of `train.recompute` on the same recipe.
fn plan_and_recomputation(recipe: &Recipe) -> (Plan, wgrad::train::Recomputation) {
    let mut recipe = recipe.clone();
    let kept = plan(&recipe, &LIMITS[0]);
    recipe.train.recompute = true;
    let recomputation = plan(&recipe, &LIMITS[0]).recomputation().unwrap();
    (kept, recomputation.expect("train.recompute is set"))
}

/// With recomputation, networks with convolutions need at most 50% of the memory that they need without it. For small
/// images, the limit is 80%.
///
/// No network needs more extra FLOPs than a forward pass.
#[test]
fn recomputation_saves_memory_for_at_most_one_more_forward_pass() {
    for recipe in every_recipe() {
        let (kept, recomputed) = plan_and_recomputation(&recipe);
        let memory = recomputed.with.slab_bytes as f64 / recomputed.without.slab_bytes as f64;
        let name = &recipe.name;
        eprintln!("{name}: {recomputed:?}, {memory:.3}");
        let max_memory = match name.as_str() {
            "cifar-resnet20" | "skin-scratch" | "skin-transfer" | "resnet" => 0.5,
            "fashion-resnet" | "digits" => 0.8,
            _ => 1.0,
        };
        assert!(memory <= max_memory, "{name}: {memory:.3}");
        assert_eq!(recomputed.is_noop(), max_memory == 1.0, "{name}: {recomputed:?}");
        assert_eq!(recomputed.without.live_bytes, kept.passes[0].1.live_bytes, "{name}");
        let ratio = recomputed.without.ratio();
        assert!(ratio <= MAX_RATIO, "{name}: ratio of the training program is {ratio:.3}");
        let (_, evaluation) = &kept.evaluations[0];
        let batch_ratio = recipe.train.batch as f64 / recipe.train.eval_batch as f64;
        let forward = evaluation.cost().flops as f64 * batch_ratio;
        let extra = (recomputed.flops_with - recomputed.flops_without) as f64;
        assert!(extra <= forward, "{name}: {extra} extra FLOPs, but a forward pass has {forward}");
    }
}

/// Trains four steps and returns the training losses, the test loss and the parameters, each with a name.
///
/// The test loss depends on the running statistics.
fn train(device: &dyn Device, text: &str, recompute: bool) -> Vec<(String, Vec<f32>)> {
    let mut recipe = Recipe::parse(text, "a small recipe").unwrap();
    recipe.train.recompute = recompute;
    let parts = wgrad::train::setup(&recipe).unwrap();
    let limits = &device.info().limits;
    let mut plan = Plan::new(parts.model, &parts.splits, parts.config, limits).unwrap();
    let recomputation = plan.recomputation().unwrap();
    assert_eq!(recomputation.is_some_and(|r| !r.is_noop()), recompute, "{text}");
    let planned = plan.peak_bytes();
    let mut trainer = Trainer::new(device, plan, parts.splits, 4).unwrap();
    assert_eq!(trainer.allocated_bytes(), planned, "{}", device.info().name);
    (0..4).for_each(|_| trainer.step().unwrap());
    let losses = trainer.records(true).unwrap().iter().map(|record| record.loss).collect();
    let test = trainer.evaluate(SplitName::Test).unwrap();
    let parameters = trainer.parameters(false).unwrap();
    let measured = [("losses".to_owned(), losses), ("test loss".to_owned(), vec![test.loss as f32])];
    measured.into_iter().chain(parameters.into_iter().map(|tensor| (tensor.name, tensor.values))).collect()
}

/// A perceptron with dropout.
const PERCEPTRON: &str = "name = 'perceptron'
    data.kind = 'digits'
    model = { kind = 'mlp', hidden = [48, 32, 48, 32], dropout = 0.25 }
    optimizer = { kind = 'adamw' }
    train = { batch = 64 }";

/// A residual network with two passes per step.
const RESNET: &str = "name = 'resnet'
    data.kind = 'digits'
    model = { kind = 'resnet', depth = 8, width = 4 }
    optimizer = { kind = 'sgd' }
    train = { batch = 16, accumulate = 2 }";

/// Recomputed dropout must drop the same elements, and running statistics must be updated only once.
#[test]
fn recomputation_gives_the_same_parameters() {
    let check = |device: &dyn Device, text: &str, tolerance: f32| {
        let name = &device.info().name;
        let (kept, recomputed) = (train(device, text, false), train(device, text, true));
        assert_eq!(kept.len(), recomputed.len());
        for ((tensor, kept), (_, recomputed)) in kept.iter().zip(&recomputed) {
            let scale = kept.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let worst = kept.iter().zip(recomputed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(
                worst <= tolerance * scale,
                "{name}: {tensor} differs by {worst}, largest element {scale}"
            );
        }
    };
    check(&CpuDevice::new(), PERCEPTRON, 0.0);
    // On the CPU the order in which a kernel sums rows depends on its other outputs; see docs/numerics.md.
    check(&CpuDevice::new(), RESNET, 1e-5);
    for (index, _) in adapters("recomputation_gives_the_same_parameters") {
        check(&GpuDevice::open(index).unwrap(), PERCEPTRON, 0.0);
    }
}

/// A convolution, a batch norm and a ReLU, with a shortcut if the shapes match.
struct Block(Conv2d, BatchNorm2d);

impl Block {
    fn new(b: &mut Builder, name: &str, channels: usize) -> Self {
        b.scope(name, |b| {
            Self(Conv2d::new(b, channels, 4, 3, Conv::default().padding(1)), BatchNorm2d::new(b, 4))
        })
    }
}

/// Three segments on 8×8 images, of which two are recomputed, and a linear head.
struct Blocks(Vec<Block>, Linear);

impl Module for Blocks {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let step = |x: Var<'g>, Block(conv, norm): &Block| {
            let y = norm.forward(cx, conv.forward(cx, x)).relu();
            if y.shape() == x.shape() { y + x } else { y }
        };
        let x = self.0.iter().fold(x, |x, block| cx.graph().segment("", || step(x, block)));
        self.1.forward(cx, x.global_avg_pool2d())
    }
}

/// Compares [`Blocks`] with and without recomputation on every adapter: loss, gradients, and running statistics after
/// two steps must have the same bits.
#[test]
fn recomputation_of_convolutions_gives_the_same_bits_on_gpus() {
    let program = |recompute: bool, limits: &Limits| {
        let mut states = States::new();
        let mut b = Builder::new();
        let blocks =
            [("a", 1), ("b", 4), ("c", 4)].map(|(name, channels)| Block::new(&mut b, name, channels));
        let model = Blocks(blocks.into(), b.scope("head", |b| Linear::new(b, 4, 10)));
        let params = b.finish(&mut states);
        let graph = graph(states);
        let x = graph.input("x", TensorType::f32([16, 1, 8, 8]));
        let y = graph.input("y", TensorType::u32([16]));
        let rng = graph.input("rng", TensorType::u32([3]));
        let cx = Context::new(&graph, &params).training(rng);
        let loss = model.forward(&cx, x).cross_entropy(y).mean_all();
        graph.output("loss", loss);
        let (vars, offsets): (Vec<Var>, Vec<usize>) = cx.all_params().into_iter().unzip();
        let grads = if recompute { grad_recomputing(loss, &vars) } else { grad(loss, &vars) };
        let len = graph.states().get(params.group()).len();
        graph.output("gradient", pack(&graph, &grads.unwrap(), &offsets, len));
        (compile(&graph, Options::within(limits)).unwrap(), params)
    };
    let run = |device: &dyn Device, recompute: bool| {
        let (program, params) = program(recompute, &device.info().limits);
        let mut session = device.session(&program.states).unwrap();
        let (group, buffers) = (params.group(), params.buffer_group().unwrap());
        session.write_group(group, Data::F32(&params.initial(&program.states, group, 1))).unwrap();
        session.write_group(buffers, Data::F32(&params.initial_buffers(&program.states))).unwrap();
        let id = session.load(&program).unwrap();
        let x: Vec<f32> = (0..16 * 64).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let y: Vec<u32> = (0..16).map(|i| i % 10).collect();
        for step in 0..2 {
            session.run(id, &[Data::F32(&x), Data::U32(&y), Data::U32(&[1, 0, step])]).unwrap();
        }
        let read = [session.output(id, 0), session.output(id, 1), session.read_group(buffers)];
        (read.map(|values| values.unwrap().to_f32()), program.live_bytes, program.dispatches.len())
    };
    for (index, info) in adapters("recomputation_of_convolutions_gives_the_same_bits_on_gpus") {
        let device = GpuDevice::open(index).unwrap();
        let (kept, recomputed) = (run(&device, false), run(&device, true));
        assert!(recomputed.1 < kept.1 && recomputed.2 > kept.2, "recomputation has no effect");
        let bits = |values: &[Vec<f32>; 3]| {
            values.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect::<Vec<Vec<u32>>>()
        };
        assert!(kept.0[1].iter().any(|x| *x != 0.0) && kept.0[2].iter().all(|x| x.is_finite()));
        assert_eq!(bits(&kept.0), bits(&recomputed.0), "{} ({})", info.name, info.backend);
    }
}

/// Compiles a chain of four matrix products of `rows` rows.
fn chain(states: &States, rows: usize) -> Program {
    let graph = graph(states.clone());
    let x = graph.input("x", TensorType::f32([rows, 32]));
    let weights = graph.entry(EntryId { group: GroupId(0), index: 0 });
    let y = (0..4).fold(x, |y, _| y.matmul(weights).tanh() + y);
    graph.output("y", y);
    compile(&graph, Options::default()).unwrap()
}

/// Loads a program that needs larger slabs after other programs have run. All of them then run in the new slabs.
#[test]
fn programs_of_a_session_share_slabs() {
    let mut states = States::new();
    let group = states.group("weights", DType::F32);
    states.entry(group, "weights", [32, 32]);
    let weights: Vec<f32> = (0..32 * 32).map(|i| (i % 37) as f32 / 100.0 - 0.18).collect();
    let programs = [8, 64, 16].map(|rows| chain(&states, rows));
    let input = |program: &Program| -> Vec<f32> {
        (0..program.inputs[0].ty.shape.numel()).map(|i| (i % 23) as f32 / 23.0).collect()
    };
    let check = |device: &dyn Device| {
        let session = || {
            let mut session = device.session(&states).unwrap();
            session.write_group(group, Data::F32(&weights)).unwrap();
            session
        };
        let expected: Vec<HostData> = programs
            .iter()
            .map(|program| {
                let mut session = session();
                let id = session.load(program).unwrap();
                session.run(id, &[Data::F32(&input(program))]).unwrap();
                session.output(id, 0).unwrap()
            })
            .collect();
        let mut session = session();
        let mut loaded = Vec::new();
        for (i, program) in programs.iter().enumerate() {
            loaded.push(session.load(program).unwrap());
            let bytes = wgrad::program::session_bytes(&states, &programs[..=i]);
            assert_eq!(session.allocated_bytes(), bytes, "{}", device.info().name);
            // Run all loaded programs, the last one first, without waiting in between.
            for (id, program) in loaded.iter().zip(&programs).rev() {
                session.run(*id, &[Data::F32(&input(program))]).unwrap();
            }
            for (id, expected) in loaded.iter().zip(&expected) {
                assert_eq!(session.output(*id, 0).unwrap(), *expected, "{}", device.info().name);
            }
        }
    };
    assert!(programs.iter().all(|program| program.slab_bytes() > 0));
    check(&CpuDevice::with_options(wgrad::cpu::Options { poison: true, ..Default::default() }));
    for (index, _) in adapters("programs_of_a_session_share_slabs") {
        let options = wgrad::gpu::Options { poison: true, ..Default::default() };
        check(&GpuDevice::with_options(index, options).unwrap());
    }
}

/// `wgrad summary` prints the memory of intermediates and the effect of recomputation. If recomputation has no effect,
/// the output states this.
#[test]
fn summary_reports_intermediates_and_recomputation() {
    let dir = tempfile::tempdir().unwrap();
    let summary = |arguments: &str| wgrad(dir.path(), &format!("summary {arguments} --device cpu"));
    let json = last_json(&summary("digits --json"));
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert!(number(&json["slab_bytes"]) >= number(&json["live_bytes"]) && number(&json["live_bytes"]) > 0.0);
    assert!((1.0..=MAX_RATIO).contains(&number(&json["slab_ratio"])), "{json}");
    assert!(json["recompute"].is_null());
    let json = last_json(&summary("digits --json --set train.recompute=true"));
    let effect = &json["recompute"];
    assert!(number(&effect["slab_bytes"]) < number(&effect["slab_bytes_without"]), "{effect}");
    assert!(number(&effect["flops_per_step"]) > number(&effect["flops_per_step_without"]), "{effect}");
    let text = |arguments: &str| String::from_utf8(summary(arguments).stdout).unwrap();
    let no_effect = "train.recompute has no effect";
    assert!(text("digits-mlp --set train.recompute=true").contains(no_effect));
    assert!(!text("digits --set train.recompute=true").contains(no_effect));
    assert!(!text("digits-mlp").contains(no_effect));
}
