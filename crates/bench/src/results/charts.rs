//! Charts of `bench.html`.

use super::analysis::throughput;
use super::{Bench, Ceilings, DeviceReport, Group, Measurement, MemoryRate};
use std::fmt;
use wgrad_report::axis::Scale;
use wgrad_report::chart::{self, Chart, Color, Dimension, Series};
use wgrad_report::page::{self, number};
use wgrad_stdx::format::percent;

/// Formats a value with `show`. Returns a dash if the value is `None`.
pub(super) fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// Names and groups of the series in a roofline chart. The index of a series selects its color.
const SERIES: [(&str, &[Group]); 4] = [
    ("matrix products", &[Group::Gemm]),
    ("convolutions", &[Group::Conv]),
    (
        "elementwise, sums, rows, optimizers",
        &[Group::Pointwise, Group::Reduction, Group::Rows, Group::Optimizer],
    ),
    ("training steps", &[Group::Step]),
];

/// Writes a roofline chart for each device, all on the same scales.
pub(super) fn rooflines(page: &mut String, bench: &Bench) -> fmt::Result {
    let points: Vec<(f64, f64)> = bench.results.iter().filter_map(point).collect();
    let (xs, ys) = points.iter().copied().unzip::<f64, f64, Vec<f64>, Vec<f64>>();
    for report in &bench.devices {
        let in_groups = |groups: &[Group]| {
            let all = bench.results_of(&report.device).filter(|result| groups.contains(&result.group));
            all.filter_map(|result| Some((result, point(result)?))).collect::<Vec<_>>()
        };
        let mut series: Vec<Series<'_>> = Vec::new();
        let roof = roof(&report.ceilings, &xs);
        if !roof.is_empty() {
            series.push(Series {
                name: "roofline".into(),
                points: roof,
                color: Color::Faint,
                dashed: true,
                ..Series::default()
            });
        }
        for (index, (name, groups)) in SERIES.into_iter().enumerate() {
            let mut all = in_groups(groups);
            all.sort_by(|a, b| a.1.0.total_cmp(&b.1.0));
            if all.is_empty() {
                continue;
            }
            series.push(Series {
                name: name.into(),
                points: all.iter().map(|(_, point)| *point).collect(),
                labels: all.iter().map(|(result, _)| label(result).into()).collect(),
                color: Color::Category(index),
                ..Series::default()
            });
        }
        let title = format!("GFLOP/s by FLOP per byte on {}", report.device);
        let chart = Chart {
            title: &title,
            x: Dimension {
                label: "FLOP per byte moved",
                scale: Scale::Log,
                holds: xs.clone(),
                ..Dimension::default()
            },
            y: Dimension { scale: Scale::Log, holds: ys.clone(), ..Dimension::default() },
            height: 1.3 * chart::HEIGHT,
            series,
        };
        page::figure(page, &format!("{}: {}, GFLOP/s", report.device, report.name), &chart, |_| Ok(()))?;
    }
    Ok(())
}

/// Returns the arithmetic intensity in FLOP per byte and the rate in GFLOP/s; `None` for cases that are not in the
/// chart.
fn point(result: &Measurement) -> Option<(f64, f64)> {
    let (cost, time) = (result.cost?, result.time.as_ref()?);
    let shown = SERIES.iter().any(|(_, groups)| groups.contains(&result.group));
    (shown && cost.flops > 0 && cost.bytes > 0).then(|| (cost.flops as f64 / cost.bytes as f64, time.gflops))
}

fn label(result: &Measurement) -> String {
    let share = result.time.as_ref().and_then(|time| time.roofline_share);
    let gflops = result.time.as_ref().map(|time| time.gflops);
    let of = share.map_or_else(String::new, |share| format!(", {} of its roofline", percent(share, 0)));
    format!("{}: {} GFLOP/s{of}", result.case, known(gflops, number))
}

/// Returns the points of a roofline as FLOP per byte and GFLOP/s: start of the slope, ridge point, end of the flat
/// part.
///
/// The roofline covers the intensities `xs`. Returns no points if the bandwidth or the compute rate is unknown.
fn roof(ceilings: &Ceilings, xs: &[f64]) -> Vec<(f64, f64)> {
    let (Some(bandwidth), Some(compute)) = (ceilings.bandwidth_gbytes_per_s, ceilings.compute_gflops) else {
        return Vec::new();
    };
    let ridge = compute / bandwidth;
    let low = xs.iter().copied().fold(ridge, f64::min).min(0.5 * ridge);
    let high = xs.iter().copied().fold(ridge, f64::max).max(2.0 * ridge);
    vec![(low, low * bandwidth), (ridge, compute), (high, compute)]
}

/// Writes charts of throughput over batch size and over network width. Also writes charts of the rates of matrix
/// products, copies and reads over their sizes.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn curves(page: &mut String, bench: &Bench) -> fmt::Result {
    for axis in ["batch", "width"] {
        let sweep = |report: &DeviceReport| -> Vec<(f64, f64)> {
            let points = throughput(bench, axis, &report.device).into_iter();
            points.map(|(at, rate)| (at as f64, rate)).collect()
        };
        let caption = format!("Examples per second by {axis}, MLP 784-width-width-10");
        line_chart(page, bench, &caption, axis, sweep)?;
    }
    let products = |report: &DeviceReport| -> Vec<(f64, f64)> {
        let squares = bench.results_of(&report.device).filter_map(|result| {
            let side: f64 = result.case.strip_prefix("matmul-")?.parse().ok()?;
            Some((side, result.time.as_ref()?.gflops))
        });
        squares.collect()
    };
    line_chart(page, bench, "Square matrix products, GFLOP/s by side", "side", products)?;
    for (name, rates_of) in
        [("Copying", (|c| &c.copy) as fn(&Ceilings) -> &Vec<MemoryRate>), ("Reading", |c| &c.read)]
    {
        let rates = |report: &DeviceReport| -> Vec<(f64, f64)> {
            let rates = rates_of(&report.ceilings).iter();
            rates.map(|rate| (mebibytes(rate.bytes), rate.gbytes_per_s)).collect()
        };
        line_chart(page, bench, &format!("{name}, GB/s by working set"), "MiB", rates)?;
    }
    Ok(())
}

/// Returns the size of a working set in MiB. Rounding removes the few bytes of small outputs from the displayed size.
fn mebibytes(bytes: u64) -> f64 {
    let size = bytes as f64 / f64::from(1 << 20);
    if size > 2.0 { size.round() } else { (100.0 * size).round() / 100.0 }
}

/// Writes a chart with logarithmic axes and a table of its values. `points_of` returns the points of a device.
///
/// Writes nothing if no device has at least two points.
fn line_chart(
    page: &mut String,
    bench: &Bench,
    caption: &str,
    x: &str,
    points_of: impl Fn(&DeviceReport) -> Vec<(f64, f64)>,
) -> fmt::Result {
    let all: Vec<(&DeviceReport, Vec<(f64, f64)>)> = bench
        .devices
        .iter()
        .map(|report| {
            let mut points = points_of(report);
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            (report, points)
        })
        .filter(|(_, points)| !points.is_empty())
        .collect();
    if all.iter().all(|(_, points)| points.len() < 2) {
        return Ok(());
    }
    let series = all.iter().enumerate().map(|(index, (report, points))| Series {
        name: report.device.as_str().into(),
        points: points.clone(),
        color: Color::Category(index),
        ..Series::default()
    });
    let mut xs: Vec<f64> = all.iter().flat_map(|(_, points)| points.iter().map(|point| point.0)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let chart = Chart {
        title: caption,
        x: Dimension { label: x, scale: Scale::Log, ticks: xs.clone(), ..Dimension::default() },
        y: Dimension { scale: Scale::Log, ..Dimension::default() },
        height: chart::HEIGHT,
        series: series.collect(),
    };
    let columns: Vec<&str> =
        std::iter::once(x).chain(all.iter().map(|(report, _)| report.device.as_str())).collect();
    let rows: Vec<Vec<String>> = xs
        .iter()
        .map(|x| {
            let at = |points: &[(f64, f64)]| points.iter().find(|point| point.0 == *x).map(|point| point.1);
            let cells = all.iter().map(|(_, points)| known(at(points), number));
            std::iter::once(x.to_string()).chain(cells).collect()
        })
        .collect();
    page::figure(page, &format!("{caption} (logarithmic)"), &chart, |page| {
        page::folded_table(page, "Values", &columns, &rows)
    })
}
