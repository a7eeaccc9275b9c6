//! History section of the page: the order of its parts and their texts.

use super::machine::LocalMachine;
use super::{Era, History, Quantity, System, Trend, TrendError, TrendSpec, UnfittedTrend, charts};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped};
use wgrad_stdx::format::{DAY, duration, percent, thousands};

const HISTORY: &str = "Each line is a least-squares fit of the logarithm against the date for the systems of the \
    same colour. No line is fitted to faint dots. A system is one of the k largest at release if fewer than k \
    systems of its era published up to that day are larger. It is one of the k largest of all eras if fewer than k \
    systems of any era published up to that day are larger. The selection of systems determines the result: the \
    doubling time of 3.4 months in the book (Bishop & Bishop 2024) is that of the largest systems.";

const TIMES: &str = "Training compute divided by the rate that a device sustained in a training step. This assumes \
    that the device has enough memory and keeps that rate. The first table lists the systems that were larger \
    than all earlier systems at release. The folded table lists all systems.";

const OTHER_ESTIMATES: &str = "Training compute is rarely measured; most figures are derived from papers, and the \
    methods of counting differ. The table compares the figures used here with other estimates where they differ.";

/// Maximum ratio of two estimates that are considered to agree.
const MAX_AGREEING_RATIO: f64 = 1.1;
/// Maximum number of runs in a table that is not folded.
const MAX_UNFOLDED_RUNS: usize = 12;

/// Formats a number of operations or parameters as `4.7e17`.
pub(super) fn scientific(value: f64) -> String {
    format!("{value:.1e}")
}

/// Writes the history section: conclusion, charts and trends, times on the devices of this machine, other estimates,
/// and entries that were left out.
///
/// # Errors
/// Returns the error of the writer. Writing to a string does not fail.
pub fn write(page: &mut String, history: &History, machine: &LocalMachine) -> fmt::Result {
    page::section(page, "A history of training compute", HISTORY)?;
    write_conclusion(page, history, machine)?;
    page::charts(page, |page| {
        charts::compute(page, history, machine)?;
        charts::parameters(page, history, machine)
    })?;
    write_trends(page, history)?;
    if !machine.devices.is_empty() || !machine.runs.is_empty() {
        page::section(page, "This machine", TIMES)?;
        write_devices(page, machine)?;
        write_runs(page, machine)?;
        write_times(page, history, machine)?;
    }
    if !history.other_estimates.is_empty() {
        page::section(page, "Other estimates", OTHER_ESTIMATES)?;
        write_other_estimates(page, history)?;
    }
    write_left_out(page, history)?;
    writeln!(page, "<p class=\"note\">{}.</p>", Escaped(&history.credit))
}

impl History {
    /// Returns the conclusion as sentences: one per published doubling time, one per other trend in the charts, and
    /// sentences about the trends that cannot be fitted.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences: Vec<String> = self
            .published
            .iter()
            .filter_map(|published| {
                let trend = self.trends.get(published.trend)?;
                let within = match (trend.doubling, published.within) {
                    (None, _) => "",
                    (_, true) => ", which the interval contains",
                    (_, false) => ", which the interval does not contain",
                };
                Some(format!(
                    "Training compute {}, {} ({}): {}. The book gives {} months{within}.",
                    trend.spec.era.name,
                    trend.spec.selection,
                    trend.systems.len(),
                    growth(trend),
                    published.months
                ))
            })
            .collect();
        let others = charts::drawn_trends(self, Quantity::Compute).into_iter().filter(|trend| {
            !self.published.iter().any(|published| self.trends.get(published.trend) == Some(*trend))
        });
        let parameters = charts::drawn_trends(self, Quantity::Parameters);
        let sentence = |what: &'static str| {
            move |trend: &Trend| {
                let Trend { spec, systems, .. } = trend;
                format!(
                    "{what} {}, {} ({}): {}.",
                    spec.era.name,
                    spec.selection,
                    systems.len(),
                    growth(trend)
                )
            }
        };
        sentences.extend(others.map(sentence("Training compute")));
        sentences.extend(parameters.into_iter().map(sentence("Parameters")));
        let quantities = [Quantity::Compute, Quantity::Parameters];
        sentences.extend(quantities.into_iter().flat_map(|quantity| self.unfitted_sentences(quantity)));
        sentences
    }

    /// Returns sentences about the trends of a quantity that cannot be fitted: one sentence for all eras without
    /// systems, one per other era without any trend, and one per missing trend of an era with other trends.
    fn unfitted_sentences(&self, quantity: Quantity) -> Vec<String> {
        let systems: Vec<&System> =
            self.systems.iter().filter(|system| quantity.value(system).is_some()).collect();
        if systems.is_empty() {
            return vec![format!("No system of {} has {quantity}.", self.source)];
        }
        let unfitted = self.unfitted.iter().filter(|unfitted| unfitted.spec.quantity == quantity);
        let (mut empty, mut sentences, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for UnfittedTrend { spec, error } in unfitted {
            let Era { name, .. } = &spec.era;
            if self.trends_of(quantity).any(|trend| trend.spec.era == spec.era) {
                sentences.push(format!("No trend of {quantity} {name}, {}: {error}.", spec.selection));
            } else if !seen.contains(&name) {
                seen.push(name);
                if systems.iter().any(|system| spec.era.contains(system.date)) {
                    let error = self.error_of_broadest_selection(spec, *error);
                    sentences.push(format!("No trend of {quantity} {name}: {error}."));
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

    /// Returns the error of the selection that has the most systems, among the trends with the same era and quantity.
    fn error_of_broadest_selection(&self, spec: &TrendSpec, error: TrendError) -> TrendError {
        let same = |unfitted: &&UnfittedTrend| {
            unfitted.spec.quantity == spec.quantity && unfitted.spec.era == spec.era
        };
        let systems = |error: &TrendError| match *error {
            TrendError::TooFewSystems { count } => count,
            TrendError::SingleDate => usize::MAX,
        };
        self.unfitted.iter().filter(same).map(|unfitted| unfitted.error).max_by_key(systems).unwrap_or(error)
    }
}

/// Returns `doubled every 3.4 months [2.7, 4.7]`, or a statement that the quantity does not grow.
fn growth(trend: &Trend) -> String {
    trend.doubling.map_or_else(|| trend.doubling_text(), |doubling| format!("doubled every {doubling}"))
}

fn write_conclusion(page: &mut String, history: &History, machine: &LocalMachine) -> fmt::Result {
    let compute = history.systems.iter().filter(|system| system.flops.is_some()).count();
    let headline = format!(
        "{} systems with training compute from {}; 95% intervals from {} resamples.",
        thousands(compute as u64),
        history.source,
        thousands(history.resamples as u64)
    );
    let sentences = history.sentences().into_iter().chain(machine.sentences(history));
    page::summary(page, &headline, &sentences.collect::<Vec<_>>())
}

impl LocalMachine {
    /// Returns a sentence per device: the largest system that the device could train within a day, and the training
    /// time of the largest system in the table.
    pub fn sentences(&self, history: &History) -> Vec<String> {
        let times = self.times(history);
        let sentence = |(index, rate): (usize, &super::DeviceRate)| {
            let device_times = || times.iter().filter(move |time| time.device == index);
            let name = |id: usize| history.systems.get(id).map_or("", |system| system.name.as_str());
            let longest = device_times().max_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
            let within = device_times().filter(|time| time.seconds <= DAY);
            let reached = within.max_by(|a, b| a.seconds.total_cmp(&b.seconds));
            let reached = reached.map_or_else(String::new, |time| {
                format!("one day is enough to train {} ({}); ", name(time.system), duration(time.seconds))
            });
            let (longest, time) = (name(longest.system), duration(longest.seconds));
            Some(format!("{}: {reached}{longest} would take {time}.", rate.device))
        };
        self.devices.iter().enumerate().filter_map(sentence).collect()
    }
}

/// Writes the table of trends. Trends of one era that are fitted to the same systems share a row.
fn write_trends(page: &mut String, history: &History) -> fmt::Result {
    let same = |a: &Trend, b: &Trend| {
        a.spec.quantity == b.spec.quantity && a.spec.era == b.spec.era && a.systems == b.systems
    };
    let row = |(index, trend): (usize, &Trend)| {
        let (before, after) = (history.trends.get(..index)?, history.trends.get(index + 1..)?);
        if before.iter().any(|other| same(other, trend)) {
            return None;
        }
        let others = after.iter().filter(|other| same(other, trend));
        let selection = others
            .fold(trend.spec.selection.to_string(), |all, other| format!("{all} = {}", other.spec.selection));
        let quantity = match trend.spec.quantity {
            Quantity::Compute => "compute",
            Quantity::Parameters => "parameters",
        };
        let published = history.published.iter().find(|published| published.trend == index);
        let [months, low, high] =
            trend.doubling.map_or(["–".to_owned(), "–".into(), "–".into()], |doubling| {
                let month = |months: f64| format!("{months:.1}");
                [month(doubling.months), month(doubling.low), doubling.high.map_or("no end".into(), month)]
            });
        Some(vec![
            format!("{quantity}, {}", trend.spec.era.name),
            selection,
            trend.systems.len().to_string(),
            months,
            low,
            high,
            published.map_or("–".into(), |published| published.months.to_string()),
            format!("×{:.2}", 10f64.powf(trend.slope)),
        ])
    };
    let rows: Vec<Vec<String>> = history.trends.iter().enumerate().filter_map(row).collect();
    let columns = [
        "trend",
        "selection",
        "systems",
        "doubling, months",
        "low",
        "high",
        "book, months",
        "growth per year",
    ];
    page::table(page, &columns, &rows)
}

/// Writes the table of all systems with the derivation of their training compute.
pub(super) fn systems_table(page: &mut String, history: &History) -> fmt::Result {
    let or_dash = |value: Option<f64>| value.map_or("–".to_owned(), scientific);
    let whole = |value: f64| if value < 1e6 { thousands(value as u64) } else { scientific(value) };
    let row = |system: &System| {
        vec![
            system.name.clone(),
            system.date.to_string(),
            or_dash(system.flops),
            system.parameters.map_or("–".to_owned(), whole),
            system.organization.clone(),
            format!("{}. {}", system.reference, without_url_scheme(&system.link)),
            without_url_scheme(&system.notes),
        ]
    };
    let rows: Vec<Vec<String>> = history.systems.iter().map(row).collect();
    let columns =
        ["system", "date", "FLOP", "parameters", "organization", "reference", "derivation of the FLOP"];
    page.push_str("<div class=\"prose\">\n");
    page::folded_table(page, "Numbers and sources", &columns, &rows)?;
    page.push_str("</div>\n");
    Ok(())
}

/// Removes the scheme of URLs, so that a page contains no external links.
fn without_url_scheme(text: &str) -> String {
    text.replace("https://", "").replace("http://", "")
}

fn write_devices(page: &mut String, machine: &LocalMachine) -> fmt::Result {
    if machine.devices.is_empty() {
        return Ok(());
    }
    let giga = |rate: f64| page::number(rate / 1e9);
    let row = |rate: &super::DeviceRate| {
        let fraction = rate.sustained_flops / rate.ceiling_flops;
        vec![
            rate.device.clone(),
            rate.measured_on.clone(),
            giga(rate.sustained_flops),
            giga(rate.ceiling_flops),
            if fraction.is_finite() { percent(fraction, 0) } else { "–".into() },
        ]
    };
    let rows: Vec<Vec<String>> = machine.devices.iter().map(row).collect();
    page::table(
        page,
        &["device", "measured on", "sustained, GFLOP/s", "ceiling, GFLOP/s", "fraction of the ceiling"],
        &rows,
    )
}

fn write_runs(page: &mut String, machine: &LocalMachine) -> fmt::Result {
    if machine.runs.is_empty() {
        return Ok(());
    }
    let row = |run: &super::LocalRun| {
        let flops = run.usable_flops().map_or("unknown".to_owned(), scientific);
        vec![run.name.clone(), run.date.to_string(), flops, thousands(run.parameters)]
    };
    let rows: Vec<Vec<String>> = machine.runs.iter().map(row).collect();
    let columns = ["run", "date", "FLOP", "parameters"];
    if rows.len() > MAX_UNFOLDED_RUNS {
        let summary = format!("Runs ({})", thousands(rows.len() as u64));
        return page::folded_table(page, &summary, &columns, &rows);
    }
    page::table(page, &columns, &rows)
}

/// Writes the table of training times of the systems that were the largest at release, and the folded table of all
/// systems. Each device has a column.
fn write_times(page: &mut String, history: &History, machine: &LocalMachine) -> fmt::Result {
    if machine.devices.is_empty() {
        return Ok(());
    }
    let mut cells: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    cells.extend(machine.times(history).iter().map(|time| ((time.system, time.device), time.seconds)));
    let row = |system: &System| {
        let flops = system.flops?;
        let time =
            |device| cells.get(&(system.id, device)).map_or("–".into(), |seconds| duration(*seconds));
        let mut row = vec![system.name.clone(), system.date.to_string(), scientific(flops)];
        row.extend((0..machine.devices.len()).map(time));
        Some(row)
    };
    let columns: Vec<&str> = ["system", "date", "FLOP"]
        .into_iter()
        .chain(machine.devices.iter().map(|rate| rate.device.as_str()))
        .collect();
    let records = charts::record_systems(history, Quantity::Compute);
    let largest: Vec<Vec<String>> = records.into_iter().filter_map(row).collect();
    page::table(page, &columns, &largest)?;
    let mut by_date: Vec<&System> = history.systems.iter().collect();
    by_date.sort_by_key(|system| system.date);
    let all: Vec<Vec<String>> = by_date.into_iter().filter_map(row).collect();
    page::folded_table(page, "All systems", &columns, &all)
}

fn write_other_estimates(page: &mut String, history: &History) -> fmt::Result {
    let row = |estimate: &super::OtherEstimate| {
        let system = history.systems.get(estimate.system)?;
        let (flops, other) = (scientific(system.flops?), scientific(estimate.other.flops));
        let ratio = format!("{:.2}", estimate.ratio);
        Some(vec![
            system.name.clone(),
            system.date.to_string(),
            flops,
            other,
            ratio,
            without_url_scheme(&estimate.other.source),
        ])
    };
    let agrees = |estimate: &&super::OtherEstimate| {
        (1.0 / MAX_AGREEING_RATIO..=MAX_AGREEING_RATIO).contains(&estimate.ratio)
    };
    let differ = history.other_estimates.iter().filter(|estimate| !agrees(estimate));
    let rows: Vec<Vec<String>> = differ.filter_map(row).collect();
    if !rows.is_empty() {
        page.push_str("<div class=\"prose\">\n");
        let columns = ["system", "date", "used here", "other estimate", "ratio", "source"];
        page::table(page, &columns, &rows)?;
        page.push_str("</div>\n");
    }
    match history.other_estimates.iter().filter(agrees).count() {
        0 => Ok(()),
        1 => page.write_str("<p class=\"note\">One other estimate agrees within 10%.</p>\n"),
        count => writeln!(page, "<p class=\"note\">{count} other estimates agree within 10%.</p>"),
    }
}

fn write_left_out(page: &mut String, history: &History) -> fmt::Result {
    if history.left_out.is_empty() {
        return Ok(());
    }
    let part = |part| match part {
        super::LeftOutPart::System => "system",
        super::LeftOutPart::Compute => "training compute",
        super::LeftOutPart::Parameters => "parameters",
        super::LeftOutPart::Estimate => "other estimate",
    };
    let row = |out: &super::LeftOut| {
        vec![
            out.name.clone(),
            out.line.to_string(),
            part(out.part).to_owned(),
            without_url_scheme(&out.reason),
        ]
    };
    let rows: Vec<Vec<String>> = history.left_out.iter().map(row).collect();
    let summary =
        format!("Entries of {} that were left out ({})", history.source, thousands(rows.len() as u64));
    page.push_str("<div class=\"prose\">\n");
    page::folded_table(page, &summary, &["system", "line", "left out", "reason"], &rows)?;
    page.push_str("</div>\n");
    Ok(())
}
