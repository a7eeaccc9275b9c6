//! Tests of the plans of complete training steps: number of kernels, memory use and order of the kernels. The tests
//! need no device.

use wgrad_graph::{ALIGN, DType, EntryId, Lowered, Op, Rule, States, TensorType, Var, Vjp, grad};
use wgrad_nn::{
    Builder, Context, Mlp, MlpConfig, Module, Optimizer, ResNet, ResNetConfig, Sgd, Shortcut, Training,
};
use wgrad_ops::{TensorOps, full, graph, pack};
use wgrad_program::{Access, Buffer, Kernel, Options, Program, compile, share_slabs, slab_bytes};

/// The training step of a 64-128-128-10 MLP with AdamW, with the data set on the device.
fn mlp_step(options: Options) -> Program {
    let mut states = States::new();
    let mut builder = Builder::new();
    let model = Mlp::new(&mut builder, &MlpConfig { hidden: vec![128; 2], ..MlpConfig::default() }, 64, 10);
    let params = builder.finish(&mut states);
    let optimizer = Optimizer::default();
    let moments = optimizer.declare(&mut states, &params);
    let features = states.group("features", DType::F32);
    let features = states.entry(features, "features", [1437, 64]);
    let labels = states.group("labels", DType::U32);
    let labels = states.entry(labels, "labels", [1437]);

    let graph = graph(states);
    let indices = graph.input("indices", TensorType::u32([64]));
    let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
    let cx = Context::new(&graph, &params);
    let logits = model.forward(&cx, graph.entry(features).gather(indices));
    let y = graph.entry(labels).gather(indices);
    let loss = logits.cross_entropy(y).mean_all();
    graph.output("loss", loss);
    graph.output("accuracy", logits.argmax(1).eq(y).mean_all());
    let (vars, offsets): (Vec<_>, Vec<_>) = cx.all_params().into_iter().unzip();
    let grads = pack(&graph, &grad(loss, &vars).unwrap(), &offsets, graph.states().get(params.group()).len());
    optimizer.update(&graph, &moments, &params, grads, hyper);
    compile(&graph, options).unwrap()
}

fn names(program: &Program) -> String {
    program.dispatches.iter().map(|d| format!("{}\n", d.name)).collect()
}

#[test]
fn digits_mlp_step_has_at_most_twenty_dispatches() {
    let program = mlp_step(Options::default());
    assert!(program.dispatches.len() <= 20, "{}", names(&program));
    let products = program.dispatches.iter().filter(|d| matches!(d.kernel, Kernel::Gemm(_))).count();
    assert_eq!(
        products,
        8,
        "three layers forward, three weight gradients, two input gradients\n{}",
        names(&program)
    );
}

/// The mask of a ReLU's gradient is one comparison of the output, which is stored anyway.
#[test]
fn cheap_values_are_recomputed_instead_of_stored() {
    let program = mlp_step(Options::default());
    let forward = program.dispatches.iter().find(|d| d.name.contains("relu")).unwrap();
    let stored = forward.operands.iter().filter(|o| o.access != Access::Read).count();
    assert_eq!(stored, 1, "{}: {:?}", forward.name, forward.operands);
}

#[test]
fn optimizer_is_one_in_place_dispatch() {
    let program = mlp_step(Options::default());
    let updates: Vec<_> = program
        .dispatches
        .iter()
        .filter(|d| {
            d.operands.iter().any(|o| matches!(o.tensor.buffer, Buffer::State(_)) && o.access != Access::Read)
        })
        .collect();
    assert_eq!(updates.len(), 1, "{}", names(&program));
    let in_place = updates[0].operands.iter().filter(|o| o.access == Access::ReadWrite).count();
    assert_eq!(in_place, 3, "parameters and both moments: {:?}", updates[0].operands);
}

#[test]
fn dispatches_never_read_and_write_the_same_slab_and_operands_are_aligned() {
    let separate = [true, false].map(|fuse| mlp_step(Options { fuse, ..Options::default() }));
    let (mut first, mut second) = (mlp_step(Options::default()), resnet_step(false));
    let separate_bytes = first.slab_bytes() + second.slab_bytes();
    share_slabs(&mut [&mut first, &mut second], u64::MAX);
    let live = first.live_bytes.max(second.live_bytes);
    assert!((live..separate_bytes).contains(&slab_bytes([&first, &second])));
    for program in separate.into_iter().chain([first, second]) {
        for dispatch in &program.dispatches {
            let slabs = |access: Access| {
                let of = dispatch.operands.iter().filter(move |o| o.access == access);
                of.filter_map(|o| if let Buffer::Slab(i) = o.tensor.buffer { Some(i) } else { None })
            };
            assert!(slabs(Access::Write).all(|w| slabs(Access::Read).all(|r| r != w)), "{}", dispatch.name);
            assert!(
                dispatch.operands.iter().all(|o| o.tensor.offset.is_multiple_of(ALIGN)),
                "{}",
                dispatch.name
            );
            assert!(dispatch.operands.len() <= 8);
            for operand in &dispatch.operands {
                let end = operand.tensor.offset + operand.tensor.bytes();
                assert!(end <= program.buffer_bytes(operand.tensor.buffer), "{}: {operand:?}", dispatch.name);
            }
        }
    }
}

#[test]
fn without_fusion_every_operation_has_its_own_kernel() {
    let (fused, plain) =
        (mlp_step(Options::default()), mlp_step(Options { fuse: false, ..Options::default() }));
    assert!(plain.dispatches.len() > 2 * fused.dispatches.len());
    assert!(plain.slabs.iter().sum::<usize>() >= fused.slabs.iter().sum::<usize>());
    let products = |p: &Program| -> u64 {
        p.dispatches.iter().filter(|d| matches!(d.kernel, Kernel::Gemm(_))).count() as u64
    };
    assert_eq!(products(&fused), products(&plain));
}

/// The new value of `a` overwrites the old value that the new value of `b` depends on, so one of them must wait.
#[test]
fn swapped_states_go_through_a_copy() {
    let mut states = States::new();
    let group = states.group("state", DType::F32);
    let a = states.entry(group, "a", [300]);
    let b = states.entry(group, "b", [300]);
    let graph = graph(states);
    let (x, y) = (graph.entry(a), graph.entry(b));
    graph.update_entry(a, y.sin());
    graph.update_entry(b, x.cos());
    let program = compile(&graph, Options::default()).unwrap();
    let mut overwritten: Vec<usize> = Vec::new();
    for dispatch in &program.dispatches {
        for operand in &dispatch.operands {
            let Buffer::State(_) = operand.tensor.buffer else { continue };
            if operand.access != Access::Write {
                assert!(!overwritten.contains(&operand.tensor.offset), "{} reads a new value", dispatch.name);
            }
        }
        let states = dispatch.operands.iter().filter(|o| matches!(o.tensor.buffer, Buffer::State(_)));
        overwritten.extend(states.filter(|o| o.access != Access::Read).map(|o| o.tensor.offset));
    }
    assert_eq!(overwritten.len(), 2);
}

#[test]
fn graph_error_names_operation_shapes_rule_and_location() {
    let graph = graph(States::new());
    let x = graph.input("x", TensorType::f32([32, 64]));
    let y = graph.input("y", TensorType::f32([128, 10]));
    let product = graph.scope("head", || x.matmul(y));
    graph.output("z", product.relu() + full(&graph, [3], 1.0));
    let error = compile(&graph, Options::default()).unwrap_err().to_string();
    for part in ["matmul", "f32[32, 64]", "f32[128, 10]", "64", "128", "tests/plan.rs", "head"] {
        assert!(error.contains(part), "`{part}` is missing from the message: {error}");
    }
}

/// The training step of a residual network of depth 8 on 16 images of 3×16×16, with all parameters trained or with
/// the parameters of the stem and the first stage frozen.
fn resnet_step(frozen: bool) -> Program {
    let config = ResNetConfig::cifar(8).unwrap();
    let config = ResNetConfig { shortcut: Shortcut::Projection, ..config };
    let mut states = States::new();
    let mut builder = Builder::new();
    let model = ResNet::new(&mut builder, config, 3, 10);
    let early = |name: &str| ["conv1.", "bn1.", "layer1."].iter().any(|part| name.starts_with(part));
    let params = builder.finish_with(&mut states, |name| match frozen && early(name) {
        true => Training::Frozen,
        false => Training::Rate(1.0),
    });
    let optimizer = Optimizer::Sgd(Sgd { weight_decay: 1e-4, ..Sgd::default() });
    let moments = optimizer.declare(&mut states, &params);
    let graph = graph(states);
    let x = graph.input("images", TensorType::f32([16, 3, 16, 16]));
    let y = graph.input("labels", TensorType::u32([16]));
    let rng = graph.input("rng", TensorType::u32([3]));
    let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
    let cx = Context::new(&graph, &params).training(rng);
    let loss = model.forward(&cx, x).cross_entropy(y).mean_all();
    graph.output("loss", loss);
    let (vars, offsets): (Vec<_>, Vec<_>) = cx.all_params().into_iter().unzip();
    let grads = pack(&graph, &grad(loss, &vars).unwrap(), &offsets, graph.states().get(params.group()).len());
    optimizer.update(&graph, &moments, &params, grads, hyper);
    compile(&graph, Options::default()).unwrap()
}

fn products(program: &Program) -> usize {
    program.dispatches.iter().filter(|d| matches!(d.kernel, Kernel::Gemm(_))).count()
}

/// Convolutions read images in the layout in which other kernels store them, and write weight gradients directly to the
/// pack.
#[test]
fn convolutional_step_needs_no_copies() {
    let program = resnet_step(false);
    // Only the gradients of strided shortcuts need copies, which insert zeros between rows and columns.
    let copies = program.dispatches.iter().filter(|d| d.name.contains("copy"));
    assert!(copies.clone().all(|d| d.name.contains("downsample.0")), "{}", names(&program));
    assert_eq!(copies.count(), 2, "{}", names(&program));
    // Nine convolutions and a linear layer with two gradients each, except the gradient of the images.
    assert_eq!(products(&program), 3 * 10 - 1, "{}", names(&program));
}

/// Replies of the host are read after the request was sent, and requests are sent in the order of recording, with and
/// without fusion.
#[test]
fn host_replies_are_read_after_their_requests() {
    let mut states = States::new();
    let mut builder = Builder::new();
    let config = ResNetConfig { shortcut: Shortcut::Projection, ..ResNetConfig::cifar(8).unwrap() };
    let model = ResNet::new(&mut builder, config, 3, 10);
    let params = builder.finish(&mut states);
    let exchange = params.declare_replica_sync(&mut states, 2, 5).unwrap();
    let graph = graph(states);
    let x = graph.input("images", TensorType::f32([2, 3, 16, 16]));
    let y = graph.input("labels", TensorType::u32([2]));
    let rng = graph.input("rng", TensorType::u32([3]));
    let cx = Context::new(&graph, &params).training(rng).with_replica_sync(Some(exchange));
    let loss = model.forward(&cx, x).cross_entropy(y).mean_all();
    let (vars, offsets): (Vec<_>, Vec<_>) = cx.all_params().into_iter().unzip();
    let flat = graph.states().get(params.group()).len();
    graph.update_group(params.group(), pack(&graph, &grad(loss, &vars).unwrap(), &offsets, flat));
    let exchanges = graph.nodes();
    let exchanges = exchanges.iter().filter(|node| node.op.name() == "all_reduce");
    let recorded: Vec<EntryId> = exchanges
        .map(|node| match node.op.lower(std::slice::from_ref(&node.ty), &node.ty) {
            Lowered::HostCallback { sent, .. } => sent,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(recorded.len(), 2 * (1 + 6 + 2), "each norm has a forward and a backward callback");
    for options in [Options::default(), Options { fuse: false, ..Options::default() }] {
        let program = compile(&graph, options).unwrap();
        let touches = |entry: EntryId, access: Access| {
            let program = &program;
            let start = program.states.get_entry(entry).offset * DType::F32.bytes();
            let of = move |o: &wgrad_program::Operand| {
                o.access == access
                    && o.tensor.buffer == Buffer::State(entry.group)
                    && o.tensor.offset == start
            };
            (0..program.dispatches.len()).filter(move |&i| program.dispatches[i].operands.iter().any(of))
        };
        let mut before = None;
        for &sent in &recorded {
            let writers: Vec<usize> = touches(sent, Access::Write).collect();
            let received = EntryId { group: exchange.received, ..sent };
            let first = touches(received, Access::Read).next().expect("a kernel must read the reply");
            assert_eq!(writers.len(), 1, "{sent:?}");
            assert!(writers[0] < first && before < Some(writers[0]), "{sent:?}\n{}", names(&program));
            before = Some(writers[0]);
        }
    }
}

#[derive(Debug)]
struct HostCallback(EntryId, EntryId);

impl Op for HostCallback {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Undefined("this test computes no gradients")
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::HostCallback { sent: self.0, received: self.1 }
    }
}

/// Requests are sent in the order of recording, even where the kernel of the first one also computes a later value.
#[test]
fn host_callbacks_keep_their_order() {
    let mut states = States::new();
    let sent = states.group("sent", DType::F32);
    // The sizes differ, so that the two values are not computed by one kernel.
    let entries = [64, 48].map(|size| states.entry(sent, size.to_string(), [size]));
    let received = states.group_like("received", sent);
    let graph = graph(states);
    let exchange = |x, i: usize| {
        let op = HostCallback(entries[i], EntryId { group: received, ..entries[i] });
        graph.push(op, &[x])
    };
    let early = graph.input("x", TensorType::f32([64])).tanh();
    let first = exchange(early, 0);
    let second = exchange(graph.input("y", TensorType::f32([48])).tanh(), 1);
    graph.output("late", early.tanh());
    graph.output("first", first.tanh());
    graph.output("second", second.tanh());
    let program = compile(&graph, Options::default()).unwrap();
    let [one, two] = [0..64, 64..112].map(|range| program.final_after(sent, &range));
    assert!(0 < one && one < two && two < program.dispatches.len(), "{}", names(&program));
}

/// Channels are the last dimension in memory: every convolution of the forward pass writes the channels contiguously.
#[test]
fn images_are_stored_channels_last() {
    let program = resnet_step(false);
    let forward = |d: &&wgrad_program::Dispatch| d.name.ends_with("conv2d");
    for dispatch in program.dispatches.iter().filter(forward) {
        let Kernel::Gemm(gemm) = &dispatch.kernel else {
            panic!("{} is not a matrix product", dispatch.name)
        };
        let store = &gemm.epilogue.stores[0].layout;
        assert!(
            store.is_contiguous() && gemm.n == [*store.shape.last().unwrap()],
            "{}: {store:?}",
            dispatch.name
        );
    }
}

/// Frozen layers have no weight gradients and no optimizer moments.
#[test]
fn frozen_layers_have_no_gradients_or_moments() {
    let (whole, part) = (resnet_step(false), resnet_step(true));
    let gradient =
        |d: &wgrad_program::Dispatch| d.name.contains("conv2d_weight") && d.name.contains("layer1");
    assert!(whole.dispatches.iter().any(gradient) && !part.dispatches.iter().any(gradient));
    // Three weight gradients, and the input gradients of the last two frozen convolutions and the first two trained
    // convolutions.
    assert_eq!(products(&whole) - products(&part), 3 + 2 + 2, "{}", names(&part));
    let bytes = |program: &Program, name: &str| {
        program.states.find(name).map_or(0, |id| program.states.get(id).bytes())
    };
    assert_eq!(bytes(&whole, "momentum"), bytes(&whole, "parameters"));
    assert_eq!(bytes(&part, "momentum"), bytes(&part, "parameters"));
    assert_eq!(bytes(&part, "parameters") + bytes(&part, "frozen"), bytes(&whole, "parameters"));
    assert!(part.bytes_without_state() < whole.bytes_without_state());
}

/// `d + c` and its ReLU are both cheap to recompute, but the broadcast of `c` cannot be read through the reshape.
#[test]
fn values_are_not_inlined_through_views_that_need_a_copy() {
    let graph = graph(States::new());
    let x = graph.input("x", TensorType::f32([64, 48]));
    let c = graph.input("c", TensorType::f32([1, 48]));
    let d = x.tanh();
    graph.output("d", d);
    let y = (d + c.broadcast_to([64, 48])).relu();
    graph.output("flat", y.reshape([64 * 48]).exp());
    let program = compile(&graph, Options::default()).unwrap();
    let reads_c = |dispatch: &&wgrad_program::Dispatch| {
        dispatch.operands.iter().any(|operand| operand.tensor == program.inputs[1].tensor)
    };
    assert!(program.dispatches.iter().any(|dispatch| reads_c(&dispatch)), "{}", names(&program));
}
