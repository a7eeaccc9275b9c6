//! Charts of `cluster.html`, most with a table of the plotted values.

use super::predict::{Curve, Point, Prediction, Scaling, Schedule, Scheme};
use super::{AnalyticEstimate, Cluster};
use std::borrow::Cow;
use std::fmt;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{self, Chart, Color, Dimension, Series};
use wgrad_report::page::{self, number};
use wgrad_stdx::format::{percent, thousands};

/// Formats a time given in seconds as milliseconds.
pub(super) fn ms(seconds: f64) -> String {
    number(1e3 * seconds)
}

/// Formats bytes in GB (10⁹ bytes), or a rate in GB/s.
pub(super) fn giga(value: f64) -> String {
    number(value / 1e9)
}

struct Line<'a> {
    name: Cow<'a, str>,
    points: Vec<(f64, f64)>,
    /// Whether the line is a reference line, drawn faint and omitted from the table.
    faint: bool,
}

impl<'a> Line<'a> {
    fn new(name: impl Into<Cow<'a, str>>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, faint: false }
    }
}

/// Line chart with a table of its values.
struct LineChart<'a> {
    caption: &'a str,
    x: &'a str,
    y: Scale,
    /// Values that the vertical axis always includes, in the unit of the axis.
    holds: Vec<f64>,
    lines: Vec<Line<'a>>,
    /// Formats a value for the table.
    show: fn(f64) -> String,
    /// Factor that converts a value to the unit of the vertical axis.
    unit: f64,
}

/// Writes a chart with a logarithmic x axis and a table of its values.
fn line_chart(page: &mut String, chart: &LineChart<'_>) -> fmt::Result {
    let LineChart { caption, x, y, holds, lines, show, unit } = chart;
    let mut xs: Vec<f64> =
        lines.iter().filter(|line| !line.faint).flat_map(|line| line.points.iter().map(|p| p.0)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let series = lines.iter().enumerate().map(|(index, line)| Series {
        name: line.name.clone(),
        points: line.points.iter().map(|&(x, y)| (x, unit * y)).collect(),
        color: if line.faint { Color::Faint } else { Color::Category(index) },
        // The palette has four colours.
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
    let tabulated: Vec<&Line<'_>> = lines.iter().filter(|line| !line.faint).collect();
    let columns: Vec<&str> = std::iter::once(*x).chain(tabulated.iter().map(|line| &*line.name)).collect();
    let cell = |line: &Line<'_>, x: f64| {
        let point = line.points.iter().find(|point| point.0 == x);
        point.map_or_else(|| "–".to_owned(), |point| show(point.1))
    };
    let rows: Vec<Vec<String>> = xs
        .iter()
        .map(|&x| {
            let cells = tabulated.iter().map(|line| cell(line, x));
            std::iter::once(thousands(x as u64)).chain(cells).collect()
        })
        .collect();
    page::figure(page, caption, &chart, |page| page::folded_table(page, "Values", &columns, &rows))
}

/// Returns one line for each machine. The line shows `value` of each point over the number of devices.
fn lines_by_machine(
    cluster: &Cluster,
    (scaling, scheme): (Scaling, Scheme),
    value: fn(&Point) -> f64,
) -> Vec<Line<'_>> {
    let points = |prediction: &Prediction| {
        let curve = prediction.curve(scaling, scheme);
        let points = curve.map_or(&[][..], |curve: &Curve| &curve.points);
        let points = points.iter().map(|point| (point.devices as f64, value(point)));
        // A logarithmic axis cannot show 0, such as the exposed communication of one device.
        points.filter(|point| point.1 > 0.0).collect()
    };
    cluster.predictions.iter().map(|p| Line::new(p.machine.as_str(), points(p))).collect()
}

/// Writes charts of four quantities over the number of devices: efficiency, throughput, step time and memory.
pub(super) fn scaling(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let efficiency = |page: &mut String, caption, which| {
        let lines = lines_by_machine(cluster, which, |point| point.efficiency);
        let chart = LineChart {
            caption,
            x: "devices",
            y: Scale::Linear,
            holds: vec![0.0, 100.0],
            lines,
            show: |fraction| percent(fraction, 1),
            unit: 100.0,
        };
        line_chart(page, &chart)
    };
    let (weak, strong) = ((Scaling::Weak, Scheme::Data), (Scaling::Strong, Scheme::Data));
    efficiency(page, "Weak scaling: efficiency, %", weak)?;
    efficiency(page, "Strong scaling: efficiency, %", strong)?;
    let logarithmic = |page: &mut String, caption, which, value, show, unit| {
        let (x, y) = ("devices", Scale::Log);
        let lines = lines_by_machine(cluster, which, value);
        line_chart(page, &LineChart { caption, x, y, holds: Vec::new(), lines, show, unit })
    };
    let samples = |point: &Point| point.samples_per_second;
    logarithmic(page, "Weak scaling: step, ms (logarithmic)", weak, |point| point.step, ms, 1e3)?;
    logarithmic(page, "Strong scaling: samples per second (logarithmic)", strong, samples, number, 1.0)?;
    let exposed = |point: &Point| point.exposed;
    let caption = "Weak scaling: exposed communication, ms (logarithmic)";
    logarithmic(page, caption, weak, exposed, ms, 1e3)?;
    efficiency(page, "Weak scaling with ZeRO-1: efficiency, %", (Scaling::Weak, Scheme::Zero1))?;
    memory(page, cluster)
}

/// Writes the chart of the memory required on each device.
///
/// The requirement is the same on all machines. The device memory of each machine is drawn for comparison.
fn memory(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let Some(prediction) = cluster.predictions.first() else { return Ok(()) };
    let memory_of = |scheme| {
        let curve = prediction.curve(Scaling::Weak, scheme);
        let points = curve.map_or(&[][..], |curve| &curve.points);
        points.iter().map(|point| (point.devices as f64, point.memory)).collect::<Vec<_>>()
    };
    let (data, zero) = (memory_of(Scheme::Data), memory_of(Scheme::Zero1));
    let ends = |height: f64| data.first().zip(data.last()).map(|(a, b)| vec![(a.0, height), (b.0, height)]);
    let mut limits: Vec<f64> = cluster.machines.iter().filter_map(|machine| machine.memory).collect();
    limits.sort_by(f64::total_cmp);
    limits.dedup();
    let mut all = vec![Line::new("data parallel", data.clone()), Line::new("ZeRO-1", zero)];
    for limit in limits {
        if let Some(points) = ends(limit) {
            all.push(Line {
                name: format!("memory of a device: {}", giga(limit)).into(),
                points,
                faint: true,
            });
        }
    }
    let chart = LineChart {
        caption: "Weak scaling: memory of a device, GB",
        x: "devices",
        y: Scale::Linear,
        holds: vec![0.0],
        lines: all,
        show: giga,
        unit: 1e-9,
    };
    line_chart(page, &chart)
}

/// Writes a chart for each machine with the times to all-reduce all gradients. All charts include the same range of
/// times.
pub(super) fn reductions(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let all = cluster.predictions.iter().flat_map(|p| &p.reductions);
    let holds: Vec<f64> =
        all.flat_map(|r| [r.ring, r.tree, r.hierarchical]).filter(|s| *s > 0.0).map(|s| 1e3 * s).collect();
    for prediction in &cluster.predictions {
        let points = |value: fn(&super::Reduction) -> f64| {
            let reductions = prediction.reductions.iter().filter(|reduction| reduction.devices > 1);
            reductions.map(|reduction| (reduction.devices as f64, value(reduction))).collect()
        };
        let all = vec![
            Line::new("ring", points(|r| r.ring)),
            Line::new("tree", points(|r| r.tree)),
            Line::new("hierarchical", points(|r| r.hierarchical)),
        ];
        let caption = format!("{}: all gradients, ms (logarithmic)", prediction.machine);
        let (x, y, holds) = ("devices", Scale::Log, holds.clone());
        line_chart(page, &LineChart { caption: &caption, x, y, holds, lines: all, show: ms, unit: 1e3 })?;
    }
    Ok(())
}

/// Writes a chart of the bucket reductions of a step for each machine.
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
    let mut series = vec![faint("begin and end of the backward pass", *begin), faint("", *computed)];
    for (row, bucket) in rows() {
        // Only the first bucket adds its series to the legend.
        let name = |name: &'static str| if row == 1.0 { name } else { "" };
        series.push(Series {
            name: name("waiting").into(),
            points: vec![(1e3 * bucket.ready, row), (1e3 * bucket.start, row)],
            color: Color::Category(1),
            ..Series::default()
        });
        series.push(Series {
            name: name("reduced").into(),
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
    let columns = ["bucket", "MB", "full, ms", "start, ms", "end, ms"];
    page::figure(page, &caption, &chart, |page| page::folded_table(page, "Values", &columns, &cells))
}

/// Writes the chart of predicted and published efficiencies.
pub(super) fn published(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let dots = |workload: &'static str, index: usize| {
        let matching = cluster.published.iter().filter(|point| point.workload == workload);
        let (points, labels): (Vec<_>, Vec<_>) = matching
            .map(|point| {
                let (published, predicted) = (point.efficiency, point.predicted);
                let label = format!(
                    "{workload}, {} devices: predicted {}, published {}",
                    point.devices,
                    percent(predicted, 1),
                    percent(published, 1)
                );
                ((100.0 * published, 100.0 * predicted), Cow::from(label))
            })
            .unzip();
        Series { name: workload.into(), points, labels, color: Color::Category(index), ..Series::default() }
    };
    let equal = Series {
        name: "predicted = published".into(),
        points: vec![(50.0, 50.0), (100.0, 100.0)],
        color: Color::Faint,
        dashed: true,
        ..Series::default()
    };
    let workloads = ["resnet50", "resnet101", "vgg16"].into_iter().enumerate();
    let series = std::iter::once(equal).chain(workloads.map(|(index, workload)| dots(workload, index)));
    let caption = "Predicted and published efficiency, %";
    let chart = Chart {
        title: caption,
        x: Dimension { label: "published, %", ..Dimension::default() },
        y: Dimension::default(),
        height: chart::HEIGHT,
        series: series.collect(),
    };
    page::figure(page, caption, &chart, |_| Ok(()))
}

/// Writes the charts of pipeline and tensor parallelism.
pub(super) fn analytic(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let estimates =
        || cluster.predictions.iter().filter_map(|p| Some((p.machine.as_str(), p.analytic.as_ref()?)));
    let Some((first, estimate)) = estimates().next() else { return Ok(()) };
    let pipelines = |value: fn(&super::Pipeline) -> f64| {
        let mut stages: Vec<u64> = estimate.pipeline.iter().map(|pipeline| pipeline.stages).collect();
        stages.dedup();
        let line = |p: u64| {
            let of_stages = estimate.pipeline.iter().filter(|pipeline| pipeline.stages == p);
            let points = of_stages.map(|pipeline| (pipeline.micro_batches as f64, value(pipeline))).collect();
            Line::new(format!("{p} stages"), points)
        };
        stages.into_iter().filter(|p| *p > 1).map(line).collect::<Vec<_>>()
    };
    let percent_chart = |caption, x, lines| LineChart {
        caption,
        x,
        y: Scale::Linear,
        holds: vec![0.0, 100.0],
        lines,
        show: |fraction| percent(fraction, 1),
        unit: 100.0,
    };
    let bubbles = pipelines(|pipeline| pipeline.bubble);
    line_chart(page, &percent_chart("Pipeline: bubble, %", "micro-batches", bubbles))?;
    let caption = format!("Pipeline on {first}: efficiency, %");
    let efficiencies = pipelines(|pipeline| pipeline.efficiency);
    line_chart(page, &percent_chart(&caption, "micro-batches", efficiencies))?;
    let tensors = |value: fn(&super::Tensor) -> f64| {
        let points = move |estimate: &AnalyticEstimate| {
            estimate.tensor.iter().map(|tensor| (tensor.devices as f64, value(tensor))).collect()
        };
        estimates().map(|(name, estimate)| Line::new(name, points(estimate))).collect::<Vec<_>>()
    };
    line_chart(
        page,
        &percent_chart("Tensor parallel: efficiency, %", "devices", tensors(|tensor| tensor.efficiency)),
    )?;
    let memory = estimate.tensor.iter().map(|tensor| (tensor.devices as f64, tensor.memory)).collect();
    let stages = estimate.pipeline.iter().filter(|pipeline| pipeline.micro_batches == pipeline.stages);
    let stages = stages.map(|pipeline| (pipeline.stages as f64, pipeline.memory)).collect();
    let chart = LineChart {
        caption: "Memory of a device, GB",
        x: "devices",
        y: Scale::Linear,
        holds: vec![0.0],
        lines: vec![
            Line::new("tensor parallel", memory),
            Line::new("pipeline, one micro-batch per stage", stages),
        ],
        show: giga,
        unit: 1e-9,
    };
    line_chart(page, &chart)
}
