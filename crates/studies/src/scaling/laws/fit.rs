//! Power laws with an irreducible term: L(x) = E + A·x^(−α), and L(N, D) = E + A·N^(−α) + B·D^(−β) (Hoffmann et al.,
//! "Training Compute-Optimal Large Language Models", 2022, equations 2 and 10), fitted to the logarithms of losses.
//!
//! - **Robustness.** The fit minimizes the Huber loss of the residuals ln L̂ − ln L, where L is the measured loss and
//!   L̂ the loss by the law. The threshold δ is 1.345 times the scale of the residuals, which makes the fit 95% as
//!   efficient as least squares for normal noise (Huber, 1981). δ is at least 10⁻³, the value of Hoffmann et al. For n
//!   points and p parameters, the scale is 1.4826 times the median of the n − p + 1 largest absolute residuals of a
//!   first fit with δ = 10⁻³. The smallest residuals are excluded because a fit of p parameters makes about p residuals
//!   vanish (Street, Carroll and Ruppert, 1988).
//! - **Intervals.** 95% percentile intervals of a residual bootstrap: in each resample, the loss of every point is the
//!   law's value times the residual of a point drawn with replacement from all points, scaled by √(n/(n − p)), and the
//!   law is fitted again. Drawing only from the two or three seeds with the same N and D would halve the variance.
//!   Drawing all seeds with the same N and D together would leave fewer distinct points than parameters.
//! - **Bounds.** E lies between 0 and the lowest measured loss, because the irreducible loss cannot exceed a measured
//!   loss. A and B are at least 0. Exponents lie between 0.02 and 2.5.

use super::optimize::{EXPONENTS, Parameters, Points};
use serde::{Deserialize, Serialize};
use std::fmt;
use wgrad_stdx::ErrorKind;
use wgrad_stdx::random::SplitMix64;
use wgrad_stdx::stats::quantile;

/// Minimum δ of the Huber loss.
const MIN_DELTA: f64 = 1e-3;
/// Ratio of δ to the scale of the residuals.
const DELTA_OVER_SCALE: f64 = 1.345;
/// Ratio of the standard deviation to the median absolute deviation for normal noise.
const STD_OVER_MAD: f64 = 1.4826;
/// Minimum number of distinct values of a variable: two for a straight line, and one more because E is fitted as well.
const MIN_VALUES: usize = 3;

/// Variable of a law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// Number of trainable parameters, N.
    Parameters,
    /// Number of distinct training examples, D.
    Examples,
    /// Training FLOPs, C.
    Compute,
}

impl Variable {
    /// Returns `N`, `D` or `C`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Parameters => "N",
            Self::Examples => "D",
            Self::Compute => "C",
        }
    }

    /// Returns the name of the limit that the variable sets for a training run: `size`, `data` or `compute`.
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::Parameters => "size",
            Self::Examples => "data",
            Self::Compute => "compute",
        }
    }
}

/// Reason why a law cannot be fitted.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LawError {
    /// There are fewer distinct points than parameters. Points that differ only in the seed are the same point.
    #[error("{parameters} parameters require at least {parameters} distinct points, found {points}")]
    TooFewPoints {
        /// Number of distinct points.
        points: usize,
        /// Number of parameters of the law.
        parameters: usize,
    },
    /// A variable has fewer than 3 distinct values.
    #[error(
        "an exponent and an irreducible loss require at least 3 distinct values of {}, found {values}",
        variable.letter()
    )]
    TooFewValues {
        /// Variable with too few values.
        variable: Variable,
        /// Number of distinct values.
        values: usize,
    },
    /// The frontier has fewer than 3 distinct sizes.
    #[error("the growth of the best size requires at least 3 distinct sizes on the frontier, found {sizes}")]
    TooFewSizes {
        /// Number of distinct sizes.
        sizes: usize,
    },
    /// A loss is not finite and positive, so that it has no logarithm.
    #[error("a loss is {0}; expected a finite, positive loss")]
    Loss(
        /// Invalid loss in nats per example.
        #[serde(with = "wgrad_stdx::float")]
        f64,
    ),
    /// A value of a variable is not finite and positive.
    #[error("{} is {value}; expected a finite, positive value", variable.letter())]
    Value {
        /// Variable with the invalid value.
        variable: Variable,
        /// Invalid value of the variable.
        #[serde(with = "wgrad_stdx::float")]
        value: f64,
    },
}

impl LawError {
    /// Returns the kind of the error, from which the command line derives its exit code.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Numeric
    }
}

/// Status of an estimate: how well the points determine the parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EstimateStatus {
    /// The value lies within its bounds.
    Within,
    /// The value lies at its lower bound.
    #[serde(rename = "at-lowest")]
    AtLowerBound,
    /// The value lies at its upper bound.
    #[serde(rename = "at-highest")]
    AtUpperBound,
    /// The estimated irreducible loss equals the lowest measured loss. The points do not determine how much lower the
    /// true value is.
    #[serde(rename = "at-measured")]
    AtLowestLoss,
    /// The interval spans all allowed values, or the term of the parameter is 0.
    Undetermined,
}

/// Estimate of a parameter of a law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Value that minimizes the Huber loss.
    pub value: f64,
    /// 95% bootstrap interval. `None` if there are no more points than parameters.
    pub interval: Option<[f64; 2]>,
    /// How well the points determine the parameter.
    #[serde(rename = "standing")]
    pub status: EstimateStatus,
}

impl Estimate {
    fn new(value: f64, draws: &[f64], bounds: [f64; 2]) -> Self {
        let interval = interval(draws);
        let [low, high] = bounds;
        // An end of the interval that is within 1% of a bound is treated as equal to the bound.
        let margin = 0.01 * (high - low);
        let spans_all = |[from, to]: [f64; 2]| from <= low + margin && to >= high - margin;
        let status = if interval.is_some_and(spans_all) {
            EstimateStatus::Undetermined
        } else if value <= low + 1e-6 * (high - low) {
            EstimateStatus::AtLowerBound
        } else if value >= high - 1e-6 * (high - low) {
            EstimateStatus::AtUpperBound
        } else {
            EstimateStatus::Within
        };
        Self { value, interval, status }
    }

    /// Creates the estimate of an irreducible loss. `lowest` is the lowest measured loss, which is the upper bound.
    fn floor(value: f64, draws: &[f64], lowest: f64) -> Self {
        let estimate = Self::new(value, draws, [0.0, lowest]);
        match estimate.status {
            EstimateStatus::AtUpperBound => Self { status: EstimateStatus::AtLowestLoss, ..estimate },
            _ => estimate,
        }
    }

    /// Whether the points determine the value.
    pub fn is_determined(&self) -> bool {
        self.status == EstimateStatus::Within
    }
}

/// Formats as `0.340 (0.250 to 0.450)`. Values at a bound are marked.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.interval.map_or([self.value; 2], |[low, high]| [low, high]);
        let size = ends.into_iter().fold(self.value.abs(), |size, end| size.max(end.abs()));
        // Rounding errors of zero are shown as zero.
        let three = |value: f64| three_digits(if value.abs() <= f64::EPSILON * size { 0.0 } else { value });
        match self.status {
            EstimateStatus::Within => f.write_str(&three(self.value))?,
            EstimateStatus::AtLowerBound if self.value == 0.0 => f.write_str("0, its bound")?,
            EstimateStatus::AtLowerBound => write!(f, "≤ {}, its bound", three(self.value))?,
            EstimateStatus::AtUpperBound => write!(f, "≥ {}, its bound", three(self.value))?,
            EstimateStatus::AtLowestLoss => write!(f, "≤ {}, not determined", three(self.value))?,
            EstimateStatus::Undetermined => f.write_str("not determined")?,
        }
        match self.interval {
            Some([low, high]) => write!(f, " ({} to {})", three(low), three(high)),
            None => Ok(()),
        }
    }
}

/// Formats a value with three significant digits. The intervals are too wide for more digits to be meaningful.
fn three_digits(value: f64) -> String {
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

/// Term A·x^(−α) of a law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// Variable x of the term.
    pub variable: Variable,
    /// Factor A, which is the value of the term at x = 1.
    pub scale: Estimate,
    /// Exponent α.
    pub exponent: Estimate,
    /// Smallest and largest x of the points.
    pub range: [f64; 2],
}

/// Fitted law L = E + Σ A·x^(−α), a sum over one or two terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// Irreducible loss E in nats per example.
    pub floor: Estimate,
    /// Terms A·x^(−α): one or two.
    pub terms: Vec<Term>,
    /// Number of points that the law is fitted to.
    pub points: usize,
    /// Number of points with distinct values of the variables.
    pub distinct: usize,
    /// Standard deviation of ln L around the law, from the median of the residuals.
    pub scatter: f64,
    /// Threshold δ of the Huber loss that was used for the fit.
    pub delta: f64,
    /// Number of bootstrap resamples from which the intervals are computed.
    pub resamples: usize,
}

impl Law {
    /// Returns the loss for values of the variables, in the order of the terms.
    pub fn at(&self, x: &[f64]) -> f64 {
        let terms = self.terms.iter().zip(x);
        self.floor.value + terms.map(|(t, x)| t.scale.value * x.powf(-t.exponent.value)).sum::<f64>()
    }

    /// Whether the law has at least as many parameters as distinct points, so that it fits any losses exactly.
    pub fn is_saturated(&self) -> bool {
        self.distinct <= parameter_count(self.terms.len())
    }

    /// Returns the formula, e.g. `0.310 + 4.21·N^−0.340`.
    pub fn formula(&self) -> String {
        let mut formula = three_digits(self.floor.value);
        for Term { variable, scale, exponent, .. } in &self.terms {
            let (scale, exponent) = (three_digits(scale.value), three_digits(exponent.value));
            let letter = variable.letter();
            formula += &format!(" + {scale}·{letter}^−{exponent}");
        }
        formula
    }
}

/// Returns the number of parameters of a law with `terms` terms.
fn parameter_count(terms: usize) -> usize {
    1 + 2 * terms
}

/// Point that a law is fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Value of each variable. A law of one variable ignores the second.
    pub x: [f64; 2],
    /// Loss in nats.
    pub loss: f64,
}

/// Fitted law with the bootstrap parameters and residuals that intervals of predictions require.
#[derive(Debug)]
pub(super) struct Fitted {
    pub law: Law,
    points: Points,
    /// Logarithm of the geometric mean of each variable.
    centre: [f64; 2],
    /// Parameters of the laws fitted to the bootstrap resamples.
    draws: Vec<Parameters>,
    /// Residual ln L − ln L̂ of each point, multiplied by √(n/(n − p)) for n points and p parameters.
    residuals: Vec<f64>,
}

impl Fitted {
    /// Returns the 95% interval of the loss of one training run with the variables `x`. The interval covers the losses
    /// that the bootstrap laws predict, each multiplied by a random residual. Returns `None` if the law has no
    /// intervals.
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

/// Fits a law of one or two variables, with intervals from `resamples` bootstrap resamples.
///
/// # Errors
/// Returns an error if there are too few distinct points or values, or if a loss or value is not finite and positive.
pub(super) fn fit(
    variables: &[Variable],
    samples: &[Sample],
    resamples: usize,
    seed: u64,
) -> Result<Fitted, LawError> {
    let terms = variables.len();
    let parameters = parameter_count(terms);
    let distinct = check(variables, samples, parameters)?;
    let mean = |j: usize| samples.iter().map(|sample| sample.x[j].ln()).sum::<f64>() / samples.len() as f64;
    let centre = std::array::from_fn(|j| if j < terms { mean(j) } else { 0.0 });
    let centred =
        |sample: &Sample| std::array::from_fn(|j| if j < terms { sample.x[j].ln() - centre[j] } else { 0.0 });
    let lowest = samples.iter().map(|sample| sample.loss).fold(f64::INFINITY, f64::min);
    let points = Points { logs: samples.iter().map(centred).collect(), terms, max_floor: lowest };
    let targets: Vec<f64> = samples.iter().map(|sample| sample.loss.ln()).collect();

    let first = points.search(&targets, &[0.1, 1e-2, MIN_DELTA]);
    let scale = scale_of(&points.residuals(&first, &targets), parameters);
    let delta = (DELTA_OVER_SCALE * scale).max(MIN_DELTA);
    let best = points.search(&targets, &[0.1_f64.max(delta), delta]);

    let errors = points.residuals(&best, &targets);
    let freedom = samples.len() - parameters;
    let stretch = if freedom == 0 { 0.0 } else { (samples.len() as f64 / freedom as f64).sqrt() };
    let residuals: Vec<f64> = errors.iter().map(|error| -stretch * error).collect();
    let resamples = if freedom == 0 { 0 } else { resamples };
    let draws = bootstrap(&points, &best, &residuals, delta, resamples, seed);

    let term = |(j, variable): (usize, &Variable)| term(j, *variable, samples, &best, &draws, centre[j]);
    let floors: Vec<f64> = draws.iter().map(|draw| draw[0]).collect();
    let law = Law {
        floor: Estimate::floor(best[0], &floors, lowest),
        terms: variables.iter().enumerate().map(term).collect(),
        points: samples.len(),
        distinct,
        scatter: scale_of(&errors, parameters),
        delta,
        resamples,
    };
    Ok(Fitted { law, points, centre, draws, residuals })
}

/// Returns the parameters of the laws fitted to bootstrap resamples of the residuals.
fn bootstrap(
    points: &Points,
    best: &Parameters,
    residuals: &[f64],
    delta: f64,
    resamples: usize,
    seed: u64,
) -> Vec<Parameters> {
    let fitted: Vec<f64> = points.logs.iter().map(|logs| points.value(best, logs).ln()).collect();
    let mut random = SplitMix64(seed);
    (0..resamples)
        .map(|_| {
            let drawn = fitted.iter().map(|value| value + residuals[random.below(residuals.len())]);
            points.refine(best, &drawn.collect::<Vec<f64>>(), delta)
        })
        .collect()
}

/// Returns term `j` of a law with its estimates. `centre` is the logarithm of the geometric mean of the variable.
fn term(
    j: usize,
    variable: Variable,
    samples: &[Sample],
    best: &Parameters,
    draws: &[Parameters],
    centre: f64,
) -> Term {
    let (a, alpha) = (1 + 2 * j, 2 + 2 * j);
    let factor = |theta: &Parameters| theta[a] * (theta[alpha] * centre).exp();
    let exponents: Vec<f64> = draws.iter().map(|draw| draw[alpha]).collect();
    let factors: Vec<f64> = draws.iter().map(factor).collect();
    let mut exponent = Estimate::new(best[alpha], &exponents, EXPONENTS);
    let mut scale = Estimate::new(factor(best), &factors, [0.0, f64::MAX]);
    scale.status = if factor(best) > 0.0 { EstimateStatus::Within } else { EstimateStatus::AtLowerBound };
    // If the term vanishes, its exponent is undetermined. If the exponent is undetermined, so is the factor.
    let lowest = samples.iter().map(|sample| sample.loss).fold(f64::INFINITY, f64::min);
    if best[a] <= 1e-6 * lowest {
        exponent.status = EstimateStatus::Undetermined;
    } else if exponent.status == EstimateStatus::Undetermined {
        scale.status = EstimateStatus::Undetermined;
    }
    let values = || samples.iter().map(|sample| sample.x[j]);
    let range = [values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max)];
    Term { variable, scale, exponent, range }
}

/// Returns the number of distinct points, or an error if there are too few or if a loss or variable is not finite and
/// positive.
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
    let count_distinct = |key: &dyn Fn(&Sample) -> [u64; 2]| {
        let mut keys: Vec<[u64; 2]> = samples.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    };
    for (j, variable) in variables.iter().enumerate() {
        let values = count_distinct(&|sample| [sample.x[j].to_bits(), 0]);
        if values < MIN_VALUES {
            return Err(LawError::TooFewValues { variable: *variable, values });
        }
    }
    let second = |x: f64| if variables.len() > 1 { x.to_bits() } else { 0 };
    let points = count_distinct(&|sample| [sample.x[0].to_bits(), second(sample.x[1])]);
    if points < parameters { Err(LawError::TooFewPoints { points, parameters }) } else { Ok(points) }
}

/// Returns a robust estimate of the standard deviation of n residuals, from the median of the n − p + 1 largest
/// absolute residuals. `parameters` is p.
fn scale_of(residuals: &[f64], parameters: usize) -> f64 {
    let mut sizes: Vec<f64> = residuals.iter().map(|error| error.abs()).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let largest = &sizes[(parameters - 1).min(sizes.len() - 1)..];
    STD_OVER_MAD * quantile(largest, 0.5)
}

/// Returns the 2.5% and 97.5% quantiles of the values, or `None` for fewer than two values.
pub(super) fn interval(values: &[f64]) -> Option<[f64; 2]> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    (sorted.len() > 1).then(|| [quantile(&sorted, 0.025), quantile(&sorted, 0.975)])
}

#[cfg(test)]
mod tests;
