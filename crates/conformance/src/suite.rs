//! The whole suite: every check of every operation on every device, and where it is at.

use wgrad_ops::{FAMILIES, OpInfo, ops};

use crate::expectations::covering;
use crate::report::{Check, Outcome, Report, Verdict};
use crate::rig::Rig;
use crate::subject::{Scope, Subject};
use crate::trial::Trial;
use crate::{definition, device, gradient, groups, lint, random, shader, shape, step};

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

/// Samples whose shaders are checked: writing a shader in four languages takes longer than all else.
const SHADER_SAMPLES: u64 = 6;

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
            if let Some(definition) = definition::of(entry.name) {
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
            if subject.scope.applies(&trial) && !suite.trial(&rig, subject.scope, &trial) {
                break;
            }
        }
    }
    if options.is_whole() && subject.scope != Scope::Reductions {
        suite.run("linear layer", Check::Value, 0, || step::layer(&rig));
    }
    if options.is_whole() && subject.scope == Scope::All {
        suite.whole_programs(&rig);
    }
    suite.report
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
    /// Checks a trial on a device; false if the device cannot run it.
    fn trial(&mut self, rig: &Rig<'_>, scope: Scope, trial: &Trial) -> bool {
        let (name, seed) = (trial.entry.name, trial.seed);
        if let Ok(Some(reason)) = device::unsupported(rig, trial) {
            self.report.skipped.push(format!("{name} on {}: {reason}", self.device));
            return false;
        }
        self.run(name, Check::Value, seed, || device::value(rig, trial));
        if scope == Scope::All {
            self.run(name, Check::Magnitude, seed, || device::magnitude(rig, trial));
            self.run(name, Check::NotANumber, seed, || device::not_a_number(rig, trial));
            // Once each is enough: they find mistakes of the planner and the backend, not of an operation.
            if seed == self.options.seed {
                self.run(name, Check::Unfused, seed, || device::unfused(rig, trial));
                self.run(name, Check::Replay, seed, || device::replay(rig, trial));
            }
        }
        true
    }

    fn whole_programs(&mut self, rig: &Rig<'_>) {
        self.run("training step", Check::Step, 0, || step::dense(rig, true));
        self.run("training step, unfused", Check::Step, 0, || step::dense(rig, false));
        self.run("training step of images", Check::Step, 0, || step::images(rig, true));
        self.run("training step of images, unfused", Check::Step, 0, || step::images(rig, false));
        if groups::fits(rig) {
            for large in groups::LARGE {
                self.run(large.name, Check::Groups, 0, || groups::groups(rig, large));
            }
        } else {
            self.report
                .skipped
                .push(format!("large domains on {}: the device cannot bind them", self.device));
        }
    }

    fn run(&mut self, subject: &str, check: Check, seed: u64, verdict: impl FnOnce() -> Verdict) {
        if self.options.checks.contains(&check) {
            let verdict = verdict();
            let expected = verdict.is_err().then(|| covering(subject, check, self.device)).flatten();
            let (subject, device) = (subject.to_owned(), self.device.to_owned());
            let outcome = Outcome { subject, device, check, seed, verdict };
            match expected {
                Some(expectation) => self.report.expected.push((outcome, expectation.reason)),
                None => self.report.outcomes.push(outcome),
            }
        }
    }
}
