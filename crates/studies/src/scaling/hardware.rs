//! The hardware behind the discussion: throughput against batch, width and number of replicas, measured here, and what models of
//! larger machines say.

use crate::scaling::history::Rate;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use wgrad_bench::results::{Bench, Group, Measurement};
use wgrad_cluster::{Machine, Prediction, Scaling, Scheme, Workload};
use wgrad_report::axis::Scale as Axis;
use wgrad_report::chart::{Chart, Color, Dimension, HEIGHT, Series};
use wgrad_report::page::{self, Escaped, number};

const NOTE: &str = "A device is only as fast as it is fed: small batches and narrow layers leave most of it idle. Replicas that \
    share one device do not make it faster; those with a device each do, as far as the link between them carries their gradients.";

const PREDICTED: &str = "Of ResNet-50 by the model of wgrad cluster, with a constant batch for each device: speed-up over one \
    device, over the number of devices. Sources of the machines' figures are in docs/cluster.md and in the page of \
    that command.";

/// What was measured of the hardware, and what is predicted of larger machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// Ceilings, training steps by batch and width: as `wgrad bench` measures them.
    pub bench: Bench,
    /// Training steps by number of replicas.
    pub replicas: Vec<Replicas>,
    /// What is predicted, for each of [`Self::machines`].
    pub predictions: Vec<Prediction>,
    /// The machines.
    pub machines: Vec<Machine>,
    /// What they train.
    pub work: Workload,
}

/// Training steps of several replicas on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replicas {
    /// `cpu` or `gpu`.
    pub device: String,
    /// What they train.
    pub recipe: String,
    /// Examples of a step, of all replicas together.
    pub batch: u64,
    /// How many there are.
    pub replicas: u64,
    /// Median seconds of a step.
    pub step_seconds: f64,
    /// Mean seconds of a step in which a replica waits for gradients and computes nothing.
    pub exposed_seconds: f64,
    /// Examples a second.
    pub samples_per_second: f64,
    /// Floating-point operations a second, of all replicas together.
    pub flops_per_second: f64,
}

impl Hardware {
    /// The rate of each device that made a training step: that of the step with the highest rate. `known` gives the best rate
    /// of a device that was ever measured, in floating-point operations a second.
    pub fn rates(&self, known: impl Fn(&str) -> Option<f64>) -> Vec<Rate> {
        let rate = |report: &wgrad_bench::results::DeviceReport| {
            let steps = self.bench.results.iter().filter(|result| result.device == report.device);
            let steps = steps.filter(|result| result.group == Group::Step);
            let gflops = |result: &Measurement| result.time.as_ref().map_or(0.0, |time| time.gflops);
            let best = steps.max_by(|a, b| gflops(a).total_cmp(&gflops(b)))?;
            let time = best.time.as_ref()?;
            // On a machine that others use, products may be measured at a worse moment than steps, or than once before.
            let measured = 1e9 * report.ceilings.compute_gflops.unwrap_or_default().max(time.gflops);
            let ceiling = known(&report.device).map_or(measured, |known| known.max(measured));
            Some(Rate {
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
    page::section(page, "The hardware", NOTE)?;
    if let Some(warning) = &hardware.bench.noise.warning {
        writeln!(page, "<p class=\"note\">{}</p>", Escaped(warning))?;
    }
    page::charts(page, |page| {
        wgrad_bench::results::write_curves(page, &hardware.bench)?;
        replicas(page, hardware)
    })?;
    page::section(page, "Larger machines, predicted", PREDICTED)?;
    page::charts(page, |page| predicted(page, hardware))
}

fn replicas(page: &mut String, hardware: &Hardware) -> fmt::Result {
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
        "Examples a second over replicas, {} with {} examples a step (logarithmic)",
        first.recipe, first.batch
    );
    let chart = Chart {
        title: &caption,
        x: Dimension { label: "replicas", scale: Axis::Log, ticks, ..Dimension::default() },
        y: Dimension { scale: Axis::Log, ..Dimension::default() },
        height: HEIGHT,
        series: series.collect(),
    };
    let columns = ["device", "replicas", "ms a step", "of it waiting for gradients", "examples/s", "GFLOP/s"];
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

fn predicted(page: &mut String, hardware: &Hardware) -> fmt::Result {
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
    let caption = "Efficiency in % over devices";
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
                point.map_or_else(|| "–".to_owned(), |point| format!("{:.1}%", 100.0 * point.efficiency))
            };
            std::iter::once(count.to_string()).chain(curves.iter().map(cell)).collect()
        })
        .collect();
    page::figure(page, caption, &chart, |page| page::folded_table(page, "Numbers", &columns, &rows))
}
