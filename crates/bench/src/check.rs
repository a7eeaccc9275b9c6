//! What has to come out of a work, and whether it did.
//!
//! The judge is the f64 reference, which walks the graph in plain loops. Where those would take too long the judge is the CPU
//! backend in f64: it shares the planner and the shape of its kernels with the CPU backend in f32, but not a bit of their
//! arithmetic, and nothing but the planner with a GPU. `wgrad verify` holds the same kernels against the reference at sizes
//! that the reference can do. Every element of every result is compared, never a sample.

use wgrad_cpu::CpuDevice;
use wgrad_cpu::reference::{self, Array, State, Values};
use wgrad_graph::{DType, GroupId};
use wgrad_program::HostData;

use crate::error::BenchError;
use crate::loaded::{Loaded, plan};
use crate::work::{Kinked, Work};

/// The reference judges works up to so many floating-point operations.
const REFERENCE_FLOPS: u64 = 12_000_000;

/// Who says what is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The f64 reference.
    Reference,
    /// The CPU backend in f64.
    CpuF64,
}

impl Judge {
    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Judge::Reference => "reference",
            Judge::CpuF64 => "cpu-f64",
        }
    }
}

/// What one run has to leave behind, from the state that the work begins with.
pub struct Expected {
    /// Who says so.
    pub by: Judge,
    outputs: Vec<Vec<f64>>,
    groups: Vec<(GroupId, Vec<f64>)>,
}

/// The element that is furthest off.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Its error over its tolerance; above 1 is wrong, and NaN where no finite number came out.
    pub worst: f64,
    /// Where it is, e.g. `product[17]`; a tensor's name alone where the norm of its error is too large.
    pub at: String,
    /// What came out.
    pub found: f64,
    /// What should have.
    pub expected: f64,
}

impl Verdict {
    /// Whether everything is within its tolerance.
    pub fn is_right(&self) -> bool {
        self.worst <= 1.0
    }
}

impl Expected {
    /// Asks the judge that fits the size of the work.
    ///
    /// # Errors
    /// The graph is wrong, or the judge cannot evaluate it.
    pub fn of(work: &Work) -> Result<Self, BenchError> {
        let cost = plan(&CpuDevice::f64(), work)?.cost();
        let judge = if cost.flops <= REFERENCE_FLOPS { Judge::Reference } else { Judge::CpuF64 };
        Self::by(judge, work)
    }

    /// Asks this judge.
    ///
    /// # Errors
    /// As [`Expected::of`].
    pub fn by(judge: Judge, work: &Work) -> Result<Self, BenchError> {
        match judge {
            Judge::Reference => reference(work),
            Judge::CpuF64 => {
                let mut loaded = Loaded::new(&CpuDevice::f64(), work)?;
                loaded.run()?;
                let outputs = loaded.outputs()?.iter().map(floats).collect();
                let groups = loaded.updated()?.iter().map(|(group, data)| (*group, floats(data))).collect();
                Ok(Self { by: judge, outputs, groups })
            }
        }
    }

    /// Runs the work once, as it was loaded, and compares everything that the run leaves behind.
    ///
    /// # Errors
    /// What the device reports.
    pub fn judge(&self, work: &Work, loaded: &mut Loaded<'_>) -> Result<Verdict, BenchError> {
        loaded.first_run()?;
        let mut worst = Worst::default();
        let within = Within::Element(work.tolerance);
        let outputs = loaded.outputs()?;
        let names = work.graph.outputs();
        for ((name, _), (found, expected)) in names.iter().zip(outputs.iter().zip(&self.outputs)) {
            worst.compare(name, &floats(found), expected, within);
        }
        for ((group, found), (_, expected)) in loaded.updated()?.iter().zip(&self.groups) {
            let found = floats(found);
            let absolute = work.absolute.iter().find(|(which, _)| which == group).map(|(_, most)| *most);
            let within = match (absolute, work.kinked) {
                (Some(most), _) => Within::Absolute(most),
                (None, true) => Within::Kinked(Kinked::DEFAULT),
                (None, false) => within,
            };
            let group = work.graph.states().get(*group);
            for entry in &group.entries {
                let range = entry.offset..entry.offset + entry.shape.numel();
                let name = format!("{}.{}", group.name, entry.name);
                worst.compare(&name, &found[range.clone()], &expected[range], within);
            }
        }
        Ok(worst.0.unwrap_or(Verdict { worst: f64::NAN, at: "nothing".into(), found: 0.0, expected: 0.0 }))
    }
}

fn reference(work: &Work) -> Result<Expected, BenchError> {
    let graph = &work.graph;
    let mut state = State::zeros(graph.states());
    for (group, data) in &work.data {
        state.groups[group.0].values = match data {
            HostData::F32(values) => Values::Float(values.iter().map(|&x| f64::from(x)).collect()),
            HostData::U32(values) => Values::U32(values.clone()),
        };
    }
    let inputs = graph.inputs().into_iter().map(|(_, ty)| match (ty.dtype, &work.update) {
        (DType::U32, _) => Array::u32(ty.shape.clone(), vec![1, 0, 1]),
        (_, Some(update)) => {
            let hyper = update.optimizer.hyper(update.rate, 1);
            Array::float(ty, hyper.iter().map(|&x| f64::from(x)).collect())
        }
        (_, None) => Array::zeros(ty),
    });
    let outputs = reference::step(graph, &inputs.collect::<Vec<_>>(), &mut state)?;
    Ok(Expected {
        by: Judge::Reference,
        outputs: outputs.iter().map(Array::to_f64).collect(),
        groups: work.updated().into_iter().map(|group| (group, state.groups[group.0].to_f64())).collect(),
    })
}

fn floats(data: &HostData) -> Vec<f64> {
    match data {
        HostData::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        HostData::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
    }
}

/// What a tensor has to be within.
#[derive(Clone, Copy)]
enum Within {
    /// Of each element: relative to it or to the root mean square of its tensor.
    Element(f64),
    /// Of each element, whatever its size.
    Absolute(f64),
    /// Of each element, and of the whole.
    Kinked(Kinked),
}

/// The worst element so far.
#[derive(Default)]
struct Worst(Option<Verdict>);

impl Worst {
    fn compare(&mut self, name: &str, found: &[f64], expected: &[f64], within: Within) {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut expected.iter().copied().filter(|x| x.is_finite()));
        if found.len() != expected.len() {
            let at = format!("the size of {name}");
            let (found, expected) = (found.len() as f64, expected.len() as f64);
            return self.note(Verdict { worst: f64::NAN, at, found, expected });
        }
        let typical = size / (expected.len().max(1) as f64).sqrt();
        for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            // A tensor of zeros has to be one of zeros.
            let scale = expected.abs().max(typical).max(f64::MIN_POSITIVE);
            let most = match within {
                Within::Element(relative) | Within::Kinked(Kinked { element: relative, .. }) => {
                    relative * scale
                }
                Within::Absolute(most) => most,
            };
            let worst = (found - expected).abs() / most;
            if self.is_worse(worst) {
                self.note(Verdict { worst, at: format!("{name}[{i}]"), found, expected });
            }
        }
        if let Within::Kinked(Kinked { whole, .. }) = within {
            let off = norm(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
            let worst = off / (whole * size.max(f64::MIN_POSITIVE));
            if self.is_worse(worst) {
                let found = norm(&mut found.iter().copied());
                self.note(Verdict { worst, at: name.to_owned(), found, expected: size });
            }
        }
    }

    fn is_worse(&self, worst: f64) -> bool {
        match &self.0 {
            None => true,
            Some(so_far) => !so_far.worst.is_nan() && (worst.is_nan() || worst > so_far.worst),
        }
    }

    fn note(&mut self, verdict: Verdict) {
        self.0 = Some(verdict);
    }
}
