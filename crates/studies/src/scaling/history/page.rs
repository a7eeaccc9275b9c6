//! The words of the history's part of the page and the order of its parts.

use super::here::{Here, duration};
use super::{Asked, Era, History, Quantity, Refused, System, Trend, TrendError, charts};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, count};

const HISTORY: &str = "Lines are least squares of the logarithm over the date, each over the systems of its own colour; faint dots \
    are systems that no line is fitted to. A system is one of the k largest at release if fewer than k of its era's systems that were \
    published up to that day are larger; of all eras, if fewer than k of all systems are. Which systems are taken decides what comes \
    out: the book's 3.4 months are the frontier's.";

const TIMES: &str = "Training compute over the rate that a device sustained in a training step, as if it had the memory and kept \
    the rate. Shown are systems that were the largest of all when they were published, and folded all of them.";

const CHANGED: &str = "Nobody measured most of these: training compute is counted from papers, in one way or another. What the \
    table says, and what others said or another way to count gives, where it is another number.";

/// Estimates agree where one is at most so many times the other.
const AGREE: f64 = 1.1;
/// So many runs are shown unfolded.
const FEW_RUNS: usize = 12;

/// A number of operations or parameters: `4.7e17`.
pub(super) fn amount(value: f64) -> String {
    format!("{value:.1e}")
}

/// Writes the section of the history: what it comes to, its figures with their numbers, times on the devices of this machine,
/// estimates that changed, and what was left out.
///
/// # Errors
/// Those of the string, which has none.
pub fn write(page: &mut String, history: &History, here: &Here) -> fmt::Result {
    page::section(page, "A history of training compute", HISTORY)?;
    verdict(page, history, here)?;
    page::charts(page, |page| {
        charts::compute(page, history, here)?;
        charts::parameters(page, history, here)
    })?;
    trends(page, history)?;
    if !here.devices.is_empty() || !here.own.is_empty() {
        page::section(page, "You are here", TIMES)?;
        devices(page, here)?;
        own(page, here)?;
        times(page, history, here)?;
    }
    if !history.changed.is_empty() {
        page::section(page, "Estimates that differ", CHANGED)?;
        changed(page, history)?;
    }
    left_out(page, history)?;
    writeln!(page, "<p class=\"note\">{}.</p>", Escaped(&history.credit))
}

impl History {
    /// What it comes to, with the selection of each trend: a sentence for each of the book's figures and for the parameters, and
    /// what the table does not determine.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences: Vec<String> = self
            .beside
            .iter()
            .filter_map(|beside| {
                let trend = self.trends.get(beside.trend)?;
                let within = match (trend.doubling, beside.within) {
                    (None, _) => "",
                    (_, true) => ", which the interval contains",
                    (_, false) => ", which the interval does not contain",
                };
                Some(format!(
                    "Training compute {}, {} ({}): {}. The book says {} months{within}.",
                    trend.asked.era.name,
                    trend.asked.selection,
                    trend.systems.len(),
                    grows(trend),
                    beside.months
                ))
            })
            .collect();
        let others = charts::drawn(self, Quantity::Compute)
            .into_iter()
            .filter(|trend| !self.beside.iter().any(|beside| self.trends.get(beside.trend) == Some(*trend)));
        let parameters = charts::drawn(self, Quantity::Parameters);
        let plain = |what: &'static str| {
            move |trend: &Trend| {
                let Trend { asked, systems, .. } = trend;
                format!(
                    "{what} {}, {} ({}): {}.",
                    asked.era.name,
                    asked.selection,
                    systems.len(),
                    grows(trend)
                )
            }
        };
        sentences.extend(others.map(plain("Training compute")));
        sentences.extend(parameters.into_iter().map(plain("Parameters")));
        sentences.extend([Quantity::Compute, Quantity::Parameters].iter().flat_map(|of| self.refusals(*of)));
        sentences
    }

    /// Which trends of a quantity there are not, and why: one sentence for eras without systems, and one for each other era
    /// of which there is no trend at all; where others are, for each that is missing.
    fn refusals(&self, quantity: Quantity) -> Vec<String> {
        let systems: Vec<&System> =
            self.systems.iter().filter(|system| quantity.of(system).is_some()).collect();
        if systems.is_empty() {
            return vec![format!("No system of {} has {quantity}.", self.source)];
        }
        let refused = self.refused.iter().filter(|refused| refused.asked.quantity == quantity);
        let (mut empty, mut sentences, mut said) = (Vec::new(), Vec::new(), Vec::new());
        for Refused { asked, error } in refused {
            let Era { name, .. } = &asked.era;
            if self.of_quantity(quantity).any(|trend| trend.asked.era == asked.era) {
                sentences.push(format!("No trend of {quantity} {name}, {}: {error}.", asked.selection));
            } else if !said.contains(&name) {
                said.push(name);
                if systems.iter().any(|system| asked.era.holds(system.date)) {
                    sentences
                        .push(format!("No trend of {quantity} {name}: {}.", self.broadest(asked, *error)));
                } else {
                    empty.push(name.as_str());
                }
            }
        }
        if !empty.is_empty() {
            sentences.push(format!("No systems with {quantity}: {}.", empty.join(", ")));
        }
        sentences
    }

    /// Why there is not even a trend of the selection that takes the most of an era's systems.
    fn broadest(&self, asked: &Asked, error: TrendError) -> TrendError {
        let same =
            |refused: &&Refused| refused.asked.quantity == asked.quantity && refused.asked.era == asked.era;
        let taken = |error: &TrendError| match *error {
            TrendError::Few { count } => count,
            TrendError::OneDate => usize::MAX,
        };
        self.refused.iter().filter(same).map(|refused| refused.error).max_by_key(taken).unwrap_or(error)
    }
}

/// `doubled every 3.4 months [2.7, 4.7]`, or that it did not grow.
fn grows(trend: &Trend) -> String {
    trend.doubling.map_or_else(|| trend.says(), |doubling| format!("doubled every {doubling}"))
}

fn verdict(page: &mut String, history: &History, here: &Here) -> fmt::Result {
    let compute = history.systems.iter().filter(|system| system.flops.is_some()).count();
    let headline = format!(
        "{} systems with training compute from {}; intervals are 95% of {} resamples.",
        count(compute as u64),
        history.source,
        count(history.resamples as u64)
    );
    let sentences = history.sentences().into_iter().chain(here.sentences(history));
    page::summary(page, &headline, &sentences.collect::<Vec<_>>())
}

impl Here {
    /// For each device, the first system that it would take longer than a day for, and how long the largest would take.
    pub fn sentences(&self, history: &History) -> Vec<String> {
        let times = self.times(history);
        let sentence = |(index, rate): (usize, &super::Rate)| {
            let of = || times.iter().filter(move |time| time.device == index);
            let name = |id: usize| history.systems.get(id).map_or("", |system| system.name.as_str());
            let longest = of().max_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
            let within = of().filter(|time| time.seconds <= super::DAY);
            let reached = within.max_by(|a, b| a.seconds.total_cmp(&b.seconds));
            let reached = reached.map_or_else(String::new, |time| {
                format!("a day is enough for {} ({}); ", name(time.system), duration(time.seconds))
            });
            let (rate, longest, time) = (rate, name(longest.system), duration(longest.seconds));
            Some(format!("{}: {reached}{longest} would take {time}.", rate.device))
        };
        self.devices.iter().enumerate().filter_map(sentence).collect()
    }
}

/// A row for each trend; one for those of an era that turn out to be of the same systems.
fn trends(page: &mut String, history: &History) -> fmt::Result {
    let same = |a: &Trend, b: &Trend| {
        a.asked.quantity == b.asked.quantity && a.asked.era == b.asked.era && a.systems == b.systems
    };
    let row = |(index, trend): (usize, &Trend)| {
        let (before, after) = (history.trends.get(..index)?, history.trends.get(index + 1..)?);
        if before.iter().any(|other| same(other, trend)) {
            return None;
        }
        let others = after.iter().filter(|other| same(other, trend));
        let selection = others.fold(trend.asked.selection.to_string(), |all, other| {
            format!("{all} = {}", other.asked.selection)
        });
        let what = match trend.asked.quantity {
            Quantity::Compute => "compute",
            Quantity::Parameters => "parameters",
        };
        let beside = history.beside.iter().find(|beside| beside.trend == index);
        let [months, low, high] =
            trend.doubling.map_or(["–".to_owned(), "–".into(), "–".into()], |doubling| {
                let month = |months: f64| format!("{months:.1}");
                [month(doubling.months), month(doubling.low), doubling.high.map_or("no end".into(), month)]
            });
        Some(vec![
            format!("{what}, {}", trend.asked.era.name),
            selection,
            trend.systems.len().to_string(),
            months,
            low,
            high,
            beside.map_or("–".into(), |beside| beside.months.to_string()),
            format!("×{:.2}", 10f64.powf(trend.slope)),
        ])
    };
    let rows: Vec<Vec<String>> = history.trends.iter().enumerate().filter_map(row).collect();
    let columns = ["trend", "selection", "systems", "doubling, months", "from", "to", "the book", "a year"];
    page::table(page, &columns, &rows)
}

/// Every system of the figures, with how its training compute was obtained.
pub(super) fn systems_table(page: &mut String, history: &History) -> fmt::Result {
    let or_none = |value: Option<f64>| value.map_or("–".to_owned(), amount);
    let whole = |value: f64| if value < 1e6 { count(value as u64) } else { amount(value) };
    let row = |system: &System| {
        vec![
            system.name.clone(),
            system.date.to_string(),
            or_none(system.flops),
            system.parameters.map_or("–".to_owned(), whole),
            system.organization.clone(),
            format!("{}. {}", system.reference, bare(&system.link)),
            bare(&system.notes),
        ]
    };
    let rows: Vec<Vec<String>> = history.systems.iter().map(row).collect();
    let columns = ["system", "date", "FLOP", "parameters", "who", "reference", "how the FLOP were obtained"];
    page.push_str("<div class=\"prose\">\n");
    page::folded_table(page, "Numbers and sources", &columns, &rows)?;
    page.push_str("</div>\n");
    Ok(())
}

/// Text with addresses as a reader types them: a page asks for nothing outside of itself.
fn bare(text: &str) -> String {
    text.replace("https://", "").replace("http://", "")
}

fn devices(page: &mut String, here: &Here) -> fmt::Result {
    if here.devices.is_empty() {
        return Ok(());
    }
    let giga = |rate: f64| page::number(rate / 1e9);
    let row = |rate: &super::Rate| {
        let share = 100.0 * rate.sustained_flops / rate.ceiling_flops;
        vec![
            rate.device.clone(),
            rate.measured_on.clone(),
            giga(rate.sustained_flops),
            giga(rate.ceiling_flops),
            if share.is_finite() { format!("{share:.0}%") } else { "–".into() },
        ]
    };
    let rows: Vec<Vec<String>> = here.devices.iter().map(row).collect();
    page::table(page, &["device", "measured on", "sustained, GFLOP/s", "ceiling, GFLOP/s", "share"], &rows)
}

fn own(page: &mut String, here: &Here) -> fmt::Result {
    if here.own.is_empty() {
        return Ok(());
    }
    let row = |run: &super::OwnRun| {
        let flops = run.usable_flops().map_or("unknown".to_owned(), amount);
        vec![run.name.clone(), run.date.to_string(), flops, count(run.parameters)]
    };
    let rows: Vec<Vec<String>> = here.own.iter().map(row).collect();
    let columns = ["your run", "date", "FLOP", "parameters"];
    if rows.len() > FEW_RUNS {
        let summary = format!("Your runs ({})", count(rows.len() as u64));
        return page::folded_table(page, &summary, &columns, &rows);
    }
    page::table(page, &columns, &rows)
}

/// A row for each system that was the largest when it was published, and folded all of them; a column for each device.
fn times(page: &mut String, history: &History, here: &Here) -> fmt::Result {
    if here.devices.is_empty() {
        return Ok(());
    }
    let mut cells: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    cells.extend(here.times(history).iter().map(|time| ((time.system, time.device), time.seconds)));
    let row = |system: &System| {
        let flops = system.flops?;
        let time =
            |device| cells.get(&(system.id, device)).map_or("–".into(), |seconds| duration(*seconds));
        let mut row = vec![system.name.clone(), system.date.to_string(), amount(flops)];
        row.extend((0..here.devices.len()).map(time));
        Some(row)
    };
    let columns: Vec<&str> = ["system", "date", "FLOP"]
        .into_iter()
        .chain(here.devices.iter().map(|rate| rate.device.as_str()))
        .collect();
    let records = charts::records(history, Quantity::Compute);
    let largest: Vec<Vec<String>> = records.into_iter().filter_map(row).collect();
    page::table(page, &columns, &largest)?;
    let mut by_date: Vec<&System> = history.systems.iter().collect();
    by_date.sort_by_key(|system| system.date);
    let all: Vec<Vec<String>> = by_date.into_iter().filter_map(row).collect();
    page::folded_table(page, "All systems", &columns, &all)
}

fn changed(page: &mut String, history: &History) -> fmt::Result {
    let row = |changed: &super::Changed| {
        let system = history.systems.get(changed.system)?;
        let (flops, other) = (amount(system.flops?), amount(changed.other.flops));
        let ratio = format!("{:.2}", changed.ratio);
        Some(vec![
            system.name.clone(),
            system.date.to_string(),
            flops,
            other,
            ratio,
            bare(&changed.other.source),
        ])
    };
    let agrees = |changed: &&super::Changed| (1.0 / AGREE..=AGREE).contains(&changed.ratio);
    let differ = history.changed.iter().filter(|changed| !agrees(changed));
    let rows: Vec<Vec<String>> = differ.filter_map(row).collect();
    if !rows.is_empty() {
        page.push_str("<div class=\"prose\">\n");
        let columns = ["system", "date", "here", "other", "other over here", "whose"];
        page::table(page, &columns, &rows)?;
        page.push_str("</div>\n");
    }
    match history.changed.iter().filter(agrees).count() {
        0 => Ok(()),
        1 => page.write_str("<p class=\"note\">Another one agrees within 10%.</p>\n"),
        count => writeln!(page, "<p class=\"note\">Another {count} agree within 10%.</p>"),
    }
}

fn left_out(page: &mut String, history: &History) -> fmt::Result {
    if history.left_out.is_empty() {
        return Ok(());
    }
    let part = |part| match part {
        super::Part::System => "all of it",
        super::Part::Compute => "its compute",
        super::Part::Parameters => "its parameters",
        super::Part::Estimate => "an estimate",
    };
    let row = |out: &super::LeftOut| {
        vec![out.name.clone(), out.line.to_string(), part(out.part).to_owned(), bare(&out.reason)]
    };
    let rows: Vec<Vec<String>> = history.left_out.iter().map(row).collect();
    let summary = format!("Left out of {}, by line ({})", history.source, count(rows.len() as u64));
    page.push_str("<div class=\"prose\">\n");
    page::folded_table(page, &summary, &["system", "line", "left out", "why"], &rows)?;
    page.push_str("</div>\n");
    Ok(())
}
