//! Power laws with an irreducible term: L(x) = E + A·x^(−α), and L(N, D) = E + A·N^(−α) + B·D^(−β) (Hoffmann et al.,
//! "Training Compute-Optimal Large Language Models", 2022, equations 2 and 10), fitted to the logarithms of losses.
//!
//! - **Robust.** Huber's loss of ln L̂ − ln L. Its δ is 1.345 times the scale of the residuals (at which it is 95% as efficient
//!   as least squares where noise is normal; Huber, 1981), but not below 10⁻³, the δ of Hoffmann et al. The scale is 1.4826
//!   times the median of the n − p + 1 largest absolute residuals of a first fit with δ = 10⁻³ (the p parameters make about as
//!   many residuals vanish; Street, Carroll and Ruppert, 1988).
//! - **Intervals.** 95%, percentiles of a bootstrap of residuals: every point gets the law's value times the residual of a point
//!   drawn with replacement from all, stretched by √(n/(n − p)), and the law is fitted again. To draw within the two or three
//!   seeds of a cell would halve the variance, and to draw whole cells leaves fewer different ones than parameters.
//! - **Bounds.** E from 0 to the lowest loss among the points, below which nothing that is irreducible lies; A, B ≥ 0; exponents
//!   from 0.02 to 2.5.

use super::optimize::{EXPONENTS, Parameters, Points};
use serde::{Deserialize, Serialize};
use std::fmt;
use wgrad_stdx::random::SplitMix64;

/// The least δ of Huber's loss.
const LEAST_DELTA: f64 = 1e-3;
/// δ over the scale of residuals.
const DELTA_OVER_SCALE: f64 = 1.345;
/// Standard deviation over median absolute deviation where noise is normal.
const DEVIATION_OVER_MEDIAN: f64 = 1.4826;
/// An exponent takes so many values of its variable: one more than a straight line, since there is E as well.
const VALUES: usize = 3;

/// What loss is a law of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// Trained numbers, N.
    Parameters,
    /// Different training examples, D.
    Examples,
    /// Training FLOPs, C.
    Compute,
}

impl Variable {
    /// `N`, `D` or `C`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Parameters => "N",
            Self::Examples => "D",
            Self::Compute => "C",
        }
    }

    /// What it limits a training by, in a word.
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::Parameters => "size",
            Self::Examples => "data",
            Self::Compute => "compute",
        }
    }
}

/// Why there is no law.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LawError {
    /// Other seeds of the same size are no other points.
    #[error("{parameters} parameters take as many different points, and there are {points}")]
    TooFewPoints {
        /// How many different ones there are.
        points: usize,
        /// How many the law has.
        parameters: usize,
    },
    /// All points have one or two values of a variable.
    #[error("an exponent and a floor take 3 different values of {}, and there are {values}", variable.letter())]
    TooFewValues {
        /// Which one.
        variable: Variable,
        /// How many it has.
        values: usize,
    },
    /// The compute-optimal sizes are one or two.
    #[error("how the best size grows takes 3 different sizes on the frontier, and there are {sizes}")]
    TooFewSizes {
        /// How many there are.
        sizes: usize,
    },
    /// There is no logarithm of it.
    #[error("a loss of {0} has no logarithm")]
    Loss(
        /// The loss.
        #[serde(with = "wgrad_stdx::float")]
        f64,
    ),
    /// There is no logarithm of it.
    #[error("{} of {value} has no logarithm", variable.letter())]
    Value {
        /// Which one.
        variable: Variable,
        /// What it is.
        #[serde(with = "wgrad_stdx::float")]
        value: f64,
    },
}

/// What points say of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It lies within its bounds.
    Within,
    /// It lies at its lower bound.
    AtLowest,
    /// It lies at its upper bound.
    AtHighest,
    /// An irreducible loss at the lowest loss that was measured: the points do not say how far below that it lies.
    AtMeasured,
    /// Its interval is all that it may be, or what it belongs to is 0: the value says nothing.
    Undetermined,
}

/// A parameter of a law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The best value.
    pub value: f64,
    /// 95% of the bootstrap's values lie between these. None if there are no more points than parameters.
    pub interval: Option<[f64; 2]>,
    /// Whether to trust it.
    pub standing: Standing,
}

impl Estimate {
    fn of(value: f64, draws: &[f64], bounds: [f64; 2]) -> Self {
        let interval = interval(draws);
        let [low, high] = bounds;
        // A hundredth of the way from a bound is at the bound, or nearly.
        let margin = 0.01 * (high - low);
        let spans = |[from, to]: [f64; 2]| from <= low + margin && to >= high - margin;
        let standing = match () {
            () if interval.is_some_and(spans) => Standing::Undetermined,
            () if value <= low + 1e-6 * (high - low) => Standing::AtLowest,
            () if value >= high - 1e-6 * (high - low) => Standing::AtHighest,
            () => Standing::Within,
        };
        Self { value, interval, standing }
    }

    /// Of an irreducible loss, which is no higher than the lowest that was measured.
    fn of_floor(value: f64, draws: &[f64], lowest: f64) -> Self {
        let estimate = Self::of(value, draws, [0.0, lowest]);
        match estimate.standing {
            Standing::AtHighest => Self { standing: Standing::AtMeasured, ..estimate },
            _ => estimate,
        }
    }

    /// Whether its value may be quoted as known.
    pub fn is_determined(&self) -> bool {
        self.standing == Standing::Within
    }
}

/// `0.340 (0.250 to 0.450)`, and in words what stands at a bound.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.interval.map_or([self.value; 2], |[low, high]| [low, high]);
        let size = ends.into_iter().fold(self.value.abs(), |size, end| size.max(end.abs()));
        // What rounding left of a zero is one.
        let three = |value: f64| three(if value.abs() <= f64::EPSILON * size { 0.0 } else { value });
        match self.standing {
            Standing::Within => f.write_str(&three(self.value))?,
            Standing::AtLowest if self.value == 0.0 => f.write_str("0, its bound")?,
            Standing::AtLowest => write!(f, "≤ {}, its bound", three(self.value))?,
            Standing::AtHighest => write!(f, "≥ {}, its bound", three(self.value))?,
            Standing::AtMeasured => write!(f, "≤ {}, not determined", three(self.value))?,
            Standing::Undetermined => f.write_str("not determined")?,
        }
        match self.interval {
            Some([low, high]) => write!(f, " ({} to {})", three(low), three(high)),
            None => Ok(()),
        }
    }
}

/// With three significant digits: intervals do not deserve more.
fn three(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = (2.0 - size.log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{value:.digits$}")
}

/// A term A·x^(−α).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// x.
    pub variable: Variable,
    /// A, the loss of the term at x = 1.
    pub scale: Estimate,
    /// α.
    pub exponent: Estimate,
    /// The smallest and the largest x that it was fitted to.
    pub range: [f64; 2],
}

/// A fitted law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// E, what is left without limits; nats an example.
    pub floor: Estimate,
    /// One or two.
    pub terms: Vec<Term>,
    /// How many points it was fitted to.
    pub points: usize,
    /// How many of them have different variables.
    pub distinct: usize,
    /// Standard deviation of ln L around it, by the median of residuals.
    pub scatter: f64,
    /// δ of Huber's loss.
    pub delta: f64,
    /// Bootstraps behind the intervals.
    pub resamples: usize,
}

impl Law {
    /// The loss where the variables of its terms are these.
    pub fn at(&self, x: &[f64]) -> f64 {
        let terms = self.terms.iter().zip(x);
        self.floor.value + terms.map(|(t, x)| t.scale.value * x.powf(-t.exponent.value)).sum::<f64>()
    }

    /// Whether it has as many parameters as different points: then it passes through them, whatever they are.
    pub fn is_saturated(&self) -> bool {
        self.distinct <= parameters(self.terms.len())
    }

    /// `0.310 + 4.21·N^−0.340`.
    pub fn formula(&self) -> String {
        let mut formula = three(self.floor.value);
        for Term { variable, scale, exponent, .. } in &self.terms {
            let (scale, letter, exponent) = (three(scale.value), variable.letter(), three(exponent.value));
            formula += &format!(" + {scale}·{letter}^−{exponent}");
        }
        formula
    }
}

/// Of a law of so many terms.
fn parameters(terms: usize) -> usize {
    1 + 2 * terms
}

/// What a law is fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Of each variable; of a single one the second is not looked at.
    pub x: [f64; 2],
    /// Nats.
    pub loss: f64,
}

/// A law with what its bootstrap left, to predict from.
#[derive(Debug)]
pub(super) struct Fitted {
    pub law: Law,
    points: Points,
    /// Logarithms of the geometric means of the variables.
    centre: [f64; 2],
    draws: Vec<Parameters>,
    /// ln L − ln L̂, stretched as in the bootstrap.
    residuals: Vec<f64>,
}

impl Fitted {
    /// Between what one more training at these variables comes out in 95%: the bootstrap's laws, each with a residual drawn.
    /// None where the law has no intervals.
    pub fn interval_at(&self, x: [f64; 2], seed: u64) -> Option<[f64; 2]> {
        let mut random = SplitMix64(seed);
        let logs = std::array::from_fn(|j| x[j].ln() - self.centre[j]);
        let draw = |theta: &Parameters| {
            let residual = self.residuals[random.below(self.residuals.len())];
            self.points.value(theta, &logs) * residual.exp()
        };
        interval(&self.draws.iter().map(draw).collect::<Vec<f64>>())
    }
}

/// Fits a law of one or two variables, with intervals from `resamples` bootstraps.
///
/// # Errors
/// [`LawError`]: too few different points or values, or what has no logarithm.
pub(super) fn fit(
    variables: &[Variable],
    samples: &[Sample],
    resamples: usize,
    seed: u64,
) -> Result<Fitted, LawError> {
    let terms = variables.len();
    let count = parameters(terms);
    let distinct = check(variables, samples, count)?;
    let mean = |j: usize| samples.iter().map(|sample| sample.x[j].ln()).sum::<f64>() / samples.len() as f64;
    let centre = std::array::from_fn(|j| if j < terms { mean(j) } else { 0.0 });
    let scaled =
        |sample: &Sample| std::array::from_fn(|j| if j < terms { sample.x[j].ln() - centre[j] } else { 0.0 });
    let lowest = samples.iter().map(|sample| sample.loss).fold(f64::INFINITY, f64::min);
    let points = Points { logs: samples.iter().map(scaled).collect(), terms, most: lowest };
    let targets: Vec<f64> = samples.iter().map(|sample| sample.loss.ln()).collect();

    let first = points.search(&targets, &[0.1, 1e-2, LEAST_DELTA]);
    let scale = scale_of(&points.residuals(&first, &targets), count);
    let delta = (DELTA_OVER_SCALE * scale).max(LEAST_DELTA);
    let best = points.search(&targets, &[0.1_f64.max(delta), delta]);

    let errors = points.residuals(&best, &targets);
    let spare = samples.len() - count;
    let stretch = if spare == 0 { 0.0 } else { (samples.len() as f64 / spare as f64).sqrt() };
    let residuals: Vec<f64> = errors.iter().map(|error| -stretch * error).collect();
    let fitted: Vec<f64> = points.logs.iter().map(|logs| points.value(&best, logs).ln()).collect();
    let mut random = SplitMix64(seed);
    let resamples = if spare == 0 { 0 } else { resamples };
    let draws: Vec<Parameters> = (0..resamples)
        .map(|_| {
            let drawn = fitted.iter().map(|value| value + residuals[random.below(residuals.len())]);
            points.refine(&best, &drawn.collect::<Vec<f64>>(), delta)
        })
        .collect();

    let all = |index: usize| draws.iter().map(|draw| draw[index]).collect::<Vec<f64>>();
    let term = |(j, variable): (usize, &Variable)| {
        let (a, alpha) = (1 + 2 * j, 2 + 2 * j);
        let raw = |theta: &Parameters| theta[a] * (theta[alpha] * centre[j]).exp();
        let mut exponent = Estimate::of(best[alpha], &all(alpha), EXPONENTS);
        let mut scale =
            Estimate::of(raw(&best), &draws.iter().map(raw).collect::<Vec<f64>>(), [0.0, f64::MAX]);
        scale.standing = if raw(&best) > 0.0 { Standing::Within } else { Standing::AtLowest };
        // What a term that is not there would fall with is unknown, and so is A where the exponent is.
        if best[a] <= 1e-6 * lowest {
            exponent.standing = Standing::Undetermined;
        } else if exponent.standing == Standing::Undetermined {
            scale.standing = Standing::Undetermined;
        }
        let values = || samples.iter().map(|sample| sample.x[j]);
        let range = [values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max)];
        Term { variable: *variable, scale, exponent, range }
    };
    let law = Law {
        floor: Estimate::of_floor(best[0], &all(0), lowest),
        terms: variables.iter().enumerate().map(term).collect(),
        points: samples.len(),
        distinct,
        scatter: scale_of(&errors, count),
        delta,
        resamples,
    };
    Ok(Fitted { law, points, centre, draws, residuals })
}

/// The number of different points, if they are enough and have logarithms.
fn check(variables: &[Variable], samples: &[Sample], parameters: usize) -> Result<usize, LawError> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    for sample in samples {
        if !positive(sample.loss) {
            return Err(LawError::Loss(sample.loss));
        }
        for (variable, value) in variables.iter().zip(sample.x) {
            if !positive(value) {
                return Err(LawError::Value { variable: *variable, value });
            }
        }
    }
    let different = |key: &dyn Fn(&Sample) -> [u64; 2]| {
        let mut keys: Vec<[u64; 2]> = samples.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    };
    for (j, variable) in variables.iter().enumerate() {
        let values = different(&|sample| [sample.x[j].to_bits(), 0]);
        if values < VALUES {
            return Err(LawError::TooFewValues { variable: *variable, values });
        }
    }
    let second = |x: f64| if variables.len() > 1 { x.to_bits() } else { 0 };
    let points = different(&|sample| [sample.x[0].to_bits(), second(sample.x[1])]);
    if points < parameters { Err(LawError::TooFewPoints { points, parameters }) } else { Ok(points) }
}

/// Standard deviation of residuals by the median of the largest n − p + 1.
fn scale_of(residuals: &[f64], parameters: usize) -> f64 {
    let mut sizes: Vec<f64> = residuals.iter().map(|error| error.abs()).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let rest = &sizes[(parameters - 1).min(sizes.len() - 1)..];
    DEVIATION_OVER_MEDIAN * quantile(rest, 0.5)
}

/// Of 95%; None of fewer than two values.
pub(super) fn interval(values: &[f64]) -> Option<[f64; 2]> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    (sorted.len() > 1).then(|| [quantile(&sorted, 0.025), quantile(&sorted, 0.975)])
}

/// Of rising values, at least one, between two neighbours in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests;
