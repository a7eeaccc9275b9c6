//! A straight line through the logarithm of a quantity over time, and the doubling time that it means.

use super::date::{DAYS_OF_A_YEAR, Date};
use super::table::System;
use serde::{Deserialize, Serialize};
use std::fmt;
use wgrad_stdx::random::SplitMix64;

/// The least number of resamples for an interval.
pub const RESAMPLES: usize = 2000;

/// Fewer systems give no trend.
const FEWEST: usize = 3;

const MONTHS: f64 = 12.0;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Floating-point operations of the training.
    Compute,
    /// Trained numbers.
    Parameters,
}

impl Quantity {
    /// Of a system, if it has it.
    pub fn of(self, system: &System) -> Option<f64> {
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

/// Part of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Era {
    /// In words, e.g. `before 2012`.
    pub name: String,
    /// Its first day; none: from the beginning.
    pub from: Option<Date>,
    /// The day after its last; none: to the end.
    pub until: Option<Date>,
}

impl Era {
    /// Whether a day is in it.
    pub fn holds(&self, date: Date) -> bool {
        self.from.is_none_or(|from| from <= date) && self.until.is_none_or(|until| date < until)
    }
}

/// Which systems of an era a trend takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Each that has the quantity.
    All,
    /// The frontier: each that was one of so many largest when it was published. Fewer than so many of the era's systems that
    /// were published up to that day are larger than it. Systems before the era do not count, so
    /// that each era begins anew, with some that are small beside what was there before.
    Largest(usize),
    /// The same with all systems published until then, in earlier eras too.
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

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What grows.
    pub quantity: Quantity,
    /// When.
    pub era: Era,
    /// Of which systems.
    pub selection: Selection,
}

/// How fast a quantity grew: ordinary least squares of its decimal logarithm over the date.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// What was asked for.
    pub asked: Asked,
    /// [`System::id`] of those it is fitted to, by date.
    pub systems: Vec<usize>,
    /// Powers of ten a year.
    pub slope: f64,
    /// The mean of their dates, in years.
    pub mean_year: f64,
    /// The mean of their decimal logarithms, which the line goes through at that date.
    pub mean_log10: f64,
    /// How long a doubling takes; none if nothing grows.
    pub doubling: Option<Doubling>,
}

/// A doubling time in months of 30.4375 days, with the ends of a bootstrap's interval of 95%.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Doubling {
    /// Of the line through all systems of the selection.
    pub months: f64,
    /// 2.5% of the resamples double faster.
    pub low: f64,
    /// 2.5% of the resamples double more slowly; none if more of them do not grow at all.
    pub high: Option<f64>,
}

impl Doubling {
    /// Whether a time lies in the interval.
    pub fn holds(&self, months: f64) -> bool {
        self.low <= months && self.high.is_none_or(|high| months <= high)
    }
}

/// `3.1 months [2.8, 3.6]`.
impl fmt::Display for Doubling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} months [{:.1}, ", self.months, self.low)?;
        match self.high {
            Some(high) => write!(f, "{high:.1}]"),
            None => f.write_str("no end]"),
        }
    }
}

/// Why there is no trend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum TrendError {
    /// Too few points for a line that could be wrong.
    #[error("it has {count} of the {FEWEST} systems that a trend takes")]
    Few {
        /// How many there are.
        count: usize,
    },
    /// All of one day.
    #[error("all its systems are of one day")]
    OneDate,
}

impl Trend {
    /// Fits a trend to the systems asked for, with the interval of `resamples` resamples: as many systems as there are, drawn
    /// with replacement among them. The same seed gives the same interval. A resample of one day is drawn again.
    ///
    /// # Errors
    /// [`TrendError`] if no line is determined.
    pub fn of(systems: &[System], asked: Asked, resamples: usize, seed: u64) -> Result<Self, TrendError> {
        let chosen = select(systems, &asked);
        if chosen.len() < FEWEST {
            return Err(TrendError::Few { count: chosen.len() });
        }
        let point = |&(system, value): &(&System, f64)| (system.date.years(), value.log10());
        let points: Vec<(f64, f64)> = chosen.iter().map(point).collect();
        let Line { slope, mean_x, mean_y } =
            Line::through(points.iter().copied()).ok_or(TrendError::OneDate)?;
        let mut random = SplitMix64(seed);
        let mut slopes: Vec<f64> = Vec::with_capacity(resamples);
        while slopes.len() < resamples {
            let drawn: Vec<usize> = points.iter().map(|_| random.below(points.len())).collect();
            slopes.extend(Line::through(drawn.iter().map(|&index| points[index])).map(|line| line.slope));
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| slopes[((share * resamples as f64) as usize).min(resamples.saturating_sub(1))];
        let growing = slope > 0.0 && !slopes.is_empty();
        let doubling = growing.then(|| Doubling {
            months: months(slope),
            low: months(at(0.975)).min(months(slope)),
            high: (at(0.025) > 0.0).then(|| months(at(0.025)).max(months(slope))),
        });
        let systems = chosen.iter().map(|(system, _)| system.id).collect();
        Ok(Self { asked, systems, slope, mean_year: mean_x, mean_log10: mean_y, doubling })
    }

    /// The line's value at a date in years.
    pub fn at(&self, year: f64) -> f64 {
        10f64.powf(self.mean_log10 + self.slope * (year - self.mean_year))
    }

    /// What it comes to: the doubling time, or that nothing doubles.
    pub fn says(&self) -> String {
        self.doubling.map_or_else(
            || "does not grow, so it has no doubling time".into(),
            |doubling| doubling.to_string(),
        )
    }
}

/// Months in which a line of so many powers of ten a year doubles.
fn months(slope: f64) -> f64 {
    // Both a year and a month are whole parts of DAYS_OF_A_YEAR.
    const { assert!(DAYS_OF_A_YEAR / MONTHS == 30.4375) };
    MONTHS * 2f64.log10() / slope
}

/// The systems that are asked for with their quantity, by date and then by their place in the table.
fn select<'a>(systems: &'a [System], asked: &Asked) -> Vec<(&'a System, f64)> {
    let Asked { quantity, era, selection } = asked;
    let mut all: Vec<(&System, f64)> =
        systems.iter().filter_map(|system| Some((system, quantity.of(system)?))).collect();
    all.sort_by_key(|(system, _)| (system.date, system.id));
    let mut within = all.clone();
    within.retain(|(system, _)| era.holds(system.date));
    let (others, most) = match *selection {
        Selection::All => return within,
        Selection::Largest(most) => (&within, most),
        Selection::LargestOfAll(most) => (&all, most),
    };
    let larger = |date: Date, value: f64| {
        others.iter().take_while(|(other, _)| other.date <= date).filter(|(_, other)| *other > value).count()
    };
    within.iter().copied().filter(|(system, value)| larger(system.date, *value) < most).collect()
}

/// A line of least squares, by the means that it goes through.
struct Line {
    slope: f64,
    mean_x: f64,
    mean_y: f64,
}

impl Line {
    /// None if all x are the same.
    fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Self> {
        let count = points.clone().count() as f64;
        let (sum_x, sum_y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (mut variance, mut covariance) = (0.0, 0.0);
        for (x, y) in points {
            variance += (x - mean_x).powi(2);
            covariance += (x - mean_x) * (y - mean_y);
        }
        // Of one day, rounding leaves next to nothing; a day apart is 7e-6 years squared.
        (variance > 1e-9).then(|| Self { slope: covariance / variance, mean_x, mean_y })
    }
}
