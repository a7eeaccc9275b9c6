//! Hardware section of the report: measured throughput by batch, width and number of replicas, and predictions for
//! larger machines.

use crate::scaling::history::DeviceRate;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use wgrad_bench::results::{Bench, Group, Measurement};
use wgrad_cluster::{Machine, Prediction, Scaling, Scheme, Workload};
use wgrad_report::axis::Scale as Axis;
use wgrad_report::chart::{Chart, Color, Dimension, HEIGHT, Series};
use wgrad_report::page::{self, Escaped, number};
use wgrad_stdx::format::percent;

const NOTE: &str = "Small batches and narrow layers leave most of a device idle. Replicas that share one device do not \
    increase its throughput. Replicas with one device each increase the total throughput if the link between them is \
    fast enough for the gradients.";

const PREDICTED: &str = "Training of ResNet-50 with a constant batch size per device, predicted by the model of wgrad \
    cluster. Efficiency is the speed-up over one device, divided by the number of devices. The sources of the \
    machines' figures are in docs/cluster.md and on the page of that command.";

/// Measurements of the hardware, and predictions for larger machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// Results of `wgrad bench`: rate ceilings of the devices, and training steps by batch size and layer width.
    pub bench: Bench,
    /// Measured training steps, by device and number of replicas.
    pub replicas: Vec<ReplicaMeasurement>,
    /// Predictions, one per machine in [`Self::machines`].
    pub predictions: Vec<Prediction>,
    /// Machines of the predictions.
    pub machines: Vec<Machine>,
    /// Workload whose training time is predicted.
    pub work: Workload,
}

/// Measured training steps of several replicas on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaMeasurement {
    /// Kind of device: `cpu` or `gpu`.
    pub device: String,
    /// Name of the recipe that the replicas train.
    pub recipe: String,
    /// Number of examples per step, summed over all replicas.
    pub batch: u64,
    /// Number of replicas.
    pub replicas: u64,
    /// Median duration of a step in seconds.
    pub step_seconds: f64,
    /// Mean time per step during which a replica waits for gradients without computing, in seconds.
    pub exposed_seconds: f64,
    /// Examples per second, summed over all replicas.
    pub samples_per_second: f64,
    /// Floating-point operations per second, summed over all replicas.
    pub flops_per_second: f64,
}

impl Hardware {
    /// Returns the rate of each device with a measured training step. The rate is that of the fastest step.
    /// `known_ceiling` returns the highest rate ever measured on a device, in floating-point operations per second.
    pub fn rates(&self, known_ceiling: impl Fn(&str) -> Option<f64>) -> Vec<DeviceRate> {
        let rate = |report: &wgrad_bench::results::DeviceReport| {
            let steps = self.bench.results.iter().filter(|result| result.device == report.device);
            let steps = steps.filter(|result| result.group == Group::Step);
            let gflops = |result: &Measurement| result.time.as_ref().map_or(0.0, |time| time.gflops);
            let best = steps.max_by(|a, b| gflops(a).total_cmp(&gflops(b)))?;
            let time = best.time.as_ref()?;
            // On a shared machine, matrix products may be slower than the training steps or than in an earlier run. The
            // ceiling is therefore the maximum of all three rates.
            let measured = 1e9 * report.ceilings.compute_gflops.unwrap_or_default().max(time.gflops);
            let ceiling = known_ceiling(&report.device).map_or(measured, |known| known.max(measured));
            Some(DeviceRate {
                device: format!("{} ({})", report.device, report.name),
                measured_on: best.case.clone(),
                sustained_flops: 1e9 * time.gflops,
                ceiling_flops: ceiling,
            })
        };
        self.bench.devices.iter().filter_map(rate).collect()
    }
}

pub(super) fn write(page: &mut String, hardware: &Hardware) -> fmt::Result {
    page::section(page, "Hardware", NOTE)?;
    if let Some(warning) = &hardware.bench.noise.warning {
        writeln!(page, "<p class=\"note\">{}</p>", Escaped(warning))?;
    }
    page::charts(page, |page| {
        wgrad_bench::results::write_curves(page, &hardware.bench)?;
        write_replicas(page, hardware)
    })?;
    page::section(page, "Predictions for larger machines", PREDICTED)?;
    page::charts(page, |page| write_predictions(page, hardware))
}

fn write_replicas(page: &mut String, hardware: &Hardware) -> fmt::Result {
    let mut devices: Vec<&str> = hardware.replicas.iter().map(|point| point.device.as_str()).collect();
    devices.dedup();
    let Some(first) = hardware.replicas.first() else { return Ok(()) };
    let series = devices.iter().enumerate().map(|(index, device)| Series {
        name: (*device).into(),
        points: (hardware.replicas.iter().filter(|point| point.device == **device))
            .map(|point| (point.replicas as f64, point.samples_per_second))
            .collect(),
        color: Color::Category(index),
        ..Series::default()
    });
    let ticks = hardware.replicas.iter().map(|point| point.replicas as f64).collect();
    let caption = format!(
        "Examples per second against replicas, {} with {} examples per step (logarithmic)",
        first.recipe, first.batch
    );
    let chart = Chart {
        title: &caption,
        x: Dimension { label: "replicas", scale: Axis::Log, ticks, ..Dimension::default() },
        y: Dimension { scale: Axis::Log, ..Dimension::default() },
        height: HEIGHT,
        series: series.collect(),
    };
    let columns = ["device", "replicas", "ms per step", "ms waiting for gradients", "examples/s", "GFLOP/s"];
    let rows: Vec<Vec<String>> = (hardware.replicas.iter())
        .map(|point| {
            vec![
                point.device.clone(),
                point.replicas.to_string(),
                number(1e3 * point.step_seconds),
                number(1e3 * point.exposed_seconds),
                number(point.samples_per_second),
                number(point.flops_per_second / 1e9),
            ]
        })
        .collect();
    page::figure(page, &caption, &chart, |page| page::folded_table(page, "Numbers", &columns, &rows))
}

fn write_predictions(page: &mut String, hardware: &Hardware) -> fmt::Result {
    let curves = hardware.predictions.iter().filter_map(|prediction| {
        Some((prediction.machine.as_str(), prediction.curve(Scaling::Weak, Scheme::Data)?))
    });
    let curves: Vec<_> = curves.collect();
    let series = curves.iter().enumerate().map(|(index, (machine, curve))| Series {
        name: (*machine).into(),
        points: curve.points.iter().map(|point| (point.devices as f64, 100.0 * point.efficiency)).collect(),
        color: Color::Category(index),
        dashed: index >= 4,
        ..Series::default()
    });
    let caption = "Efficiency in % against devices";
    let chart = Chart {
        title: caption,
        x: Dimension { label: "devices", scale: Axis::Log, ..Dimension::default() },
        y: Dimension { holds: vec![0.0, 100.0], ..Dimension::default() },
        height: HEIGHT,
        series: series.collect(),
    };
    let mut counts: Vec<u64> =
        curves.iter().flat_map(|(_, curve)| curve.points.iter().map(|point| point.devices)).collect();
    counts.sort_unstable();
    counts.dedup();
    let columns: Vec<&str> =
        std::iter::once("devices").chain(curves.iter().map(|(machine, _)| *machine)).collect();
    let rows: Vec<Vec<String>> = (counts.iter())
        .map(|count| {
            let cell = |(_, curve): &(&str, &wgrad_cluster::Curve)| {
                let point = curve.points.iter().find(|point| point.devices == *count);
                point.map_or_else(|| "–".to_owned(), |point| percent(point.efficiency, 1))
            };
            std::iter::once(count.to_string()).chain(curves.iter().map(cell)).collect()
        })
        .collect();
    page::figure(page, caption, &chart, |page| page::folded_table(page, "Numbers", &columns, &rows))
}
