//! Charts of the depth study, each with a table of its numbers.

use super::{Activation, CurvePoint, DepthRun, DepthStudy, Family, LayerValue, SigmoidRun, Spread};
use std::borrow::Cow;
use std::fmt;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{self, Chart, Color, Dimension, Series};
use wgrad_report::page::{self, number};
use wgrad_stdx::format::thousands;

/// Maximum number of steps in the table of a training curve.
const TABLE_STEPS: usize = 12;
/// Ratio of the largest to the smallest value above which a chart is logarithmic.
const LOG_SCALE_RATIO: f64 = 10.0;

/// Function that returns a value of a run or of a point of a curve, or `None` if there is no value.
type Value<T> = fn(&T) -> Option<f64>;

/// Line of a chart: name, style, points and crosses.
struct Line<'a> {
    name: Cow<'a, str>,
    color: Color,
    dashed: bool,
    points: Vec<(u64, Spread)>,
    crosses: Vec<f64>,
}

impl<'a> Line<'a> {
    fn new(name: impl Into<Cow<'a, str>>, color: Color, points: Vec<(u64, Spread)>) -> Self {
        Self { name: name.into(), color, dashed: false, points, crosses: Vec::new() }
    }

    fn dashed(self) -> Self {
        Self { dashed: true, ..self }
    }

    fn at(&self, x: u64) -> Option<&Spread> {
        let index = self.points.binary_search_by_key(&x, |point| point.0).ok()?;
        Some(&self.points[index].1)
    }

    fn series(&self) -> Series<'a> {
        Series {
            name: self.name.clone(),
            points: self.points.iter().map(|(x, spread)| (*x as f64, spread.median)).collect(),
            band: self.points.iter().map(|(x, spread)| (*x as f64, spread.low, spread.high)).collect(),
            crosses: self.crosses.clone(),
            color: self.color,
            dashed: self.dashed,
            ..Series::default()
        }
    }
}

fn color(family: Family) -> Color {
    match family {
        Family::Plain => Color::Category(1),
        Family::Residual => Color::Category(0),
    }
}

/// Writes the charts of final training loss and test error against depth.
pub(super) fn by_depth(page: &mut String, study: &DepthStudy) -> fmt::Result {
    let line = |family: Family, value: Value<DepthRun>| {
        let runs = || study.runs.iter().filter(move |run| run.family == family);
        let points = Spread::by_key(runs().filter_map(|run| Some((u64::from(run.depth), value(run)?))));
        let crosses = runs().filter(|run| run.diverged).map(|run| f64::from(run.depth)).collect();
        Line { crosses, ..Line::new(family.name(), color(family), points) }
    };
    let charts: [(&str, &str, Value<DepthRun>); 2] = [
        ("Final training loss", "final training loss against depth", |run| Some(run.loss())),
        ("Test error, %", "test error against depth", |run| Some(100.0 * run.test_error()?)),
    ];
    for (caption, title, value) in charts {
        let lines = Family::ALL.map(|family| line(family, value));
        let ticks: Vec<f64> = study.depths().into_iter().map(f64::from).collect();
        let scale = scale_of(&lines);
        let x = Dimension { label: "layers", holds: ticks.clone(), ticks, ..Dimension::default() };
        Figure { caption, title, x, scale, holds: Vec::new(), lines: &lines }.write(page, |page| {
            page::table(page, &columns(&["layers"], &lines), &rows(&lines, &xs(&lines)))
        })?;
    }
    Ok(())
}

/// Writes the charts of training loss and test error against steps, one per family, coloured by depth. Charts in the
/// same row share a scale.
pub(super) fn curves(page: &mut String, study: &DepthStudy) -> fmt::Result {
    let depths = study.depths();
    let lines = |family: Family, value: Value<CurvePoint>| -> Vec<Line<'_>> {
        let line = |(index, depth): (usize, &u32)| {
            let points = study.runs_of(family, *depth).flat_map(|run| &run.curve);
            let points = Spread::by_key(points.filter_map(|point| Some((point.step, value(point)?))));
            let place = index as f64 / (depths.len().max(2) - 1) as f64;
            Line::new(format!("{depth} layers"), Color::Ordered(place), points)
        };
        depths.iter().enumerate().map(line).filter(|line| !line.points.is_empty()).collect()
    };
    let charts: [(&str, Value<CurvePoint>); 2] = [
        ("training loss", |point| Some(point.train_loss)),
        ("test error, %", |point| point.test_accuracy.map(|accuracy| 100.0 * (1.0 - accuracy))),
    ];
    for (quantity, value) in charts {
        let both = Family::ALL.map(|family| lines(family, value));
        let all = || both.iter().flatten().flat_map(|line| &line.points);
        let medians: Vec<f64> = all().map(|point| point.1.median).collect();
        let steps = all().map(|point| point.0 as f64).fold(None, extend_range);
        let scale = scale_of(both.iter().flatten());
        for (family, lines) in Family::ALL.into_iter().zip(&both).filter(|(_, lines)| !lines.is_empty()) {
            let name = family.name();
            let holds = steps.map_or(Vec::new(), |(first, last)| vec![first, last]);
            let x = Dimension { label: "step", holds, whole: true, ..Dimension::default() };
            let (caption, title) =
                (format!("{name}: {quantity}"), format!("{quantity} of {name} networks against steps"));
            Figure { caption: &caption, title: &title, x, scale, holds: medians.clone(), lines }
                .write(page, |page| table(page, "step", lines, &evenly_spaced(&xs(lines), TABLE_STEPS)))?;
        }
    }
    Ok(())
}

/// Writes the charts of gradient norms by layer, at initialisation and after training, one chart per depth.
pub(super) fn gradients(page: &mut String, study: &DepthStudy) -> fmt::Result {
    for depth in study.depths() {
        let line = |family: Family, when: &str, values: fn(&DepthRun) -> &[LayerValue]| {
            let values = study.runs_of(family, depth).flat_map(values);
            Line::new(format!("{}, {when}", family.name()), color(family), by_layer(values))
        };
        let lines = Family::ALL.map(|family| {
            let first = line(family, "initial", |run| &run.gradient_norms_init);
            [first.dashed(), line(family, "trained", |run| &run.gradient_norms_final)]
        });
        let names =
            study.runs.iter().filter(|run| run.depth == depth).flat_map(|run| &run.gradient_norms_init);
        layers(page, &format!("{depth} layers: gradient norm"), lines.as_flattened(), names)?;
    }
    Ok(())
}

/// Writes the charts of gradient norms and weight changes by layer of the perceptrons, a pair of charts per depth.
pub(super) fn sigmoid(page: &mut String, study: &DepthStudy) -> fmt::Result {
    let mut depths: Vec<u32> = study.sigmoid.iter().map(|run| run.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    for depth in depths {
        let runs = || study.sigmoid.iter().filter(|run| run.depth == depth);
        let line = |activation: Activation, when: &str, values: fn(&SigmoidRun) -> &[LayerValue]| {
            let values = runs().filter(|run| run.activation == activation).flat_map(values);
            let color = match activation {
                Activation::Sigmoid => Color::Category(1),
                Activation::Relu => Color::Category(0),
            };
            Line::new(format!("{}{when}", activation.name()), color, by_layer(values))
        };
        let names = || runs().flat_map(|run| &run.gradient_norms_init);
        let gradients = Activation::ALL.map(|activation| {
            let first = line(activation, ", initial", |run| &run.gradient_norms_init);
            [first.dashed(), line(activation, ", trained", |run| &run.gradient_norms_final)]
        });
        layers(page, &format!("{depth} layers: gradient norm"), gradients.as_flattened(), names())?;
        let movement = Activation::ALL.map(|activation| line(activation, "", |run| &run.movement));
        layers(page, &format!("{depth} layers: relative change of the weights"), &movement, names())?;
    }
    Ok(())
}

/// Writes a chart of values against layers. The vertical axis is logarithmic, because gradients shrink by a factor per
/// layer.
fn layers<'a>(
    page: &mut String,
    caption: &str,
    lines: &[Line<'_>],
    names: impl Iterator<Item = &'a LayerValue> + Clone,
) -> fmt::Result {
    let x = Dimension { label: "layer, from the input", whole: true, ..Dimension::default() };
    let title = format!("{caption} against layers");
    let figure = Figure { caption, title: &title, x, scale: Scale::Log, holds: Vec::new(), lines };
    figure.write(page, |page| {
        let name = |layer: u64| names.clone().find(|value| u64::from(value.layer) == layer);
        let mut rows = rows(lines, &xs(lines));
        for (row, layer) in rows.iter_mut().zip(xs(lines)) {
            row.insert(1, name(layer).map_or_else(String::new, |value| value.name.clone()));
        }
        let columns = columns(&["layer", "weight"], lines);
        page::folded_table(page, "Numbers", &columns, &rows)
    })
}

/// Chart of several lines, with a caption.
struct Figure<'a> {
    caption: &'a str,
    title: &'a str,
    x: Dimension<'a>,
    scale: Scale,
    /// Values that the vertical axis must include, in addition to the lines.
    holds: Vec<f64>,
    lines: &'a [Line<'a>],
}

impl Figure<'_> {
    fn write(self, page: &mut String, below: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
        let Self { caption, title, x, scale, holds, lines } = self;
        let logarithmic = if scale == Scale::Log { " (logarithmic)" } else { "" };
        let chart = Chart {
            title,
            x,
            y: Dimension { scale, holds, ..Dimension::default() },
            height: chart::HEIGHT,
            series: lines.iter().filter(|line| !line.points.is_empty()).map(Line::series).collect(),
        };
        page::figure(page, &format!("{caption}{logarithmic}"), &chart, below)
    }
}

fn by_layer<'a>(values: impl Iterator<Item = &'a LayerValue>) -> Vec<(u64, Spread)> {
    Spread::by_key(values.map(|value| (u64::from(value.layer), value.value)))
}

/// Returns a logarithmic scale if all values are positive and their ratio exceeds [`LOG_SCALE_RATIO`].
fn scale_of<'a, 'b: 'a>(lines: impl IntoIterator<Item = &'a Line<'b>>) -> Scale {
    let values = lines.into_iter().flat_map(|line| line.points.iter().map(|point| point.1.median));
    match values.filter(|value| value.is_finite()).fold(None, extend_range) {
        Some((low, high)) if low > 0.0 && high > LOG_SCALE_RATIO * low => Scale::Log,
        _ => Scale::Linear,
    }
}

fn extend_range(range: Option<(f64, f64)>, value: f64) -> Option<(f64, f64)> {
    Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
}

/// Returns the x values of all lines in ascending order.
fn xs(lines: &[Line<'_>]) -> Vec<u64> {
    let mut xs: Vec<u64> = lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
    xs.sort_unstable();
    xs.dedup();
    xs
}

/// Returns at most `count` elements of `xs`, evenly spaced, including the first and the last.
fn evenly_spaced(xs: &[u64], count: usize) -> Vec<u64> {
    if xs.len() <= count {
        return xs.to_vec();
    }
    (0..count).map(|index| xs[index * (xs.len() - 1) / (count - 1)]).collect()
}

fn table(page: &mut String, x: &str, lines: &[Line<'_>], xs: &[u64]) -> fmt::Result {
    page::folded_table(page, "Numbers", &columns(&[x], lines), &rows(lines, xs))
}

fn columns<'a>(first: &[&'a str], lines: &'a [Line<'_>]) -> Vec<&'a str> {
    first.iter().copied().chain(lines.iter().map(|line| line.name.as_ref())).collect()
}

fn rows(lines: &[Line<'_>], xs: &[u64]) -> Vec<Vec<String>> {
    let cell = |x: u64, line: &Line<'_>| line.at(x).map_or_else(String::new, Spread::to_string);
    xs.iter()
        .map(|x| std::iter::once(x.to_string()).chain(lines.iter().map(|line| cell(*x, line))).collect())
        .collect()
}

/// Writes the tables of all runs, one row per run.
pub(super) fn runs(page: &mut String, study: &DepthStudy) -> fmt::Result {
    let mut runs: Vec<&DepthRun> = study.runs.iter().collect();
    runs.sort_by_key(|run| (run.family, run.depth, run.seed));
    let error_percent = |accuracy: f64| format!("{:.2}", 100.0 * (1.0 - accuracy));
    let outcome = |diverged: bool| if diverged { "diverged" } else { "" }.to_owned();
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            vec![
                run.family.name().to_owned(),
                run.depth.to_string(),
                run.seed.to_string(),
                thousands(run.parameters),
                format!("{:.1}", run.flops_per_step as f64 / 1e6),
                number(run.final_train_loss),
                number(run.final_test_loss),
                error_percent(run.final_test_accuracy),
                outcome(run.diverged),
            ]
        })
        .collect();
    let columns = [
        "network",
        "layers",
        "seed",
        "parameters",
        "MFLOP per step",
        "training loss",
        "test loss",
        "test error, %",
        "",
    ];
    page::table(page, &columns, &rows)?;
    let mut runs: Vec<&SigmoidRun> = study.sigmoid.iter().collect();
    runs.sort_by_key(|run| (run.activation, run.depth, run.seed));
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            vec![
                format!("{} perceptron", run.activation.name()),
                run.depth.to_string(),
                run.seed.to_string(),
                number(run.final_train_loss),
                number(run.final_test_loss),
                error_percent(run.final_test_accuracy),
                outcome(run.diverged),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let columns = ["network", "layers", "seed", "training loss", "test loss", "test error, %", ""];
    page::table(page, &columns, &rows)
}
