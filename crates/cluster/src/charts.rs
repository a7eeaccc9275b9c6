//! The charts of a prediction, each with its numbers under it.

use super::predict::{Curve, Point, Prediction, Scaling, Schedule, Scheme};
use super::{Cluster, OnPaper};
use std::borrow::Cow;
use std::fmt;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{self, Chart, Color, Dimension, Series};
use wgrad_report::page::{self, number};
use wgrad_stdx::format::{percent, thousands};

/// Seconds in milliseconds.
pub(super) fn ms(seconds: f64) -> String {
    number(1e3 * seconds)
}

/// Bytes in 10⁹, or of them a second.
pub(super) fn giga(value: f64) -> String {
    number(value / 1e9)
}

/// A line of a chart: its name, its points, and whether it is only there to compare with.
struct Line<'a> {
    name: Cow<'a, str>,
    points: Vec<(f64, f64)>,
    faint: bool,
}

impl<'a> Line<'a> {
    fn new(name: impl Into<Cow<'a, str>>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, faint: false }
    }
}

struct Lines<'a> {
    caption: &'a str,
    x: &'a str,
    y: Scale,
    /// Values that the vertical axis holds in any case.
    holds: Vec<f64>,
    lines: Vec<Line<'a>>,
    /// How a value is written in the table.
    show: fn(f64) -> String,
    /// What a value is multiplied with for the chart.
    unit: f64,
}

/// A chart over numbers of devices or the like, and its numbers below.
fn lines(page: &mut String, asked: &Lines<'_>) -> fmt::Result {
    let Lines { caption, x, y, holds, lines, show, unit } = asked;
    let mut xs: Vec<f64> =
        lines.iter().filter(|line| !line.faint).flat_map(|line| line.points.iter().map(|p| p.0)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let series = lines.iter().enumerate().map(|(index, line)| Series {
        name: line.name.clone(),
        points: line.points.iter().map(|&(x, y)| (x, unit * y)).collect(),
        color: if line.faint { Color::Faint } else { Color::Category(index) },
        // There are four colours.
        dashed: line.faint || index >= 4,
        ..Series::default()
    });
    let chart = Chart {
        title: caption,
        x: Dimension { label: x, scale: Scale::Log, ticks: xs.clone(), ..Dimension::default() },
        y: Dimension { scale: *y, holds: holds.clone(), ..Dimension::default() },
        height: chart::HEIGHT,
        series: series.collect(),
    };
    let shown: Vec<&Line<'_>> = lines.iter().filter(|line| !line.faint).collect();
    let columns: Vec<&str> = std::iter::once(*x).chain(shown.iter().map(|line| &*line.name)).collect();
    let cell = |line: &Line<'_>, x: f64| {
        let point = line.points.iter().find(|point| point.0 == x);
        point.map_or_else(|| "–".to_owned(), |point| show(point.1))
    };
    let rows: Vec<Vec<String>> = xs
        .iter()
        .map(|&x| {
            let cells = shown.iter().map(|line| cell(line, x));
            std::iter::once(thousands(x as u64)).chain(cells).collect()
        })
        .collect();
    page::figure(page, caption, &chart, |page| page::folded_table(page, "Numbers", &columns, &rows))
}

fn over_machines(
    cluster: &Cluster,
    (scaling, scheme): (Scaling, Scheme),
    value: fn(&Point) -> f64,
) -> Vec<Line<'_>> {
    let of = |prediction: &Prediction| {
        let curve = prediction.curve(scaling, scheme);
        let points = curve.map_or(&[][..], |curve: &Curve| &curve.points);
        let points = points.iter().map(|point| (point.devices as f64, value(point)));
        // One device waits for nobody, and a logarithmic axis has no place for that.
        points.filter(|point| point.1 > 0.0).collect()
    };
    cluster.predictions.iter().map(|p| Line::new(p.machine.as_str(), of(p))).collect()
}

/// Efficiency, throughput, step time and memory as devices are added.
pub(super) fn scaling(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let efficiency = |page: &mut String, caption, which| {
        let lines_of = over_machines(cluster, which, |point| point.efficiency);
        let asked = Lines {
            caption,
            x: "devices",
            y: Scale::Linear,
            holds: vec![0.0, 100.0],
            lines: lines_of,
            show: |fraction| percent(fraction, 1),
            unit: 100.0,
        };
        lines(page, &asked)
    };
    let (weak, strong) = ((Scaling::Weak, Scheme::Data), (Scaling::Strong, Scheme::Data));
    efficiency(page, "Weak scaling: efficiency, %", weak)?;
    efficiency(page, "Strong scaling: efficiency, %", strong)?;
    let logarithmic = |page: &mut String, caption, which, value, show, unit| {
        let (x, y) = ("devices", Scale::Log);
        let lines_of = over_machines(cluster, which, value);
        lines(page, &Lines { caption, x, y, holds: Vec::new(), lines: lines_of, show, unit })
    };
    let samples = |point: &Point| point.samples_per_second;
    logarithmic(page, "Weak scaling: step, ms (logarithmic)", weak, |point| point.step, ms, 1e3)?;
    logarithmic(page, "Strong scaling: samples a second (logarithmic)", strong, samples, number, 1.0)?;
    let exposed = |point: &Point| point.exposed;
    let caption = "Weak scaling: not hidden, ms (logarithmic)";
    logarithmic(page, caption, weak, exposed, ms, 1e3)?;
    efficiency(page, "Weak scaling with ZeRO-1: efficiency, %", (Scaling::Weak, Scheme::Zero1))?;
    memory(page, cluster)
}

/// Memory does not depend on the machine, but whether it is there does.
fn memory(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let Some(prediction) = cluster.predictions.first() else { return Ok(()) };
    let of = |scheme| {
        let curve = prediction.curve(Scaling::Weak, scheme);
        let points = curve.map_or(&[][..], |curve| &curve.points);
        points.iter().map(|point| (point.devices as f64, point.memory)).collect::<Vec<_>>()
    };
    let (data, zero) = (of(Scheme::Data), of(Scheme::Zero1));
    let ends = |height: f64| data.first().zip(data.last()).map(|(a, b)| vec![(a.0, height), (b.0, height)]);
    let mut limits: Vec<f64> = cluster.machines.iter().filter_map(|machine| machine.memory).collect();
    limits.sort_by(f64::total_cmp);
    limits.dedup();
    let mut all = vec![Line::new("data parallel", data.clone()), Line::new("ZeRO-1", zero)];
    for limit in limits {
        if let Some(points) = ends(limit) {
            all.push(Line { name: format!("a device has {}", giga(limit)).into(), points, faint: true });
        }
    }
    let asked = Lines {
        caption: "Weak scaling: memory of a device, GB",
        x: "devices",
        y: Scale::Linear,
        holds: vec![0.0],
        lines: all,
        show: giga,
        unit: 1e-9,
    };
    lines(page, &asked)
}

/// All gradients at once by each algorithm, a chart for each machine, all on the same scale.
pub(super) fn reductions(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let all = cluster.predictions.iter().flat_map(|p| &p.reductions);
    let holds: Vec<f64> =
        all.flat_map(|r| [r.ring, r.tree, r.hierarchical]).filter(|s| *s > 0.0).map(|s| 1e3 * s).collect();
    for prediction in &cluster.predictions {
        let of = |value: fn(&super::Reduction) -> f64| {
            let reductions = prediction.reductions.iter().filter(|reduction| reduction.devices > 1);
            reductions.map(|reduction| (reduction.devices as f64, value(reduction))).collect()
        };
        let all = vec![
            Line::new("ring", of(|r| r.ring)),
            Line::new("tree", of(|r| r.tree)),
            Line::new("hierarchical", of(|r| r.hierarchical)),
        ];
        let caption = format!("{}: all gradients, ms (logarithmic)", prediction.machine);
        let (x, y, holds) = ("devices", Scale::Log, holds.clone());
        lines(page, &Lines { caption: &caption, x, y, holds, lines: all, show: ms, unit: 1e3 })?;
    }
    Ok(())
}

/// When each bucket is full and when it travels, a chart for each machine.
pub(super) fn schedules(page: &mut String, cluster: &Cluster) -> fmt::Result {
    cluster.predictions.iter().try_for_each(|prediction| schedule(page, prediction))
}

fn schedule(page: &mut String, prediction: &Prediction) -> fmt::Result {
    let Schedule { devices, begin, computed, buckets } = &prediction.schedule;
    let rows = || buckets.iter().enumerate().map(|(index, bucket)| ((index + 1) as f64, bucket));
    let last = buckets.len() as f64;
    let edge = |at: f64| vec![(1e3 * at, 0.0), (1e3 * at, last + 1.0)];
    let faint = |name: &'static str, at: f64| Series {
        name: name.into(),
        points: edge(at),
        color: Color::Faint,
        dashed: true,
        ..Series::default()
    };
    let mut series = vec![faint("backward pass begins and ends", *begin), faint("", *computed)];
    for (row, bucket) in rows() {
        // Only the first of them is in the legend.
        let name = |name: &'static str| if row == 1.0 { name } else { "" };
        series.push(Series {
            name: name("full and waits").into(),
            points: vec![(1e3 * bucket.ready, row), (1e3 * bucket.start, row)],
            color: Color::Category(1),
            ..Series::default()
        });
        series.push(Series {
            name: name("travels").into(),
            points: vec![(1e3 * bucket.start, row), (1e3 * bucket.end, row)],
            ..Series::default()
        });
    }
    let caption = format!("{}: buckets, {} devices", prediction.machine, thousands(*devices));
    let chart = Chart {
        title: &caption,
        x: Dimension { label: "ms", holds: vec![0.0], ..Dimension::default() },
        y: Dimension { holds: vec![0.0, last + 1.0], ..Dimension::default() },
        height: chart::HEIGHT,
        series,
    };
    let cells: Vec<Vec<String>> = buckets
        .iter()
        .enumerate()
        .map(|(index, bucket)| {
            let times = [bucket.ready, bucket.start, bucket.end].map(ms);
            [(index + 1).to_string(), number(bucket.bytes / 1e6)].into_iter().chain(times).collect()
        })
        .collect();
    let columns = ["bucket", "MB", "full at, ms", "sets out", "back"];
    page::figure(page, &caption, &chart, |page| page::folded_table(page, "Numbers", &columns, &cells))
}

/// Predicted over published efficiencies.
pub(super) fn published(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let dots = |work: &'static str, index: usize| {
        let of = cluster.published.iter().filter(|point| point.work == work);
        let (points, labels): (Vec<_>, Vec<_>) = of
            .map(|point| {
                let (published, predicted) = (point.efficiency, point.predicted);
                let label = format!(
                    "{work}, {} devices: predicted {}, published {}",
                    point.devices,
                    percent(predicted, 1),
                    percent(published, 1)
                );
                ((100.0 * published, 100.0 * predicted), Cow::from(label))
            })
            .unzip();
        Series { name: work.into(), points, labels, color: Color::Category(index), ..Series::default() }
    };
    let equal = Series {
        name: "as published".into(),
        points: vec![(50.0, 50.0), (100.0, 100.0)],
        color: Color::Faint,
        dashed: true,
        ..Series::default()
    };
    let works = ["resnet50", "resnet101", "vgg16"].into_iter().enumerate();
    let series = std::iter::once(equal).chain(works.map(|(index, work)| dots(work, index)));
    let caption = "Predicted over published efficiency, %";
    let chart = Chart {
        title: caption,
        x: Dimension { label: "published, %", ..Dimension::default() },
        y: Dimension::default(),
        height: chart::HEIGHT,
        series: series.collect(),
    };
    page::figure(page, caption, &chart, |_| Ok(()))
}

/// Pipelines and tensor parallelism.
pub(super) fn on_paper(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let papers =
        || cluster.predictions.iter().filter_map(|p| Some((p.machine.as_str(), p.on_paper.as_ref()?)));
    let Some((first, paper)) = papers().next() else { return Ok(()) };
    let pipelines = |value: fn(&super::Pipeline) -> f64, paper: &OnPaper| {
        let mut stages: Vec<u64> = paper.pipeline.iter().map(|pipeline| pipeline.stages).collect();
        stages.dedup();
        let line = |p: u64| {
            let of = paper.pipeline.iter().filter(|pipeline| pipeline.stages == p);
            let points = of.map(|pipeline| (pipeline.micro_batches as f64, value(pipeline))).collect();
            Line::new(format!("{p} stages"), points)
        };
        stages.into_iter().filter(|p| *p > 1).map(line).collect::<Vec<_>>()
    };
    let percents = |caption, x, lines| Lines {
        caption,
        x,
        y: Scale::Linear,
        holds: vec![0.0, 100.0],
        lines,
        show: |fraction| percent(fraction, 1),
        unit: 100.0,
    };
    let bubbles = pipelines(|pipeline| pipeline.bubble, paper);
    lines(page, &percents("Pipeline: bubble, %", "micro-batches", bubbles))?;
    let caption = format!("Pipeline on {first}: efficiency, %");
    let efficiencies = pipelines(|pipeline| pipeline.efficiency, paper);
    lines(page, &percents(&caption, "micro-batches", efficiencies))?;
    let tensors = |value: fn(&super::Tensor) -> f64| {
        let points = move |paper: &OnPaper| {
            paper.tensor.iter().map(|tensor| (tensor.devices as f64, value(tensor))).collect()
        };
        papers().map(|(name, paper)| Line::new(name, points(paper))).collect::<Vec<_>>()
    };
    lines(page, &percents("Tensor parallel: efficiency, %", "devices", tensors(|tensor| tensor.efficiency)))?;
    let memory = paper.tensor.iter().map(|tensor| (tensor.devices as f64, tensor.memory)).collect();
    let stages = paper.pipeline.iter().filter(|pipeline| pipeline.micro_batches == pipeline.stages);
    let stages = stages.map(|pipeline| (pipeline.stages as f64, pipeline.memory)).collect();
    let asked = Lines {
        caption: "Memory of a device, GB",
        x: "devices",
        y: Scale::Linear,
        holds: vec![0.0],
        lines: vec![
            Line::new("tensor parallel", memory),
            Line::new("pipeline, as many micro-batches", stages),
        ],
        show: giga,
        unit: 1e-9,
    };
    lines(page, &asked)
}
