//! Sections, tables and texts of `bench.html`.

use super::charts::{self, known};
use super::{Bench, BenchComparison, DeviceReport, Group, Measurement, Status};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, number};
use wgrad_stdx::format::{bytes, percent, thousands};

const CEILINGS: &str = "Best rates measured on each device. GFLOP/s: the highest compute rate, and the case that reached \
    it. FMA: a chain of dependent multiply-adds. Memory and cache: copying or reading the largest and the smallest working \
    set. Launch: one of a hundred dependent kernels. Round trip: one small kernel, including waiting. Upload and readback: \
    data to the device and back.";

const ROOFLINE: &str = "The highest rate that a kernel can reach depends on its arithmetic intensity, the FLOPs per byte \
    moved. The dashed line is this limit as measured on the device: kernels below the slope are limited by memory \
    bandwidth, kernels below the flat part by the compute rate. A dot above the slope works on data in a cache. Hover over \
    a dot to see its name.";

const COLUMNS: &str = "Of roofline: the least time by the ceilings, divided by the measured time. The bandwidth is the better \
    rate of copying and reading a working set as large as that of the case, so that cases that fit a cache are compared \
    with the cache. FLOPs and bytes are those planned by the program. Spread: range from the 10th to the 90th percentile, \
    divided by the median. On device: time by the device's clock, without launches and waiting. Error: the largest error of \
    an element, divided by its tolerance.";

pub(super) fn write(page: &mut String, bench: &Bench, comparison: Option<&BenchComparison>) -> fmt::Result {
    let names: Vec<&str> = bench.devices.iter().map(|report| report.name.as_str()).collect();
    page::begin(page, "Bench", &format!("{} · {}", names.join(" · "), bench.date))?;
    overview(page, bench)?;
    page::section(page, "Devices and ceilings", CEILINGS)?;
    devices(page, bench)?;
    if bench.results.iter().any(|result| result.time.is_some()) {
        page::section(page, "Rooflines", ROOFLINE)?;
        page::charts(page, |page| charts::rooflines(page, bench))?;
        page::section(page, "Curves", "")?;
        page::charts(page, |page| charts::curves(page, bench))?;
    }
    if let Some(comparison) = comparison {
        comparison_section(page, comparison)?;
    }
    cold_start_section(page, bench)?;
    page::section(page, "All results", COLUMNS)?;
    for group in Group::ALL {
        group_table(page, bench, group)?;
    }
    page::section(page, "Method", "")?;
    method(page, bench)?;
    page::end(page);
    Ok(())
}

fn overview(page: &mut String, bench: &Bench) -> fmt::Result {
    let with = |status: Status| bench.results.iter().filter(move |result| result.status == status);
    let timed = with(Status::Timed).count();
    let wrong = with(Status::Wrong).count();
    let headline = match wrong {
        0 => format!("{timed} results were correct and timed."),
        _ => format!("{wrong} results were wrong and not timed; {timed} were correct and timed."),
    };
    let mut lines: Vec<String> = bench.crossovers.iter().map(ToString::to_string).collect();
    for report in &bench.devices {
        if let (Some(compute), Some(by)) = (report.ceilings.compute_gflops, &report.ceilings.compute_by) {
            let memory = known(report.ceilings.bandwidth_gbytes_per_s, number);
            let compute = number(compute);
            lines.push(format!(
                "{}: up to {compute} GFLOP/s ({by}), {memory} GB/s memory bandwidth.",
                report.device
            ));
        }
    }
    for result in bench.results.iter().filter(|r| matches!(r.status, Status::Wrong | Status::Failed)) {
        lines.push(format!("{} on {}: {}", result.case, result.device, outcome(result)));
    }
    // Grouped by reason, because many cases are skipped when the time limit is reached.
    let mut skipped: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for result in with(Status::Skipped) {
        let reason = result.reason.as_deref().unwrap_or_default();
        skipped.entry(reason).or_default().push(format!("{} on {}", result.case, result.device));
    }
    for (reason, cases) in skipped {
        lines.push(format!("Skipped ({reason}): {}.", super::first_few(&cases)));
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
    page::table(page, &["device", "name", "class", "API", "driver"], &rows)?;
    let ceilings = |report: &DeviceReport| {
        let [compute, rest @ ..] = report.ceilings.to_array().map(|value| known(value, number));
        let by = report.ceilings.compute_by.clone().unwrap_or_default();
        [report.device.clone(), compute, by].into_iter().chain(rest).collect()
    };
    let rows: Vec<Vec<String>> = bench.devices.iter().map(ceilings).collect();
    let columns = [
        "device",
        "GFLOP/s",
        "case",
        "FMA",
        "memory, GB/s",
        "cache, GB/s",
        "launch, µs",
        "round trip, µs",
        "upload, GB/s",
        "readback, GB/s",
    ];
    page::table(page, &columns, &rows)
}

fn comparison_section(page: &mut String, comparison: &BenchComparison) -> fmt::Result {
    let note = format!(
        "Compared with the benchmark of {}, wgrad {}. A change is marked if the ranges from the 10th to the 90th percentile do not \
         overlap.",
        comparison.old_date, comparison.old_version
    );
    page::section(page, "Comparison", &note)?;
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
                change.label().to_owned(),
            ]
        })
        .collect();
    page::table(page, &["case", "device", "old, ms", "new, ms", "new / old", "change"], &rows)?;
    let only = |which: &str, cases: &[String]| format!("Only {which}: {}.", cases.join(", "));
    let mut notes: Vec<String> = comparison.notes.iter().map(|note| format!("{note}.")).collect();
    for (which, cases) in
        [("in the old benchmark", &comparison.only_old), ("in the new benchmark", &comparison.only_new)]
    {
        notes.extend((!cases.is_empty()).then(|| only(which, cases)));
    }
    for note in notes {
        writeln!(page, "<p class=\"note\">{}</p>", Escaped(&note))?;
    }
    Ok(())
}

fn cold_start_section(page: &mut String, bench: &Bench) -> fmt::Result {
    let cold_starts =
        || bench.devices.iter().filter_map(|report| Some((report, report.cold_start.as_ref()?)));
    let Some((_, first)) = cold_starts().next() else { return Ok(()) };
    let note =
        format!("Durations of one training step of {} in a new process, in milliseconds.", first.workload);
    page::section(page, "Cold start", &note)?;
    let rows: Vec<Vec<String>> = cold_starts()
        .map(|(report, cold)| {
            let peak = cold.peak_rss_bytes.map_or_else(|| "–".to_owned(), bytes);
            std::iter::once(report.device.clone()).chain(cold.parts().map(number)).chain([peak]).collect()
        })
        .collect();
    let columns = ["device", "process", "open device", "plan", "load", "first step", "total", "peak memory"];
    page::table(page, &columns, &rows)
}

fn group_table(page: &mut String, bench: &Bench, group: Group) -> fmt::Result {
    let of_group = || bench.results.iter().filter(|result| result.group == group);
    if of_group().next().is_none() {
        return Ok(());
    }
    writeln!(page, "<h3>{}</h3>", heading(group))?;
    let step = group == Group::Step;
    let mut columns = vec!["case", "device", "ms", "spread", "on device", "GFLOP/s", "GB/s", "of roofline"];
    if step {
        columns.extend(["samples/s", "host, µs", "kernels", "bytes moved", "allocated", "watts"]);
    } else {
        columns.extend(["MFLOP", "bytes moved"]);
    }
    columns.push("error");
    let rows: Vec<Vec<String>> = of_group().map(|result| row(result, step, columns.len())).collect();
    page::table(page, &columns, &rows)
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Ceiling => "Ceilings",
        Group::Gemm => "Matrix products",
        Group::Pointwise => "Elementwise operations",
        Group::Reduction => "Sums",
        Group::Rows => "Cross-entropy and normalizations, with gradients",
        Group::Optimizer => "Optimizers",
        Group::Conv => "Convolutions and their gradients",
        Group::Step => "Training steps",
    }
}

fn row(result: &Measurement, step: bool, columns: usize) -> Vec<String> {
    let mut cells = vec![result.case.clone(), result.device.clone()];
    let cost = result.cost;
    let cost = |show: fn(&super::RunCost) -> String| cost.as_ref().map_or_else(|| "–".to_owned(), show);
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
                    cost(|cost| cost.dispatches.to_string()),
                    cost(|cost| bytes(cost.bytes)),
                    bytes(time.allocated_bytes),
                    known(time.watts, number),
                ]);
            } else {
                cells.extend([cost(|cost| number(cost.flops as f64 / 1e6)), cost(|cost| bytes(cost.bytes))]);
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

fn method(page: &mut String, bench: &Bench) -> fmt::Result {
    let host = &bench.host;
    let rows = [
        ("machine", format!("{} {}, {} processors", host.os, host.arch, host.processors)),
        ("wgrad", bench.version.clone()),
        ("time", format!("{:.0} s{}", bench.seconds, if bench.quick { ", quick benchmark" } else { "" })),
        ("CPU time of other processes", known(bench.noise.foreign_cpu_share, |share| percent(share, 0))),
        ("median of (p90 − p10) / median", known(bench.noise.spread, |spread| percent(spread, 0))),
        (
            "method",
            "Inputs are random and equal on every device. First, every element of every result of a run is compared with the f64 \
             reference interpreter or, if that would take too long, with the CPU backend in f64. Then repeats of a few queued runs \
             are timed; each value is the median of many repeats."
                .to_owned(),
        ),
    ];
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in &rows {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(page, "<p class=\"note\">Command:</p>\n<pre>{}</pre>\n", Escaped(&bench.command))
}
