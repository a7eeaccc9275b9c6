//! Checks of the table that hold for every operation. `wgrad-conformance` checks values and gradients on every backend.

use std::collections::HashSet;

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Expr, Graph, Layout, Lowered, Shape, States, TensorType, Var, View, grad};
use wgrad_ops::{GradientOrder, TensorOps, graph, ops};

const SEEDS: u64 = 50;

#[test]
fn names_are_unique_and_every_op_is_documented() {
    let mut names = HashSet::new();
    for op in ops() {
        assert!(names.insert(op.name), "{} appears twice", op.name);
        assert!(
            op.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
            "{}",
            op.name
        );
        assert!(op.doc.len() > 3 && op.doc.ends_with('.'), "{}: {:?}", op.name, op.doc);
        assert!((0.0..=5e-3).contains(&op.tolerance), "{}: {}", op.name, op.tolerance);
    }
    assert!(names.len() > 80, "{}", names.len());
}

#[test]
fn samples_build_and_are_reproducible() {
    for op in ops() {
        for seed in 0..SEEDS {
            let record = || {
                let mut random = Stream::new(seed, 1);
                let sample = (op.sample)(&mut random);
                let graph = graph(States::new());
                sample.record(&graph);
                let values: Vec<_> = sample.inputs.iter().map(|input| input.draw(&mut random)).collect();
                graph.finish().unwrap_or_else(|error| panic!("{} seed {seed}: {error}", op.name));
                format!("{graph:?}{values:?}")
            };
            assert_eq!(record(), record(), "{} seed {seed}", op.name);
        }
    }
}

#[test]
fn samples_differ_between_seeds() {
    for op in ops().filter(|op| !op.name.starts_with("full")) {
        let types = |seed| {
            let graph = graph(States::new());
            let (ins, out) = (op.sample)(&mut Stream::new(seed, 1)).record(&graph);
            format!("{ins:?} {out:?}")
        };
        let different: HashSet<String> = (0..SEEDS).map(types).collect();
        assert!(different.len() > 5, "{} has only {} different samples", op.name, different.len());
    }
    let mut views = HashSet::new();
    let add = ops().find(|op| op.name == "add").expect("`add` is in the table");
    for seed in 0..SEEDS {
        let graph = graph(States::new());
        (add.sample)(&mut Stream::new(seed, 1)).record(&graph);
        views.extend(graph.nodes().iter().map(|node| node.op.name()));
    }
    assert!(["broadcast_to", "permute", "slice"].iter().all(|view| views.contains(view)), "{views:?}");
}

#[test]
fn gradients_build_up_to_the_declared_order() {
    for op in ops() {
        for seed in 0..SEEDS {
            let mut sample = (op.sample)(&mut Stream::new(seed, 1));
            let graph = graph(States::new());
            let (ins, out) = sample.record(&graph);
            let inputs = sample.inputs.drain(..).zip(&ins);
            let wrt: Vec<Var<'_>> =
                inputs.filter(|(input, _)| input.is_differentiable()).map(|(_, &v)| v).collect();
            let order = match op.gradient_order {
                GradientOrder::Zero => 0,
                GradientOrder::First => 1,
                GradientOrder::Any => 2,
            };
            assert!(
                order == 0 || (!wrt.is_empty() && out.ty().dtype == DType::F32),
                "{}: nothing to differentiate",
                op.name
            );
            let mut y = out;
            for n in 1..=order {
                let gradients = grad(y.sum_all(), &wrt);
                let gradients =
                    gradients.unwrap_or_else(|error| panic!("{} seed {seed} order {n}: {error}", op.name));
                for (gradient, x) in gradients.iter().zip(&wrt) {
                    assert_eq!(gradient.ty(), x.ty(), "{} seed {seed} order {n}", op.name);
                }
                y = gradients
                    .iter()
                    .map(|gradient| gradient.sum_all())
                    .reduce(|sum, x| sum + x)
                    .expect("there is at least one gradient");
            }
            assert_well_typed(&graph, op.name);
        }
    }
}

/// Checks what backends rely on: inputs of a map have the shape of the output, arguments have the types that the
/// function takes, and views have the inferred shape.
fn assert_well_typed(graph: &Graph, name: &str) {
    for node in graph.nodes().iter() {
        let types: Vec<TensorType> = node.ins.iter().map(|&id| graph.var(id).ty()).collect();
        match node.op.lower(&types, &node.ty) {
            Lowered::Map(expr) => {
                assert!(
                    types.iter().all(|ty| ty.shape == node.ty.shape),
                    "{name}: {node:?} of {types:?}",
                    node = node.op
                );
                assert_eq!(is_u32(&expr, &types), node.ty.dtype == DType::U32, "{name}: {:?}", node.op);
            }
            Lowered::View(view) => {
                let layout = Layout::contiguous(&types[0].shape)
                    .apply(&view)
                    .expect("a contiguous tensor supports every view");
                assert_eq!(layout.shape[..], node.ty.shape[..], "{name}: {view:?}");
                assert_eq!(types[0].dtype, node.ty.dtype, "{name}: {view:?}");
            }
            Lowered::Reduce { views, axes, .. } => {
                assert!(axes.is_sorted() && !axes.is_empty(), "{name}: {axes:?}");
                assert_eq!(viewed_shape(&types[0].shape, &views).reduced(&axes), node.ty.shape, "{name}");
            }
            Lowered::Contract(contract) => {
                let (a, b) =
                    (viewed_shape(&types[0].shape, &contract.a), viewed_shape(&types[1].shape, &contract.b));
                let (batch, first) = (contract.batch, contract.batch + contract.rows);
                let last = b.len() - contract.columns;
                assert_eq!(a[..batch], b[..batch], "{name}: batch of {contract:?}");
                assert_eq!(a[first..], b[batch..last], "{name}: depth of {contract:?}");
                let domain = [&a[..first], &b[last..]].concat();
                let stored: Vec<usize> = contract.order.iter().map(|&dim| domain[dim]).collect();
                assert_eq!(
                    viewed_shape(&stored.into(), &contract.out),
                    node.ty.shape,
                    "{name}: {contract:?}"
                );
            }
            Lowered::Leaf(_) | Lowered::Gather | Lowered::Pack { .. } | Lowered::HostCallback { .. } => {}
        }
    }
}

/// Returns the shape after a chain of views.
fn viewed_shape(shape: &Shape, views: &[View]) -> Shape {
    views.iter().fold(shape.clone(), |shape, view| view.shape(&shape))
}

/// Whether an expression is u32.
fn is_u32(expr: &Expr, ins: &[TensorType]) -> bool {
    match expr {
        Expr::Input(i) => ins[*i].dtype == DType::U32,
        Expr::Float(_) => false,
        Expr::U32(_) | Expr::Iota(_) => true,
        Expr::Call(function, args) => {
            assert_eq!(function.f32.arity(), args.len(), "{function:?}");
            for arg in args {
                assert_eq!(is_u32(arg, ins), function.f32.takes_u32(), "{function:?} of {arg:?}");
            }
            function.f32.returns_u32()
        }
    }
}

#[test]
fn error_inputs_produce_the_operation_the_types_and_the_rule() {
    for op in ops() {
        let error_inputs = (op.error_inputs)();
        assert!(!error_inputs.is_empty() || op.name == "stop_gradient", "{} has no error inputs", op.name);
        for (i, case) in error_inputs.iter().enumerate() {
            let graph = graph(States::new());
            let input = |(i, ty): (usize, &TensorType)| graph.input(&format!("x{i}"), ty.clone());
            let ins: Vec<Var<'_>> = case.inputs.iter().enumerate().map(input).collect();
            let out = (case.build)(&graph, &ins);
            assert!(out.is_poisoned(), "{} accepts error input {i}: {:?}", op.name, case.inputs);
            let message = graph.finish().expect_err("a poisoned value has an error").to_string();
            assert!(message.contains(case.message), "{} input {i}: {message}", op.name);
            let types: Vec<String> = case.inputs.iter().map(ToString::to_string).collect();
            let named = types.iter().any(|ty| message.contains(ty.as_str())) || types.is_empty();
            assert!(named && message.contains("crates/ops/src/"), "{} input {i}: {message}", op.name);
            // Operations on a poisoned value neither panic nor replace the first error.
            let _ = out
                .softmax(3)
                .matmul(out)
                .slice(2, 5..6)
                .cross_entropy(out)
                .sum(&[7])
                .layer_norm(1.0)
                .flatten(9);
            assert_eq!(graph.finish().expect_err("the first error is kept").to_string(), message);
        }
    }
}

/// Expected start of the message, and an invalid call.
type InvalidCall = (&'static str, for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>);

/// Invalid calls on `x`, f32[2, 3], and `i`, u32[5].
const INVALID_CALLS: &[InvalidCall] = &[
    ("add(f32[2, 3], u32[5])", |x, i| x + i),
    ("mul(u32[5], f32[])", |_, i| i * 2.0),
    ("relu(u32[5])", |_, i| i.relu()),
    ("powf(u32[5])", |_, i| i.powf(3.0)),
    ("lt(u32[5], f32[2, 3])", |x, i| i.lt(x)),
    ("gt(u32[5], f32[2, 3])", |x, i| i.gt(x)),
    ("select(u32[5], f32[2, 3], f32[2, 3])", |x, i| i.select(x, x)),
    ("cast(u32[5])", |_, i| i.cast(DType::F16)),
    ("sum(f32[2, 3])", |x, _| x.sum(&[2])),
    ("sum(f32[2, 3])", |x, _| x.mean(&[2])),
    ("sum(f32[2, 3])", |x, _| x.variance(&[2])),
    ("max(f32[2, 3])", |x, _| x.logsumexp(&[2])),
    ("sum(u32[5])", |_, i| i.mean_all()),
    ("matmul(f32[2, 3], f32[2, 3])", |x, _| x.matmul(x)),
    ("reshape(f32[2, 3])", |x, _| x.reshape([7])),
    ("flatten(f32[2, 3])", |x, _| x.flatten(2)),
    ("permute(f32[2, 3])", |x, _| x.permute(&[1])),
    ("t(u32[5])", |_, i| i.t()),
    ("broadcast_to(f32[2, 3])", |x, _| x.broadcast_to([2])),
    ("slice(f32[2, 3])", |x, _| x.slice(1, 2..9)),
    ("pad(f32[2, 3])", |x, _| x.pad(2, 1, 1)),
    ("squeeze(f32[2, 3])", |x, _| x.squeeze(1)),
    ("unsqueeze(f32[2, 3])", |x, _| x.unsqueeze(3)),
    ("concat(f32[2, 3], u32[5])", |x, i| wgrad_ops::concat(x.graph(), &[x, i], 0)),
    ("stack(f32[2, 3], u32[5])", |x, i| wgrad_ops::stack(x.graph(), &[x, i], 0)),
    ("unsqueeze(f32[2, 3])", |x, _| wgrad_ops::stack(x.graph(), &[x, x], 3)),
    ("pack(f32[2, 3])", |x, _| wgrad_ops::pack(x.graph(), &[x], &[1], 6)),
    ("gather(f32[2, 3], f32[2, 3])", |x, _| x.gather(x)),
    ("scatter_add(f32[2, 3], u32[5], f32[2, 3])", |x, i| x.scatter_add(i, x)),
    ("one_hot(f32[2, 3])", |x, _| x.one_hot(3)),
    ("softmax(f32[2, 3])", |x, _| x.softmax(2)),
    ("max(u32[5])", |_, i| i.log_softmax(0)),
    ("cross_entropy(f32[2, 3], u32[5])", |x, i| x.cross_entropy(i)),
    ("mse(f32[2, 3], u32[5])", |x, i| x.mse(i)),
    ("layer_norm(f32[])", |x, _| x.sum_all().layer_norm(1e-5)),
    ("sum(u32[5])", |_, i| i.layer_norm(1e-5)),
    ("dropout(f32[2, 3], u32[5])", |x, i| x.dropout(0.5, i)),
    ("uniform(u32[5])", |_, i| wgrad_ops::uniform(i, 0, [2])),
    ("full()", |x, _| wgrad_ops::full(x.graph(), [0], 1.0)),
    ("iota()", |x, _| wgrad_ops::iota(x.graph(), [2], 1)),
];

#[test]
fn errors_name_the_line_of_the_call() {
    for (expected, call) in INVALID_CALLS {
        let graph = graph(States::new());
        let (x, i) = (graph.input("x", TensorType::f32([2, 3])), graph.input("i", TensorType::u32([5])));
        call(x, i);
        let message = graph.finish().expect_err(expected).to_string();
        assert!(message.starts_with(expected), "{message}\ndoes not start with {expected}");
        assert!(message.contains("called at crates/ops/tests/table.rs:"), "{message}");
    }
}

#[test]
fn identity_operations_record_no_node() {
    let graph = graph(States::new());
    let x = graph.input("x", TensorType::f32([2, 1, 3]));
    let same = [
        x.reshape([2, 1, 3]),
        x.broadcast_to([2, 1, 3]),
        x.permute(&[0, 1, 2]),
        x.slice(2, 0..3),
        x.pad(0, 0, 0),
        x.sum_keep(&[1]),
        x.sum(&[]),
        x.cast(DType::F32),
        x.powf(1.0),
    ];
    assert_eq!(graph.len(), 1, "{graph:?}");
    assert!(same.iter().all(|y| y.id() == x.id()));
}

/// A linear layer over a batch of sequences must be one product of two matrices, and so must its two gradients.
#[test]
fn a_matrix_shared_by_the_batch_is_one_product() {
    let graph = graph(States::new());
    let x = graph.input("x", TensorType::f32([4, 7, 3]));
    let w = graph.input("w", TensorType::f32([3, 5]));
    let y = x.matmul(w);
    assert_eq!(y.ty(), TensorType::f32([4, 7, 5]));
    grad(y.sum_all(), &[x, w]).expect("a product has a gradient");
    let products: Vec<String> = graph
        .nodes()
        .iter()
        .filter(|node| node.op.name() == "matmul")
        .map(|node| node.ty.to_string())
        .collect();
    assert_eq!(products, ["f32[28, 5]", "f32[28, 3]", "f32[3, 5]"]);
}

#[test]
fn two_dropouts_use_different_streams() {
    let graph = graph(States::new());
    let x = graph.input("x", TensorType::f32([2, 3]));
    let rng = graph.input("rng", TensorType::u32([3]));
    x.dropout(0.5, rng).dropout(0.5, rng);
    let nodes = graph.nodes();
    let streams: Vec<String> = nodes
        .iter()
        .filter(|node| node.op.name() == "uniform")
        .map(|node| format!("{:?}", node.op))
        .collect();
    assert_eq!(streams.len(), 2);
    assert_ne!(streams[0], streams[1]);
}
