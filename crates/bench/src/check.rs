//! Expected results of a workload, and their comparison with the results of a device.
//!
//! The expected results are computed by the f64 reference interpreter, which evaluates the graph in plain loops. If
//! that would take too long, the CPU backend in f64 computes them. The f64 backend shares the planner and the kernel
//! structure with the f32 backend, but not its arithmetic. With a GPU backend, it shares only the planner.
//! `wgrad verify` compares the same kernels with the interpreter at smaller sizes. Every element of every result is
//! compared.

use wgrad_cpu::CpuDevice;
use wgrad_cpu::reference::{self as interpreter, Array, State, Values};
use wgrad_graph::{DType, GroupId};
use wgrad_program::HostData;

use crate::error::BenchError;
use crate::loaded::{LoadedWorkload, plan};
use crate::workload::{NonSmoothTolerance, Workload};

/// Maximum number of floating-point operations for which the interpreter computes the expected results.
const MAX_INTERPRETER_FLOPS: u64 = 12_000_000;

/// Reference implementation that computes expected results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// Reference interpreter in f64, which evaluates the graph without the planner.
    Interpreter,
    /// CPU backend in f64, which is faster but shares the planner with all devices.
    CpuF64,
}

impl Reference {
    /// Returns the name used in reports and in `bench.json`.
    pub fn name(self) -> &'static str {
        match self {
            Reference::Interpreter => "reference",
            Reference::CpuF64 => "cpu-f64",
        }
    }
}

/// Expected outputs and state after one run from the initial state of a workload.
pub struct Expected {
    /// Reference that computed the results.
    pub reference: Reference,
    outputs: Vec<Vec<f64>>,
    groups: Vec<(GroupId, Vec<f64>)>,
}

/// Largest error found by a comparison, with its location.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Largest error divided by its tolerance. The result is wrong if this is above 1; NaN if the result is not finite.
    pub worst: f64,
    /// Element with the largest error, e.g. `product[17]`. If the largest error is the norm of the error of a tensor,
    /// this is the name of the tensor.
    pub location: String,
    /// Value that the device computed.
    pub found: f64,
    /// Value that the reference computed.
    pub expected: f64,
}

impl Comparison {
    /// Returns whether all errors are within their tolerances.
    pub fn passed(&self) -> bool {
        self.worst <= 1.0
    }
}

impl Expected {
    /// Computes the expected results with the interpreter, or with the CPU backend in f64 if the workload is large.
    ///
    /// # Errors
    /// Returns [`BenchError::Graph`] if the graph is invalid, and [`BenchError::Reference`] or [`BenchError::Device`]
    /// if the reference cannot evaluate it.
    pub fn compute(workload: &Workload) -> Result<Self, BenchError> {
        let cost = plan(&CpuDevice::f64(), workload)?.cost();
        let interpretable = cost.flops <= MAX_INTERPRETER_FLOPS;
        Self::compute_with(if interpretable { Reference::Interpreter } else { Reference::CpuF64 }, workload)
    }

    /// Computes the expected results with the given reference.
    ///
    /// # Errors
    /// Returns the same errors as [`Expected::compute`].
    pub fn compute_with(reference: Reference, workload: &Workload) -> Result<Self, BenchError> {
        match reference {
            Reference::Interpreter => interpret(workload),
            Reference::CpuF64 => {
                let mut loaded = LoadedWorkload::new(&CpuDevice::f64(), workload)?;
                loaded.run()?;
                let outputs = loaded.outputs()?.iter().map(floats).collect();
                let groups = loaded.updated()?.iter().map(|(group, data)| (*group, floats(data))).collect();
                Ok(Self { reference, outputs, groups })
            }
        }
    }

    /// Runs a loaded workload once and compares its outputs, and the state that the run modified, with the expected
    /// results.
    ///
    /// Returns the largest error.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn compare(
        &self,
        workload: &Workload,
        loaded: &mut LoadedWorkload<'_>,
    ) -> Result<Comparison, BenchError> {
        loaded.first_run()?;
        let mut worst = Worst::default();
        let tolerance = Tolerance::Element(workload.tolerance);
        let outputs = loaded.outputs()?;
        let names = workload.graph.outputs();
        for ((name, _), (found, expected)) in names.iter().zip(outputs.iter().zip(&self.outputs)) {
            worst.compare(name, &floats(found), expected, tolerance);
        }
        for ((group, found), (_, expected)) in loaded.updated()?.iter().zip(&self.groups) {
            let found = floats(found);
            let absolute =
                workload.absolute.iter().find(|(which, _)| which == group).map(|(_, tolerance)| *tolerance);
            let tolerance = match (absolute, workload.non_smooth) {
                (Some(absolute), _) => Tolerance::Absolute(absolute),
                (None, true) => Tolerance::NonSmooth(NonSmoothTolerance::DEFAULT),
                (None, false) => tolerance,
            };
            let group = workload.graph.states().get(*group);
            for entry in &group.entries {
                let range = entry.offset..entry.offset + entry.shape.numel();
                let name = format!("{}.{}", group.name, entry.name);
                worst.compare(&name, &found[range.clone()], &expected[range], tolerance);
            }
        }
        Ok(worst.0.unwrap_or(Comparison {
            worst: f64::NAN,
            location: "no results".into(),
            found: 0.0,
            expected: 0.0,
        }))
    }
}

/// Computes the expected results with the interpreter.
fn interpret(workload: &Workload) -> Result<Expected, BenchError> {
    let graph = &workload.graph;
    let mut state = State::zeros(graph.states());
    for (group, data) in &workload.data {
        state.groups[group.0].values = match data {
            HostData::F32(values) => Values::Float(values.iter().map(|&x| f64::from(x)).collect()),
            HostData::U32(values) => Values::U32(values.clone()),
        };
    }
    let inputs = graph.inputs().into_iter().map(|(_, ty)| match (ty.dtype, &workload.update) {
        (DType::U32, _) => Array::u32(ty.shape.clone(), vec![1, 0, 1]),
        (_, Some(update)) => {
            let hyper = update.optimizer.hyper(update.rate, 1);
            Array::float(ty, hyper.iter().map(|&x| f64::from(x)).collect())
        }
        (_, None) => Array::zeros(ty),
    });
    let outputs = interpreter::step(graph, &inputs.collect::<Vec<_>>(), &mut state)?;
    Ok(Expected {
        reference: Reference::Interpreter,
        outputs: outputs.iter().map(Array::to_f64).collect(),
        groups: workload.updated().into_iter().map(|group| (group, state.groups[group.0].to_f64())).collect(),
    })
}

fn floats(data: &HostData) -> Vec<f64> {
    match data {
        HostData::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        HostData::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
    }
}

/// Kind and value of the tolerance of a tensor.
#[derive(Clone, Copy)]
enum Tolerance {
    /// Tolerance of each element, relative to its absolute value or to the root mean square of its tensor.
    Element(f64),
    /// Absolute tolerance of each element.
    Absolute(f64),
    /// Tolerance of each element, and tolerance of the norm of the error of the tensor.
    NonSmooth(NonSmoothTolerance),
}

/// Largest error found so far.
#[derive(Default)]
struct Worst(Option<Comparison>);

impl Worst {
    fn compare(&mut self, name: &str, found: &[f64], expected: &[f64], tolerance: Tolerance) {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut expected.iter().copied().filter(|x| x.is_finite()));
        if found.len() != expected.len() {
            let location = format!("the size of {name}");
            let (found, expected) = (found.len() as f64, expected.len() as f64);
            return self.replace(Comparison { worst: f64::NAN, location, found, expected });
        }
        let rms = size / (expected.len().max(1) as f64).sqrt();
        for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            // If all expected elements are zero, only zeros are within the tolerance.
            let scale = expected.abs().max(rms).max(f64::MIN_POSITIVE);
            let allowed = match tolerance {
                Tolerance::Element(relative)
                | Tolerance::NonSmooth(NonSmoothTolerance { element: relative, .. }) => relative * scale,
                Tolerance::Absolute(absolute) => absolute,
            };
            let worst = (found - expected).abs() / allowed;
            if self.is_worse(worst) {
                self.replace(Comparison { worst, location: format!("{name}[{i}]"), found, expected });
            }
        }
        if let Tolerance::NonSmooth(NonSmoothTolerance { norm: relative, .. }) = tolerance {
            let error = norm(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
            let worst = error / (relative * size.max(f64::MIN_POSITIVE));
            if self.is_worse(worst) {
                let found = norm(&mut found.iter().copied());
                self.replace(Comparison { worst, location: name.to_owned(), found, expected: size });
            }
        }
    }

    fn is_worse(&self, worst: f64) -> bool {
        match &self.0 {
            None => true,
            Some(so_far) => !so_far.worst.is_nan() && (worst.is_nan() || worst > so_far.worst),
        }
    }

    fn replace(&mut self, comparison: Comparison) {
        self.0 = Some(comparison);
    }
}
