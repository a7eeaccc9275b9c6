//! Compares devices with the f64 reference: values and gradients, for ordinary inputs, large inputs and NaN.
//!
//! Devices run with poisoned memory (see `Options::poison` of both backends): elements that a kernel does not write are
//! NaN and fail every comparison.

use wgrad_cpu::reference::{Array, Values};
use wgrad_graph::DType;
use wgrad_ops::Distribution;
use wgrad_program::HostData;

use crate::harness::{Harness, LoadedProgram, Tolerance, compare};
use crate::report::{Comparison, Failure};
use crate::trial::{ReferenceRun, Trial, With, evaluate};

/// Factor by which the tolerance for gradients is larger than the tolerance for values. A gradient combines several
/// operations, and each operation has a rounding error.
const GRADIENT_SLACK: f64 = 8.0;
/// Factor by which inputs are scaled in [`magnitude`].
const MAGNIFIED: f64 = 32.0;
/// Magnitude above which the intermediates of a correct f32 computation may overflow.
const CEILING: f64 = 1e30;

/// Returns the reason why the device cannot run the trial, or `None` if the device can run it.
pub fn unsupported(harness: &Harness<'_>, trial: &Trial) -> Result<Option<&'static str>, Failure> {
    let (graph, _) = trial.graph(With::Gradient)?;
    let stores_f16 = graph.nodes().iter().any(|node| node.ty.dtype == DType::F16);
    Ok((stores_f16 && !harness.device.info().limits.f16)
        .then_some("the device does not support storage of f16"))
}

/// Checks the result and the gradients of a trial. Operations are fused, as in training.
///
/// The rule is `|found − expected| ≤ tolerance · max(1, largest expected magnitude)`. For gradients, the tolerance is
/// multiplied by 8.
pub fn value(harness: &Harness<'_>, trial: &Trial) -> Comparison {
    let expected = trial.run_reference(With::Gradient)?;
    let found = harness.load(&expected.graph, true)?.run(&expected.inputs)?;
    compare_outputs(&expected, &found, |name| tolerance(trial, name))
}

/// Checks that fused kernels agree with one kernel per operation on the same device.
pub fn unfused(harness: &Harness<'_>, trial: &Trial) -> Comparison {
    let (graph, inputs) = trial.graph(With::Gradient)?;
    let fused = harness.load(&graph, true)?.run(&inputs)?;
    let unfused = harness.load(&graph, false)?.run(&inputs)?;
    let mut worst: f64 = 0.0;
    for (((name, id), fused), unfused) in graph.outputs().iter().zip(&fused).zip(&unfused) {
        let expected = to_array(unfused, &graph.var(*id).ty());
        worst = worst.max(compare(&format!("fused {name}"), fused, &expected, tolerance(trial, name))?);
    }
    Ok(worst)
}

/// Checks that two runs with equal inputs give bit-identical results, even if other inputs are run between the two.
pub fn replay(harness: &Harness<'_>, trial: &Trial) -> Comparison {
    let (graph, inputs) = trial.graph(With::Gradient)?;
    let mut loaded = harness.load(&graph, true)?;
    let first = run_bits(&mut loaded, &inputs)?;
    run_bits(&mut loaded, &scaled(&inputs, |_| true, 0.5))?;
    let second = run_bits(&mut loaded, &inputs)?;
    if first == second {
        Ok(0.0)
    } else {
        Err(Failure::Violation("a second run with equal inputs is not bit-identical".into()))
    }
}

fn run_bits(loaded: &mut LoadedProgram, inputs: &[Array]) -> Result<Vec<Vec<u32>>, Failure> {
    let bits = |data: HostData| match data {
        HostData::F32(values) => values.into_iter().map(f32::to_bits).collect(),
        HostData::U32(values) => values,
    };
    Ok(loaded.run(inputs)?.into_iter().map(bits).collect())
}

/// Checks inputs scaled by 32. Where the reference is at most 1e30, the device must not overflow or return NaN.
///
/// The tolerance includes the error that is caused by rounding the inputs to f32. This error is measured: the inputs
/// of the reference are perturbed by one rounding error.
pub fn magnitude(harness: &Harness<'_>, trial: &Trial) -> Comparison {
    let is_scalable = |input: &wgrad_ops::Input| match input.distribution {
        Distribution::Uniform(low, high) => high - low > 1.5,
        Distribution::AwayFromZero(..) | Distribution::Grid { .. } => true,
        _ => false,
    };
    let large = |i: usize| trial.inputs().get(i).is_some_and(is_scalable);
    let trial = trial.with_values(scaled(trial.values(), large, MAGNIFIED));
    let expected = trial.run_reference(With::Gradient)?;
    let found = harness.load(&expected.graph, true)?.run(&expected.inputs)?;
    let perturbed =
        evaluate(&expected.graph, &scaled(&expected.inputs, |_| true, 1.0 + f64::from(f32::EPSILON)))?;
    let mut worst: f64 = 0.0;
    for (i, (name, _)) in expected.graph.outputs().into_iter().enumerate() {
        let (at, near) = (expected.outputs[i].to_f64(), perturbed[i].to_f64());
        let moved =
            at.iter().zip(&near).map(|(a, b)| (a - b).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
        let default = tolerance(&trial, &name);
        let tolerance =
            Tolerance { relative: 4.0 * default.relative, absolute: 16.0 * moved, ceiling: CEILING };
        worst = worst.max(compare(&name, &found[i], &expected.outputs[i], tolerance)?);
    }
    Ok(worst)
}

/// Checks inputs in which each float tensor contains a NaN, a zero and an element with a flipped sign.
///
/// The device must return NaN and infinity at exactly the elements at which the reference returns them. Otherwise, a
/// diverging training run might not be detected.
pub fn not_a_number(harness: &Harness<'_>, trial: &Trial) -> Comparison {
    let mut random = trial.random(5);
    let mut values = trial.values().to_vec();
    for (input, value) in trial.inputs().iter().zip(&mut values) {
        if let (true, Values::Float(x)) = (input.is_differentiable(), &mut value.values) {
            let mut pick = || random.below(x.len() as u32) as usize;
            let (zero, other, nan) = (pick(), pick(), pick());
            x[zero] = 0.0;
            x[other] = -x[other];
            x[nan] = f64::NAN;
        }
    }
    let trial = trial.with_values(values);
    // Use the graph with gradients, because the kernels of this graph are already compiled. The gradients are not
    // compared: at a kink, any value is valid.
    let mut expected = trial.run_reference(With::Gradient)?;
    let found = harness.load(&expected.graph, true)?.run(&expected.inputs)?;
    expected.outputs.truncate(1);
    compare_outputs(&expected, &found, |name| tolerance(&trial, name))
}

fn tolerance(trial: &Trial, output: &str) -> Tolerance {
    match output {
        "y" => Tolerance::relative(trial.entry.tolerance),
        _ => Tolerance::relative(GRADIENT_SLACK * trial.entry.tolerance.max(1e-6)),
    }
}

fn compare_outputs(
    expected: &ReferenceRun,
    found: &[HostData],
    tolerance: impl Fn(&str) -> Tolerance,
) -> Comparison {
    let mut worst: f64 = 0.0;
    for (((name, _), expected), found) in expected.graph.outputs().iter().zip(&expected.outputs).zip(found) {
        worst = worst.max(compare(name, found, expected, tolerance(name))?);
    }
    Ok(worst)
}

/// Scales the float inputs whose index is `chosen`. If the factor is a power of 2, scaling adds no rounding error in
/// f32.
fn scaled(values: &[Array], chosen: impl Fn(usize) -> bool, factor: f64) -> Vec<Array> {
    let scale = |(i, array): (usize, &Array)| match &array.values {
        Values::Float(x) if chosen(i) => {
            Array::float(array.ty.clone(), x.iter().map(|x| x * factor).collect())
        }
        _ => array.clone(),
    };
    values.iter().enumerate().map(scale).collect()
}

fn to_array(data: &HostData, ty: &wgrad_graph::TensorType) -> Array {
    match data {
        HostData::F32(values) => Array::float(ty.clone(), values.iter().map(|&x| f64::from(x)).collect()),
        HostData::U32(values) => Array::u32(ty.shape.clone(), values.clone()),
    }
}
