//! Terminal output of `wgrad cluster`.

use wgrad_cluster::{Cluster, Fit, Prediction, Scaling, Scheme};
use wgrad_stdx::format::percent;

use crate::terminal;

/// Numbers of devices that are shown as columns.
const SHOWN: [u64; 5] = [2, 8, 64, 512, 4096];

/// Prints measurements, predictions, conclusions and published figures.
pub fn print(cluster: &Cluster) -> std::io::Result<()> {
    if let Some(measured) = &cluster.measured {
        let mut rows = vec![["batch", "passes, ms", "update, ms"].map(str::to_owned).to_vec()];
        rows.extend(
            measured.steps.iter().map(|step| {
                vec![step.batch.to_string(), milliseconds(step.passes), milliseconds(step.update)]
            }),
        );
        terminal::result(&format!("Steps on {}\n", measured.device))?;
        terminal::result(&format!("{}\n", terminal::table(&rows, true)))?;
    }
    if let Some(fit) = &cluster.link {
        link(fit)?;
    }
    for (scaling, what) in [
        (Scaling::Weak, format!("weak scaling, {} samples a device", cluster.workload.batch)),
        (Scaling::Strong, format!("strong scaling, {} samples a step", cluster.workload.global_batch)),
    ] {
        terminal::result(&format!("{}: {what}; efficiency\n", cluster.workload.name))?;
        terminal::result(&format!("{}\n", terminal::table(&rows(cluster, scaling), true)))?;
    }
    for sentence in cluster.sentences() {
        terminal::result(&sentence)?;
    }
    let head = ["published", "devices", "efficiency", "predicted", "error"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(cluster.published.iter().map(|point| {
        vec![
            format!("{} on {}", point.workload, point.machine),
            point.devices.to_string(),
            percent(point.efficiency, 1),
            percent(point.predicted, 1),
            format!("{:+.1}%", 100.0 * point.error),
        ]
    }));
    terminal::result(&format!("\n{}", terminal::table(&rows, true)))
}

fn link(fit: &Fit) -> std::io::Result<()> {
    let mut rows = vec![["all-reduce", "ms"].map(str::to_owned).to_vec()];
    rows.extend(fit.samples.iter().map(|s| vec![terminal::bytes(s.bytes as u64), milliseconds(s.seconds)]));
    terminal::result(&format!(
        "Link between {} replicas: {:.2} µs, {:.3} GB/s; the formula of the ring is off by {} (root mean square)\n",
        fit.devices,
        1e6 * fit.link.latency,
        fit.link.bytes_per_second / 1e9,
        percent(fit.residual, 1)
    ))?;
    terminal::result(&format!("{}\n", terminal::table(&rows, true)))
}

fn rows(cluster: &Cluster, scaling: Scaling) -> Vec<Vec<String>> {
    let most = cluster.options.devices;
    let shown: Vec<u64> = SHOWN.into_iter().filter(|&n| n <= most).collect();
    let mut head = vec!["machine".to_owned()];
    head.extend(shown.iter().map(u64::to_string));
    head.extend(["ms on 1", "below 90% from", "mostly waiting from"].map(str::to_owned));
    let row = |prediction: &Prediction| {
        let curve = prediction.curve(scaling, Scheme::Data)?;
        let at = |n: u64| curve.points.iter().find(|point| point.devices == n);
        let first = |n: Option<u64>| n.map_or_else(|| "–".into(), |n| n.to_string());
        let mut row = vec![prediction.machine.clone()];
        row.extend(
            shown.iter().map(|&n| at(n).map_or_else(|| "–".into(), |point| percent(point.efficiency, 1))),
        );
        row.push(at(1).map_or_else(|| "–".into(), |point| milliseconds(point.step)));
        row.extend([first(curve.below_90), first(curve.dominated_from)]);
        Some(row)
    };
    std::iter::once(head).chain(cluster.predictions.iter().filter_map(row)).collect()
}

fn milliseconds(seconds: f64) -> String {
    let ms = 1e3 * seconds;
    let digits = if ms > 0.0 { (2.0 - ms.log10().floor()).clamp(0.0, 4.0) as usize } else { 0 };
    format!("{ms:.digits$}")
}
