//! The results of the reference compared with results computed by hand. There is one test for each kind of `Lowered`.

mod common;

use common::{ADD, MUL, TO_FLOAT};
use wgrad_cpu::reference::{Array, ReferenceError, State, Values, evaluate, step};
use wgrad_graph::*;

/// An operation with the given lowering and output type.
#[derive(Debug)]
struct LoweredOp(Lowered, TensorType);

impl Op for LoweredOp {
    fn name(&self) -> &'static str {
        "lowered"
    }
    fn infer(&self, _: &[TensorType]) -> Result<TensorType, Rule> {
        Ok(self.1.clone())
    }
    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Undefined("this test computes no gradients")
    }
    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        self.0.clone()
    }
}

fn add<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
    let expr = Expr::Call(&ADD, vec![Expr::Input(0), Expr::Input(1)]);
    a.graph().push(LoweredOp(Lowered::Map(expr), a.ty()), &[a, b])
}

static ARITHMETIC: Arithmetic = Arithmetic {
    add,
    sub: add,
    mul: add,
    div: add,
    neg: |a| a,
    full: |graph, shape, x| {
        graph.push(LoweredOp(Lowered::Map(Expr::Float(x)), TensorType::f32(shape.clone())), &[])
    },
};

/// Evaluates an operation with this lowering and output type on the arrays `ins`.
fn try_evaluate(lowered: Lowered, out: TensorType, ins: &[Array]) -> Result<Array, ReferenceError> {
    let graph = Graph::new(&ARITHMETIC, States::new());
    let vars: Vec<Var<'_>> = ins.iter().map(|array| graph.input("x", array.ty.clone())).collect();
    let result = graph.push(LoweredOp(lowered, out), &vars);
    let state = State::zeros(graph.states());
    Ok(evaluate(&graph, ins, &state, &[result.id()])?.remove(0))
}

fn evaluate_lowered(lowered: Lowered, out: TensorType, ins: &[Array]) -> Vec<f64> {
    try_evaluate(lowered, out, ins).expect("the lowering matches its inputs").to_f64()
}

fn floats(shape: &[usize], values: &[f64]) -> Array {
    Array::float(TensorType::f32(shape), values.to_vec())
}

fn counting(shape: &[usize]) -> Array {
    floats(shape, &(0..shape.iter().product::<usize>()).map(|i| i as f64).collect::<Vec<_>>())
}

#[test]
fn views_move_elements() {
    let x = counting(&[2, 3]);
    let view = |view, shape: &[usize]| {
        evaluate_lowered(Lowered::View(view), TensorType::f32(shape), std::slice::from_ref(&x))
    };
    assert_eq!(view(View::Reshape(vec![3, 2]), &[3, 2]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(view(View::Permute(vec![1, 0]), &[3, 2]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let slice = View::Slice { start: vec![1, 0], end: vec![2, 3], step: vec![1, 2] };
    assert_eq!(view(slice, &[1, 2]), [3.0, 5.0]);
    let pad = View::Pad { before: vec![1, 0], after: vec![0, 1] };
    assert_eq!(view(pad, &[3, 4]), [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 0.0]);
    let row = floats(&[1, 2], &[7.0, 8.0]);
    let wide =
        evaluate_lowered(Lowered::View(View::Broadcast(vec![2, 2, 2])), TensorType::f32([2, 2, 2]), &[row]);
    assert_eq!(wide, [7.0, 8.0, 7.0, 8.0, 7.0, 8.0, 7.0, 8.0]);
}

#[test]
fn permutation_of_three_axes_is_not_its_inverse() {
    let permuted = evaluate_lowered(
        Lowered::View(View::Permute(vec![1, 2, 0])),
        TensorType::f32([3, 1, 2]),
        &[counting(&[2, 3, 1])],
    );
    assert_eq!(permuted, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn maps_apply_functions_to_every_element() {
    let index = Expr::Call(&TO_FLOAT, vec![Expr::Iota(vec![2, 1])]);
    let expr = Expr::Call(&ADD, vec![Expr::Call(&MUL, vec![Expr::Input(0), Expr::Float(10.0)]), index]);
    let found = evaluate_lowered(Lowered::Map(expr), TensorType::f32([2, 2]), &[counting(&[2, 2])]);
    assert_eq!(found, [0.0, 10.125, 20.25, 30.375]);
}

#[test]
fn f16_results_are_rounded() {
    let ty = TensorType::new(DType::F16, [2]);
    let found = evaluate_lowered(Lowered::Map(Expr::Input(0)), ty, &[floats(&[2], &[0.1, 70_000.0])]);
    assert_eq!(found, [0.099_975_585_937_5, f64::INFINITY]);
}

#[test]
fn reductions_propagate_nan_and_argmax_takes_the_first() {
    let nan = f64::NAN;
    let x = floats(&[2, 3], &[1.0, 5.0, 5.0, nan, 2.0, nan]);
    let reduce = |combine, axes: &[usize], shape: &[usize]| {
        let dtype = if combine == Combine::ArgMax { DType::U32 } else { DType::F32 };
        evaluate_lowered(
            Lowered::Reduce { views: Vec::new(), combine, axes: axes.to_vec() },
            TensorType::new(dtype, shape),
            std::slice::from_ref(&x),
        )
    };
    assert_eq!(reduce(Combine::Sum, &[1], &[2, 1])[0], 11.0);
    assert_eq!(reduce(Combine::Max, &[1], &[2, 1])[0], 5.0);
    assert!(
        reduce(Combine::Max, &[1], &[2, 1])[1].is_nan() && reduce(Combine::Min, &[1], &[2, 1])[1].is_nan()
    );
    assert_eq!(reduce(Combine::ArgMax, &[1], &[2, 1]), [1.0, 0.0]);
    assert_eq!(reduce(Combine::ArgMax, &[0], &[1, 3]), [1.0, 0.0, 1.0]);
    assert_eq!(reduce(Combine::ArgMax, &[0, 1], &[1, 1]), [3.0]);
    assert_eq!(reduce(Combine::Min, &[0], &[1, 3])[1], 2.0);
}

#[test]
fn products_are_batched() {
    let (a, b) = (counting(&[2, 1, 2]), counting(&[2, 2, 2]));
    assert_eq!(
        evaluate_lowered(Lowered::Contract(Contract::matmul(1)), TensorType::f32([2, 1, 2]), &[a, b]),
        [2.0, 3.0, 26.0, 31.0]
    );
}

#[test]
fn out_of_range_gathers_give_nan_or_zero() {
    let index = Array::u32([2], vec![1, 9]);
    let found =
        evaluate_lowered(Lowered::Gather, TensorType::f32([2, 2]), &[counting(&[2, 2]), index.clone()]);
    assert_eq!(found[..2], [2.0, 3.0]);
    assert!(found[2..].iter().all(|x| x.is_nan()));
    let integers = Array::u32([2, 1], vec![4, 6]);
    assert_eq!(evaluate_lowered(Lowered::Gather, TensorType::u32([2, 1]), &[integers, index]), [6.0, 0.0]);
}

#[test]
fn packs_place_tensors_at_their_offsets() {
    let offsets = vec![1, 4];
    let found = evaluate_lowered(
        Lowered::Pack { offsets },
        TensorType::f32([6]),
        &[floats(&[2], &[1.0, 2.0]), floats(&[1, 1], &[3.0])],
    );
    assert_eq!(found, [0.0, 1.0, 2.0, 0.0, 3.0, 0.0]);
}

#[test]
fn steps_read_the_old_state() {
    let mut states = States::new();
    let group = states.group("parameters", DType::F32);
    let (a, b) = (states.entry(group, "a", [2]), states.entry(group, "b", [2]));
    states.entry(group, "untouched", [1]);
    let graph = Graph::new(&ARITHMETIC, states.clone());
    let x = graph.input("x", TensorType::f32([2]));
    let (old_a, old_b) = (graph.entry(a), graph.entry(b));
    graph.update_entry(a, old_a + x);
    graph.update_entry(b, old_a + old_b);
    graph.output("a", old_a);
    graph.finish().expect("a valid graph");
    let mut state = State::zeros(&states);
    if let Values::Float(values) = &mut state.groups[0].values {
        values[128] = 9.0;
    }
    let input = [floats(&[2], &[1.0, 2.0])];
    assert_eq!(step(&graph, &input, &mut state).expect("a step")[0].to_f64(), [0.0, 0.0]);
    assert_eq!(step(&graph, &input, &mut state).expect("a step")[0].to_f64(), [1.0, 2.0]);
    let flat = state.groups[0].to_f64();
    assert_eq!((&flat[..2], &flat[64..66], flat[128]), ([2.0, 4.0].as_slice(), [1.0, 2.0].as_slice(), 9.0));
    let wrong = [floats(&[3], &[1.0, 2.0, 3.0])];
    let error = step(&graph, &wrong, &mut state).expect_err("a wrong input").to_string();
    assert_eq!(error, "input `x` must be f32[2]; found f32[3] with 3 values");
    assert_eq!(state.groups[0].to_f64(), flat, "a failed step must not change the state");
}

#[test]
fn mismatches_are_errors() {
    let fails = |lowered: Lowered, out: TensorType, ins: &[Array]| {
        assert!(matches!(try_evaluate(lowered, out, ins), Err(ReferenceError::Lowering { .. })));
    };
    fails(Lowered::View(View::Reshape(vec![4])), TensorType::f32([5]), &[counting(&[4])]);
    fails(
        Lowered::Contract(Contract::matmul(0)),
        TensorType::f32([2, 2]),
        &[counting(&[2, 3]), counting(&[2, 2])],
    );
    fails(Lowered::Pack { offsets: vec![3] }, TensorType::f32([4]), &[counting(&[2])]);
    fails(Lowered::Map(Expr::Input(1)), TensorType::f32([2]), &[counting(&[2])]);
    fails(Lowered::Map(Expr::U32(1)), TensorType::f32([2]), &[]);
    fails(Lowered::Gather, TensorType::f32([2]), &[counting(&[2]), counting(&[2])]);
    let odd = Array { ty: TensorType::f32([2]), values: Values::Float(vec![1.0]) };
    let given = try_evaluate(Lowered::Map(Expr::Input(0)), TensorType::f32([2]), &[odd]);
    assert!(matches!(given, Err(ReferenceError::Input { .. })));
}
