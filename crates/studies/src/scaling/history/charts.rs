//! Charts of the history: training compute and parameters against the date, with the trends of their eras.

use super::page::{scientific, systems_table};
use super::{DeviceRate, History, LocalMachine, LocalRun, Quantity, Selection, System, Trend};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{Chart, Color, Dimension, Series};
use wgrad_report::page;
use wgrad_stdx::format::{DAY, YEAR};

/// Maximum number of systems with a callout in a chart.
const MAX_CALLOUTS: usize = 60;
/// Maximum number of runs with a callout in a chart.
const MAX_RUN_CALLOUTS: usize = 5;
/// Number of points of a trend line. A line with this many points is drawn without dots.
const POINTS: usize = 25;

/// Writes the charts of training compute: all years, and the years from 2010.
pub(super) fn compute(page: &mut String, history: &History, machine: &LocalMachine) -> fmt::Result {
    let caption = "Training compute of each system in FLOP, by date of publication";
    figure(
        page,
        history,
        machine,
        &Figure { caption, quantity: Quantity::Compute, from: None, height: 420.0 },
        |page| systems_table(page, history),
    )?;
    let year = 2010.0;
    if history.systems.iter().all(|system| system.date.years() < year) {
        return Ok(());
    }
    let caption = "Training compute in FLOP since 2010";
    let zoomed = Figure { caption, quantity: Quantity::Compute, from: Some(year), height: 420.0 };
    figure(page, history, machine, &zoomed, |_| Ok(()))
}

/// Writes the chart of parameters, if any system has a known number of parameters.
pub(super) fn parameters(page: &mut String, history: &History, machine: &LocalMachine) -> fmt::Result {
    if history.systems.iter().all(|system| system.parameters.is_none()) {
        return Ok(());
    }
    let caption = "Parameters of each system, by date of publication";
    let options = Figure { caption, quantity: Quantity::Parameters, from: None, height: 360.0 };
    figure(page, history, machine, &options, |_| Ok(()))
}

/// Caption, quantity, range and height of a chart.
struct Figure<'a> {
    caption: &'a str,
    quantity: Quantity,
    /// First year shown, or `None` for all years.
    from: Option<f64>,
    height: f64,
}

fn figure(
    page: &mut String,
    history: &History,
    machine: &LocalMachine,
    figure: &Figure<'_>,
    below: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    let Figure { caption, quantity, from, height } = *figure;
    let shown = |system: &&System| from.is_none_or(|from| system.date.years() >= from);
    let systems: Vec<(&System, f64)> = history
        .systems
        .iter()
        .filter(shown)
        .filter_map(|system| Some((system, quantity.value(system)?)))
        .collect();
    let mut series = systems_series(history, figure, &systems);
    let runs = runs_series(machine, figure);
    let years = systems.iter().map(|(system, _)| system.date.years());
    let run_years = runs.points.iter().map(|(year, _)| *year);
    let (first, last) = years
        .chain(run_years)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), year| (low.min(year), high.max(year)));
    if quantity == Quantity::Compute && first < last {
        // Lines far below all systems would stretch the axis.
        let least = systems.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min) / 10.0;
        let lines =
            machine.devices.iter().flat_map(|device| device_lines(device, (from.unwrap_or(first), last)));
        series.extend(lines.filter(|line| line.points.iter().all(|(_, flops)| *flops >= least)));
    }
    series.push(runs);
    series.retain(|series| !series.points.is_empty());
    let chart = Chart {
        title: caption,
        x: Dimension {
            label: "year",
            holds: from.into_iter().collect(),
            ticks: ticks(from.unwrap_or(first), last),
            ..Dimension::default()
        },
        y: Dimension { scale: Scale::Log, ..Dimension::default() },
        height,
        series,
    };
    page::wide_figure(page, caption, &chart, below)
}

/// Returns the dots of all systems and the lines of the trends. Dots are faint for systems without a trend.
fn systems_series<'a>(
    history: &'a History,
    figure: &Figure<'_>,
    systems: &[(&'a System, f64)],
) -> Vec<Series<'a>> {
    let trends = drawn_trends(history, figure.quantity);
    let callouts = callout_ids(history, &trends, figure.quantity);
    let dots = |is_member: &dyn Fn(usize) -> bool, color: Color| {
        let members: Vec<&(&System, f64)> =
            systems.iter().filter(|(system, _)| is_member(system.id)).collect();
        let index = |id: &usize| members.iter().position(|(system, _)| system.id == *id);
        Series {
            points: members.iter().map(|(system, value)| (system.date.years(), *value)).collect(),
            labels: members.iter().map(|(system, value)| label(system, *value).into()).collect(),
            callouts: callouts
                .iter()
                .filter_map(|id| Some((index(id)?, short_name(&history.systems[*id].name))))
                .collect(),
            color,
            ..Series::default()
        }
    };
    let fitted: HashSet<usize> = trends.iter().flat_map(|trend| trend.systems.iter().copied()).collect();
    let mut series = vec![dots(&|id| !fitted.contains(&id), Color::Faint)];
    for (index, trend) in trends.iter().enumerate() {
        let color = color(index);
        series.push(dots(&|id| trend.systems.contains(&id), color));
        series.extend(line(history, trend, figure.from, color));
    }
    series
}

/// Returns the ticks of the axis of years: every year, or every fifth or tenth year of a longer range.
fn ticks(first: f64, last: f64) -> Vec<f64> {
    let step = [(20.0, 1.0), (50.0, 5.0)].into_iter().find(|(longest, _)| last - first < *longest);
    let step = step.map_or(10.0, |(_, step)| step);
    // Without systems the range is empty, and the axis chooses its own ticks.
    let count = ((last - first) / step).max(0.0) as usize;
    let begin = (first / step).ceil();
    let all = (0..=count).map(|index| (begin + index as f64) * step);
    all.filter(|year| (first..=last).contains(year)).collect()
}

/// Returns the colour of a trend. Colour 2 is reserved for the runs of this machine.
fn color(index: usize) -> Color {
    Color::Category([0, 1, 3][index % 3])
}

/// Returns the trends that a chart draws: the first trend of each era. Eras that overlap an earlier era of the list are
/// left out.
pub(super) fn drawn_trends(history: &History, quantity: Quantity) -> Vec<&Trend> {
    let mut drawn: Vec<&Trend> = Vec::new();
    for trend in history.trends_of(quantity) {
        let (from, until) = (trend.spec.era.from, trend.spec.era.until);
        let before = |end: Option<super::Date>, begin: Option<super::Date>| {
            end.zip(begin).is_some_and(|(end, begin)| end <= begin)
        };
        let is_disjoint =
            |other: &&Trend| before(until, other.spec.era.from) || before(other.spec.era.until, from);
        if drawn.iter().all(is_disjoint) {
            drawn.push(trend);
        }
    }
    drawn
}

/// Returns the ids of systems with a callout, most important first: systems that were the largest at release, then
/// systems of a frontier, then the others, each group by descending size. A callout is drawn only if there is room.
fn callout_ids(history: &History, trends: &[&Trend], quantity: Quantity) -> Vec<usize> {
    let records: HashSet<usize> =
        record_systems(history, quantity).into_iter().map(|system| system.id).collect();
    let frontier: HashSet<usize> = trends
        .iter()
        .filter(|trend| trend.spec.selection != Selection::All)
        .flat_map(|trend| trend.systems.iter().copied())
        .collect();
    let rank = |system: &System| match system.id {
        id if records.contains(&id) => 0,
        id if frontier.contains(&id) => 1,
        _ => 2,
    };
    let all = history.systems.iter().filter_map(|system| Some((system, quantity.value(system)?)));
    let mut ranked: Vec<(u8, f64, usize)> =
        all.map(|(system, value)| (rank(system), -value, system.id)).collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    ranked.into_iter().map(|(.., id)| id).take(MAX_CALLOUTS).collect()
}

/// Returns the systems that were larger than all earlier systems at release, in order of date.
pub(super) fn record_systems(history: &History, quantity: Quantity) -> Vec<&System> {
    let mut by_date: Vec<(&System, f64)> =
        history.systems.iter().filter_map(|system| Some((system, quantity.value(system)?))).collect();
    by_date.sort_by(|a, b| a.0.date.cmp(&b.0.date).then(b.1.total_cmp(&a.1)));
    let mut largest = 0.0;
    by_date.retain(|(_, value)| {
        let record = *value > largest;
        largest = value.max(largest);
        record
    });
    by_date.into_iter().map(|(system, _)| system).collect()
}

/// Returns a name without the part in parentheses, and with at most 28 characters.
fn short_name(name: &str) -> Cow<'_, str> {
    let short = name.split(" (").next().unwrap_or(name);
    if short.chars().count() <= 28 {
        return short.into();
    }
    let mut cut: String = short.chars().take(26).collect();
    cut.push('…');
    cut.into()
}

fn label(system: &System, value: f64) -> String {
    format!("{}, {}: {}", system.name, system.date, scientific(value))
}

/// Returns the line of a trend over the dates of its systems.
fn line<'a>(history: &History, trend: &Trend, from: Option<f64>, color: Color) -> Option<Series<'a>> {
    let year = |id: &usize| history.systems[*id].date.years();
    let (first, last) = (year(trend.systems.first()?), year(trend.systems.last()?));
    let first = from.map_or(first, |from| from.max(first));
    let at = |index: usize| first + (last - first) * index as f64 / (POINTS - 1) as f64;
    let name = format!("{}, {}: {}", trend.spec.era.name, trend.spec.selection, trend.doubling_text());
    (first < last).then(|| Series {
        name: name.into(),
        points: (0..POINTS).map(|index| (at(index), trend.at(at(index)))).collect(),
        color,
        ..Series::default()
    })
}

/// Returns horizontal lines at the number of operations that a device does in a day and in a year.
fn device_lines<'a>(device: &DeviceRate, (first, last): (f64, f64)) -> impl Iterator<Item = Series<'a>> {
    let device = device.clone();
    [("one day", DAY), ("one year", YEAR)].into_iter().map(move |(time, seconds)| {
        let flops = device.sustained_flops * seconds;
        Series {
            points: vec![(first, flops), (last, flops)],
            along: Some(format!("{time} of {}", device.device).into()),
            color: Color::Faint,
            dashed: true,
            ..Series::default()
        }
    })
}

/// Returns the dots of the runs on this machine. A chart that begins in a given year shows no runs, because runs are
/// much smaller than the systems and would leave half of the chart empty.
fn runs_series<'a>(machine: &'a LocalMachine, figure: &Figure<'_>) -> Series<'a> {
    let value = |run: &LocalRun| match figure.quantity {
        Quantity::Compute => run.usable_flops(),
        Quantity::Parameters => (run.parameters > 0).then_some(run.parameters as f64),
    };
    let mut runs: Vec<(&LocalRun, f64)> = match figure.from {
        Some(_) => Vec::new(),
        None => machine.runs.iter().filter_map(|run| Some((run, value(run)?))).collect(),
    };
    runs.sort_by(|a, b| b.1.total_cmp(&a.1));
    // Runs of the same recipe overlap, so only the largest has a callout.
    let first_of_name = |index: &usize| runs[..*index].iter().all(|(run, _)| run.name != runs[*index].0.name);
    let named = (0..runs.len()).filter(first_of_name).take(MAX_RUN_CALLOUTS);
    let callouts = named.map(|index| match index {
        0 => (index, format!("this machine: {}", short_name(&runs[0].0.name)).into()),
        _ => (index, short_name(&runs[index].0.name)),
    });
    Series {
        name: if runs.is_empty() { "".into() } else { "runs of this machine".into() },
        points: runs.iter().map(|(run, value)| (run.date.years(), *value)).collect(),
        labels: runs
            .iter()
            .map(|(run, value)| format!("{}: {}", run.name, scientific(*value)).into())
            .collect(),
        callouts: callouts.collect(),
        color: Color::Category(2),
        ..Series::default()
    }
}
