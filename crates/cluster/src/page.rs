//! Sections, tables and texts of `cluster.html`.

use super::charts::{self, giga, ms};
use super::predict::{Point, Prediction, Scaling, Scheme};
use super::{Cluster, Fit, Machine, Measured};
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, number};
use wgrad_stdx::format::{percent, thousands};

const SCALING: &str = "Weak scaling: the number of samples per device is constant, so a step of more devices has more \
    samples. Strong scaling: the number of samples per step is constant, so each device has fewer; there are at most as many \
    devices as samples. Efficiency is the speed-up over one device, divided by the number of devices. ZeRO-1: each device \
    stores the optimizer state of a part of the parameters and updates this part. The other parts are gathered from the \
    other devices after the update, which is not overlapped with computation.";

const REDUCTIONS: &str = "Time to all-reduce all gradients at once with each algorithm. A ring through all devices moves the \
    fewest bytes but needs the most hops; trees need few hops; the hierarchical algorithm reduces within nodes first, so that \
    fewer bytes cross the network. The steps above use the algorithm named under \u{201c}Assumptions\u{201d}, for each bucket \
    separately.";

const SCHEDULES: &str = "A bucket is full as soon as the backward pass has finished its gradients. Buckets are reduced one at \
    a time in this order, numbered from bottom to top. Communication after the end of the backward pass is exposed: the step \
    waits for it.";

const PUBLISHED: &str = "The model is not fitted to these points: compute time follows from the images per second of one \
    device, links from data sheets. The model does not include stragglers, other network traffic, or kernels that run slower \
    during communication, so it predicts higher efficiencies than measured.";

const ANALYTIC: &str = "Estimates for parallelism that wgrad does not implement. A pipeline of p stages with m micro-batches \
    is idle for (p − 1)/(m + p − 1) of its time (Huang et al. 2019) and sends activations from stage to stage; a step has the \
    number of samples given below, or the number of micro-batches if that is larger. Tensor parallelism all-reduces \
    activations twice in the forward and twice in the backward pass of each block, not overlapped with computation (Shoeybi \
    et al. 2019).";

pub(super) fn write(page: &mut String, cluster: &Cluster) -> fmt::Result {
    page::begin(
        page,
        &format!("Cluster: {}", cluster.workload.name),
        &format!("predicted · {}", cluster.date),
    )?;
    overview(page, cluster)?;
    page::section(page, "Scaling", SCALING)?;
    page::charts(page, |page| charts::scaling(page, cluster))?;
    step_table(page, cluster)?;
    page::section(page, "Published and predicted", PUBLISHED)?;
    published(page, cluster)?;
    page::section(page, "All-reduce", REDUCTIONS)?;
    page::charts(page, |page| charts::reductions(page, cluster))?;
    page::section(page, "Timeline of a step", SCHEDULES)?;
    page::charts(page, |page| charts::schedules(page, cluster))?;
    if cluster.workload.transformer.is_some() {
        page::section(page, "Analytic estimate: pipeline and tensor parallelism", ANALYTIC)?;
        page::charts(page, |page| charts::analytic(page, cluster))?;
    }
    if let Some(measured) = &cluster.measured {
        measured_steps(page, measured)?;
    }
    if let Some(link) = &cluster.link {
        measured_link(page, link)?;
    }
    page::section(page, "Machines", "")?;
    machines(page, cluster)?;
    page::section(page, "Assumptions", "")?;
    assumptions(page, cluster)?;
    page::end(page);
    Ok(())
}

/// Returns a summary of the predicted data-parallel training, in one or two sentences.
///
/// Returns `None` if a required curve is missing or has no points.
pub(super) fn sentence(prediction: &Prediction, machine: Option<&Machine>) -> Option<String> {
    let weak = prediction.curve(Scaling::Weak, Scheme::Data)?;
    let strong = prediction.curve(Scaling::Strong, Scheme::Data)?;
    let last = weak.points.last()?;
    let best = strong.points.iter().max_by(|a, b| a.samples_per_second.total_cmp(&b.samples_per_second))?;
    let dominated = match weak.dominated_from {
        Some(from) => format!("from {} on they wait longer than they compute", thousands(from)),
        None => "they never wait longer than they compute".to_owned(),
    };
    let memory = machine.and_then(|machine| memory_warning(prediction, machine.memory?)).unwrap_or_default();
    Some(format!(
        "{}: {} devices reach an efficiency of {} in weak scaling, and {dominated}; a fixed batch is fastest on {} devices, with {} \
         samples per second.{memory}",
        prediction.machine,
        thousands(last.devices),
        percent(last.efficiency, 1),
        thousands(best.devices),
        number(best.samples_per_second)
    ))
}

/// Returns a warning if the workload needs more memory than a device of the machine has, otherwise `None`.
fn memory_warning(prediction: &Prediction, memory: f64) -> Option<String> {
    let needed = prediction.curve(Scaling::Weak, Scheme::Data)?.points.first()?.memory;
    if needed <= memory {
        return None;
    }
    let sharded = prediction.curve(Scaling::Weak, Scheme::Zero1)?;
    let fits = sharded.points.iter().find(|point| point.memory <= memory);
    let with = match fits {
        Some(point) => format!("with ZeRO-1 it fits from {} devices on", thousands(point.devices)),
        None => "it does not fit with ZeRO-1 either".to_owned(),
    };
    Some(format!(
        " It does not fit: a device has {} GB of memory and needs {} GB; {with}.",
        giga(memory),
        giga(needed)
    ))
}

fn overview(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let headline = format!(
        "Prediction of data-parallel training of {} by a model of latency and bandwidth.",
        cluster.workload.name
    );
    let mut lines = cluster.sentences();
    let worst = cluster.published.iter().max_by(|a, b| a.error.abs().total_cmp(&b.error.abs()));
    if let Some(worst) = worst {
        lines.push(format!(
            "The largest error for {} published points is {}: {} on {} devices, predicted {}, published {}.",
            cluster.published.len(),
            percent(worst.error.abs(), 1),
            worst.workload,
            thousands(worst.devices),
            percent(worst.predicted, 1),
            percent(worst.efficiency, 1)
        ));
    }
    page::summary(page, &headline, &lines)
}

/// Writes a table of the step time and its parts in weak scaling.
fn step_table(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let row = |prediction: &Prediction, point: &Point| {
        vec![
            prediction.machine.clone(),
            thousands(point.devices),
            ms(point.step),
            ms(point.passes),
            ms(point.update),
            ms(point.communication),
            ms(point.exposed),
            percent(point.efficiency, 1),
            number(point.samples_per_second),
        ]
    };
    let mut rows = Vec::new();
    for prediction in &cluster.predictions {
        if let Some(weak) = prediction.curve(Scaling::Weak, Scheme::Data) {
            rows.extend(weak.points.iter().map(|point| row(prediction, point)));
        }
    }
    let columns = [
        "weak scaling, data parallel",
        "devices",
        "step, ms",
        "passes",
        "update",
        "communication",
        "exposed",
        "efficiency",
        "samples/s",
    ];
    page::folded_table(page, "Parts of a step", &columns, &rows)
}

fn published(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let rows: Vec<Vec<String>> = cluster
        .published
        .iter()
        .map(|point| {
            vec![
                point.workload.clone(),
                point.machine.clone(),
                thousands(point.devices),
                thousands(point.base),
                thousands(point.batch),
                point.algorithm.name().to_owned(),
                percent(point.efficiency, 1),
                percent(point.predicted, 1),
                format!("{:+.1}%", 100.0 * point.error),
            ]
        })
        .collect();
    let columns = [
        "workload",
        "machine",
        "devices",
        "baseline",
        "batch",
        "algorithm",
        "published",
        "predicted",
        "error",
    ];
    page::table(page, &columns, &rows)?;
    page::charts(page, |page| charts::published(page, cluster))?;
    let mut sources: Vec<&str> = cluster.published.iter().map(|point| point.source.as_str()).collect();
    sources.dedup();
    writeln!(page, "<p class=\"note\">{}.</p>", Escaped(&sources.join("; ")))
}

fn measured_steps(page: &mut String, measured: &Measured) -> fmt::Result {
    let note = format!(
        "Median training steps of a single device, {}, including readback and upload of the gradients.",
        measured.device
    );
    page::section(page, "Measured steps", &note)?;
    let row = |step: &super::MeasuredStep| vec![thousands(step.batch), ms(step.passes), ms(step.update)];
    let rows: Vec<Vec<String>> = measured.steps.iter().map(row).collect();
    page::table(page, &["batch", "passes, ms", "update, ms"], &rows)
}

fn measured_link(page: &mut String, fit: &Fit) -> fmt::Result {
    let note = format!(
        "All-reduces of {} devices, and the link fitted with the ring formula: {} µs and {} GB/s, with a relative error of {} (root \
         mean square).",
        thousands(fit.devices),
        number(1e6 * fit.link.latency),
        giga(fit.link.bytes_per_second),
        percent(fit.residual, 1)
    );
    page::section(page, "Measured link", &note)?;
    let rows: Vec<Vec<String>> =
        fit.samples.iter().map(|sample| vec![thousands(sample.bytes as u64), ms(sample.seconds)]).collect();
    page::table(page, &["bytes", "all-reduce, ms"], &rows)
}

fn machines(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let rows: Vec<Vec<String>> = cluster
        .machines
        .iter()
        .map(|machine| {
            let link = |link: &super::Link| [number(1e6 * link.latency), giga(link.bytes_per_second)];
            let mut row = vec![machine.name.clone(), thousands(machine.devices)];
            row.extend(link(&machine.within));
            row.extend(link(&machine.between));
            row.push(number(machine.flops_for(&cluster.workload.name) / 1e12));
            let known = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), giga);
            row.extend([machine.memory, machine.memory_bytes_per_second].map(known));
            row
        })
        .collect();
    let columns = [
        "machine",
        "devices per node",
        "hop within a node, µs",
        "GB/s",
        "hop between nodes, µs",
        "GB/s of a node",
        "TFLOP/s",
        "memory, GB",
        "memory, GB/s",
    ];
    page::table(page, &columns, &rows)?;
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for machine in &cluster.machines {
        let text = format!("{}. {}", machine.description, machine.source);
        writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", Escaped(&machine.name), Escaped(&text))?;
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn assumptions(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let (workload, options) = (&cluster.workload, &cluster.options);
    let bytes = workload.bytes;
    let rows = [
        ("workload", workload.description.clone()),
        ("parameters", thousands(workload.parameters)),
        (
            "bytes per parameter",
            format!(
                "{} for the weight, {} for the gradient, {} for the optimizer state",
                number(bytes.weight),
                number(bytes.gradient),
                number(bytes.state)
            ),
        ),
        ("GFLOP per sample, forward and backward", number(workload.flops / 1e9)),
        ("MB of activations per sample, approximately", number(workload.activation_bytes / 1e6)),
        ("samples per device, weak scaling", thousands(workload.batch)),
        ("samples per step, strong scaling", thousands(workload.global_batch)),
        ("bucket size, MB", number(options.bucket_bytes / 1e6)),
        ("algorithm", options.algorithm.name().to_owned()),
        ("wgrad", cluster.version.clone()),
    ];
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in &rows {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(page, "<p class=\"note\">Command:</p>\n<pre>{}</pre>\n", Escaped(&cluster.command))
}
