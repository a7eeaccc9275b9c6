//! The whole suite: every check of every operation on every device, and where it is at.

use wgrad_ops::{Entry, FAMILIES, ops};
use wgrad_program::Device;

use crate::report::{Check, Outcome, Report, Verdict};
use crate::rig::Rig;
use crate::trial::Trial;
use crate::{device, gradient, groups, lint, random, shader, shape, step};

/// How much is checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only operations whose name contains this.
    pub only: Option<String>,
    /// Only operations of the family of this name.
    pub family: Option<String>,
    /// Random samples of each operation.
    pub samples: u64,
    /// Seed of the first sample; the others follow.
    pub seed: u64,
    /// The checks to run.
    pub checks: Vec<Check>,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: None, family: None, samples: 5, seed: 0, checks: Check::ALL.to_vec() }
    }
}

/// A device under test.
pub struct Subject {
    /// How reports name it.
    pub name: String,
    /// The device.
    pub device: Box<dyn Device>,
    /// Only operations that multiply matrices: the device differs from another one in how it does that.
    pub products_only: bool,
}

/// Where a suite is at.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Operation that comes next.
    pub entry: &'a str,
    /// Device it comes next on, or `reference`.
    pub device: &'a str,
    /// Operations done.
    pub done: usize,
    /// Operations in all.
    pub total: usize,
}

/// Name of the device of checks that need none.
pub const REFERENCE: &str = "reference";

/// Runs the checks that need no device: the table, the shapes, the gradients in f64 and the shaders.
pub fn check_reference(options: &Options, progress: &mut dyn FnMut(Progress<'_>)) -> Report {
    let mut suite = Suite { options, device: REFERENCE, report: Report::default() };
    let entries = options.entries();
    for (done, entry) in entries.iter().enumerate() {
        progress(Progress { entry: entry.name, device: REFERENCE, done, total: entries.len() });
        suite.run(entry.name, Check::Lint, 0, || lint::lint(entry));
        suite.run(entry.name, Check::Refusal, 0, || shape::refusal(entry));
        for seed in options.seeds() {
            let trial = Trial::draw(entry, seed);
            suite.run(entry.name, Check::Shape, seed, || shape::shape(&trial));
            suite.run(entry.name, Check::Gradient, seed, || gradient::gradient(&trial));
            suite.run(entry.name, Check::SecondGradient, seed, || gradient::second_gradient(&trial));
            suite.run(entry.name, Check::Random, seed, || random::random(&trial));
            suite.run(entry.name, Check::Shader, seed, || shader::trial(&trial));
        }
    }
    if options.is_whole() {
        suite.run("scalar functions", Check::Lint, 0, lint::scalar_names);
        suite.run("training step", Check::Random, 0, step::streams);
        suite.run("training step", Check::Shader, 0, shader::training);
    }
    suite.report
}

/// Runs the checks of one device.
pub fn check_device(subject: &Subject, options: &Options, progress: &mut dyn FnMut(Progress<'_>)) -> Report {
    let mut suite = Suite { options, device: &subject.name, report: Report::default() };
    let rig = Rig::new(&*subject.device);
    let entries = options.entries();
    for (done, entry) in entries.iter().enumerate() {
        progress(Progress { entry: entry.name, device: &subject.name, done, total: entries.len() });
        for seed in options.seeds() {
            let trial = Trial::draw(entry, seed);
            if subject.products_only && !device::multiplies(&trial).unwrap_or(true) {
                continue;
            }
            if let Ok(Some(reason)) = device::unsupported(&rig, &trial) {
                suite.report.skipped.push(format!("{} on {}: {reason}", entry.name, subject.name));
                break;
            }
            suite.run(entry.name, Check::Value, seed, || device::value(&rig, &trial));
            suite.run(entry.name, Check::Magnitude, seed, || device::magnitude(&rig, &trial));
            suite.run(entry.name, Check::NotANumber, seed, || device::not_a_number(&rig, &trial));
            // Once each is enough: they find mistakes of the planner and the backend, not of an operation.
            if seed == options.seed {
                suite.run(entry.name, Check::Unfused, seed, || device::unfused(&rig, &trial));
                suite.run(entry.name, Check::Replay, seed, || device::replay(&rig, &trial));
            }
        }
    }
    if options.is_whole() {
        whole_programs(&mut suite, &rig);
    }
    suite.report
}

fn whole_programs(suite: &mut Suite<'_>, rig: &Rig<'_>) {
    suite.run("training step", Check::Step, 0, || step::step(rig, true));
    suite.run("training step, unfused", Check::Step, 0, || step::step(rig, false));
    if groups::fits(rig) {
        for large in groups::LARGE {
            suite.run(large.name, Check::Groups, 0, || groups::groups(rig, large));
        }
    } else {
        suite.report.skipped.push(format!("large domains on {}: the device cannot bind them", suite.device));
    }
}

/// Runs everything on every device.
pub fn suite(options: &Options, subjects: &[Subject], progress: &mut dyn FnMut(Progress<'_>)) -> Report {
    let mut report = check_reference(options, progress);
    for subject in subjects {
        report.extend(check_device(subject, options, progress));
    }
    report
}

impl Options {
    /// The operations to check.
    pub fn entries(&self) -> Vec<&'static Entry> {
        let in_family = |entry: &Entry| {
            self.family.as_ref().is_none_or(|name| {
                let family = FAMILIES.iter().find(|family| family.name == name);
                family.is_some_and(|family| family.entries.iter().any(|other| other.name == entry.name))
            })
        };
        let named = |entry: &Entry| self.only.as_ref().is_none_or(|part| entry.name.contains(part));
        ops().filter(|entry| named(entry) && in_family(entry)).collect()
    }

    /// True when nothing restricts it to some operations: then whole programs are checked too.
    fn is_whole(&self) -> bool {
        self.only.is_none() && self.family.is_none()
    }

    fn seeds(&self) -> std::ops::Range<u64> {
        self.seed..self.seed + self.samples
    }
}

struct Suite<'a> {
    options: &'a Options,
    device: &'a str,
    report: Report,
}

impl Suite<'_> {
    fn run(&mut self, subject: &str, check: Check, seed: u64, verdict: impl FnOnce() -> Verdict) {
        if self.options.checks.contains(&check) {
            let (subject, device) = (subject.to_owned(), self.device.to_owned());
            self.report.outcomes.push(Outcome { subject, device, check, seed, verdict: verdict() });
        }
    }
}
