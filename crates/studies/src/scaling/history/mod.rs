//! How training compute and parameters grew: a table of systems, trends of its eras with doubling times, and how long the devices
//! of this machine would take. Nothing here measures.
//!
//! The project's own table, `systems.csv`, was typed in from the papers that it names. **What is in it**: the milestones that the
//! histories of neural networks name up to 2012, chapter 1 of Bishop & Bishop 2024 among them; from 2012 to the middle of 2018
//! each system in the chart of Amodei & Hernandez, "AI and compute" (2018), and what the chapter names besides; and what was
//! talked of most after that. No system was left out, nor another way to count taken, for what a trend then says. **How training
//! compute was obtained**: as the paper states it; or else by counting, a multiply-add as two and the backward pass as twice the
//! forward pass, so 6 for each weight or multiply-add and example; or else, where the paper gives only time, by the hardware's peak
//! for that time at 33%, as Amodei & Hernandez did. Each row says which, with the product, and a test multiplies them all.
//! **The date** is that of the first public version: a preprint's or a web page's, or else of the conference or journal.

mod charts;
mod date;
mod error;
mod here;
pub mod page;
mod table;
mod trend;

pub use date::{DAYS_OF_A_YEAR, Date, DateError};
pub use error::HistoryError;
pub use here::{DAY, Here, OwnRun, Rate, Time, YEAR, duration};
pub use table::{Estimate, LeftOut, Part, System, Table, parse};
pub use trend::{Asked, Doubling, Era, Quantity, RESAMPLES, Selection, Trend, TrendError};

use serde::{Deserialize, Serialize};

/// The project's own table.
pub const OWN: &str = include_str!("systems.csv");

const OWN_CREDIT: &str =
    "Data: wgrad's own table, from the papers that it names and, where a row says so, from outside estimates";

const BOOK: &str = "Bishop & Bishop 2024, ch. 1, after Amodei & Hernandez 2018";

/// The project's own table, read.
///
/// # Errors
/// None with what is built in.
pub fn own() -> Result<Table, HistoryError> {
    let table = parse(OWN.as_bytes(), "systems.csv of wgrad")?;
    Ok(Table { credit: OWN_CREDIT.into(), ..table })
}

/// The history that a table tells: the part `history` of `scale.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The table.
    pub source: String,
    /// Whose data these are, and under which terms.
    pub credit: String,
    /// What could be used; trends name a system by its place here.
    pub systems: Vec<System>,
    /// What could not, by line of the table.
    pub left_out: Vec<LeftOut>,
    /// Resamples of each interval.
    pub resamples: usize,
    /// Seed of the resamples.
    pub seed: u64,
    /// Those of compute first.
    pub trends: Vec<Trend>,
    /// Trends that the table does not determine.
    pub refused: Vec<Refused>,
    /// Figures of the book beside those of the table.
    pub beside: Vec<Beside>,
    /// Systems of which there are several estimates.
    pub changed: Vec<Changed>,
}

/// A trend that was asked for, and why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What was asked for.
    pub asked: Asked,
    /// Why not.
    pub error: TrendError,
}

/// A doubling time that was published, beside a trend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// Whose figure it is.
    pub source: String,
    /// The published doubling time in months.
    pub months: f64,
    /// The trend's place among [`History::trends`].
    pub trend: usize,
    /// Whether the published figure lies in the trend's interval.
    pub within: bool,
}

/// A system of which there are several estimates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// [`System::id`].
    pub system: usize,
    /// The other estimate.
    pub other: Estimate,
    /// The other estimate over the table's.
    pub ratio: f64,
}

impl History {
    /// The history of a table, with intervals of `resamples` resamples.
    ///
    /// # Errors
    /// [`HistoryError`] if no system has training compute, or if resamples are fewer than [`RESAMPLES`]. A trend that the table
    /// does not determine is no error: it is among [`History::refused`].
    pub fn of(table: &Table, resamples: usize, seed: u64) -> Result<Self, HistoryError> {
        if resamples < RESAMPLES {
            return Err(HistoryError::Resamples { resamples, least: RESAMPLES });
        }
        if table.systems.iter().all(|system| system.flops.is_none()) {
            let source_name = table.source.clone();
            return Err(match table.left_out.first() {
                // Every record is among the systems, or left out in whole or part.
                None => HistoryError::NoRows { source_name },
                Some(first) => HistoryError::NoSystems {
                    source_name,
                    left_out: table.left_out.len(),
                    line: first.line,
                    reason: first.reason.clone(),
                },
            });
        }
        let (mut trends, mut refused, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        for (asked, months) in questions() {
            match Trend::of(&table.systems, asked.clone(), resamples, seed) {
                Ok(trend) => {
                    beside.extend(months.map(|months| Beside {
                        source: BOOK.into(),
                        months,
                        trend: trends.len(),
                        within: trend.doubling.is_some_and(|doubling| doubling.holds(months)),
                    }));
                    trends.push(trend);
                }
                Err(error) => refused.push(Refused { asked, error }),
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
            refused,
            beside,
            changed: table.systems.iter().flat_map(changed).collect(),
        })
    }

    /// The trends of a quantity.
    pub fn of_quantity(&self, quantity: Quantity) -> impl Iterator<Item = &Trend> {
        self.trends.iter().filter(move |trend| trend.asked.quantity == quantity)
    }
}

fn changed(system: &System) -> impl Iterator<Item = Changed> {
    let pairs =
        system.flops.into_iter().flat_map(|flops| system.others.iter().map(move |other| (flops, other)));
    pairs.map(|(flops, other)| Changed {
        system: system.id,
        other: other.clone(),
        ratio: other.flops / flops,
    })
}

/// The trends to fit, and the book's doubling time in months where it gives one. The book's later era ends with its source's
/// chart, in the middle of 2018. Beginning anew in 2012 changes little, in 2018 much: then small systems of its first months
/// would pass for a frontier, so earlier eras are counted.
fn questions() -> Vec<(Asked, Option<f64>)> {
    let era = |name: &str, from: Option<(u16, u8, u8)>, until: Option<(u16, u8, u8)>| {
        let date = |(year, month, day)| Date::new(year, month, day);
        Era { name: name.into(), from: from.and_then(date), until: until.and_then(date) }
    };
    let (y2010, y2012, mid_2018) = (Some((2010, 1, 1)), Some((2012, 1, 1)), Some((2018, 7, 1)));
    let before = era("before 2012", None, y2012);
    let after = era("2012 to mid-2018", y2012, mid_2018);
    let later = era("since mid-2018", mid_2018, None);
    let all = Selection::All;
    let asked = |quantity, era: &Era, selection| Asked { quantity, era: era.clone(), selection };
    let compute = |era, selection| asked(Quantity::Compute, era, selection);
    let parameters = |era, selection| asked(Quantity::Parameters, era, selection);
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
