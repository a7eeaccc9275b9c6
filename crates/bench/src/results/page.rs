//! The words of a bench's page and the order of its parts.

use super::charts::{self, known};
use super::{Bench, Comparison, DeviceReport, Group, Measurement, Status};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, number};
use wgrad_stdx::format::{bytes, percent, thousands};

const CEILINGS: &str = "The best that was measured on each: arithmetic, and which case reached it; a chain of multiply-adds; \
    copying or reading what fits no cache and what fits the nearest; a kernel among a hundred that wait for each other, and one \
    waited for; data to the device and back.";

const ROOFLINE: &str = "What a kernel can reach at best depends on how much it computes for each byte it moves. The dashed \
    line is that bound as measured on the device: on its slope memory decides, on its flat part arithmetic. A dot above the \
    slope works in a cache. Point at a dot to read its name.";

const SHARES: &str = "Of the roofline: the time that the ceilings allow, over the time measured, where the bandwidth is the \
    better one of copying and reading as many bytes as the case holds, so that what fits a cache is held to the cache. FLOPs and bytes are those \
    that the program plans. Spread: from the 10th to the 90th percentile, over the median. On device: by the device's own \
    clock, without launches and waiting. Error: the worst element's, over what it may be.";

pub(super) fn write(page: &mut String, bench: &Bench, comparison: Option<&Comparison>) -> fmt::Result {
    let names: Vec<&str> = bench.devices.iter().map(|report| report.name.as_str()).collect();
    page::begin(page, "Bench", &format!("{} · {}", names.join(" · "), bench.date))?;
    verdict(page, bench)?;
    page::section(page, "Devices and their ceilings", CEILINGS)?;
    devices(page, bench)?;
    if bench.results.iter().any(|result| result.time.is_some()) {
        page::section(page, "Rooflines", ROOFLINE)?;
        page::charts(page, |page| charts::rooflines(page, bench))?;
        page::section(page, "Curves", "")?;
        page::charts(page, |page| charts::curves(page, bench))?;
    }
    if let Some(comparison) = comparison {
        compared(page, comparison)?;
    }
    cold(page, bench)?;
    page::section(page, "Every figure", SHARES)?;
    for group in Group::ALL {
        figures(page, bench, group)?;
    }
    page::section(page, "How it was measured", "")?;
    what(page, bench)?;
    page::end(page);
    Ok(())
}

fn verdict(page: &mut String, bench: &Bench) -> fmt::Result {
    let with = |status: Status| bench.results.iter().filter(move |result| result.status == status);
    let timed = with(Status::Timed).count();
    let wrong = with(Status::Wrong).count();
    let headline = match wrong {
        0 => format!("{timed} results were right and timed."),
        _ => format!("{wrong} results were wrong and not timed; {timed} were right."),
    };
    let mut lines: Vec<String> = bench.overtakes.iter().map(ToString::to_string).collect();
    for report in &bench.devices {
        if let (Some(compute), Some(by)) = (report.ceilings.compute_gflops, &report.ceilings.compute_by) {
            let memory = known(report.ceilings.bandwidth_gbytes_per_s, number);
            let compute = number(compute);
            lines.push(format!(
                "{}: {compute} GFLOP/s at best ({by}), {memory} GB/s of memory.",
                report.device
            ));
        }
    }
    for result in bench.results.iter().filter(|r| matches!(r.status, Status::Wrong | Status::Failed)) {
        lines.push(format!("{} on {}: {}", result.case, result.device, outcome(result)));
    }
    // By reason: where the time was up, that is true of many.
    let mut skipped: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for result in with(Status::Skipped) {
        let reason = result.reason.as_deref().unwrap_or_default();
        skipped.entry(reason).or_default().push(format!("{} on {}", result.case, result.device));
    }
    for (reason, cases) in skipped {
        lines.push(format!("Skipped, {reason}: {}.", super::some(&cases)));
    }
    lines.extend(bench.noise.warning.clone());
    page::summary(page, &headline, &lines)
}

fn outcome(result: &Measurement) -> String {
    let status = result.status.name();
    match &result.reason {
        Some(reason) => format!("{status}, {reason}"),
        None => status.to_owned(),
    }
}

fn devices(page: &mut String, bench: &Bench) -> fmt::Result {
    let named = |report: &DeviceReport| {
        let DeviceReport { device, name, class, backend, driver, .. } = report;
        [device, name, class, backend, driver].map(String::clone).to_vec()
    };
    let rows: Vec<Vec<String>> = bench.devices.iter().map(named).collect();
    page::table(page, &["device", "name", "class", "through", "driver"], &rows)?;
    let ceilings = |report: &DeviceReport| {
        let [compute, rest @ ..] = report.ceilings.figures().map(|figure| known(figure, number));
        let by = report.ceilings.compute_by.clone().unwrap_or_default();
        [report.device.clone(), compute, by].into_iter().chain(rest).collect()
    };
    let rows: Vec<Vec<String>> = bench.devices.iter().map(ceilings).collect();
    let columns = [
        "device",
        "GFLOP/s",
        "reached by",
        "fma",
        "memory GB/s",
        "cache GB/s",
        "launch µs",
        "trip µs",
        "up GB/s",
        "back GB/s",
    ];
    page::table(page, &columns, &rows)
}

fn compared(page: &mut String, comparison: &Comparison) -> fmt::Result {
    let note = format!(
        "Beside the bench of {}, wgrad {}. A change counts where the ranges from the 10th to the 90th percentile do not touch.",
        comparison.old_date, comparison.old_version
    );
    page::section(page, "Before and after", &note)?;
    let rows: Vec<Vec<String>> = comparison
        .changes
        .iter()
        .map(|change| {
            vec![
                change.case.clone(),
                change.device.clone(),
                number(change.old_ms),
                number(change.new_ms),
                format!("{:.2}", change.ratio),
                change.verdict().to_owned(),
            ]
        })
        .collect();
    page::table(page, &["case", "device", "before, ms", "now, ms", "now / before", ""], &rows)?;
    let only = |which: &str, cases: &[String]| format!("Only {which}: {}.", cases.join(", "));
    let mut notes: Vec<String> = comparison.notes.iter().map(|note| format!("{note}.")).collect();
    for (which, cases) in [("before", &comparison.only_old), ("now", &comparison.only_new)] {
        notes.extend((!cases.is_empty()).then(|| only(which, cases)));
    }
    for note in notes {
        writeln!(page, "<p class=\"note\">{}</p>", Escaped(&note))?;
    }
    Ok(())
}

fn cold(page: &mut String, bench: &Bench) -> fmt::Result {
    let started = || bench.devices.iter().filter_map(|report| Some((report, report.cold_start.as_ref()?)));
    let Some((_, first)) = started().next() else { return Ok(()) };
    let note = format!("One step of {} in a fresh process, in milliseconds.", first.workload);
    page::section(page, "Cold start", &note)?;
    let rows: Vec<Vec<String>> = started()
        .map(|(report, cold)| {
            let peak = cold.peak_rss_bytes.map_or_else(|| "–".to_owned(), bytes);
            std::iter::once(report.device.clone()).chain(cold.parts().map(number)).chain([peak]).collect()
        })
        .collect();
    let columns =
        ["device", "process", "device found", "planned", "loaded", "first step", "in all", "peak resident"];
    page::table(page, &columns, &rows)
}

fn figures(page: &mut String, bench: &Bench, group: Group) -> fmt::Result {
    let of_group = || bench.results.iter().filter(|result| result.group == group);
    if of_group().next().is_none() {
        return Ok(());
    }
    writeln!(page, "<h3>{}</h3>", heading(group))?;
    let step = group == Group::Step;
    let mut columns = vec!["case", "device", "ms", "spread", "on device", "GFLOP/s", "GB/s", "of roofline"];
    if step {
        columns.extend(["samples/s", "host, µs", "kernels", "moved", "held", "watts"]);
    } else {
        columns.extend(["MFLOP", "moved"]);
    }
    columns.push("error");
    let rows: Vec<Vec<String>> = of_group().map(|result| row(result, step, columns.len())).collect();
    page::table(page, &columns, &rows)
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Ceiling => "Ceilings",
        Group::Gemm => "Matrix products",
        Group::Pointwise => "Element by element",
        Group::Reduction => "Sums",
        Group::Rows => "Cross-entropy and norms, with gradients",
        Group::Optimizer => "Optimizers",
        Group::Conv => "Convolutions and their gradients",
        Group::Step => "Training steps",
    }
}

fn row(result: &Measurement, step: bool, columns: usize) -> Vec<String> {
    let mut cells = vec![result.case.clone(), result.device.clone()];
    let work = result.work;
    let work = |of: fn(&super::WorkDone) -> String| work.as_ref().map_or_else(|| "–".to_owned(), of);
    match &result.time {
        Some(time) => {
            cells.extend([
                number(time.ms),
                percent((time.p90_ms - time.p10_ms) / time.ms, 0),
                known(time.device_ms, number),
                number(time.gflops),
                number(time.gbytes_per_s),
                known(time.roofline_share, |share| percent(share, 0)),
            ]);
            if step {
                cells.extend([
                    known(time.samples_per_s, |rate| thousands(rate.round() as u64)),
                    known(time.host_us, number),
                    work(|work| work.dispatches.to_string()),
                    work(|work| bytes(work.bytes)),
                    bytes(time.allocated_bytes),
                    known(time.watts, number),
                ]);
            } else {
                cells.extend([work(|work| number(work.flops as f64 / 1e6)), work(|work| bytes(work.bytes))]);
            }
        }
        None => {
            cells.push(result.status.name().to_owned());
            cells.resize(columns - 1, String::new());
        }
    }
    cells.push(result.check.as_ref().map_or_else(String::new, |check| {
        check.worst.map_or_else(|| "not finite".into(), |worst| format!("{worst:.3}"))
    }));
    cells
}

fn what(page: &mut String, bench: &Bench) -> fmt::Result {
    let host = &bench.host;
    let rows = [
        ("machine", format!("{} {}, {} processors", host.os, host.arch, host.processors)),
        ("wgrad", bench.version.clone()),
        ("time", format!("{:.0} s{}", bench.seconds, if bench.quick { ", the short bench" } else { "" })),
        ("others' share of the processors", known(bench.noise.foreign_cpu_share, |share| percent(share, 0))),
        ("median spread, (p90 − p10) / median", known(bench.noise.spread, |spread| percent(spread, 0))),
        (
            "method",
            "Inputs are random and the same on every device. A run is judged first, each element of each result, by the f64 \
             reference or, where that would take too long, by the CPU backend in f64. Then runs are queued a few at a time \
             and waited for; a figure is the median over many such repeats."
                .to_owned(),
        ),
    ];
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in &rows {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(page, "<p class=\"note\">To repeat it:</p>\n<pre>{}</pre>\n", Escaped(&bench.command))
}
