//! The figures of the history: training compute and parameters over the date, with the trends of their eras.

use super::here::{DAY, YEAR};
use super::page::{amount, systems_table};
use super::{Here, History, OwnRun, Quantity, Rate, Selection, System, Trend};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{Chart, Color, Dimension, Series};
use wgrad_report::page;

/// At most so many systems are named in a picture.
const NAMED: usize = 60;
/// And at most so many of the user's runs.
const NAMED_RUNS: usize = 5;
/// Points of a straight line: more than a chart draws as dots.
const POINTS: usize = 25;

/// Figures of training compute: all of it, and its last years.
pub(super) fn compute(page: &mut String, history: &History, here: &Here) -> fmt::Result {
    let caption = "Training compute of each system, in FLOP, by the date it was published";
    figure(
        page,
        history,
        here,
        &Figure { caption, quantity: Quantity::Compute, from: None, height: 420.0 },
        |page| systems_table(page, history),
    )?;
    let year = 2010.0;
    if history.systems.iter().all(|system| system.date.years() < year) {
        return Ok(());
    }
    let caption = "The same since 2010: training compute in FLOP";
    let zoomed = Figure { caption, quantity: Quantity::Compute, from: Some(year), height: 420.0 };
    figure(page, history, here, &zoomed, |_| Ok(()))
}

/// The figure of parameters, where a system has them.
pub(super) fn parameters(page: &mut String, history: &History, here: &Here) -> fmt::Result {
    if history.systems.iter().all(|system| system.parameters.is_none()) {
        return Ok(());
    }
    let caption = "Parameters of each system, by the date it was published";
    let asked = Figure { caption, quantity: Quantity::Parameters, from: None, height: 360.0 };
    figure(page, history, here, &asked, |_| Ok(()))
}

struct Figure<'a> {
    caption: &'a str,
    quantity: Quantity,
    /// The first year shown.
    from: Option<f64>,
    height: f64,
}

fn figure(
    page: &mut String,
    history: &History,
    here: &Here,
    asked: &Figure<'_>,
    below: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    let shown = |system: &&System| asked.from.is_none_or(|from| system.date.years() >= from);
    let systems: Vec<(&System, f64)> = history
        .systems
        .iter()
        .filter(shown)
        .filter_map(|system| Some((system, asked.quantity.of(system)?)))
        .collect();
    let trends = drawn(history, asked.quantity);
    let named = notable(history, &trends, asked.quantity);
    let of = |members: &dyn Fn(usize) -> bool, color: Color| {
        let chosen: Vec<&(&System, f64)> = systems.iter().filter(|(system, _)| members(system.id)).collect();
        let place = |id: &usize| chosen.iter().position(|(system, _)| system.id == *id);
        Series {
            points: chosen.iter().map(|(system, value)| (system.date.years(), *value)).collect(),
            labels: chosen.iter().map(|(system, value)| label(system, *value).into()).collect(),
            callouts: named
                .iter()
                .filter_map(|id| Some((place(id)?, short(&history.systems[*id].name))))
                .collect(),
            color,
            ..Series::default()
        }
    };
    let fitted: HashSet<usize> = trends.iter().flat_map(|trend| trend.systems.iter().copied()).collect();
    let mut series = vec![of(&|id| !fitted.contains(&id), Color::Faint)];
    for (index, trend) in trends.iter().enumerate() {
        let color = color(index);
        series.push(of(&|id| trend.systems.contains(&id), color));
        series.extend(line(history, trend, asked.from, color));
    }
    let years = systems.iter().map(|(system, _)| system.date.years());
    let own = own(here, asked);
    let own_years = own.points.iter().map(|(year, _)| *year);
    let (first, last) = years
        .chain(own_years)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), year| (low.min(year), high.max(year)));
    if asked.quantity == Quantity::Compute && first < last {
        // What a device does in a day may be far less than any system took.
        let least = systems.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min) / 10.0;
        let lines = here.devices.iter().flat_map(|device| reach(device, (asked.from.unwrap_or(first), last)));
        series.extend(lines.filter(|line| line.points.iter().all(|(_, flops)| *flops >= least)));
    }
    series.push(own);
    series.retain(|series| !series.points.is_empty());
    let chart = Chart {
        title: asked.caption,
        x: Dimension {
            label: "year",
            holds: asked.from.into_iter().collect(),
            ticks: ticks(asked.from.unwrap_or(first), last),
            ..Dimension::default()
        },
        y: Dimension { scale: Scale::Log, ..Dimension::default() },
        height: asked.height,
        series,
    };
    page::wide_figure(page, asked.caption, &chart, below)
}

/// Every year, or every fifth or tenth of a longer time.
fn ticks(first: f64, last: f64) -> Vec<f64> {
    let step = [(20.0, 1.0), (50.0, 5.0)].into_iter().find(|(longest, _)| last - first < *longest);
    let step = step.map_or(10.0, |(_, step)| step);
    // Empty where there is no system, and then the axis has marks of its own.
    let count = ((last - first) / step).max(0.0) as usize;
    let begin = (first / step).ceil();
    let all = (0..=count).map(|index| (begin + index as f64) * step);
    all.filter(|year| (first..=last).contains(year)).collect()
}

/// The colour of a trend: that of the user's own runs is kept for those.
fn color(index: usize) -> Color {
    Color::Category([0, 1, 3][index % 3])
}

/// The trends that a figure draws: the first of each era, without eras that overlap one before.
pub(super) fn drawn(history: &History, quantity: Quantity) -> Vec<&Trend> {
    let mut drawn: Vec<&Trend> = Vec::new();
    for trend in history.of_quantity(quantity) {
        let (from, until) = (trend.asked.era.from, trend.asked.era.until);
        let before = |end: Option<super::Date>, begin: Option<super::Date>| {
            end.zip(begin).is_some_and(|(end, begin)| end <= begin)
        };
        let apart =
            |other: &&Trend| before(until, other.asked.era.from) || before(other.asked.era.until, from);
        if drawn.iter().all(apart) {
            drawn.push(trend);
        }
    }
    drawn
}

/// Systems whose names a picture shows where there is room, the most notable first: those that were the largest of all when
/// they were published, then those of a frontier, then the others; each by falling size.
fn notable(history: &History, trends: &[&Trend], quantity: Quantity) -> Vec<usize> {
    let records: HashSet<usize> = records(history, quantity).into_iter().map(|system| system.id).collect();
    let frontier: HashSet<usize> = trends
        .iter()
        .filter(|trend| trend.asked.selection != Selection::All)
        .flat_map(|trend| trend.systems.iter().copied())
        .collect();
    let rank = |system: &System| match system.id {
        id if records.contains(&id) => 0,
        id if frontier.contains(&id) => 1,
        _ => 2,
    };
    let all = history.systems.iter().filter_map(|system| Some((system, quantity.of(system)?)));
    let mut ranked: Vec<(u8, f64, usize)> =
        all.map(|(system, value)| (rank(system), -value, system.id)).collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    ranked.into_iter().map(|(.., id)| id).take(NAMED).collect()
}

/// Systems that were the largest of all when they were published, by date.
pub(super) fn records(history: &History, quantity: Quantity) -> Vec<&System> {
    let mut by_date: Vec<(&System, f64)> =
        history.systems.iter().filter_map(|system| Some((system, quantity.of(system)?))).collect();
    by_date.sort_by(|a, b| a.0.date.cmp(&b.0.date).then(b.1.total_cmp(&a.1)));
    let mut largest = 0.0;
    by_date.retain(|(_, value)| {
        let record = *value > largest;
        largest = value.max(largest);
        record
    });
    by_date.into_iter().map(|(system, _)| system).collect()
}

/// A name without what is in brackets.
fn short(name: &str) -> Cow<'_, str> {
    let short = name.split(" (").next().unwrap_or(name);
    if short.chars().count() <= 28 {
        return short.into();
    }
    let mut cut: String = short.chars().take(26).collect();
    cut.push('…');
    cut.into()
}

fn label(system: &System, value: f64) -> String {
    format!("{}, {}: {}", system.name, system.date, amount(value))
}

/// A trend's line over the dates of its systems.
fn line<'a>(history: &History, trend: &Trend, from: Option<f64>, color: Color) -> Option<Series<'a>> {
    let year = |id: &usize| history.systems[*id].date.years();
    let (first, last) = (year(trend.systems.first()?), year(trend.systems.last()?));
    let first = from.map_or(first, |from| from.max(first));
    let at = |index: usize| first + (last - first) * index as f64 / (POINTS - 1) as f64;
    let what = format!("{}, {}: {}", trend.asked.era.name, trend.asked.selection, trend.says());
    (first < last).then(|| Series {
        name: what.into(),
        points: (0..POINTS).map(|index| (at(index), trend.at(at(index)))).collect(),
        color,
        ..Series::default()
    })
}

/// What a device does in a day and in a year, as lines across the picture.
fn reach<'a>(device: &Rate, (first, last): (f64, f64)) -> impl Iterator<Item = Series<'a>> {
    let device = device.clone();
    [("a day", DAY), ("a year", YEAR)].into_iter().map(move |(what, seconds)| {
        let flops = device.sustained_flops * seconds;
        Series {
            points: vec![(first, flops), (last, flops)],
            along: Some(format!("{what} of {}", device.device).into()),
            color: Color::Faint,
            dashed: true,
            ..Series::default()
        }
    })
}

/// The user's own runs. A picture of some years shows none: they are small beside its systems, and would leave half of it empty.
fn own<'a>(here: &'a Here, asked: &Figure<'_>) -> Series<'a> {
    let value = |run: &OwnRun| match asked.quantity {
        Quantity::Compute => run.usable_flops(),
        Quantity::Parameters => (run.parameters > 0).then_some(run.parameters as f64),
    };
    let mut runs: Vec<(&OwnRun, f64)> = match asked.from {
        Some(_) => Vec::new(),
        None => here.own.iter().filter_map(|run| Some((run, value(run)?))).collect(),
    };
    runs.sort_by(|a, b| b.1.total_cmp(&a.1));
    // Runs of a recipe lie on top of each other: the largest speaks for them.
    let first_of_name = |index: &usize| runs[..*index].iter().all(|(run, _)| run.name != runs[*index].0.name);
    let named = (0..runs.len()).filter(first_of_name).take(NAMED_RUNS);
    let callouts = named.map(|index| match index {
        0 => (index, format!("you are here: {}", short(&runs[0].0.name)).into()),
        _ => (index, short(&runs[index].0.name)),
    });
    Series {
        name: if runs.is_empty() { "".into() } else { "your runs".into() },
        points: runs.iter().map(|(run, value)| (run.date.years(), *value)).collect(),
        labels: runs.iter().map(|(run, value)| format!("{}: {}", run.name, amount(*value)).into()).collect(),
        callouts: callouts.collect(),
        color: Color::Category(2),
        ..Series::default()
    }
}
