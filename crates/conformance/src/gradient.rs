//! Compares gradients with central differences in f64, along a random direction and with a random cotangent.
//!
//! For a function y of the inputs x, a direction v and a cotangent c, `⟨grad(y·c), v⟩` must equal the slope of `y·c`
//! along v. The slope is computed with the five-point stencil. Samples avoid kinks, so the error of the stencil is far
//! below the tolerance. The cotangent is random, because with a cotangent of ones, errors that cancel in the sum would
//! not be detected.

use wgrad_cpu::reference::Array;
use wgrad_graph::{DType, Graph, States, Var, grad, grad_with};
use wgrad_ops::{GradientOrder, TensorOps};

use crate::report::{Comparison, Failure};
use crate::trial::{Trial, With, evaluate, random_direction};

/// Step size of the differences. The error of the five-point stencil is proportional to the fourth power of the step
/// size.
const STEP: f64 = 1e-3;
/// Maximum difference between the two slopes, relative to Σ |gradient element · direction element|.
const TOLERANCE: f64 = 1e-6;

/// Checks the gradients of all float inputs together, then the gradient of each input alone. In a check of a single
/// input, an error cannot be compensated by the gradient of another input.
///
/// If the gradient of the operation is zero by definition, checks that all elements of the gradients are zero.
pub fn gradient(trial: &Trial) -> Comparison {
    let all = trial.differentiable();
    if trial.entry.gradient_order == GradientOrder::Zero {
        return check_zero(trial, &all);
    }
    let mut worst: f64 = 0.0;
    for wrt in subsets(&all) {
        worst = worst.max(check_first_order(trial, &wrt)?);
    }
    Ok(worst)
}

/// Checks the second gradients of all inputs together, then of each input alone. The cotangent counts as an input.
pub fn second_gradient(trial: &Trial) -> Comparison {
    let all = trial.differentiable();
    if trial.entry.gradient_order != GradientOrder::Any {
        return Ok(0.0);
    }
    let mut worst: f64 = 0.0;
    for wrt in subsets(&all) {
        worst = worst.max(check_second_order(trial, &wrt)?);
    }
    Ok(worst)
}

/// Returns the sets of inputs to check: all indices together, then, if there are several, each index alone.
fn subsets(all: &[usize]) -> Vec<Vec<usize>> {
    let alone = all.iter().filter(|_| all.len() > 1).map(|&i| vec![i]);
    std::iter::once(all.to_vec()).filter(|all| !all.is_empty()).chain(alone).collect()
}

fn check_zero(trial: &Trial, wrt: &[usize]) -> Comparison {
    let graph = wgrad_ops::graph(States::new());
    let (ins, out) = trial.record(&graph)?;
    if wrt.is_empty() {
        return Ok(0.0);
    }
    let cotangent = graph.input("cotangent", out.ty());
    let vars: Vec<Var<'_>> = wrt.iter().map(|&i| ins[i]).collect();
    for (i, gradient) in wrt.iter().zip(grad_with(out, cotangent, &vars)?) {
        graph.output(&format!("d{i}"), gradient);
    }
    let mut values = trial.values().to_vec();
    values.push(trial.cotangent(&out.ty()));
    let gradients = evaluate(&graph, &values)?;
    match gradients.iter().flat_map(|g| g.to_f64()).find(|&x| x != 0.0) {
        Some(x) => {
            Err(Failure::Violation(format!("the gradient must be zero by definition, but an element is {x}")))
        }
        None => Ok(0.0),
    }
}

fn check_first_order(trial: &Trial, wrt: &[usize]) -> Comparison {
    let graph = wgrad_ops::graph(States::new());
    let (ins, out) = trial.record(&graph)?;
    let (cotangent, ty) = (graph.input("cotangent", out.ty()), out.ty());
    let vars: Vec<Var<'_>> = wrt.iter().map(|&i| ins[i]).collect();
    for gradient in grad_with(out, cotangent, &vars)? {
        graph.output("gradient", gradient);
    }
    let c = trial.cotangent(&ty);
    let v = random_directions(trial, wrt, 2);
    let terms =
        elementwise_products(&evaluate(&graph, &[trial.values(), std::slice::from_ref(&c)].concat())?, &v)?;
    let (plain, _) = trial.graph(With::Value)?;
    let y_terms =
        |values: &[Array]| elementwise_products(&evaluate(&plain, values)?, std::slice::from_ref(&c));
    let mut rounding = 0.0;
    let mut step = STEP;
    if plain.nodes().iter().any(|node| node.ty.dtype == DType::F16) {
        // Rounding to f16 makes the function piecewise constant, so use longer steps and allow for rounding at both
        // ends.
        step = 0.125;
        rounding =
            y_terms(trial.values())?.iter().map(|x| x.abs()).sum::<f64>() * trial.entry.tolerance / step;
    }
    let slope = slope(step, |step| Ok(y_terms(&perturbed(trial.values(), wrt, &v, step))?.iter().sum()))?;
    compare_slopes(&format!("⟨gradient, v⟩ of inputs {wrt:?}"), &terms, slope, rounding)
}

/// Checks the gradient of the scalar `s = Σ ⟨gradient of input i, v_i⟩` with respect to the inputs and the cotangent.
/// The sum is over the inputs in `wrt`.
fn check_second_order(trial: &Trial, wrt: &[usize]) -> Comparison {
    let graph = wgrad_ops::graph(States::new());
    let (ins, out) = trial.record(&graph)?;
    let (cotangent, ty) = (graph.input("cotangent", out.ty()), out.ty());
    let c = trial.cotangent(&ty);
    let v = random_directions(trial, wrt, 2);
    let s = contracted_gradient(&graph, &ins, out, cotangent, wrt)?;
    let mut vars: Vec<Var<'_>> = wrt.iter().map(|&i| ins[i]).collect();
    vars.push(cotangent);
    for gradient in grad(s, &vars)? {
        graph.output("gradient", gradient);
    }
    let values = [trial.values(), std::slice::from_ref(&c), &v].concat();
    // The cotangent is the input after the inputs of the sample.
    let at = [wrt, &[ins.len()]].concat();
    let mut u = random_directions(trial, wrt, 3);
    u.push(random_direction(&mut trial.random(4), &ty));
    let terms = elementwise_products(&evaluate(&graph, &values)?, &u)?;

    let plain = wgrad_ops::graph(States::new());
    let (ins, out) = trial.record(&plain)?;
    let cotangent = plain.input("cotangent", out.ty());
    let s = contracted_gradient(&plain, &ins, out, cotangent, wrt)?;
    plain.output("s", s);
    let slope = slope(STEP, |step| {
        Ok(evaluate(&plain, &perturbed(&values, &at, &u, step))?[0].to_f64().iter().sum())
    })?;
    compare_slopes(&format!("second ⟨gradient, u⟩ of inputs {wrt:?}"), &terms, slope, 0.0)
}

/// Records `Σ ⟨gradient of input i, v_i⟩` over the inputs in `wrt`. Each `v_i` is an additional input of the graph.
fn contracted_gradient<'g>(
    graph: &'g Graph,
    ins: &[Var<'g>],
    out: Var<'g>,
    cotangent: Var<'g>,
    wrt: &[usize],
) -> Result<Var<'g>, Failure> {
    let vars: Vec<Var<'g>> = wrt.iter().map(|&i| ins[i]).collect();
    let mut sum = wgrad_ops::full(graph, [], 0.0);
    for (i, gradient) in wrt.iter().zip(grad_with(out, cotangent, &vars)?) {
        sum = sum + (gradient * graph.input(&format!("v{i}"), gradient.ty())).sum_all();
    }
    Ok(sum)
}

fn random_directions(trial: &Trial, wrt: &[usize], purpose: u64) -> Vec<Array> {
    let mut random = trial.random(purpose);
    wrt.iter().map(|&i| random_direction(&mut random, &trial.values()[i].ty)).collect()
}

/// Moves each input whose index is in `wrt` by `step` times its direction in `v`.
fn perturbed(values: &[Array], wrt: &[usize], v: &[Array], step: f64) -> Vec<Array> {
    let mut values = values.to_vec();
    for (&i, v) in wrt.iter().zip(v) {
        let sum = values[i].to_f64().iter().zip(v.to_f64()).map(|(x, v)| x + step * v).collect();
        values[i] = Array::float(values[i].ty.clone(), sum);
    }
    values
}

/// Computes the slope of `f` at 0 with the five-point stencil.
fn slope(step: f64, f: impl Fn(f64) -> Comparison) -> Comparison {
    let near = f(step)? - f(-step)?;
    let far = f(2.0 * step)? - f(-2.0 * step)?;
    Ok((8.0 * near - far) / (12.0 * step))
}

/// Returns the products of corresponding elements of two lists of tensors, as one list over all tensors.
fn elementwise_products(a: &[Array], b: &[Array]) -> Result<Vec<f64>, Failure> {
    let mut all = Vec::new();
    for (a, b) in a.iter().zip(b) {
        if a.ty.shape != b.ty.shape {
            return Err(Failure::Violation(format!("a tensor has type {}, expected {}", a.ty, b.ty)));
        }
        all.extend(a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| a * b));
    }
    Ok(all)
}

fn compare_slopes(what: &str, terms: &[f64], slope: f64, rounding: f64) -> Comparison {
    let found: f64 = terms.iter().sum();
    let scale = terms.iter().map(|x| x.abs()).sum::<f64>().max(slope.abs()).max(1e-3);
    let error_ratio = (found - slope).abs() / (TOLERANCE * scale + rounding);
    // This form of the condition is false for NaN, so a NaN on either side fails.
    if error_ratio <= 1.0 {
        Ok(error_ratio)
    } else {
        Err(Failure::Differs { what: what.into(), found, expected: slope, error_ratio })
    }
}
