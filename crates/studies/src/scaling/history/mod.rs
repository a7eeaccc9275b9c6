//! History of training compute: a table of systems, trends of its eras with doubling times, and training times on this
//! machine.
//!
//! The built-in table, `systems.csv`, was compiled from the papers that it cites.
//!
//! - **Selection.** Up to 2012: the milestones in histories of neural networks, including chapter 1 of Bishop & Bishop
//!   2024. From 2012 to mid-2018: every system in the chart of Amodei & Hernandez, "AI and compute" (2018), and the
//!   systems named in that chapter. Later: the most discussed systems. No system was left out, and no count was
//!   changed, because of its effect on a trend.
//! - **Training compute.** The figure in the paper, if the paper states one. Otherwise the operations are counted: a
//!   multiply-add is two operations, and the backward pass takes twice the operations of the forward pass, so each
//!   weight (or multiply-add) takes 6 operations per example. If the paper gives only a training time, the figure is
//!   33% of the hardware's peak rate times that time, as in Amodei & Hernandez. The notes of each row contain the
//!   factors, and a test checks every product.
//! - **Date.** Day of the first public version: a preprint or a web page, or else the conference or journal.

mod charts;
mod date;
mod error;
mod machine;
pub mod page;
mod table;
mod trend;

pub use date::{DAYS_PER_YEAR, Date, DateError};
pub use error::HistoryError;
pub use machine::{DeviceRate, LocalMachine, LocalRun, TrainingTime};
pub use table::{Estimate, LeftOut, LeftOutPart, System, Table, parse};
pub use trend::{Doubling, Era, MIN_RESAMPLES, Quantity, Selection, Trend, TrendError, TrendSpec};

use serde::{Deserialize, Serialize};

/// Text of the built-in table of systems.
pub const BUILTIN_CSV: &str = include_str!("systems.csv");

const BUILTIN_CREDIT: &str = "Data: the built-in table of wgrad, from the papers that it names and, where a row says \
    so, from outside estimates";

const BOOK: &str = "Bishop & Bishop 2024, ch. 1, after Amodei & Hernandez 2018";

/// Returns the built-in table of systems.
///
/// # Errors
/// Returns an error if the built-in text is invalid, which a test rules out.
pub fn builtin_table() -> Result<Table, HistoryError> {
    let table = parse(BUILTIN_CSV.as_bytes(), "systems.csv of wgrad")?;
    Ok(Table { credit: BUILTIN_CREDIT.into(), ..table })
}

/// Systems of a table with their trends. Stored as `history` in `scale.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Name of the table.
    pub source: String,
    /// Origin and terms of use of the data.
    pub credit: String,
    /// Usable systems. Trends refer to a system by its index in this list.
    pub systems: Vec<System>,
    /// Entries that could not be used, in the order of the table.
    pub left_out: Vec<LeftOut>,
    /// Number of bootstrap resamples per confidence interval.
    pub resamples: usize,
    /// Seed of the bootstrap resamples.
    pub seed: u64,
    /// Fitted trends: first of compute, then of parameters.
    pub trends: Vec<Trend>,
    /// Trends that cannot be fitted to the table.
    #[serde(rename = "refused")]
    pub unfitted: Vec<UnfittedTrend>,
    /// Published doubling times, each with the corresponding trend.
    #[serde(rename = "beside")]
    pub published: Vec<PublishedDoubling>,
    /// Other estimates of the training compute of systems.
    #[serde(rename = "changed")]
    pub other_estimates: Vec<OtherEstimate>,
}

/// Trend that cannot be fitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfittedTrend {
    /// Specification of the trend that cannot be fitted.
    #[serde(rename = "asked")]
    pub spec: TrendSpec,
    /// Reason why the trend cannot be fitted.
    pub error: TrendError,
}

/// Published doubling time and the corresponding trend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedDoubling {
    /// Citation of the publication.
    pub source: String,
    /// Published doubling time in months.
    pub months: f64,
    /// Index of the trend in [`History::trends`].
    pub trend: usize,
    /// Whether the published doubling time lies in the interval of the trend.
    pub within: bool,
}

/// Other estimate of the training compute of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OtherEstimate {
    /// Id of the system, [`System::id`].
    pub system: usize,
    /// Other estimate, with its source.
    pub other: Estimate,
    /// Ratio of the other estimate to the table's figure.
    pub ratio: f64,
}

impl History {
    /// Fits the trends of a table, with intervals from `resamples` bootstrap resamples.
    ///
    /// A trend that cannot be fitted is not an error: it is listed in [`History::unfitted`].
    ///
    /// # Errors
    /// Returns an error if no system has training compute, or `resamples` is less than [`MIN_RESAMPLES`].
    pub fn new(table: &Table, resamples: usize, seed: u64) -> Result<Self, HistoryError> {
        if resamples < MIN_RESAMPLES {
            return Err(HistoryError::Resamples { resamples, least: MIN_RESAMPLES });
        }
        if table.systems.iter().all(|system| system.flops.is_none()) {
            let source_name = table.source.clone();
            return Err(match table.left_out.first() {
                // Every row is among the systems or left out, so the table has no rows.
                None => HistoryError::NoRows { source_name },
                Some(first) => HistoryError::NoSystems {
                    source_name,
                    left_out: table.left_out.len(),
                    line: first.line,
                    reason: first.reason.clone(),
                },
            });
        }
        let (mut trends, mut unfitted, mut published) = (Vec::new(), Vec::new(), Vec::new());
        for (spec, months) in standard_trends() {
            match Trend::fit(&table.systems, spec.clone(), resamples, seed) {
                Ok(trend) => {
                    published.extend(months.map(|months| PublishedDoubling {
                        source: BOOK.into(),
                        months,
                        trend: trends.len(),
                        within: trend.doubling.is_some_and(|doubling| doubling.contains(months)),
                    }));
                    trends.push(trend);
                }
                Err(error) => unfitted.push(UnfittedTrend { spec, error }),
            }
        }
        Ok(Self {
            source: table.source.clone(),
            credit: table.credit.clone(),
            systems: table.systems.clone(),
            left_out: table.left_out.clone(),
            resamples,
            seed,
            trends,
            unfitted,
            published,
            other_estimates: table.systems.iter().flat_map(other_estimates).collect(),
        })
    }

    /// Returns the trends of a quantity.
    pub fn trends_of(&self, quantity: Quantity) -> impl Iterator<Item = &Trend> {
        self.trends.iter().filter(move |trend| trend.spec.quantity == quantity)
    }
}

fn other_estimates(system: &System) -> impl Iterator<Item = OtherEstimate> {
    let pairs =
        system.flops.into_iter().flat_map(|flops| system.others.iter().map(move |other| (flops, other)));
    pairs.map(|(flops, other)| OtherEstimate {
        system: system.id,
        other: other.clone(),
        ratio: other.flops / flops,
    })
}

/// Returns the specifications of the trends to fit. Each has the doubling time in months that Bishop & Bishop 2024
/// give, if any.
///
/// The second era of Bishop & Bishop ends in mid-2018, at the end of the chart in their source. A frontier can be
/// computed with or without the systems of earlier eras. For the era from 2012, the difference is small. For the era
/// from mid-2018 it is large: without earlier systems, small systems of the first months would belong to the frontier.
/// The trend of that era therefore uses the systems of all eras.
fn standard_trends() -> Vec<(TrendSpec, Option<f64>)> {
    let era = |name: &str, from: Option<(u16, u8, u8)>, until: Option<(u16, u8, u8)>| {
        let date = |(year, month, day)| Date::new(year, month, day);
        Era { name: name.into(), from: from.and_then(date), until: until.and_then(date) }
    };
    let (y2010, y2012, mid_2018) = (Some((2010, 1, 1)), Some((2012, 1, 1)), Some((2018, 7, 1)));
    let before = era("before 2012", None, y2012);
    let after = era("2012 to mid-2018", y2012, mid_2018);
    let later = era("since mid-2018", mid_2018, None);
    let all = Selection::All;
    let spec = |quantity, era: &Era, selection| TrendSpec { quantity, era: era.clone(), selection };
    let compute = |era, selection| spec(Quantity::Compute, era, selection);
    let parameters = |era, selection| spec(Quantity::Parameters, era, selection);
    vec![
        (compute(&before, all), Some(24.0)),
        (compute(&after, Selection::Largest(3)), Some(3.4)),
        (compute(&after, Selection::LargestOfAll(3)), None),
        (compute(&after, Selection::Largest(10)), None),
        (compute(&after, all), None),
        (compute(&later, Selection::LargestOfAll(3)), None),
        (compute(&era("since 2010", y2010, None), Selection::Largest(10)), None),
        (parameters(&before, all), None),
        (parameters(&era("since 2012", y2012, None), all), None),
        (parameters(&era("since 2012", y2012, None), Selection::Largest(3)), None),
    ]
}

#[cfg(test)]
mod tests;
