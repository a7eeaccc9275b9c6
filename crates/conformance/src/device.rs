//! A device against the f64 reference: values and gradients, at ordinary inputs, at large ones and where there is no number.
//!
//! Every device is asked with its memory poisoned (see `Options::poison` of both backends): what a kernel leaves unwritten
//! is NaN and agrees with nothing.

use wgrad_cpu::reference::{Array, Values};
use wgrad_graph::DType;
use wgrad_ops::Distribution;
use wgrad_program::HostData;

use crate::report::{Failure, Verdict};
use crate::rig::{Loaded, Rig, Tolerance, compare};
use crate::trial::{Expected, Trial, With, evaluate};

/// A gradient is made of several operations, each with a rounding of its own.
const GRADIENT_SLACK: f64 = 8.0;
/// How much larger than the samples inputs are made.
const MAGNIFIED: f64 = 32.0;
/// Beyond this the intermediates of an honest computation in f32 may overflow.
const CEILING: f64 = 1e30;

/// Why the device cannot run the trial, if it cannot.
pub fn unsupported(rig: &Rig<'_>, trial: &Trial) -> Result<Option<&'static str>, Failure> {
    let (graph, _) = trial.graph(With::Gradient)?;
    let stores_f16 = graph.nodes().iter().any(|node| node.ty.dtype == DType::F16);
    Ok((stores_f16 && !rig.device.info().limits.f16).then_some("the device does not store f16"))
}

/// The result and the gradients: `|found − expected| ≤ tolerance · max(1, largest magnitude expected)`, the gradients with 8
/// times the tolerance; every operation fused, as in training.
pub fn value(rig: &Rig<'_>, trial: &Trial) -> Verdict {
    let expected = trial.expected(With::Gradient)?;
    let found = rig.load(&expected.graph, true)?.run(&expected.inputs)?;
    agree(&expected, &found, |name| tolerance(trial, name))
}

/// Every operation a kernel of its own, against the same device with operations fused.
pub fn unfused(rig: &Rig<'_>, trial: &Trial) -> Verdict {
    let (graph, inputs) = trial.graph(With::Gradient)?;
    let fused = rig.load(&graph, true)?.run(&inputs)?;
    let apart = rig.load(&graph, false)?.run(&inputs)?;
    let mut worst: f64 = 0.0;
    for (((name, id), fused), apart) in graph.outputs().iter().zip(&fused).zip(&apart) {
        let expected = array(apart, &graph.var(*id).ty());
        worst = worst.max(compare(&format!("fused {name}"), fused, &expected, tolerance(trial, name))?);
    }
    Ok(worst)
}

/// The same bits when the same inputs come again, whatever ran in between.
pub fn replay(rig: &Rig<'_>, trial: &Trial) -> Verdict {
    let (graph, inputs) = trial.graph(With::Gradient)?;
    let mut loaded = rig.load(&graph, true)?;
    let first = bits(&mut loaded, &inputs)?;
    bits(&mut loaded, &scaled(&inputs, |_| true, 0.5))?;
    let again = bits(&mut loaded, &inputs)?;
    if first == again { Ok(0.0) } else { Err(Failure::Broken("a second run gives other bits".into())) }
}

fn bits(loaded: &mut Loaded, inputs: &[Array]) -> Result<Vec<Vec<u32>>, Failure> {
    let bits = |data: HostData| match data {
        HostData::F32(values) => values.into_iter().map(f32::to_bits).collect(),
        HostData::U32(values) => values,
    };
    Ok(loaded.run(inputs)?.into_iter().map(bits).collect())
}

/// Inputs 32 times as large. What the reference finds moderate must not become infinite or NaN on the way, and has to agree
/// as far as inputs rounded to f32 allow: the reference is asked how much a rounding of the inputs changes it.
pub fn magnitude(rig: &Rig<'_>, trial: &Trial) -> Verdict {
    let free = |input: &wgrad_ops::Input| match input.distribution {
        Distribution::Uniform(low, high) => high - low > 1.5,
        Distribution::AwayFromZero(..) | Distribution::Grid { .. } => true,
        _ => false,
    };
    let large = |i: usize| trial.inputs().get(i).is_some_and(free);
    let trial = trial.at(scaled(trial.values(), large, MAGNIFIED));
    let expected = trial.expected(With::Gradient)?;
    let found = rig.load(&expected.graph, true)?.run(&expected.inputs)?;
    let nudged =
        evaluate(&expected.graph, &scaled(&expected.inputs, |_| true, 1.0 + f64::from(f32::EPSILON)))?;
    let mut worst: f64 = 0.0;
    for (i, (name, _)) in expected.graph.outputs().into_iter().enumerate() {
        let (at, near) = (expected.outputs[i].to_f64(), nudged[i].to_f64());
        let moved =
            at.iter().zip(&near).map(|(a, b)| (a - b).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
        let usual = tolerance(&trial, &name);
        let tolerance =
            Tolerance { relative: 4.0 * usual.relative, absolute: 16.0 * moved, ceiling: CEILING };
        worst = worst.max(compare(&name, &found[i], &expected.outputs[i], tolerance)?);
    }
    Ok(worst)
}

/// A NaN, a zero and a changed sign in each float input. Where the reference has NaN or infinity the device must too, and
/// nowhere else: a run that diverges has to be seen to diverge.
pub fn not_a_number(rig: &Rig<'_>, trial: &Trial) -> Verdict {
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
    let trial = trial.at(values);
    // With the gradient, though it is not compared (it may be anything at a kink): these kernels are compiled already.
    let mut expected = trial.expected(With::Gradient)?;
    let found = rig.load(&expected.graph, true)?.run(&expected.inputs)?;
    expected.outputs.truncate(1);
    agree(&expected, &found, |name| tolerance(&trial, name))
}

fn tolerance(trial: &Trial, output: &str) -> Tolerance {
    match output {
        "y" => Tolerance::relative(trial.entry.tolerance),
        _ => Tolerance::relative(GRADIENT_SLACK * trial.entry.tolerance.max(1e-6)),
    }
}

fn agree(expected: &Expected, found: &[HostData], tolerance: impl Fn(&str) -> Tolerance) -> Verdict {
    let mut worst: f64 = 0.0;
    for (((name, _), expected), found) in expected.graph.outputs().iter().zip(&expected.outputs).zip(found) {
        worst = worst.max(compare(name, found, expected, tolerance(name))?);
    }
    Ok(worst)
}

/// The chosen float inputs times a factor, exact in f32 if the factor is a power of 2.
fn scaled(values: &[Array], chosen: impl Fn(usize) -> bool, factor: f64) -> Vec<Array> {
    let scale = |(i, array): (usize, &Array)| match &array.values {
        Values::Float(x) if chosen(i) => {
            Array::float(array.ty.clone(), x.iter().map(|x| x * factor).collect())
        }
        _ => array.clone(),
    };
    values.iter().enumerate().map(scale).collect()
}

fn array(data: &HostData, ty: &wgrad_graph::TensorType) -> Array {
    match data {
        HostData::F32(values) => Array::float(ty.clone(), values.iter().map(|&x| f64::from(x)).collect()),
        HostData::U32(values) => Array::word(ty.shape.clone(), values.clone()),
    }
}
