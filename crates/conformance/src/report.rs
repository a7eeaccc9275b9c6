//! What the checks found: one [`Outcome`] an operation, device and check, and the [`Report`] that holds them.

use std::fmt;

use wgrad_cpu::reference::ReferenceError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;

/// What is checked. The numbers are those of the design's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// The table itself: names, documentation, tolerances (7).
    Lint,
    /// What was produced has the type that `infer` said (1).
    Shape,
    /// Wrong inputs are refused with the operation, the shapes and the rule (1).
    Refusal,
    /// The judge agrees with a definition in plain loops, for operations that have one (1).
    Definition,
    /// Gradient against central differences in f64 (2).
    Gradient,
    /// Gradient of the gradient against central differences in f64 (3).
    SecondGradient,
    /// Numbers of different streams and steps are independent, those of one key equal (7).
    Random,
    /// The WGSL of every kernel is valid, and can be written for every API (4).
    Shader,
    /// A device agrees with the f64 reference (5).
    Value,
    /// A device agrees with the reference where inputs are large (5).
    Magnitude,
    /// A device keeps a NaN where the reference has one, and makes none elsewhere (5).
    NotANumber,
    /// Domains that need more than 65,535 workgroups (5).
    Groups,
    /// Every operation a kernel of its own agrees with operations fused (6).
    Unfused,
    /// The same inputs give the same bits again, whatever ran in between (6).
    Replay,
    /// A whole training step agrees with the reference, and padding stays zero (6).
    Step,
}

impl Check {
    /// Every check.
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

    /// A short name.
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

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The graph could not be recorded, differentiated or planned.
    #[error("{0}")]
    Graph(#[from] GraphError),
    /// The device refused the program or broke down.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// The reference cannot evaluate the graph.
    #[error("the reference fails: {0}")]
    Reference(#[from] ReferenceError),
    /// A number is wrong.
    #[error("{what}: {found} instead of {expected}, {times:.1} times what is tolerated")]
    Differs {
        /// Which number.
        what: String,
        /// What was found.
        found: f64,
        /// What it should be.
        expected: f64,
        /// The difference relative to the tolerance.
        times: f64,
    },
    /// Something else that must hold does not.
    #[error("{0}")]
    Broken(String),
}

/// The largest error found relative to what is tolerated, at most 1; 0 where nothing is measured.
pub type Verdict = Result<f64, Failure>;

/// What one check of one operation found on one device.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Name of the operation, or of the program that is checked as a whole.
    pub subject: String,
    /// Name of the device, or `reference` for what needs none.
    pub device: String,
    /// The check.
    pub check: Check,
    /// Seed of the sample: `wgrad verify --only SUBJECT --seed SEED` reproduces it.
    pub seed: u64,
    /// Largest error relative to the tolerance, or why it failed.
    pub verdict: Verdict,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {}, seed {}: ", self.subject, self.device, self.check, self.seed)?;
        match &self.verdict {
            Ok(worst) => write!(f, "passed ({worst:.3} of the tolerance)"),
            Err(failure) => write!(f, "{failure}"),
        }
    }
}

/// What all checks found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they ran.
    pub outcomes: Vec<Outcome>,
    /// Known failures of drivers, which are not among the outcomes, and why they are tolerated.
    pub expected: Vec<(Outcome, &'static str)>,
    /// What could not be checked, and why.
    pub skipped: Vec<String>,
}

/// Totals of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name of the device, or `reference`.
    pub device: String,
    /// Subjects checked.
    pub subjects: usize,
    /// Names of those with a failure.
    pub failed: Vec<String>,
    /// Checks run.
    pub checks: usize,
    /// Largest error relative to its tolerance among the checks that passed, and whose it was.
    pub worst: (f64, String),
}

impl Report {
    /// Everything that failed.
    pub fn failures(&self) -> Vec<&Outcome> {
        self.outcomes.iter().filter(|o| o.verdict.is_err()).collect()
    }

    /// Totals by device, in the order in which they first appear.
    pub fn rows(&self) -> Vec<Row> {
        let mut devices: Vec<&str> = Vec::new();
        for outcome in &self.outcomes {
            if !devices.contains(&outcome.device.as_str()) {
                devices.push(&outcome.device);
            }
        }
        devices.into_iter().map(|device| self.row(device)).collect()
    }

    fn row(&self, device: &str) -> Row {
        let of_device: Vec<&Outcome> = self.outcomes.iter().filter(|o| o.device == device).collect();
        let names = |failed: bool| {
            let chosen = of_device.iter().filter(|o| !failed || o.verdict.is_err());
            let mut names: Vec<String> = chosen.map(|o| o.subject.clone()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let worst = of_device.iter().filter_map(|o| Some((*o.verdict.as_ref().ok()?, o)));
        let worst = worst
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(x, o)| (x, format!("{} ({})", o.subject, o.check)));
        Row {
            device: device.to_owned(),
            subjects: names(false).len(),
            failed: names(true),
            checks: of_device.len(),
            worst: worst.unwrap_or_default(),
        }
    }
}

impl Report {
    /// Adds what another report found.
    pub fn extend(&mut self, other: Report) {
        self.outcomes.extend(other.outcomes);
        self.expected.extend(other.expected);
        self.skipped.extend(other.skipped);
    }
}
