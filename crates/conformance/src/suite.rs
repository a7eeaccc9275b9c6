//! Runs all checks of all operations on all devices, and reports progress.

use wgrad_ops::{FAMILIES, OpInfo, ops};

use crate::expectations::find_expectation;
use crate::harness::Harness;
use crate::report::{Check, Comparison, Outcome, Report};
use crate::test_device::{Scope, TestDevice};
use crate::trial::Trial;
use crate::{definition, device, gradient, large_domain, lint, random, shader, shape, step};

/// Selection of the operations, samples and checks of a suite.
#[derive(Debug, Clone)]
pub struct Options {
    /// Restricts the suite to operations whose name contains this text.
    pub only: Option<String>,
    /// Restricts the suite to the operations of this family.
    pub family: Option<String>,
    /// Number of random samples per operation.
    pub samples: u64,
    /// Seed of the first sample. Further samples have consecutive seeds.
    pub seed: u64,
    /// Checks to run.
    pub checks: Vec<Check>,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: None, family: None, samples: 5, seed: 0, checks: Check::ALL.to_vec() }
    }
}

/// Progress of a suite, reported before each operation.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Name of the next operation.
    pub entry: &'a str,
    /// Name of the device that the operation runs on, or `reference`.
    pub device: &'a str,
    /// Number of operations completed on this device.
    pub done: usize,
    /// Total number of operations to check on this device.
    pub total: usize,
}

/// Maximum number of samples per operation whose shaders are checked. Translating the shaders to four languages takes
/// longer than all other checks together.
const SHADER_SAMPLES: u64 = 6;

/// Device name of checks that need no device.
pub const REFERENCE: &str = "reference";

/// Runs the checks that need no device: lint of the operation table, shapes, f64 gradients and shaders. Calls
/// `progress` before each operation.
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
            if let Some(definition) = definition::find(entry.name) {
                suite.run(entry.name, Check::Definition, seed, || definition::definition(definition, seed));
            }
            suite.run(entry.name, Check::Gradient, seed, || gradient::gradient(&trial));
            suite.run(entry.name, Check::SecondGradient, seed, || gradient::second_gradient(&trial));
            suite.run(entry.name, Check::Random, seed, || random::random(&trial));
            if seed < options.seed + SHADER_SAMPLES {
                suite.run(entry.name, Check::Shader, seed, || shader::trial(&trial));
            }
        }
    }
    if options.is_whole() {
        suite.run("scalar functions", Check::Lint, 0, lint::scalar_names);
        suite.run("training step", Check::Random, 0, step::distinct_streams);
        suite.run("training step", Check::Shader, 0, shader::training);
    }
    suite.report
}

/// Runs the checks of one device. Calls `progress` before each operation.
pub fn check_device(
    subject: &TestDevice,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Report {
    let mut suite = Suite { options, device: &subject.name, report: Report::default() };
    let harness = Harness::new(&*subject.device);
    let entries = options.entries();
    for (done, entry) in entries.iter().enumerate() {
        progress(Progress { entry: entry.name, device: &subject.name, done, total: entries.len() });
        for seed in options.seeds() {
            let trial = Trial::draw(entry, seed);
            if subject.scope.applies(&trial) && !suite.trial(&harness, subject.scope, &trial) {
                break;
            }
        }
    }
    if options.is_whole() && subject.scope != Scope::Reductions {
        suite.run("linear layer", Check::Value, 0, || step::layer(&harness));
    }
    if options.is_whole() && subject.scope == Scope::All {
        suite.whole_programs(&harness);
    }
    suite.report
}

/// Runs all checks on all devices, after the checks that need no device.
pub fn suite(options: &Options, subjects: &[TestDevice], progress: &mut dyn FnMut(Progress<'_>)) -> Report {
    let mut report = check_reference(options, progress);
    for subject in subjects {
        report.extend(check_device(subject, options, progress));
    }
    report
}

impl Options {
    /// Returns the entries of the operation table that the options select.
    pub fn entries(&self) -> Vec<&'static OpInfo> {
        let in_family = |entry: &OpInfo| {
            self.family.as_ref().is_none_or(|name| {
                let family = FAMILIES.iter().find(|family| family.name == name);
                family.is_some_and(|family| family.ops.iter().any(|other| other.name == entry.name))
            })
        };
        let named = |entry: &OpInfo| self.only.as_ref().is_none_or(|part| entry.name.contains(part));
        ops().filter(|entry| named(entry) && in_family(entry)).collect()
    }

    /// Whether the options select all operations. Complete programs are checked only in this case.
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
    /// Runs the checks of one trial on a device. Returns false if the device cannot run the trial.
    fn trial(&mut self, harness: &Harness<'_>, scope: Scope, trial: &Trial) -> bool {
        let (name, seed) = (trial.entry.name, trial.seed);
        if let Ok(Some(reason)) = device::unsupported(harness, trial) {
            self.report.skipped.push(format!("{name} on {}: {reason}", self.device));
            return false;
        }
        self.run(name, Check::Value, seed, || device::value(harness, trial));
        if scope == Scope::All {
            self.run(name, Check::Magnitude, seed, || device::magnitude(harness, trial));
            self.run(name, Check::NotANumber, seed, || device::not_a_number(harness, trial));
            // These checks find bugs of the planner and the backend, not of an operation. One sample per operation is
            // therefore enough.
            if seed == self.options.seed {
                self.run(name, Check::Unfused, seed, || device::unfused(harness, trial));
                self.run(name, Check::Replay, seed, || device::replay(harness, trial));
            }
        }
        true
    }

    fn whole_programs(&mut self, harness: &Harness<'_>) {
        self.run("training step", Check::Step, 0, || step::dense(harness, true));
        self.run("training step, unfused", Check::Step, 0, || step::dense(harness, false));
        self.run("training step of images", Check::Step, 0, || step::images(harness, true));
        self.run("training step of images, unfused", Check::Step, 0, || step::images(harness, false));
        if large_domain::fits(harness) {
            for large in large_domain::LARGE {
                self.run(large.name, Check::Groups, 0, || large_domain::large_domain(harness, large));
            }
        } else {
            self.report
                .skipped
                .push(format!("large domains on {}: the device cannot bind the tensors", self.device));
        }
    }

    fn run(&mut self, subject: &str, check: Check, seed: u64, check_fn: impl FnOnce() -> Comparison) {
        if self.options.checks.contains(&check) {
            let result = check_fn();
            let expected = result.is_err().then(|| find_expectation(subject, check, self.device)).flatten();
            let (subject, device) = (subject.to_owned(), self.device.to_owned());
            let outcome = Outcome { subject, device, check, seed, result };
            match expected {
                Some(expectation) => self.report.expected.push((outcome, expectation.reason)),
                None => self.report.outcomes.push(outcome),
            }
        }
    }
}
