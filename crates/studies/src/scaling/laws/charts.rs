//! Charts of the laws, each with a table of its numbers.

use super::frontier::{MeanCurve, mean_curves};
use super::prediction::FamilyKey;
use super::{
    BETTER, ComparisonPoint, ComputeBudget, FamilyLaws, FrontierPoint, Law, LawFit, Laws, Outcome, PLAIN,
    Variable, prediction,
};
use crate::scaling::Trial;
use std::fmt;
use wgrad_report::Spread;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{self, Chart, Color, Dimension, Series};
use wgrad_report::page::{self, number};
use wgrad_stdx::format::thousands;

/// Number of straight segments that a law is drawn with.
const LINE_INTERVALS: usize = 40;

/// Colour of the frontier, distinct from the colours of sizes, which range from blue to orange.
const FRONTIER_COLOR: Color = Color::Category(2);

/// Chart with a folded table of its numbers.
struct Figure<'a> {
    /// Subject of the chart. The subject is part of the accessible title but not of the caption, because the heading
    /// above the charts contains it.
    subject: String,
    caption: String,
    x: &'a str,
    series: Vec<Series<'a>>,
    columns: Vec<&'a str>,
    rows: Vec<Vec<String>>,
}

impl Figure<'_> {
    fn write(self, page: &mut String, (x_scale, y_scale): (Scale, Scale)) -> fmt::Result {
        let Self { subject, caption, x, series, columns, rows } = self;
        let title = format!("{subject}: {caption}");
        let chart = Chart {
            title: &title,
            x: Dimension { label: x, scale: x_scale, ..Dimension::default() },
            y: Dimension { scale: y_scale, ..Dimension::default() },
            height: chart::HEIGHT,
            series,
        };
        page::figure(page, &caption, &chart, |page| page::folded_table(page, "Numbers", &columns, &rows))
    }
}

const LOGARITHMIC: (Scale, Scale) = (Scale::Log, Scale::Log);

/// Returns the colour of a value by its rank among ascending values.
fn color_by_rank(values: &[u64], value: u64) -> Color {
    let index = values.iter().position(|other| *other == value).unwrap_or(0);
    Color::Ordered(index as f64 / (values.len().max(2) - 1) as f64)
}

/// Returns the distinct values in ascending order.
fn distinct(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// Returns values from `low` to `high`, evenly spaced on a logarithmic scale.
fn log_spaced([low, high]: [f64; 2]) -> impl Iterator<Item = f64> {
    (0..=LINE_INTERVALS).map(move |index| low * (high / low).powf(index as f64 / LINE_INTERVALS as f64))
}

fn dashed<'a>(name: String, color: Color, points: Vec<(f64, f64)>) -> Series<'a> {
    Series { name: name.into(), color, dashed: true, points, ..Series::default() }
}

/// Returns the line of a law of one variable, over the range of the points that the law is fitted to.
fn law_line<'a>(law: &Law, name: String, color: Color) -> Option<Series<'a>> {
    let range = law.terms.first()?.range;
    Some(dashed(name, color, log_spaced(range).map(|x| (x, law.at(&[x]))).collect()))
}

/// Writes the charts of a family.
pub(super) fn write_family(
    page: &mut String,
    laws: &Laws,
    family: &FamilyLaws,
    trials: &[Trial],
) -> fmt::Result {
    let used: Vec<&Trial> = prediction::fit_trials(trials, family.key()).collect();
    if used.is_empty() {
        return Ok(());
    }
    write_loss_by_compute(page, family, &mean_curves(&used))?;
    let examples = distinct(used.iter().map(|trial| trial.examples));
    let parameters = distinct(used.iter().map(|trial| trial.parameters));
    let by_parameters = LossChart {
        variable: Variable::Parameters,
        label: "parameters N",
        value: |trial| trial.parameters,
        other_value: |trial| trial.examples,
        other_values: &examples,
        single: &family.by_parameters,
    };
    by_parameters.write(page, family, &used)?;
    let by_examples = LossChart {
        variable: Variable::Examples,
        label: "training examples D",
        value: |trial| trial.examples,
        other_value: |trial| trial.parameters,
        other_values: &parameters,
        single: &family.by_examples,
    };
    by_examples.write(page, family, &used)?;
    write_best_size(page, family)?;
    write_predictions(page, laws, family, &used)
}

fn write_loss_by_compute(page: &mut String, family: &FamilyLaws, curves: &[MeanCurve]) -> fmt::Result {
    let sizes = distinct(curves.iter().map(|curve| curve.parameters));
    let mut previous = None;
    let mut series: Vec<Series<'_>> = curves
        .iter()
        .map(|curve| {
            // One legend entry per size.
            let name = if previous.replace(curve.parameters) == Some(curve.parameters) {
                String::new()
            } else {
                format!("N = {}", thousands(curve.parameters))
            };
            let points = curve.points.iter().map(|(_, flops, loss)| (*flops, *loss)).collect();
            Series {
                name: name.into(),
                points,
                color: color_by_rank(&sizes, curve.parameters),
                thin: true,
                ..Series::default()
            }
        })
        .collect();
    let points = &family.frontier.points;
    series.push(Series {
        name: "frontier".into(),
        color: FRONTIER_COLOR,
        points: points.iter().map(|point| (point.flops, point.loss)).collect(),
        labels: points.iter().map(|point| format!("N = {}", thousands(point.parameters)).into()).collect(),
        ..Series::default()
    });
    if let Ok(law) = &family.frontier.law {
        series.extend(law_line(law, "law of the frontier".to_owned(), FRONTIER_COLOR));
    }
    let row = |point: &FrontierPoint| {
        vec![
            number(point.flops),
            number(point.loss),
            thousands(point.parameters),
            thousands(point.examples),
            thousands(point.step),
            if point.fitted { "yes" } else { "no" }.to_owned(),
            point.trials.join(", "),
        ]
    };
    let (subject, caption) = (family.name(), "Test loss against C".to_owned());
    let columns = vec!["C", "test loss", "N", "D", "step", "fitted", "trainings"];
    let rows = points.iter().map(row).collect();
    Figure { subject, caption, x: "training FLOPs C", series, columns, rows }.write(page, LOGARITHMIC)
}

/// Chart of loss against N or D, with a line per value of the other variable.
struct LossChart<'a> {
    variable: Variable,
    label: &'a str,
    value: fn(&Trial) -> u64,
    other_value: fn(&Trial) -> u64,
    other_values: &'a [u64],
    /// Law with `variable` as its only variable.
    single: &'a LawFit,
}

impl LossChart<'_> {
    fn write(self, page: &mut String, family: &FamilyLaws, trials: &[&Trial]) -> fmt::Result {
        let Self { variable, label, value, other_value, other_values, single } = self;
        let other_letter = if variable == Variable::Parameters { "D" } else { "N" };
        let joint = family.joint.law.as_ref().ok();
        let (mut series, mut rows) = (Vec::new(), Vec::new());
        for fixed in other_values {
            let color = color_by_rank(other_values, *fixed);
            let of_line = trials.iter().filter(|trial| other_value(trial) == *fixed);
            let points = Spread::by_key(of_line.map(|trial| (value(trial), trial.test_loss)));
            let law = |x: f64, law: &Law| {
                let fixed = *fixed as f64;
                law.at(&if variable == Variable::Parameters { [x, fixed] } else { [fixed, x] })
            };
            for (x, spread) in &points {
                let by_law = joint.map_or_else(|| "–".to_owned(), |joint| number(law(*x as f64, joint)));
                rows.push(vec![
                    thousands(*x),
                    thousands(*fixed),
                    spread.to_string(),
                    spread.count.to_string(),
                    by_law,
                ]);
            }
            let ends = points.first().zip(points.last());
            if let Some((joint, (first, last))) = joint.zip(ends) {
                let line = log_spaced([first.0 as f64, last.0 as f64]).map(|x| (x, law(x, joint))).collect();
                series.push(dashed(String::new(), color, line));
            }
            series.push(Series {
                name: format!("{other_letter} = {}", thousands(*fixed)).into(),
                band: points.iter().map(|(x, spread)| (*x as f64, spread.low, spread.high)).collect(),
                points: points.iter().map(|(x, spread)| (*x as f64, spread.median)).collect(),
                color,
                ..Series::default()
            });
        }
        if let (Ok(law), Some(fixed)) = (&single.law, single.fixed) {
            let name = format!("law of {} for {other_letter} = {}", variable.letter(), thousands(fixed));
            series.extend(law_line(law, name, Color::Faint));
        }
        let letter = variable.letter();
        let (subject, caption) = (family.name(), format!("Test loss against {letter}"));
        let columns = vec![letter, other_letter, "test loss", "seeds", "law of N and D"];
        Figure { subject, caption, x: label, series, columns, rows }.write(page, LOGARITHMIC)
    }
}

fn write_best_size(page: &mut String, family: &FamilyLaws) -> fmt::Result {
    let points = &family.frontier.points;
    if points.is_empty() {
        return Ok(());
    }
    let position = |point: &FrontierPoint| (point.flops, point.parameters as f64);
    let mut series = vec![Series {
        name: "frontier".into(),
        points: points.iter().map(position).collect(),
        labels: points.iter().map(|point| format!("test loss {}", number(point.loss)).into()).collect(),
        ..Series::default()
    }];
    let optimum = family.frontier.optimum.as_ref().ok();
    let fitted = || points.iter().filter(|point| point.fitted);
    if let Some((optimum, (first, last))) = optimum.zip(fitted().next().zip(fitted().next_back())) {
        let line = log_spaced([first.flops, last.flops]).map(|flops| (flops, optimum.at(flops))).collect();
        let name =
            format!("C to the power {}, fitted to {} points", number(optimum.exponent.value), optimum.points);
        series.push(dashed(name, Color::Category(1), line));
    }
    let by_line = |flops| optimum.map_or_else(|| "–".to_owned(), |optimum| number(optimum.at(flops)));
    let rows = points
        .iter()
        .map(|point| vec![number(point.flops), thousands(point.parameters), by_line(point.flops)])
        .collect();
    let (subject, caption) = (family.name(), "Best N against C".to_owned());
    let columns = vec!["C", "N", "N by the line"];
    Figure { subject, caption, x: "training FLOPs C", series, columns, rows }.write(page, LOGARITHMIC)
}

/// Writes the chart of measured losses against the losses predicted by the fitted law in N and D. It shows fitted and
/// held-out training runs.
fn write_predictions(page: &mut String, laws: &Laws, family: &FamilyLaws, trials: &[&Trial]) -> fmt::Result {
    let Ok(law) = &family.joint.law else { return Ok(()) };
    let value = |trial: &Trial| law.at(&[trial.parameters as f64, trial.examples as f64]);
    let fitted: Vec<(f64, f64)> = trials.iter().map(|trial| (value(trial), trial.test_loss)).collect();
    let is_of_family = |outcome: &&Outcome| FamilyKey::of_prediction(&outcome.prediction) == family.key();
    let outcomes: Vec<&Outcome> = laws.outcomes.iter().filter(is_of_family).collect();
    let measured = || outcomes.iter().filter_map(|o| Some((&o.prediction, o.measured.as_ref()?)));
    let pairs = || fitted.iter().copied().chain(measured().map(|(p, m)| (p.loss, m.loss)));
    let low = pairs().map(|(a, b)| a.min(b)).fold(f64::INFINITY, f64::min);
    let high = pairs().map(|(a, b)| a.max(b)).fold(0.0, f64::max);
    let mut series = vec![
        dashed("equality".to_owned(), Color::Faint, log_spaced([low, high]).map(|x| (x, x)).collect()),
        Series {
            name: "fitted runs".into(),
            labels: trials.iter().map(|trial| trial.id.as_str().into()).collect(),
            points: fitted,
            ..Series::default()
        },
    ];
    for (index, (prediction, measured)) in measured().enumerate() {
        // The interval is a horizontal line.
        if let Some([low, high]) = prediction.interval {
            series.push(Series {
                points: vec![(low, measured.loss), (high, measured.loss)],
                color: Color::Category(1),
                thin: true,
                ..Series::default()
            });
        }
        let name = if index == 0 { "held out, with 95% interval" } else { "" };
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
    let (subject, caption) = (family.name(), "Measured test loss against the law".to_owned());
    let columns = vec!["training", "by the law", "measured"];
    Figure { subject, caption, x: "test loss by the law of N and D", series, columns, rows }
        .write(page, LOGARITHMIC)
}

/// Writes the charts of loss and accuracy of both architectures against the amount of data, for one budget.
pub(super) fn write_comparison(page: &mut String, dataset: &str, budget: &ComputeBudget) -> fmt::Result {
    type Value = fn(&ComparisonPoint) -> Spread;
    let values: [(&str, Value, Scale); 2] = [
        ("test loss", |point| point.loss, Scale::Log),
        ("test accuracy, %", |point| percents(point.accuracy), Scale::Linear),
    ];
    for (quantity, value, y_scale) in values {
        let line = |(index, family): (usize, &'static str)| {
            let points = || budget.points_of(family).map(|point| (point.examples as f64, value(point)));
            Series {
                name: family.into(),
                points: points().map(|(x, spread)| (x, spread.median)).collect(),
                band: points().map(|(x, spread)| (x, spread.low, spread.high)).collect(),
                color: Color::Category(1 - index),
                ..Series::default()
            }
        };
        let series = [PLAIN, BETTER].into_iter().enumerate().map(line).collect();
        let row = |point: &ComparisonPoint| {
            let seeds = point.loss.count.to_string();
            vec![
                point.family.clone(),
                thousands(point.examples),
                value(point).to_string(),
                seeds,
                point.improving.len().to_string(),
                point.trials.join(", "),
            ]
        };
        let rows = budget.points.iter().map(row).collect();
        let (subject, caption) =
            (format!("{PLAIN} and {BETTER}"), format!("{dataset}, {}: {quantity}", budget.compute()));
        let columns = vec!["family", "D", quantity, "seeds", "still improving", "trainings"];
        Figure { subject, caption, x: "training examples D", series, columns, rows }
            .write(page, (Scale::Log, y_scale))?;
    }
    Ok(())
}

/// Converts a spread of fractions to percentages.
fn percents(fraction: Spread) -> Spread {
    let Spread { low, median, high, count } = fraction;
    Spread { low: 100.0 * low, median: 100.0 * median, high: 100.0 * high, count }
}
