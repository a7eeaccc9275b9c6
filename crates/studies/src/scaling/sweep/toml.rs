//! Reader for sweeps in TOML. Errors name the invalid key.

use super::{Comparison, Family, HeldOut, LawGrid, Sweep, Training};
use crate::scaling::laws::{BETTER, PLAIN};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::ErrorKind;

const QUICK: &str = include_str!("quick.toml");
const FULL: &str = include_str!("full.toml");

/// Reason why a sweep cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The file cannot be read.
    #[error("cannot read the sweep in {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The text is not valid TOML, a key is missing or unknown, or a value has the wrong type.
    #[error("{origin}: {source}")]
    Syntax {
        /// Name of the file.
        origin: String,
        /// Error of the TOML parser, with its line and column.
        source: Box<toml::de::Error>,
    },
    /// A value is out of range.
    #[error("{origin}: `{key}` {problem}")]
    Invalid {
        /// Name of the file.
        origin: String,
        /// Section and name of the key, e.g. `law[0].widths`.
        key: String,
        /// Description of the problem, as the rest of a sentence that begins with the key.
        problem: String,
    },
}

impl SweepError {
    /// Returns the kind of the error, from which the command line derives its exit code.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Returns a built-in sweep. If `quick` is true, this is the short sweep, which takes minutes on two CPU cores.
/// Otherwise, it is the full sweep.
///
/// # Errors
/// Returns an error if the built-in text is invalid, which a test rules out.
pub fn builtin(quick: bool) -> Result<Sweep, SweepError> {
    if quick { parse(QUICK, "quick.toml") } else { parse(FULL, "full.toml") }
}

/// Reads a sweep from a file.
///
/// # Errors
/// Returns an error if the file cannot be read, or under the conditions of [`parse`].
pub fn read(path: &Path) -> Result<Sweep, SweepError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SweepError::Read { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string())
}

/// Parses a sweep from TOML. `origin` is the name of the text in error messages, e.g. the file name.
///
/// # Errors
/// Returns an error if the text is not valid TOML, a key is missing or unknown, a value has the wrong type or is out of
/// range, or two training runs have the same name.
pub fn parse(text: &str, origin: &str) -> Result<Sweep, SweepError> {
    let sweep: Sweep = toml::from_str(text)
        .map_err(|source| SweepError::Syntax { origin: origin.to_owned(), source: Box::new(source) })?;
    check(&sweep).map_err(|(key, problem)| SweepError::Invalid {
        origin: origin.to_owned(),
        key,
        problem,
    })?;
    Ok(sweep)
}

/// Maximum number of evaluations of a training run.
const MAX_EVALUATIONS: u64 = 1000;
/// Maximum width of a layer.
const MAX_WIDTH: u64 = 1 << 16;

/// Key of an invalid value, and description of the problem.
type Problem = (String, String);

fn check(sweep: &Sweep) -> Result<(), Problem> {
    check_training(&sweep.training)?;
    require(
        !sweep.laws.is_empty() || !sweep.comparisons.is_empty(),
        || "law".into(),
        "and `versus` are both missing; define at least one of them",
    )?;
    for (i, grid) in sweep.laws.iter().enumerate() {
        check_grid(i, grid, sweep.training.batch)?;
    }
    for (i, comparison) in sweep.comparisons.iter().enumerate() {
        check_comparison(i, comparison, sweep.training.batch)?;
    }
    let jobs = sweep.all_jobs();
    let mut seen = BTreeSet::new();
    match jobs.iter().find(|job| !seen.insert(&job.id)) {
        Some(duplicate) => {
            Err(("law".into(), format!("defines the training run {} more than once", duplicate.id)))
        }
        None => Ok(()),
    }
}

fn check_training(training: &Training) -> Result<(), Problem> {
    let counts = [
        ("batch", training.batch),
        ("rate_steps", training.rate_steps),
        ("rate_examples", training.rate_examples),
        ("validation", training.validation),
        ("test", training.test),
        ("evaluations", training.evaluations),
        ("patience", training.patience),
    ];
    for (key, value) in counts {
        require(value > 0, || format!("training.{key}"), "must be at least 1, not 0")?;
    }
    let few = training.evaluations <= MAX_EVALUATIONS;
    require(few, || "training.evaluations".into(), "must be at most 1000")?;
    check_examples("training.rate_examples", &[training.rate_examples], training.batch)?;
    let valid_decay = training.ema >= 0.0 && training.ema < 1.0;
    require(valid_decay, || "training.ema".into(), "must be at least 0 and less than 1")?;
    check_ascending("training.rates", &training.rates)
}

fn check_grid(i: usize, grid: &LawGrid, batch: u64) -> Result<(), Problem> {
    let key = |name: &str| format!("law[{i}].{name}");
    check_ascending(&key("widths"), &grid.widths.iter().map(|&n| n as f64).collect::<Vec<_>>())?;
    let widths = grid.widths.iter().copied().chain(grid.held_out.iter().map(|larger| larger.width));
    require(widths.max() <= Some(MAX_WIDTH), || key("widths"), "must be at most 65536")?;
    check_examples(&key("examples"), &grid.examples, batch)?;
    let larger: Vec<u64> = grid.held_out.iter().map(|larger| larger.examples).collect();
    larger.iter().try_for_each(|n| check_examples(&key("held_out"), &[*n], batch))?;
    let (width, examples) = (grid.widths.last().copied(), grid.examples.last().copied());
    let is_larger = |held_out: &HeldOut| {
        let size = (Some(held_out.width), Some(held_out.examples));
        size.0 >= width && size.1 >= examples && size != (width, examples)
    };
    let problem =
        "must be larger than all widths and examples of the law, because only such runs are predicted";
    require(grid.held_out.iter().all(is_larger), || key("held_out"), problem)?;
    check_distinct(&key("seeds"), &grid.seeds)?;
    require(grid.epochs > 0, || key("epochs"), "must be at least 1, not 0")?;
    let [least, most] = grid.steps;
    let problem = "must be the minimum and the maximum number of steps, in this order and at least 1";
    require(least > 0 && least <= most, || key("steps"), problem)?;
    check_depth(&key("depth"), grid.family, grid.depth)
}

fn check_comparison(i: usize, comparison: &Comparison, batch: u64) -> Result<(), Problem> {
    let key = |name: &str| format!("versus[{i}].{name}");
    check_ascending(&key("flops"), &comparison.flops)?;
    check_examples(&key("examples"), &comparison.examples, batch)?;
    check_distinct(&key("seeds"), &comparison.seeds)?;
    let families = comparison.networks.map(|network| network.family.name());
    let problem = "must be an mlp and a resnet, in this order";
    require(families == [PLAIN, BETTER], || key("networks"), problem)?;
    for network in &comparison.networks {
        let valid = (1..=MAX_WIDTH).contains(&network.width);
        require(valid, || key("networks"), "must have a width from 1 to 65536")?;
        check_depth(&key("networks"), network.family, network.depth)?;
    }
    Ok(())
}

fn check_distinct(key: &str, seeds: &[u64]) -> Result<(), Problem> {
    require(!seeds.is_empty(), || key.to_owned(), "must not be empty")?;
    let distinct: BTreeSet<&u64> = seeds.iter().collect();
    require(distinct.len() == seeds.len(), || key.to_owned(), "must not contain a seed more than once")
}

fn require(valid: bool, key: impl Fn() -> String, problem: &str) -> Result<(), Problem> {
    if valid { Ok(()) } else { Err((key(), problem.to_owned())) }
}

fn check_ascending(key: &str, values: &[f64]) -> Result<(), Problem> {
    let valid = values.first().is_some_and(|first| *first > 0.0 && first.is_finite())
        && values.windows(2).all(|pair| pair[0] < pair[1] && pair[1].is_finite());
    require(valid, || key.to_owned(), "must be a list of positive numbers in ascending order")
}

fn check_examples(key: &str, values: &[u64], batch: u64) -> Result<(), Problem> {
    check_ascending(key, &values.iter().map(|&n| n as f64).collect::<Vec<_>>())?;
    let problem = format!("must be at least training.batch, which is {batch}");
    require(values.iter().all(|n| *n >= batch), || key.to_owned(), &problem)
}

fn check_depth(key: &str, family: Family, depth: u64) -> Result<(), Problem> {
    match family {
        Family::Mlp => require(depth > 0, || key.to_owned(), "must be at least 1 hidden layer, not 0"),
        Family::ResNet => {
            let valid = depth >= 8 && depth % 6 == 2;
            require(
                valid,
                || key.to_owned(),
                "must have a depth of 6n + 2 for a residual network: 8, 14, 20 …",
            )
        }
    }
}
