//! Results of the checks: one [`Outcome`] per operation, device and check, collected in a [`Report`].

use std::fmt;

use wgrad_cpu::reference::ReferenceError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;
use wgrad_stdx::ErrorKind;

/// Kind of check. Each kind tests one property of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// Names, documentation and tolerances in the operation table are valid.
    Lint,
    /// Results have the dtype and shape that `infer` returned.
    Shape,
    /// Invalid inputs are rejected with a message that contains the operation, the shapes and the violated rule.
    Refusal,
    /// The reference agrees with a definition in plain loops. Applies only to operations that have a definition.
    Definition,
    /// Gradients agree with central differences in f64.
    Gradient,
    /// Second gradients agree with central differences in f64.
    SecondGradient,
    /// Random values of different streams and steps differ, and equal keys give equal values.
    Random,
    /// The WGSL of every kernel is valid and can be translated to every backend language.
    Shader,
    /// A device agrees with the f64 reference.
    Value,
    /// A device agrees with the reference for large inputs.
    Magnitude,
    /// A device returns NaN at exactly the elements at which the reference returns NaN.
    NotANumber,
    /// Results over domains of more than 65,535 workgroups are exact.
    Groups,
    /// A program with one kernel per operation agrees with the program with fused kernels.
    Unfused,
    /// Equal inputs give bit-identical results, even if other inputs are run in between.
    Replay,
    /// A complete training step agrees with the reference, and the padding of the state stays zero.
    Step,
}

impl Check {
    /// All checks.
    pub const ALL: [Check; 15] = [
        Check::Lint,
        Check::Shape,
        Check::Refusal,
        Check::Definition,
        Check::Gradient,
        Check::SecondGradient,
        Check::Random,
        Check::Shader,
        Check::Value,
        Check::Magnitude,
        Check::NotANumber,
        Check::Groups,
        Check::Unfused,
        Check::Replay,
        Check::Step,
    ];

    /// Returns the name of the check in lower case, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Check::Lint => "lint",
            Check::Shape => "shape",
            Check::Refusal => "refusal",
            Check::Definition => "definition",
            Check::Gradient => "gradient",
            Check::SecondGradient => "second gradient",
            Check::Random => "random",
            Check::Shader => "shader",
            Check::Value => "value",
            Check::Magnitude => "magnitude",
            Check::NotANumber => "nan",
            Check::Groups => "groups",
            Check::Unfused => "unfused",
            Check::Replay => "replay",
            Check::Step => "step",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reason why a check failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The graph cannot be recorded, differentiated or planned.
    #[error("{0}")]
    Graph(#[from] GraphError),
    /// The device rejected the program or failed.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// The reference cannot evaluate the graph.
    #[error("the reference cannot evaluate the graph: {0}")]
    Reference(#[from] ReferenceError),
    /// The difference between a value and its expected value exceeds the tolerance.
    #[error("{what} is {found}, expected {expected}; the error is {error_ratio:.1} times the tolerance")]
    Differs {
        /// Name of the compared value, e.g. an output or a gradient.
        what: String,
        /// Computed value.
        found: f64,
        /// Expected value.
        expected: f64,
        /// Error divided by the tolerance.
        error_ratio: f64,
    },
    /// A rule other than a numeric tolerance is violated.
    #[error("{0}")]
    Violation(String),
}

impl Failure {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Failure::Device(_) => ErrorKind::Device,
            Failure::Graph(_) | Failure::Reference(_) => ErrorKind::Internal,
            Failure::Differs { .. } | Failure::Violation(_) => ErrorKind::Numeric,
        }
    }
}

/// Result of a comparison: the largest error divided by the tolerance, from 0 to 1, or the failure. Checks without a
/// tolerance return 0.
pub type Comparison = Result<f64, Failure>;

/// Result of one check of one operation on one device.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Name of the checked operation, or of the checked program if a complete program is checked.
    pub subject: String,
    /// Name of the device, or `reference` for checks without a device.
    pub device: String,
    /// Kind of check.
    pub check: Check,
    /// Seed of the random sample. `wgrad verify --only SUBJECT --seed SEED` repeats the check.
    pub seed: u64,
    /// Largest error divided by the tolerance, or the failure.
    pub result: Comparison,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {}, seed {}: ", self.subject, self.device, self.check, self.seed)?;
        match &self.result {
            Ok(worst) => write!(f, "passed ({worst:.3} of the tolerance)"),
            Err(failure) => write!(f, "{failure}"),
        }
    }
}

/// Results of all checks.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Outcomes in the order in which the checks ran.
    pub outcomes: Vec<Outcome>,
    /// Failures caused by known driver bugs, with the reasons why they are tolerated. Not included in `outcomes`.
    pub expected: Vec<(Outcome, &'static str)>,
    /// Descriptions of skipped checks, with reasons.
    pub skipped: Vec<String>,
}

/// Totals of all checks on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSummary {
    /// Name of the device, or `reference`.
    pub device: String,
    /// Number of operations and complete programs that were checked on the device.
    pub subjects: usize,
    /// Names of the operations and programs with at least one failure.
    pub failed: Vec<String>,
    /// Number of checks run.
    pub checks: usize,
    /// Largest error divided by its tolerance among the passed checks. The text names the operation and the check that
    /// have this error.
    pub worst: (f64, String),
}

impl Report {
    /// Returns the failed outcomes.
    pub fn failures(&self) -> Vec<&Outcome> {
        self.outcomes.iter().filter(|o| o.result.is_err()).collect()
    }

    /// Returns the totals of each device, in the order in which devices first appear.
    pub fn summaries(&self) -> Vec<DeviceSummary> {
        let mut devices: Vec<&str> = Vec::new();
        for outcome in &self.outcomes {
            if !devices.contains(&outcome.device.as_str()) {
                devices.push(&outcome.device);
            }
        }
        devices.into_iter().map(|device| self.summary(device)).collect()
    }

    fn summary(&self, device: &str) -> DeviceSummary {
        let of_device: Vec<&Outcome> = self.outcomes.iter().filter(|o| o.device == device).collect();
        let names = |failed: bool| {
            let chosen = of_device.iter().filter(|o| !failed || o.result.is_err());
            let mut names: Vec<String> = chosen.map(|o| o.subject.clone()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let worst = of_device.iter().filter_map(|o| Some((*o.result.as_ref().ok()?, o)));
        let worst = worst
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(x, o)| (x, format!("{} ({})", o.subject, o.check)));
        DeviceSummary {
            device: device.to_owned(),
            subjects: names(false).len(),
            failed: names(true),
            checks: of_device.len(),
            worst: worst.unwrap_or_default(),
        }
    }
}

impl Report {
    /// Appends the outcomes, expected failures and skipped checks of another report.
    pub fn extend(&mut self, other: Report) {
        self.outcomes.extend(other.outcomes);
        self.expected.extend(other.expected);
        self.skipped.extend(other.skipped);
    }
}
