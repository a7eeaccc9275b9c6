//! Trends of a quantity: a straight line through its logarithm over time, and the doubling time.

use super::date::{DAYS_PER_YEAR, Date};
use super::table::System;
use serde::{Deserialize, Serialize};
use std::fmt;
use wgrad_stdx::ErrorKind;
use wgrad_stdx::random::SplitMix64;
use wgrad_stdx::stats::quantile;

/// Minimum number of bootstrap resamples for an interval.
pub const MIN_RESAMPLES: usize = 2000;

/// Minimum number of systems for a trend.
const MIN_SYSTEMS: usize = 3;

const MONTHS_PER_YEAR: f64 = 12.0;

/// Quantity whose growth is described by a trend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Floating-point operations of training.
    Compute,
    /// Number of trainable parameters.
    Parameters,
}

impl Quantity {
    /// Returns the value of the quantity for a system, if the table contains it.
    pub fn value(self, system: &System) -> Option<f64> {
        match self {
            Self::Compute => system.flops,
            Self::Parameters => system.parameters,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compute => "training compute",
            Self::Parameters => "parameters",
        })
    }
}

/// Period of time, from a first day to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Era {
    /// Name, e.g. `before 2012`.
    pub name: String,
    /// First day, or `None` for no limit.
    pub from: Option<Date>,
    /// Day after the last day, or `None` for no limit.
    pub until: Option<Date>,
}

impl Era {
    /// Whether a date is in the era.
    pub fn contains(&self, date: Date) -> bool {
        self.from.is_none_or(|from| from <= date) && self.until.is_none_or(|until| date < until)
    }
}

/// Selection of the systems of an era that a trend is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// All systems for which the quantity is known.
    All,
    /// Frontier of the era: systems that were among the k largest at release. A system is selected if fewer than k
    /// systems of the era published up to that day are larger. Systems of earlier eras are ignored, so the first
    /// systems of an era may be smaller than systems of earlier eras.
    Largest(usize),
    /// Frontier of all eras: a system is selected if fewer than k of all systems published up to that day are larger.
    LargestOfAll(usize),
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all systems"),
            Self::Largest(1) => f.write_str("the largest at release"),
            Self::Largest(count) => write!(f, "the {count} largest at release"),
            Self::LargestOfAll(count) => write!(f, "the {count} largest at release of all eras"),
        }
    }
}

/// Specification of a trend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendSpec {
    /// Quantity whose growth the trend describes.
    pub quantity: Quantity,
    /// Era in which the systems were published.
    pub era: Era,
    /// Selection of the systems within the era.
    pub selection: Selection,
}

/// Growth of a quantity: ordinary least squares of its decimal logarithm against the date.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Specification of the trend.
    #[serde(rename = "asked")]
    pub spec: TrendSpec,
    /// Ids of the systems that the trend is fitted to, in order of date.
    pub systems: Vec<usize>,
    /// Slope of the line in powers of ten per year.
    pub slope: f64,
    /// Mean date of the systems as a decimal year.
    pub mean_year: f64,
    /// Mean decimal logarithm of the quantity. The line passes through this value at the mean date.
    pub mean_log10: f64,
    /// Doubling time, or `None` if the quantity does not grow.
    pub doubling: Option<Doubling>,
}

/// Doubling time in months of 30.4375 days, with a 95% bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Doubling {
    /// Doubling time of the line through all systems of the selection.
    pub months: f64,
    /// Lower end of the interval: 2.5% of the resamples double faster.
    pub low: f64,
    /// Upper end of the interval: 2.5% of the resamples double more slowly. `None` if more than 2.5% of the resamples
    /// do not grow.
    pub high: Option<f64>,
}

impl Doubling {
    /// Whether a doubling time lies in the interval.
    pub fn contains(&self, months: f64) -> bool {
        self.low <= months && self.high.is_none_or(|high| months <= high)
    }
}

/// Formats as `3.1 months [2.8, 3.6]`.
impl fmt::Display for Doubling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} months [{:.1}, ", self.months, self.low)?;
        match self.high {
            Some(high) => write!(f, "{high:.1}]"),
            None => f.write_str("no end]"),
        }
    }
}

/// Reason why a trend cannot be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum TrendError {
    /// The selection has too few systems.
    #[error("a trend requires at least {MIN_SYSTEMS} systems, found {count}")]
    #[serde(rename = "few")]
    TooFewSystems {
        /// Number of selected systems.
        count: usize,
    },
    /// All systems have the same date.
    #[error("all systems have the same date")]
    #[serde(rename = "one-date")]
    SingleDate,
}

impl TrendError {
    /// Returns the kind of the error, from which the command line derives its exit code.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Numeric
    }
}

impl Trend {
    /// Fits a trend to the systems of a specification. The interval is computed from `resamples` bootstrap resamples of
    /// the systems, drawn with random numbers from `seed`. A resample in which all systems have the same date is drawn
    /// again.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 3 systems, or all have the same date.
    pub fn fit(systems: &[System], spec: TrendSpec, resamples: usize, seed: u64) -> Result<Self, TrendError> {
        let selected = select(systems, &spec);
        if selected.len() < MIN_SYSTEMS {
            return Err(TrendError::TooFewSystems { count: selected.len() });
        }
        let point = |&(system, value): &(&System, f64)| (system.date.years(), value.log10());
        let points: Vec<(f64, f64)> = selected.iter().map(point).collect();
        let Line { slope, mean_x, mean_y } =
            Line::through(points.iter().copied()).ok_or(TrendError::SingleDate)?;
        let mut random = SplitMix64(seed);
        let mut slopes: Vec<f64> = Vec::with_capacity(resamples);
        while slopes.len() < resamples {
            let drawn: Vec<usize> = points.iter().map(|_| random.below(points.len())).collect();
            slopes.extend(Line::through(drawn.iter().map(|&index| points[index])).map(|line| line.slope));
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let (slowest, fastest) = (quantile(&slopes, 0.025), quantile(&slopes, 0.975));
        let growing = slope > 0.0 && !slopes.is_empty();
        let doubling = growing.then(|| Doubling {
            months: months(slope),
            low: months(fastest).min(months(slope)),
            high: (slowest > 0.0).then(|| months(slowest).max(months(slope))),
        });
        let systems = selected.iter().map(|(system, _)| system.id).collect();
        Ok(Self { spec, systems, slope, mean_year: mean_x, mean_log10: mean_y, doubling })
    }

    /// Returns the value of the line at `year`, a date given as a decimal year.
    pub fn at(&self, year: f64) -> f64 {
        10f64.powf(self.mean_log10 + self.slope * (year - self.mean_year))
    }

    /// Returns the doubling time as text, or a statement that the quantity does not grow.
    pub fn doubling_text(&self) -> String {
        self.doubling.map_or_else(
            || "does not grow, so it has no doubling time".into(),
            |doubling| doubling.to_string(),
        )
    }
}

/// Returns the doubling time in months of a slope in powers of ten per year.
fn months(slope: f64) -> f64 {
    const { assert!(DAYS_PER_YEAR / MONTHS_PER_YEAR == 30.4375) };
    MONTHS_PER_YEAR * 2f64.log10() / slope
}

/// Returns the selected systems with the value of the quantity, in order of date and then of their index in the table.
fn select<'a>(systems: &'a [System], spec: &TrendSpec) -> Vec<(&'a System, f64)> {
    let TrendSpec { quantity, era, selection } = spec;
    let mut all: Vec<(&System, f64)> =
        systems.iter().filter_map(|system| Some((system, quantity.value(system)?))).collect();
    all.sort_by_key(|(system, _)| (system.date, system.id));
    let mut within = all.clone();
    within.retain(|(system, _)| era.contains(system.date));
    let (counted, most) = match *selection {
        Selection::All => return within,
        Selection::Largest(most) => (&within, most),
        Selection::LargestOfAll(most) => (&all, most),
    };
    let larger = |date: Date, value: f64| {
        counted.iter().take_while(|(other, _)| other.date <= date).filter(|(_, other)| *other > value).count()
    };
    within.iter().copied().filter(|(system, value)| larger(system.date, *value) < most).collect()
}

/// Least-squares line: the slope and the mean point, which lies on the line.
struct Line {
    slope: f64,
    mean_x: f64,
    mean_y: f64,
}

impl Line {
    /// Fits a line, or returns `None` if all x are equal.
    fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Self> {
        let count = points.clone().count() as f64;
        let (sum_x, sum_y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (mut variance, mut covariance) = (0.0, 0.0);
        for (x, y) in points {
            variance += (x - mean_x).powi(2);
            covariance += (x - mean_x) * (y - mean_y);
        }
        // If all dates are equal, the variance is only a rounding error. Two dates one day apart give 7e-6 years
        // squared.
        (variance > 1e-9).then(|| Self { slope: covariance / variance, mean_x, mean_y })
    }
}
