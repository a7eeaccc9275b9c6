//! A device under test, and how numbers are compared.

use wgrad_cpu::reference::{Array, Values};
use wgrad_graph::{Graph, GraphError};
use wgrad_program::{Data, Device, HostData, Options, Program, ProgramId, Session, compile};

use crate::report::{Failure, Verdict};

/// Makes the program of a graph.
pub type Planner<'d> = &'d dyn Fn(&Graph, Options) -> Result<Program, GraphError>;

/// A device, and who plans its programs: a planner of its own is how a planted fault gets into a program.
#[derive(Clone, Copy)]
pub struct Rig<'d> {
    /// The device.
    pub device: &'d dyn Device,
    /// The planner.
    pub plan: Planner<'d>,
}

impl<'d> Rig<'d> {
    /// The device with the engine's planner.
    pub fn new(device: &'d dyn Device) -> Self {
        Self { device, plan: &compile }
    }

    /// The program that the device would run for a graph.
    pub(crate) fn program(&self, graph: &Graph, fuse: bool) -> Result<Program, Failure> {
        Ok((self.plan)(graph, Options { fuse, ..Options::within(&self.device.info().limits) })?)
    }

    /// A session of its own with the program of a graph.
    pub(crate) fn load(&self, graph: &Graph, fuse: bool) -> Result<Loaded, Failure> {
        let program = self.program(graph, fuse)?;
        let mut session = self.device.session(graph.states())?;
        let id = session.load(&program)?;
        Ok(Loaded { session, id, program })
    }
}

/// A program on a device.
pub(crate) struct Loaded {
    pub session: Box<dyn Session>,
    id: ProgramId,
    pub program: Program,
}

impl Loaded {
    /// Runs once and reads every output.
    pub fn run(&mut self, inputs: &[Array]) -> Result<Vec<HostData>, Failure> {
        let inputs: Vec<HostData> = inputs.iter().map(uploaded).collect();
        let data: Vec<Data<'_>> = inputs.iter().map(HostData::as_data).collect();
        self.session.run(self.id, &data)?;
        let outputs = 0..self.program.outputs.len();
        Ok(outputs.map(|i| self.session.output(self.id, i)).collect::<Result<_, _>>()?)
    }
}

/// The values in what a device takes.
pub(crate) fn uploaded(array: &Array) -> HostData {
    match &array.values {
        Values::Float(values) => HostData::F32(values.iter().map(|&x| x as f32).collect()),
        Values::U32(values) => HostData::U32(values.clone()),
    }
}

/// What may differ, and by how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// `|found − expected| ≤ relative · max(1, largest magnitude expected) + absolute`.
    pub relative: f64,
    /// See `relative`.
    pub absolute: f64,
    /// Expected magnitudes above this are not compared, nor is NaN.
    pub ceiling: f64,
}

impl Tolerance {
    /// Relative to the largest magnitude expected or 1, but never less than a rounding of f32. Everything is compared.
    pub fn relative(relative: f64) -> Self {
        Self { relative: relative.max(f64::from(f32::EPSILON)), absolute: 0.0, ceiling: f64::INFINITY }
    }
}

/// Compares what a device gave with what is expected.
pub(crate) fn compare(name: &str, found: &HostData, expected: &Array, tolerance: Tolerance) -> Verdict {
    let broken = |what: String| Err(Failure::Broken(format!("{name}: {what}")));
    match (found, &expected.values) {
        (HostData::U32(found), Values::U32(expected)) if found.len() == expected.len() => {
            match (0..found.len()).find(|&i| found[i] != expected[i]) {
                Some(i) => broken(format!("element {i} is {} instead of {}", found[i], expected[i])),
                None => Ok(0.0),
            }
        }
        (HostData::F32(found), Values::Float(expected)) if found.len() == expected.len() => {
            floats(name, found, expected, tolerance)
        }
        _ => broken(format!("the device gave another type than {}", expected.ty)),
    }
}

fn floats(name: &str, found: &[f32], expected: &[f64], tolerance: Tolerance) -> Verdict {
    let compared = |x: f64| x.abs() <= tolerance.ceiling;
    let scale =
        expected.iter().filter(|x| x.is_finite() && compared(**x)).fold(1.0f64, |max, x| max.max(x.abs()));
    let limit = tolerance.relative * scale + tolerance.absolute;
    let mut worst: f64 = 0.0;
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let found = f64::from(found);
        let representable = f64::from(expected as f32);
        let times = match () {
            () if tolerance.ceiling.is_finite() && !compared(expected) => 0.0,
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
        if times.is_nan() || times > 1.0 {
            let what = format!("{name}[{i}]");
            return Err(Failure::Differs { what, found, expected, times });
        }
        worst = worst.max(times);
    }
    Ok(worst)
}
