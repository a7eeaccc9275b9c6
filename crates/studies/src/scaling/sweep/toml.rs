//! Sweeps from TOML, with the place of every mistake.

use super::{HeldOut, Sweep};
use crate::scaling::laws::{BETTER, PLAIN};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

const QUICK: &str = include_str!("quick.toml");
const FULL: &str = include_str!("full.toml");

/// Why there is no such sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The file cannot be read.
    #[error("cannot read the sweep in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text is not TOML, a key is missing or unknown, or a value has the wrong type.
    #[error("{origin}: {source}")]
    Syntax {
        /// The file.
        origin: String,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A value out of range.
    #[error("{origin}: `{key}` {problem}")]
    Invalid {
        /// The file.
        origin: String,
        /// Section and key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The sweep that comes with wgrad: a short one that two cores are done with in minutes, or the full one.
///
/// # Errors
/// None; a test reads both.
pub fn builtin(quick: bool) -> Result<Sweep, SweepError> {
    if quick { parse(QUICK, "quick.toml") } else { parse(FULL, "full.toml") }
}

/// Reads the sweep of a file.
///
/// # Errors
/// [`SweepError`].
pub fn read(path: &Path) -> Result<Sweep, SweepError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SweepError::Read { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string())
}

/// Reads a sweep from TOML. `origin` names the text in errors.
///
/// # Errors
/// [`SweepError::Syntax`] and [`SweepError::Invalid`].
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

/// Evaluations of a training and units of a layer, at most.
const MOST_EVALUATIONS: u64 = 1000;
const WIDEST: u64 = 1 << 16;

type Problem = (String, String);

fn check(sweep: &Sweep) -> Result<(), Problem> {
    let training = &sweep.training;
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
        require(value > 0, || format!("training.{key}"), "is 0, and takes 1 at least")?;
    }
    require(training.evaluations <= MOST_EVALUATIONS, || "training.evaluations".into(), "is at most 1000")?;
    examples("training.rate_examples", &[training.rate_examples], training.batch)?;
    require(
        !sweep.laws.is_empty() || !sweep.versus.is_empty(),
        || "law".into(),
        "is missing, and so is `versus`: there is nothing to train",
    )?;
    require(training.ema >= 0.0 && training.ema < 1.0, || "training.ema".into(), "is from 0 to below 1")?;
    rising("training.rates", &training.rates)?;
    for (i, law) in sweep.laws.iter().enumerate() {
        let key = |name: &str| format!("law[{i}].{name}");
        rising(&key("widths"), &law.widths.iter().map(|&n| n as f64).collect::<Vec<_>>())?;
        let widths = law.widths.iter().copied().chain(law.held_out.iter().map(|larger| larger.width));
        require(widths.max() <= Some(WIDEST), || key("widths"), "are at most 65536")?;
        examples(&key("examples"), &law.examples, training.batch)?;
        let larger: Vec<u64> = law.held_out.iter().map(|larger| larger.examples).collect();
        larger.iter().try_for_each(|n| examples(&key("held_out"), &[*n], training.batch))?;
        let (width, data) = (law.widths.last().copied(), law.examples.last().copied());
        let beyond = |larger: &HeldOut| {
            let at = (Some(larger.width), Some(larger.examples));
            at.0 >= width && at.1 >= data && at != (width, data)
        };
        let problem = "is not larger than all widths and examples of the law: there is nothing to predict";
        require(law.held_out.iter().all(beyond), || key("held_out"), problem)?;
        distinct(&key("seeds"), &law.seeds)?;
        require(law.epochs > 0, || key("epochs"), "is 0, and takes 1 at least")?;
        let [least, most] = law.steps;
        require(least > 0 && least <= most, || key("steps"), "is the fewest steps and the most, from 1 on")?;
        depth(&key("depth"), law.family, law.depth)?;
    }
    for (i, versus) in sweep.versus.iter().enumerate() {
        let key = |name: &str| format!("versus[{i}].{name}");
        rising(&key("flops"), &versus.flops)?;
        examples(&key("examples"), &versus.examples, training.batch)?;
        distinct(&key("seeds"), &versus.seeds)?;
        let families = versus.networks.map(|network| network.family.name());
        require(
            families == [PLAIN, BETTER],
            || key("networks"),
            "are a plain one, mlp, and a better one, resnet",
        )?;
        for network in &versus.networks {
            let right = (1..=WIDEST).contains(&network.width);
            require(right, || key("networks"), "have a width from 1 to 65536")?;
            depth(&key("networks"), network.family, network.depth)?;
        }
    }
    let jobs = sweep.all_jobs();
    let mut seen = BTreeSet::new();
    match jobs.iter().find(|job| !seen.insert(&job.id)) {
        Some(twice) => Err(("law".into(), format!("makes the training {} twice", twice.id))),
        None => Ok(()),
    }
}

fn distinct(key: &str, seeds: &[u64]) -> Result<(), Problem> {
    require(!seeds.is_empty(), || key.to_owned(), "is empty")?;
    let different: BTreeSet<&u64> = seeds.iter().collect();
    require(different.len() == seeds.len(), || key.to_owned(), "has one of them twice")
}

fn require(right: bool, key: impl Fn() -> String, problem: &str) -> Result<(), Problem> {
    if right { Ok(()) } else { Err((key(), problem.to_owned())) }
}

fn rising(key: &str, values: &[f64]) -> Result<(), Problem> {
    let right = values.first().is_some_and(|first| *first > 0.0 && first.is_finite())
        && values.windows(2).all(|pair| pair[0] < pair[1] && pair[1].is_finite());
    require(right, || key.to_owned(), "is a list of positive numbers that rise")
}

fn examples(key: &str, values: &[u64], batch: u64) -> Result<(), Problem> {
    rising(key, &values.iter().map(|&n| n as f64).collect::<Vec<_>>())?;
    let problem = format!("has fewer examples than training.batch, which is {batch}");
    require(values.iter().all(|n| *n >= batch), || key.to_owned(), &problem)
}

fn depth(key: &str, family: super::Family, depth: u64) -> Result<(), Problem> {
    match family {
        super::Family::Mlp => {
            require(depth > 0, || key.to_owned(), "is 0 hidden layers, and takes 1 at least")
        }
        super::Family::ResNet => {
            let right = depth >= 8 && depth % 6 == 2;
            require(right, || key.to_owned(), "of a residual network is 6n + 2: 8, 14, 20 …")
        }
    }
}
