//! A device under test, and the comparison of its results with the reference.

use wgrad_cpu::reference::{Array, Values};
use wgrad_graph::{Graph, GraphError};
use wgrad_program::{Data, Device, HostData, Options, Program, ProgramId, Session, compile};

use crate::report::{Comparison, Failure};

/// A function that compiles a graph to a program.
pub type Planner<'d> = &'d dyn Fn(&Graph, Options) -> Result<Program, GraphError>;

/// A device and a planner. A custom planner can plant a fault in a program.
#[derive(Clone, Copy)]
pub struct Harness<'d> {
    /// Device under test.
    pub device: &'d dyn Device,
    /// Function that compiles the graphs of the checks.
    pub plan: Planner<'d>,
}

impl<'d> Harness<'d> {
    /// Creates a harness with the planner of the engine.
    pub fn new(device: &'d dyn Device) -> Self {
        Self { device, plan: &compile }
    }

    /// Compiles a graph for the device. `fuse` is whether operations are fused into fewer kernels.
    pub(crate) fn program(&self, graph: &Graph, fuse: bool) -> Result<Program, Failure> {
        Ok((self.plan)(graph, Options { fuse, ..Options::within(&self.device.info().limits) })?)
    }

    /// Opens a new session and loads the program of a graph. `fuse` is whether operations are fused.
    pub(crate) fn load(&self, graph: &Graph, fuse: bool) -> Result<LoadedProgram, Failure> {
        let program = self.program(graph, fuse)?;
        let mut session = self.device.session(graph.states())?;
        let id = session.load(&program)?;
        Ok(LoadedProgram { session, id, program })
    }
}

/// A program loaded on a device.
pub(crate) struct LoadedProgram {
    pub session: Box<dyn Session>,
    id: ProgramId,
    pub program: Program,
}

impl LoadedProgram {
    /// Runs the program once. Returns the values of all outputs in order.
    pub fn run(&mut self, inputs: &[Array]) -> Result<Vec<HostData>, Failure> {
        let inputs: Vec<HostData> = inputs.iter().map(to_host_data).collect();
        let data: Vec<Data<'_>> = inputs.iter().map(HostData::as_data).collect();
        self.session.run(self.id, &data)?;
        let outputs = 0..self.program.outputs.len();
        Ok(outputs.map(|i| self.session.output(self.id, i)).collect::<Result<_, _>>()?)
    }
}

/// Converts f64 values of the reference to the f32 values of a device. u32 values are copied.
pub(crate) fn to_host_data(array: &Array) -> HostData {
    match &array.values {
        Values::Float(values) => HostData::F32(values.iter().map(|&x| x as f32).collect()),
        Values::U32(values) => HostData::U32(values.clone()),
    }
}

/// Tolerance for comparing the outputs of a device with the reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// Relative part of `|found − expected| ≤ relative · max(1, largest expected magnitude) + absolute`.
    pub relative: f64,
    /// Absolute part of the same formula.
    pub absolute: f64,
    /// Largest magnitude of an expected value that is compared. If the ceiling is finite, elements whose expected
    /// value is NaN are not compared either.
    pub ceiling: f64,
}

impl Tolerance {
    /// Creates a tolerance that compares all elements and has no absolute part. The relative part is at least the
    /// machine epsilon of f32.
    pub fn relative(relative: f64) -> Self {
        Self { relative: relative.max(f64::from(f32::EPSILON)), absolute: 0.0, ceiling: f64::INFINITY }
    }
}

/// Compares a result of a device with the expected values. Returns the largest error divided by the tolerance.
pub(crate) fn compare(name: &str, found: &HostData, expected: &Array, tolerance: Tolerance) -> Comparison {
    let violation = |what: String| Err(Failure::Violation(format!("{name}: {what}")));
    match (found, &expected.values) {
        (HostData::U32(found), Values::U32(expected)) if found.len() == expected.len() => {
            match (0..found.len()).find(|&i| found[i] != expected[i]) {
                Some(i) => violation(format!("element {i} is {}, expected {}", found[i], expected[i])),
                None => Ok(0.0),
            }
        }
        (HostData::F32(found), Values::Float(expected)) if found.len() == expected.len() => {
            compare_floats(name, found, expected, tolerance)
        }
        _ => violation(format!(
            "the device returned values of another type or number, expected {}",
            expected.ty
        )),
    }
}

fn compare_floats(name: &str, found: &[f32], expected: &[f64], tolerance: Tolerance) -> Comparison {
    let is_compared = |x: f64| x.abs() <= tolerance.ceiling;
    let scale =
        expected.iter().filter(|x| x.is_finite() && is_compared(**x)).fold(1.0f64, |max, x| max.max(x.abs()));
    let limit = tolerance.relative * scale + tolerance.absolute;
    let mut worst: f64 = 0.0;
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let found = f64::from(found);
        let representable = f64::from(expected as f32);
        let error_ratio = match () {
            () if tolerance.ceiling.is_finite() && !is_compared(expected) => 0.0,
            () if expected.is_nan() => {
                if found.is_nan() {
                    0.0
                } else {
                    f64::INFINITY
                }
            }
            () if representable.is_infinite() => {
                if found == representable {
                    0.0
                } else {
                    f64::INFINITY
                }
            }
            () => (found - expected).abs() / limit,
        };
        if error_ratio.is_nan() || error_ratio > 1.0 {
            let what = format!("{name}[{i}]");
            return Err(Failure::Differs { what, found, expected, error_ratio });
        }
        worst = worst.max(error_ratio);
    }
    Ok(worst)
}
