//! The words of a prediction's page and the order of its parts.

use super::charts::{self, giga, ms};
use super::predict::{Point, Prediction, Scaling, Scheme};
use super::{Cluster, Fit, Machine, Measured};
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, number};
use wgrad_stdx::format::{percent, thousands};

const SCALING: &str = "Weak: each device has as many samples as before, so a step of more devices has more of them. Strong: a \
    step has as many samples as before, so that a device has fewer; there are no more devices than samples. Efficiency is the \
    speed-up over one device over the number of devices. ZeRO-1: each device keeps the optimizer's state of a share of the \
    parameters, updates those, and gets the others from the others, which nothing hides.";

const REDUCTIONS: &str = "All gradients at once, by each way to add them up. Around a ring through all devices a byte travels \
    least, but hops add up; through trees there are few hops; within boxes first, only a share of the bytes leaves a device's \
    box by each port. Steps above use the algorithm named at the end, for each bucket on its own.";

const SCHEDULES: &str = "A bucket is full as soon as the backward pass has finished the gradients in it. One travels at a time, \
    in that order, by number from bottom to top. What comes back after the backward pass has ended is what a step waits for.";

const PUBLISHED: &str = "Nothing is fitted to these points: computing follows from images a second of one device, links from \
    data sheets. The model has no stragglers, no traffic of others, and no kernel that runs slower while gradients travel, so \
    it promises more than was measured.";

const ON_PAPER: &str = "What cutting the model itself up would take; wgrad does not do it. A pipeline of p stages with m \
    micro-batches waits for (p − 1)/(m + p − 1) of its time (Huang et al. 2019), and sends activations from stage to stage; a \
    step has as many samples as below, or as micro-batches if those are more. Tensor parallelism adds up \
    activations twice in each block forward and twice backward, which nothing hides (Shoeybi et al. 2019).";

pub(super) fn write(page: &mut String, cluster: &Cluster) -> fmt::Result {
    page::begin(page, &format!("Cluster: {}", cluster.work.name), &format!("predicted · {}", cluster.date))?;
    verdict(page, cluster)?;
    page::section(page, "As devices are added", SCALING)?;
    page::charts(page, |page| charts::scaling(page, cluster))?;
    summary(page, cluster)?;
    page::section(page, "Published and predicted", PUBLISHED)?;
    published(page, cluster)?;
    page::section(page, "Adding gradients up", REDUCTIONS)?;
    page::charts(page, |page| charts::reductions(page, cluster))?;
    page::section(page, "A step in time", SCHEDULES)?;
    page::charts(page, |page| charts::schedules(page, cluster))?;
    if cluster.work.transformer.is_some() {
        page::section(page, "On paper: pipelines and tensor parallelism", ON_PAPER)?;
        page::charts(page, |page| charts::on_paper(page, cluster))?;
    }
    if let Some(measured) = &cluster.measured {
        measured_steps(page, measured)?;
    }
    if let Some(link) = &cluster.link {
        measured_link(page, link)?;
    }
    page::section(page, "Machines", "")?;
    machines(page, cluster)?;
    page::section(page, "What was assumed", "")?;
    assumed(page, cluster)?;
    page::end(page);
    Ok(())
}

/// What a prediction comes to in data-parallel training, in a sentence or two.
pub(super) fn sentence(prediction: &Prediction, machine: Option<&Machine>) -> Option<String> {
    let weak = prediction.curve(Scaling::Weak, Scheme::Data)?;
    let strong = prediction.curve(Scaling::Strong, Scheme::Data)?;
    let last = weak.points.last()?;
    let best = strong.points.iter().max_by(|a, b| a.samples_per_second.total_cmp(&b.samples_per_second))?;
    let dominated = match weak.dominated_from {
        Some(from) => format!("from {} on they wait for longer than they compute", thousands(from)),
        None => "they never wait for longer than they compute".to_owned(),
    };
    let memory = machine.and_then(|machine| does_not_fit(prediction, machine.memory?)).unwrap_or_default();
    Some(format!(
        "{}: {} devices are {} efficient in weak scaling, and {dominated}; a fixed batch is fastest on {}, at {} samples a \
         second.{memory}",
        prediction.machine,
        thousands(last.devices),
        percent(last.efficiency, 1),
        thousands(best.devices),
        number(best.samples_per_second)
    ))
}

/// A sentence where a device has less memory than it needs; `None` where it fits.
fn does_not_fit(prediction: &Prediction, memory: f64) -> Option<String> {
    let needed = prediction.curve(Scaling::Weak, Scheme::Data)?.points.first()?.memory;
    if needed <= memory {
        return None;
    }
    let shared = prediction.curve(Scaling::Weak, Scheme::Zero1)?;
    let fits = shared.points.iter().find(|point| point.memory <= memory);
    let with = match fits {
        Some(point) => format!("with ZeRO-1 it fits from {} devices on", thousands(point.devices)),
        None => "nor does it with ZeRO-1".to_owned(),
    };
    Some(format!(
        " But it does not fit: a device has {} GB and needs {}; {with}.",
        giga(memory),
        giga(needed)
    ))
}

fn verdict(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let headline = format!(
        "Data-parallel training of {}, as a model of latency and bandwidth predicts it.",
        cluster.work.name
    );
    let mut lines = cluster.sentences();
    let worst = cluster.published.iter().max_by(|a, b| a.error.abs().total_cmp(&b.error.abs()));
    if let Some(worst) = worst {
        lines.push(format!(
            "Of {} published points the worst is off by {}: {} on {} devices, predicted {}, published {}.",
            cluster.published.len(),
            percent(worst.error.abs(), 1),
            worst.work,
            thousands(worst.devices),
            percent(worst.predicted, 1),
            percent(worst.efficiency, 1)
        ));
    }
    page::summary(page, &headline, &lines)
}

/// Some points of each machine's weak scaling, with what a step consists of.
fn summary(page: &mut String, cluster: &Cluster) -> fmt::Result {
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
        "of it not hidden",
        "efficiency",
        "samples/s",
    ];
    page::folded_table(page, "What a step consists of", &columns, &rows)
}

fn published(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let rows: Vec<Vec<String>> = cluster
        .published
        .iter()
        .map(|point| {
            vec![
                point.work.clone(),
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
    let columns =
        ["work", "machine", "devices", "against", "batch", "algorithm", "published", "predicted", "error"];
    page::table(page, &columns, &rows)?;
    page::charts(page, |page| charts::published(page, cluster))?;
    let mut sources: Vec<&str> = cluster.published.iter().map(|point| point.source.as_str()).collect();
    sources.dedup();
    writeln!(page, "<p class=\"note\">{}.</p>", Escaped(&sources.join("; ")))
}

fn measured_steps(page: &mut String, measured: &Measured) -> fmt::Result {
    let note = format!(
        "Medians of training steps on {}, alone, gradients brought to the host and back.",
        measured.device
    );
    page::section(page, "Measured steps", &note)?;
    let row = |step: &super::MeasuredStep| vec![thousands(step.batch), ms(step.passes), ms(step.update)];
    let rows: Vec<Vec<String>> = measured.steps.iter().map(row).collect();
    page::table(page, &["batch", "passes, ms", "update, ms"], &rows)
}

fn measured_link(page: &mut String, fit: &Fit) -> fmt::Result {
    let note = format!(
        "All-reduces of {} devices, and the link with which the ring's formula is nearest to them: {} µs and {} GB/s, off by {} \
         (root mean square).",
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
            row.push(number(machine.flops_for(&cluster.work.name) / 1e12));
            let known = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), giga);
            row.extend([machine.memory, machine.memory_bytes_per_second].map(known));
            row
        })
        .collect();
    let columns = [
        "machine",
        "devices of a box",
        "hop within, µs",
        "GB/s",
        "hop between, µs",
        "GB/s of a box",
        "TFLOP/s",
        "memory, GB",
        "GB/s of it",
    ];
    page::table(page, &columns, &rows)?;
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for machine in &cluster.machines {
        let what = format!("{}. {}", machine.description, machine.source);
        writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", Escaped(&machine.name), Escaped(&what))?;
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn assumed(page: &mut String, cluster: &Cluster) -> fmt::Result {
    let (work, options) = (&cluster.work, &cluster.options);
    let bytes = work.bytes;
    let rows = [
        ("work", work.description.clone()),
        ("parameters", thousands(work.parameters)),
        (
            "bytes of a parameter",
            format!(
                "{} for itself, {} for its gradient, {} for the optimizer",
                number(bytes.weight),
                number(bytes.gradient),
                number(bytes.state)
            ),
        ),
        ("GFLOP of a sample, forward and backward", number(work.flops / 1e9)),
        ("MB kept of a sample for the backward pass, roughly", number(work.activation_bytes / 1e6)),
        ("samples of a device, weak scaling", thousands(work.batch)),
        ("samples of a step, strong scaling", thousands(work.global_batch)),
        ("bucket, MB", number(options.bucket_bytes / 1e6)),
        ("algorithm", options.algorithm.name().to_owned()),
        ("wgrad", cluster.version.clone()),
    ];
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in &rows {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(page, "<p class=\"note\">To repeat it:</p>\n<pre>{}</pre>\n", Escaped(&cluster.command))
}
