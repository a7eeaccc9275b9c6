//! The charts of laws, each with its numbers under it.

use super::frontier::{MeanCurve, mean_curves};
use super::prediction::Key;
use super::{BETTER, Budget, FamilyLaws, Fit, Law, Laws, Outcome, PLAIN, Variable, prediction};
use crate::scaling::Trial;
use std::fmt;
use wgrad_report::Spread;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{self, Chart, Color, Dimension, Series};
use wgrad_report::page::{self, count, number};

/// Points of a law's line.
const LINE: usize = 40;

/// Told apart from the ramp of sizes, which goes from blue to orange.
const FRONTIER: Color = Color::Category(2);

/// A chart with both axes logarithmic, and a table that stays folded.
struct Figure<'a> {
    /// What it is of: said aloud, but not above each of the figures under a heading that says it.
    of: String,
    caption: String,
    x: &'a str,
    series: Vec<Series<'a>>,
    columns: Vec<&'a str>,
    rows: Vec<Vec<String>>,
}

impl Figure<'_> {
    fn write(self, page: &mut String, (across, up): (Scale, Scale)) -> fmt::Result {
        let Self { of, caption, x, series, columns, rows } = self;
        let title = format!("{of}: {caption}");
        let chart = Chart {
            title: &title,
            x: Dimension { label: x, scale: across, ..Dimension::default() },
            y: Dimension { scale: up, ..Dimension::default() },
            height: chart::HEIGHT,
            series,
        };
        page::figure(page, &caption, &chart, |page| page::folded_table(page, "Numbers", &columns, &rows))
    }
}

const LOGARITHMIC: (Scale, Scale) = (Scale::Log, Scale::Log);

/// The place of each of some rising values on the ramp of colours.
fn ramp(values: &[u64], value: u64) -> Color {
    let index = values.iter().position(|other| *other == value).unwrap_or(0);
    Color::Ordered(index as f64 / (values.len().max(2) - 1) as f64)
}

fn rising(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// Values from one to another, evenly apart on a logarithmic scale.
fn between([low, high]: [f64; 2]) -> impl Iterator<Item = f64> {
    (0..=LINE).map(move |index| low * (high / low).powf(index as f64 / LINE as f64))
}

fn dashed<'a>(name: String, color: Color, points: Vec<(f64, f64)>) -> Series<'a> {
    Series { name: name.into(), color, dashed: true, points, ..Series::default() }
}

/// The line of a law of one variable.
fn alone<'a>(law: &Law, name: String, color: Color) -> Option<Series<'a>> {
    let range = law.terms.first()?.range;
    Some(dashed(name, color, between(range).map(|x| (x, law.at(&[x]))).collect()))
}

/// The charts of a family.
pub(super) fn family(page: &mut String, laws: &Laws, family: &FamilyLaws, trials: &[Trial]) -> fmt::Result {
    let used: Vec<&Trial> = prediction::fitted_to(trials, family.key()).collect();
    if used.is_empty() {
        return Ok(());
    }
    against_compute(page, family, &mean_curves(&used))?;
    let examples = rising(used.iter().map(|trial| trial.examples));
    let parameters = rising(used.iter().map(|trial| trial.parameters));
    let n = Sizes {
        variable: Variable::Parameters,
        label: "parameters N",
        of: |trial| trial.parameters,
        other: |trial| trial.examples,
        others: &examples,
        alone: &family.by_parameters,
    };
    n.write(page, family, &used)?;
    let d = Sizes {
        variable: Variable::Examples,
        label: "training examples D",
        of: |trial| trial.examples,
        other: |trial| trial.parameters,
        others: &parameters,
        alone: &family.by_examples,
    };
    d.write(page, family, &used)?;
    best_size(page, family)?;
    predicted(page, laws, family, &used)
}

fn against_compute(page: &mut String, family: &FamilyLaws, curves: &[MeanCurve]) -> fmt::Result {
    let sizes = rising(curves.iter().map(|curve| curve.parameters));
    let mut last = None;
    let mut series: Vec<Series<'_>> = curves
        .iter()
        .map(|curve| {
            // One entry of the legend for each size.
            let name = if last.replace(curve.parameters) == Some(curve.parameters) {
                String::new()
            } else {
                format!("N = {}", count(curve.parameters))
            };
            let points = curve.points.iter().map(|(_, flops, loss)| (*flops, *loss)).collect();
            Series {
                name: name.into(),
                points,
                color: ramp(&sizes, curve.parameters),
                thin: true,
                ..Series::default()
            }
        })
        .collect();
    let points = &family.frontier.points;
    series.push(Series {
        name: "frontier".into(),
        color: FRONTIER,
        points: points.iter().map(|point| (point.flops, point.loss)).collect(),
        labels: points.iter().map(|point| format!("N = {}", count(point.parameters)).into()).collect(),
        ..Series::default()
    });
    if let Ok(law) = &family.frontier.law {
        series.extend(alone(law, "law of the frontier".to_owned(), FRONTIER));
    }
    let row = |point: &super::FrontierPoint| {
        vec![
            number(point.flops),
            number(point.loss),
            count(point.parameters),
            count(point.examples),
            count(point.step),
            if point.fitted { "yes" } else { "no" }.to_owned(),
            point.trials.join(", "),
        ]
    };
    let (of, caption) = (family.name(), "Test loss against C".to_owned());
    let columns = vec!["C", "test loss", "N", "D", "step", "fitted", "trainings"];
    let rows = points.iter().map(row).collect();
    Figure { of, caption, x: "training FLOPs C", series, columns, rows }.write(page, LOGARITHMIC)
}

/// A chart of loss against one of N and D, a line for each value of the other.
struct Sizes<'a> {
    variable: Variable,
    label: &'a str,
    of: fn(&Trial) -> u64,
    other: fn(&Trial) -> u64,
    others: &'a [u64],
    alone: &'a Fit,
}

impl Sizes<'_> {
    fn write(self, page: &mut String, family: &FamilyLaws, trials: &[&Trial]) -> fmt::Result {
        let Self { variable, label, of: own, other, others, alone: single } = self;
        let second = if variable == Variable::Parameters { "D" } else { "N" };
        let joint = family.joint.law.as_ref().ok();
        let (mut series, mut rows) = (Vec::new(), Vec::new());
        for value in others {
            let color = ramp(others, *value);
            let within = trials.iter().filter(|trial| other(trial) == *value);
            let points = Spread::by_key(within.map(|trial| (own(trial), trial.test_loss)));
            let law = |x: f64, law: &Law| {
                let (own, held) = (x, *value as f64);
                law.at(&if variable == Variable::Parameters { [own, held] } else { [held, own] })
            };
            for (x, spread) in &points {
                let by_law = joint.map_or_else(|| "–".to_owned(), |joint| number(law(*x as f64, joint)));
                rows.push(vec![
                    count(*x),
                    count(*value),
                    spread.to_string(),
                    spread.count.to_string(),
                    by_law,
                ]);
            }
            let ends = points.first().zip(points.last());
            if let Some((joint, (first, last))) = joint.zip(ends) {
                let line = between([first.0 as f64, last.0 as f64]).map(|x| (x, law(x, joint))).collect();
                series.push(dashed(String::new(), color, line));
            }
            series.push(Series {
                name: format!("{second} = {}", count(*value)).into(),
                band: points.iter().map(|(x, spread)| (*x as f64, spread.low, spread.high)).collect(),
                points: points.iter().map(|(x, spread)| (*x as f64, spread.median)).collect(),
                color,
                ..Series::default()
            });
        }
        if let (Ok(law), Some(held)) = (&single.law, single.held) {
            series.extend(alone(law, format!("law at {second} = {} alone", count(held)), Color::Faint));
        }
        let letter = variable.letter();
        let (of, caption) = (family.name(), format!("Test loss against {letter}"));
        let columns = vec![letter, second, "test loss", "seeds", "law of N and D"];
        Figure { of, caption, x: label, series, columns, rows }.write(page, LOGARITHMIC)
    }
}

fn best_size(page: &mut String, family: &FamilyLaws) -> fmt::Result {
    let points = &family.frontier.points;
    if points.is_empty() {
        return Ok(());
    }
    let place = |point: &super::FrontierPoint| (point.flops, point.parameters as f64);
    let mut series = vec![Series {
        name: "on the frontier".into(),
        points: points.iter().map(place).collect(),
        labels: points.iter().map(|point| format!("test loss {}", number(point.loss)).into()).collect(),
        ..Series::default()
    }];
    let optimum = family.frontier.optimum.as_ref().ok();
    let fitted = || points.iter().filter(|point| point.fitted);
    if let Some((optimum, (first, last))) = optimum.zip(fitted().next().zip(fitted().next_back())) {
        let line = between([first.flops, last.flops]).map(|flops| (flops, optimum.at(flops))).collect();
        let name = format!("C to the power {}, by {} points", number(optimum.exponent.value), optimum.points);
        series.push(dashed(name, Color::Category(1), line));
    }
    let by_line = |flops| optimum.map_or_else(|| "–".to_owned(), |optimum| number(optimum.at(flops)));
    let rows = points
        .iter()
        .map(|point| vec![number(point.flops), count(point.parameters), by_line(point.flops)])
        .collect();
    let (of, caption) = (family.name(), "Best N for C".to_owned());
    let columns = vec!["C", "N", "by the line"];
    Figure { of, caption, x: "training FLOPs C", series, columns, rows }.write(page, LOGARITHMIC)
}

/// Losses by the joint law beside those measured, of what it was fitted to and of what it predicted.
fn predicted(page: &mut String, laws: &Laws, family: &FamilyLaws, trials: &[&Trial]) -> fmt::Result {
    let Ok(law) = &family.joint.law else { return Ok(()) };
    let value = |trial: &Trial| law.at(&[trial.parameters as f64, trial.examples as f64]);
    let fitted: Vec<(f64, f64)> = trials.iter().map(|trial| (value(trial), trial.test_loss)).collect();
    let own = |outcome: &&Outcome| Key::of_prediction(&outcome.prediction) == family.key();
    let outcomes: Vec<&Outcome> = laws.outcomes.iter().filter(own).collect();
    let measured = || outcomes.iter().filter_map(|o| Some((&o.prediction, o.measured.as_ref()?)));
    let all = || fitted.iter().copied().chain(measured().map(|(p, m)| (p.loss, m.loss)));
    let low = all().map(|(a, b)| a.min(b)).fold(f64::INFINITY, f64::min);
    let high = all().map(|(a, b)| a.max(b)).fold(0.0, f64::max);
    let mut series = vec![
        dashed("as predicted".to_owned(), Color::Faint, between([low, high]).map(|x| (x, x)).collect()),
        Series {
            name: "fitted to".into(),
            labels: trials.iter().map(|trial| trial.id.as_str().into()).collect(),
            points: fitted,
            ..Series::default()
        },
    ];
    for (index, (prediction, measured)) in measured().enumerate() {
        // The interval, lying down.
        if let Some([low, high]) = prediction.interval {
            series.push(Series {
                points: vec![(low, measured.loss), (high, measured.loss)],
                color: Color::Category(1),
                thin: true,
                ..Series::default()
            });
        }
        let name = if index == 0 { "held out, with its interval" } else { "" };
        series.push(Series {
            name: name.into(),
            points: vec![(prediction.loss, measured.loss)],
            labels: vec![prediction.id.as_str().into()],
            color: Color::Category(1),
            ..Series::default()
        });
    }
    let row = |name: &str, predicted, measured| vec![name.to_owned(), number(predicted), number(measured)];
    let held_out = measured().map(|(p, m)| row(&p.id, p.loss, m.loss));
    let rows =
        held_out.chain(trials.iter().map(|trial| row(&trial.id, value(trial), trial.test_loss))).collect();
    let (of, caption) = (family.name(), "Test loss measured over predicted".to_owned());
    let columns = vec!["training", "by the law", "measured"];
    Figure { of, caption, x: "test loss by the law of N and D", series, columns, rows }
        .write(page, LOGARITHMIC)
}

/// Loss and accuracy of both architectures against the amount of data, for one budget.
pub(super) fn versus(page: &mut String, dataset: &str, budget: &Budget) -> fmt::Result {
    type Of = fn(&super::Point) -> Spread;
    let values: [(&str, Of, Scale); 2] = [
        ("test loss", |point| point.loss, Scale::Log),
        ("test accuracy, %", |point| percents(point.accuracy), Scale::Linear),
    ];
    for (what, value, up) in values {
        let line = |(index, family): (usize, &'static str)| {
            let points = || budget.of_family(family).map(|point| (point.examples as f64, value(point)));
            Series {
                name: family.into(),
                points: points().map(|(x, spread)| (x, spread.median)).collect(),
                band: points().map(|(x, spread)| (x, spread.low, spread.high)).collect(),
                color: Color::Category(1 - index),
                ..Series::default()
            }
        };
        let series = [PLAIN, BETTER].into_iter().enumerate().map(line).collect();
        let row = |point: &super::Point| {
            let seeds = point.loss.count.to_string();
            vec![
                point.family.clone(),
                count(point.examples),
                value(point).to_string(),
                seeds,
                point.improving.len().to_string(),
                point.trials.join(", "),
            ]
        };
        let rows = budget.points.iter().map(row).collect();
        let (of, caption) =
            (format!("{PLAIN} and {BETTER}"), format!("{dataset}, {}: {what}", budget.compute()));
        let columns = vec!["family", "D", what, "seeds", "still improving", "trainings"];
        Figure { of, caption, x: "training examples D", series, columns, rows }
            .write(page, (Scale::Log, up))?;
    }
    Ok(())
}

fn percents(share: Spread) -> Spread {
    let Spread { low, median, high, count } = share;
    Spread { low: 100.0 * low, median: 100.0 * median, high: 100.0 * high, count }
}
