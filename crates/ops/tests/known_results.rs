//! Known results of structured and composed operations, checked with the f64 reference.
//!
//! `wgrad-conformance` compares backends with the reference, and gradients with finite differences. Both comparisons
//! use the formulas of the table, so they cannot detect a wrong formula. The expected values here are computed by hand,
//! with NumPy or with PyTorch.

use wgrad_cpu::reference::{Array, State, evaluate};
use wgrad_graph::{DType, Graph, States, TensorType, Var, grad};
use wgrad_ops::{TensorOps, concat, full_u32, graph, iota, normal, pack, stack, uniform};

fn f32s(shape: &[usize], values: &[f64]) -> Array {
    Array::float(TensorType::f32(shape), values.to_vec())
}

fn u32s(shape: &[usize], values: &[u32]) -> Array {
    Array::u32(shape, values.to_vec())
}

/// Evaluates the graph that `build` records on the inputs. Returns the type and elements of the result.
fn evaluated(
    inputs: &[Array],
    build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g>,
) -> (TensorType, Vec<f64>) {
    let graph = graph(States::new());
    let ins: Vec<Var<'_>> = inputs.iter().map(|array| graph.input("x", array.ty.clone())).collect();
    let out = build(&graph, &ins);
    graph.finish().unwrap_or_else(|error| panic!("{error}"));
    let results = evaluate(&graph, inputs, &State::zeros(graph.states()), &[out.id()]);
    let result = results.unwrap_or_else(|error| panic!("{error}")).remove(0);
    (result.ty.clone(), result.to_f64())
}

#[track_caller]
fn assert_close((ty, values): (TensorType, Vec<f64>), shape: &[usize], expected: &[f64]) {
    assert_eq!(ty.shape[..], *shape);
    let close =
        |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan() || (a - b).abs() < 1e-9 * (1.0 + b.abs());
    assert!(
        values.len() == expected.len() && values.iter().zip(expected).all(close),
        "{values:?} instead of {expected:?}"
    );
}

/// `[[1, 2, 3], [4, 5, 6]]`
fn x() -> Array {
    f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
}

#[test]
fn views_have_known_results() {
    let on_x = |build: for<'g> fn(Var<'g>) -> Var<'g>| evaluated(&[x()], move |_, v| build(v[0]));
    assert_close(on_x(|x| x.t()), &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_close(on_x(|x| x.slice_step(1, 0..3, 2)), &[2, 2], &[1.0, 3.0, 4.0, 6.0]);
    assert_close(on_x(|x| x.slice(0, 1..2).pad(1, 1, 0)), &[1, 4], &[0.0, 4.0, 5.0, 6.0]);
    assert_close(on_x(|x| x.slice(1, 1..2).squeeze(1).unsqueeze(0)), &[1, 2], &[2.0, 5.0]);
    assert_close(
        on_x(|x| x.slice(1, 0..1).broadcast_to([2, 2, 2])),
        &[2, 2, 2],
        &[1.0, 1.0, 4.0, 4.0, 1.0, 1.0, 4.0, 4.0],
    );
    assert_close(on_x(|x| x.flatten(0)), &[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_close(
        on_x(|x| concat(x.graph(), &[x.slice(1, 2..3), x.slice(1, 0..2)], 1)),
        &[2, 3],
        &[3.0, 1.0, 2.0, 6.0, 4.0, 5.0],
    );
    assert_close(
        on_x(|x| stack(x.graph(), &[x, -x], 1)),
        &[2, 2, 3],
        &[1.0, 2.0, 3.0, -1.0, -2.0, -3.0, 4.0, 5.0, 6.0, -4.0, -5.0, -6.0],
    );
    assert_close(
        on_x(|x| pack(x.graph(), &[x, x.sum_all()], &[0, 64], 66)),
        &[66],
        &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..], &[0.0; 58], &[21.0, 0.0]].concat(),
    );
}

#[test]
fn reductions_have_known_results() {
    let on_x = |build: for<'g> fn(Var<'g>) -> Var<'g>| evaluated(&[x()], move |_, v| build(v[0]));
    assert_close(on_x(|x| x.sum(&[0])), &[3], &[5.0, 7.0, 9.0]);
    assert_close(on_x(|x| x.mean_keep(&[1])), &[2, 1], &[2.0, 5.0]);
    assert_close(on_x(|x| x.mean_all()), &[], &[3.5]);
    assert_close(on_x(|x| x.max(&[1, 0])), &[], &[6.0]);
    assert_close(on_x(|x| x.min(&[1])), &[2], &[1.0, 4.0]);
    assert_close(on_x(|x| x.variance(&[1])), &[2], &[2.0 / 3.0, 2.0 / 3.0]);
    assert_close(on_x(|x| x.argmax(1)), &[2], &[2.0, 2.0]);
    assert_close(on_x(|x| (x - x).argmax(1)), &[2], &[0.0, 0.0]);
    assert_close(on_x(|x| x.logsumexp(&[1])), &[2], &[3.407_605_964_444_380_4, 6.407_605_964_444_381]);
    // Far outside the range of exp.
    assert_close(on_x(|x| (x * 1000.0).logsumexp(&[1])), &[2], &[3000.0, 6000.0]);
}

#[test]
fn products_and_gathers_have_known_results() {
    let y = f32s(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 2.0, 2.0]);
    assert_close(evaluated(&[x(), y], |_, v| v[0].matmul(v[1])), &[2, 2], &[7.0, 8.0, 16.0, 17.0]);
    let batch = f32s(&[2, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
    assert_close(
        evaluated(&[batch, x()], |_, v| v[0].matmul(v[1])),
        &[2, 1, 3],
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    );
    let index = || u32s(&[3], &[1, 0, 1]);
    let rows = [4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    assert_close(evaluated(&[x(), index()], |_, v| v[0].gather(v[1])), &[3, 3], &rows);
    let added = [2.0, 4.0, 6.0, 12.0, 15.0, 18.0];
    assert_close(
        evaluated(&[x(), index()], |_, v| v[0].scatter_add(v[1], v[0].gather(v[1]))),
        &[2, 3],
        &added,
    );
    assert_close(
        evaluated(&[u32s(&[3], &[2, 0, 5])], |_, v| v[0].one_hot(3)),
        &[3, 3],
        &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    );
    assert_close(evaluated(&[], |g, _| iota(g, [2, 3], 1)), &[2, 3], &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    assert_close(evaluated(&[index()], |g, v| v[0].gt(full_u32(g, [], 0))), &[3], &[1.0, 0.0, 1.0]);
    assert_close(evaluated(&[index()], |g, v| v[0].ge(full_u32(g, [], 1))), &[3], &[1.0, 0.0, 1.0]);
    assert_close(evaluated(&[x()], |_, v| (v[0] * -0.7).cast(DType::U32)), &[2, 3], &[0.0; 6]);
}

#[test]
fn softmax_and_losses_have_known_results() {
    let logits = || f32s(&[2, 3], &[1.0, 2.0, 3.0, 1000.0, 1000.0, 0.0]);
    let p = [0.090_030_573_170_380_46, 0.244_728_471_054_797_64, 0.665_240_955_774_821_9];
    assert_close(evaluated(&[logits()], |_, v| v[0].softmax(1)), &[2, 3], &[p[0], p[1], p[2], 0.5, 0.5, 0.0]);
    let ln2 = std::f64::consts::LN_2;
    let log = [p[0].ln(), p[1].ln(), p[2].ln(), -ln2, -ln2, -1000.0 - ln2];
    assert_close(evaluated(&[logits()], |_, v| v[0].log_softmax(1)), &[2, 3], &log);
    assert_close(
        evaluated(&[logits()], |_, v| v[0].t().softmax(0).t()),
        &[2, 3],
        &[p[0], p[1], p[2], 0.5, 0.5, 0.0],
    );

    let labels = || u32s(&[2], &[2, 0]);
    assert_close(evaluated(&[logits(), labels()], |_, v| v[0].cross_entropy(v[1])), &[2], &[-p[2].ln(), ln2]);
    let smooth = evaluated(&[logits(), labels()], |_, v| {
        v[0].slice(0, 0..1).cross_entropy_smooth(v[1].slice(0, 0..1), 0.3)
    });
    assert_close(smooth, &[1], &[-(0.8 * p[2].ln() + 0.1 * p[1].ln() + 0.1 * p[0].ln())]);
    let out_of_range = evaluated(&[logits(), u32s(&[2], &[3, 0])], |_, v| v[0].cross_entropy(v[1]));
    assert_close(out_of_range, &[2], &[f64::INFINITY, ln2]);

    let target = || f32s(&[2, 3], &[1.0, 0.0, 0.0, 4.0, 5.0, 0.0]);
    assert_close(evaluated(&[x(), target()], |_, v| v[0].mse(v[1])), &[2], &[13.0 / 3.0, 12.0]);
    let bce =
        |x: f64, t: f64| evaluated(&[f32s(&[1], &[x]), f32s(&[1], &[t])], |_, v| v[0].bce_with_logits(v[1]));
    assert_close(bce(0.0, 1.0), &[1], &[ln2]);
    assert_close(bce(2.0, 0.25), &[1], &[1.626_928_011_042_972_5]);
    assert_close(bce(1000.0, 0.0), &[1], &[1000.0]);
}

#[test]
fn normalizations_have_known_results() {
    let root = 1.224_744_871_391_589; // √1.5
    let normal = [-root, 0.0, root, -root, 0.0, root];
    assert_close(evaluated(&[x()], |_, v| v[0].layer_norm(0.0)), &[2, 3], &normal);
    let rms = evaluated(&[f32s(&[1, 2], &[3.0, 4.0])], |_, v| v[0].rms_norm(0.5));
    assert_close(rms, &[1, 2], &[3.0 / 13f64.sqrt(), 4.0 / 13f64.sqrt()]);
}

#[test]
fn cross_entropy_gradient_is_finite_for_large_logits() {
    let graph = graph(States::new());
    let logits = graph.input("logits", TensorType::f32([1, 3]));
    let labels = graph.input("labels", TensorType::u32([1]));
    let gradient =
        grad(logits.cross_entropy(labels).mean_all(), &[logits]).expect("a loss has a gradient")[0];
    let inputs = [f32s(&[1, 3], &[0.0, 0.0, 2000.0]), u32s(&[1], &[1])];
    let result = evaluate(&graph, &inputs, &State::zeros(graph.states()), &[gradient.id()])
        .expect("the graph evaluates");
    assert_eq!(result[0].to_f64(), [0.0, -1.0, 1.0]);
}

#[test]
fn equal_elements_share_the_gradient() {
    let tied = |build: for<'g> fn(Var<'g>) -> Var<'g>| {
        evaluated(&[f32s(&[4], &[1.0, 3.0, 3.0, 0.0])], move |_, v| {
            grad(build(v[0]), &[v[0]]).expect("a maximum has a gradient")[0]
        })
    };
    assert_close(tied(|x| x.max(&[0])), &[4], &[0.0, 0.5, 0.5, 0.0]);
    assert_close(tied(|x| x.slice(0, 1..3).min(&[0])), &[4], &[0.0, 0.5, 0.5, 0.0]);
    assert_close(tied(|x| x.maximum(x.slice(0, 1..2)).sum_all()), &[4], &[0.0, 3.5, 0.5, 0.0]);
}

#[test]
fn gradient_of_a_cast_to_f16_ignores_rounding() {
    let gradient = evaluated(&[x()], |_, v| {
        let y = v[0].cast(DType::F16).cast(DType::F32).square().sum_all();
        grad(y, &[v[0]]).expect("a cast of floats has a gradient")[0]
    });
    assert_close(gradient, &[2, 3], &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
}

#[test]
fn random_values_depend_on_seed_stream_step_and_index() {
    let rng = |low, step| u32s(&[3], &[low, 9, step]);
    let draw = |rng: Array, stream: u32| evaluated(&[rng], move |_, v| uniform(v[0], stream, [100])).1;
    let first = draw(rng(1, 5), 0);
    assert_eq!(first, draw(rng(1, 5), 0));
    assert!([draw(rng(2, 5), 0), draw(rng(1, 6), 0), draw(rng(1, 5), 1)].iter().all(|other| *other != first));
    assert!(first.iter().all(|x| (0.0..1.0).contains(x)));
    // The values depend on the row-major index, not on the shape.
    assert_eq!(evaluated(&[rng(1, 5)], |_, v| uniform(v[0], 0, [2, 5, 10])).1, first);
    assert_ne!(evaluated(&[rng(1, 5)], |_, v| normal(v[0], 0, [100])).1, first);

    let ones = f32s(&[4000], &[1.0; 4000]);
    let kept = evaluated(&[ones, rng(1, 5)], |_, v| v[0].dropout(0.25, v[1])).1;
    assert!(kept.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-12));
    let rate = kept.iter().filter(|&&x| x == 0.0).count() as f64 / 4000.0;
    assert!((rate - 0.25).abs() < 0.03, "{rate}");
}

#[test]
fn dropout_rows_equals_dropout_of_the_whole_batch() {
    let drop = |rows: usize, first: usize| {
        let (ones, rng) = (f32s(&[rows, 5], &vec![1.0; rows * 5]), u32s(&[3], &[1, 9, 5]));
        evaluated(&[ones, rng], |_, v| v[0].dropout_rows(0.25, v[1], first).dropout_rows(0.5, v[1], first)).1
    };
    let whole = drop(8, 0);
    assert!(whole.contains(&0.0) && whole.iter().any(|&x| x > 0.0));
    assert_eq!(drop(3, 2), whole[10..25]);
    assert_eq!(drop(1, 7), whole[35..]);
}
