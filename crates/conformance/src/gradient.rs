//! Gradients against central differences in f64, along a random direction and with a random cotangent.
//!
//! For a function y of the inputs x, a direction v and a cotangent c, `⟨grad(y·c), v⟩` must be the slope of `y·c` along v.
//! It is taken by the five-point rule, whose error is far below what is tolerated: the samples stay clear of kinks. One of
//! `sum()` in place of a random c lets a dropped term through wherever terms cancel.

use wgrad_cpu::reference::Array;
use wgrad_graph::{DType, Graph, States, Var, grad, grad_with};
use wgrad_ops::{GradientOrder, TensorOps};

use crate::report::{Failure, Verdict};
use crate::trial::{Trial, With, direction, evaluate};

/// Step of the differences; with the five-point rule the error is about its fourth power.
const STEP: f64 = 1e-3;
/// Largest difference of the two slopes, relative to the sum of the magnitudes of the terms of the first.
const TOLERANCE: f64 = 1e-6;

/// The gradient of all float inputs at once, and of each one alone: alone, no other can make up for what it lacks.
///
/// Where the operation has no gradient by definition, that it is zero.
pub fn gradient(trial: &Trial) -> Verdict {
    let all = trial.differentiable();
    if trial.entry.gradient_order == GradientOrder::Zero {
        return is_zero(trial, &all);
    }
    let mut worst: f64 = 0.0;
    for wrt in subsets(&all) {
        worst = worst.max(first(trial, &wrt)?);
    }
    Ok(worst)
}

/// The gradient of the gradient's slope along a direction, of all inputs at once and of each one alone, cotangent included.
pub fn second_gradient(trial: &Trial) -> Verdict {
    let all = trial.differentiable();
    if trial.entry.gradient_order != GradientOrder::Any {
        return Ok(0.0);
    }
    let mut worst: f64 = 0.0;
    for wrt in subsets(&all) {
        worst = worst.max(second(trial, &wrt)?);
    }
    Ok(worst)
}

/// All of them, then each alone if there are several.
fn subsets(all: &[usize]) -> Vec<Vec<usize>> {
    let alone = all.iter().filter(|_| all.len() > 1).map(|&i| vec![i]);
    std::iter::once(all.to_vec()).filter(|all| !all.is_empty()).chain(alone).collect()
}

fn is_zero(trial: &Trial, wrt: &[usize]) -> Verdict {
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
        Some(x) => Err(Failure::Broken(format!("the gradient is zero by definition, but an element is {x}"))),
        None => Ok(0.0),
    }
}

fn first(trial: &Trial, wrt: &[usize]) -> Verdict {
    let graph = wgrad_ops::graph(States::new());
    let (ins, out) = trial.record(&graph)?;
    let (cotangent, ty) = (graph.input("cotangent", out.ty()), out.ty());
    let vars: Vec<Var<'_>> = wrt.iter().map(|&i| ins[i]).collect();
    for gradient in grad_with(out, cotangent, &vars)? {
        graph.output("gradient", gradient);
    }
    let c = trial.cotangent(&ty);
    let v = directions(trial, wrt, 2);
    let terms = products(&evaluate(&graph, &[trial.values(), std::slice::from_ref(&c)].concat())?, &v)?;
    let (plain, _) = trial.graph(With::Value)?;
    let y_terms = |values: &[Array]| products(&evaluate(&plain, values)?, std::slice::from_ref(&c));
    let mut rounding = 0.0;
    let mut step = STEP;
    if plain.nodes().iter().any(|node| node.ty.dtype == DType::F16) {
        // What is rounded to f16 is a staircase: longer steps, and room for the rounding of either end.
        step = 0.125;
        rounding =
            y_terms(trial.values())?.iter().map(|x| x.abs()).sum::<f64>() * trial.entry.tolerance / step;
    }
    let slope = slope(step, |step| Ok(y_terms(&moved(trial.values(), wrt, &v, step))?.iter().sum()))?;
    compare(&format!("⟨gradient, v⟩ of inputs {wrt:?}"), &terms, slope, rounding)
}

/// The scalar `s = Σ ⟨gradient of input i, v_i⟩` is a function of the inputs and of the cotangent; its gradient is checked
/// like any other.
fn second(trial: &Trial, wrt: &[usize]) -> Verdict {
    let graph = wgrad_ops::graph(States::new());
    let (ins, out) = trial.record(&graph)?;
    let (cotangent, ty) = (graph.input("cotangent", out.ty()), out.ty());
    let c = trial.cotangent(&ty);
    let v = directions(trial, wrt, 2);
    let s = contracted(&graph, &ins, out, cotangent, wrt)?;
    let mut vars: Vec<Var<'_>> = wrt.iter().map(|&i| ins[i]).collect();
    vars.push(cotangent);
    for gradient in grad(s, &vars)? {
        graph.output("gradient", gradient);
    }
    let values = [trial.values(), std::slice::from_ref(&c), &v].concat();
    // The cotangent is the input after those of the sample.
    let at = [wrt, &[ins.len()]].concat();
    let mut u = directions(trial, wrt, 3);
    u.push(direction(&mut trial.random(4), &ty));
    let terms = products(&evaluate(&graph, &values)?, &u)?;

    let plain = wgrad_ops::graph(States::new());
    let (ins, out) = trial.record(&plain)?;
    let cotangent = plain.input("cotangent", out.ty());
    let s = contracted(&plain, &ins, out, cotangent, wrt)?;
    plain.output("s", s);
    let slope =
        slope(STEP, |step| Ok(evaluate(&plain, &moved(&values, &at, &u, step))?[0].to_f64().iter().sum()))?;
    compare(&format!("second ⟨gradient, u⟩ of inputs {wrt:?}"), &terms, slope, 0.0)
}

/// `Σ ⟨gradient of input i, v_i⟩` with each `v_i` one more input.
fn contracted<'g>(
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

fn directions(trial: &Trial, wrt: &[usize], purpose: u64) -> Vec<Array> {
    let mut random = trial.random(purpose);
    wrt.iter().map(|&i| direction(&mut random, &trial.values()[i].ty)).collect()
}

/// The inputs, those of numbers `wrt` moved by `step` along `v`.
fn moved(values: &[Array], wrt: &[usize], v: &[Array], step: f64) -> Vec<Array> {
    let mut values = values.to_vec();
    for (&i, v) in wrt.iter().zip(v) {
        let sum = values[i].to_f64().iter().zip(v.to_f64()).map(|(x, v)| x + step * v).collect();
        values[i] = Array::float(values[i].ty.clone(), sum);
    }
    values
}

/// Five-point rule at 0.
fn slope(step: f64, f: impl Fn(f64) -> Verdict) -> Verdict {
    let near = f(step)? - f(-step)?;
    let far = f(2.0 * step)? - f(-2.0 * step)?;
    Ok((8.0 * near - far) / (12.0 * step))
}

/// The products of the elements of two lists of tensors.
fn products(a: &[Array], b: &[Array]) -> Result<Vec<f64>, Failure> {
    let mut all = Vec::new();
    for (a, b) in a.iter().zip(b) {
        if a.ty.shape != b.ty.shape {
            return Err(Failure::Broken(format!("a tensor is {} instead of {}", a.ty, b.ty)));
        }
        all.extend(a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| a * b));
    }
    Ok(all)
}

fn compare(what: &str, terms: &[f64], slope: f64, rounding: f64) -> Verdict {
    let found: f64 = terms.iter().sum();
    let scale = terms.iter().map(|x| x.abs()).sum::<f64>().max(slope.abs()).max(1e-3);
    let times = (found - slope).abs() / (TOLERANCE * scale + rounding);
    // A NaN on either side is no agreement.
    if times <= 1.0 {
        Ok(times)
    } else {
        Err(Failure::Differs { what: what.into(), found, expected: slope, times })
    }
}
