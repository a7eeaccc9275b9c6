//! `wgrad bench`: benchmarks of the devices of this machine.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use wgrad_bench::results::{
    Bench, BenchComparison, Ceilings, ColdStart, DeviceReport, FORMAT, Group, Host, Measurement, Noise,
    Status,
};
use wgrad_bench::{Budget, Case, CpuTime, NamedDevice, Progress, cold_start, measure, now_ns, selected};
use wgrad_program::{Device, DeviceInfo, DeviceKind};
use wgrad_train::{DeviceChoice, devices, open};

use crate::cli;
use crate::commands::ceiling;
use crate::commands::common::{announce_tuning, device_kind};
use crate::failure::Usage;
use crate::terminal::{self, command_line, say};

/// Environment variable with the launch time of a cold start, in nanoseconds since 1970.
const STARTED: &str = "WGRAD_BENCH_STARTED_NS";
/// Name of the workload that a cold start runs.
const COLD_WORKLOAD: &str = "mlp";
/// Time limit of the short benchmark.
const QUICK: Duration = Duration::from_secs(52);

/// Benchmarks the requested devices. Returns a failure exit code if a result is wrong.
pub fn run(args: &cli::Bench) -> Result<ExitCode> {
    if let Some(workload) = &args.cold_start {
        return cold_start_child(args, workload);
    }
    let (start, before) = (Instant::now(), CpuTime::now());
    let cases = selected(args.quick, args.only.as_deref())?;
    // Read the old file before measuring, so that an unusable file fails at once.
    let old = args.compare.as_deref().map(Bench::read).transpose()?;
    let names = device_names(&args.devices)?;
    if let Some(old) = &old
        && !old.devices.iter().any(|report| names.contains(&report.device))
    {
        let had: Vec<&str> = old.devices.iter().map(|report| report.device.as_str()).collect();
        let message = format!(
            "--compare: the old benchmark has results for {}, but for none of the requested devices: {}",
            had.join(", "),
            names.join(", ")
        );
        return Err(Usage(message).into());
    }
    let opened = names.iter().map(|name| Ok((name.clone(), open(parse_device(name)?)?)));
    let opened = opened.collect::<Result<Vec<(String, Box<dyn Device>)>>>()?;
    Bench::make_directory(&args.out)?;
    let mut reports: Vec<DeviceReport> = Vec::new();
    for (name, device) in &opened {
        let info = device.info();
        say(&format!("{name}: {}", describe(info)));
        reports.push(empty_report(name, info, announce_tuning(info) as u64));
    }
    // Cases selected by name have no time limit.
    let until = (args.quick && args.only.is_none()).then(|| start + QUICK);
    let budget = Budget { deadline: until, ..budget(args.quick) };
    if args.only.is_none() {
        for report in &mut reports {
            show_status(&format!("cold start on {}", report.device));
            report.cold_start = measure_cold_start(&report.device, budget.deadline)?;
        }
    }
    let subjects: Vec<NamedDevice<'_>> =
        opened.iter().map(|(name, device)| NamedDevice { name: name.clone(), device: &**device }).collect();
    let results = measure_cases(&cases, &subjects, budget, &|| true)?;
    let bench = conclude(args.quick, (start, before), &opened, reports, results);
    let comparison = old.map(|old| BenchComparison::new(&old, &bench)).transpose();
    let page = bench.write(&args.out, comparison.as_ref().ok().and_then(Option::as_ref))?;
    print(&bench)?;
    let comparison = comparison?;
    if let Some(comparison) = &comparison {
        print_comparison(comparison)?;
    }
    say(&format!(
        "Page after {:.0} s, with bench.json in the same folder: {}",
        bench.seconds,
        page.display()
    ));
    if args.json {
        let mut value = serde_json::to_value(&bench)?;
        if let (Some(object), Some(comparison)) = (value.as_object_mut(), &comparison) {
            object.insert("comparison".into(), serde_json::to_value(comparison)?);
        }
        terminal::result(&value.to_string())?;
    }
    Ok(if bench.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Combines the measurements since `start` into a benchmark with conclusions. Stores the highest compute rate of each
/// device. `before` is the CPU time at the start, from which the CPU use of other processes is computed.
pub fn conclude(
    quick: bool,
    (start, before): (Instant, Option<CpuTime>),
    opened: &[(String, Box<dyn Device>)],
    devices: Vec<DeviceReport>,
    results: Vec<Measurement>,
) -> Bench {
    let foreign = CpuTime::now().zip(before).and_then(|(now, before)| now.foreign_fraction_since(&before));
    let mut bench = Bench {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        command: command_line(),
        date: wgrad_stdx::date::timestamp(SystemTime::now()),
        seconds: start.elapsed().as_secs_f64(),
        quick,
        host: Host {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            processors: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        },
        devices,
        results,
        crossovers: Vec::new(),
        noise: Noise { foreign_cpu_share: foreign, ..Noise::default() },
    };
    bench.analyze();
    for ((_, device), report) in opened.iter().zip(&bench.devices) {
        if let (Some(gflops), Some(by)) = (report.ceilings.compute_gflops, &report.ceilings.compute_by) {
            ceiling::keep(device.info(), 1e9 * gflops, by);
        }
    }
    bench
}

fn budget(quick: bool) -> Budget {
    let ms = Duration::from_millis;
    match quick {
        true => Budget { kernel: ms(120), step: ms(400), max_case: ms(6000), deadline: None },
        false => Budget { kernel: ms(600), step: ms(3000), max_case: ms(30_000), deadline: None },
    }
}

/// Returns the names of the requested devices without duplicates, or of all devices if none was requested.
pub fn device_names(requested: &[DeviceChoice]) -> Result<Vec<String>> {
    let adapters = devices().iter().filter(|info| info.kind == DeviceKind::Gpu).count();
    let all = || std::iter::once("cpu".to_owned()).chain((0..adapters).map(|i| format!("gpu:{i}")));
    let mut names: Vec<String> = Vec::new();
    for choice in requested {
        let name = match choice {
            DeviceChoice::Cpu => "cpu".to_owned(),
            DeviceChoice::Adapter(index) => format!("gpu:{index}"),
            // Adapters are sorted with the best first.
            DeviceChoice::Gpu => "gpu:0".to_owned(),
            DeviceChoice::Auto => {
                return Err(Usage("--devices accepts cpu and gpu:N, not auto".into()).into());
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(if requested.is_empty() { all().collect() } else { names })
}

/// Parses a device name, e.g. `cpu` or `gpu:0`.
pub fn parse_device(name: &str) -> Result<DeviceChoice> {
    name.parse().map_err(anyhow::Error::msg)
}

fn describe(info: &DeviceInfo) -> String {
    let software = if info.class == "software" { ", software on the CPU" } else { "" };
    format!("{} ({}, {}){software}", info.name, info.backend, info.driver)
}

/// Returns the report of a device before any measurement. `tuned` is the number of entries in its tuning table.
pub fn empty_report(name: &str, info: &DeviceInfo, tuned: u64) -> DeviceReport {
    DeviceReport {
        device: name.to_owned(),
        kind: device_kind(info).into(),
        name: info.name.clone(),
        class: info.class.into(),
        backend: info.backend.clone(),
        driver: info.driver.clone(),
        tuned,
        ceilings: Ceilings::default(),
        cold_start: None,
    }
}

/// Shows a status line that replaces the previous status line. Prints nothing if stderr is not a terminal.
fn show_status(line: &str) {
    if terminal::is_interactive() {
        terminal::status(line);
    }
}

/// Measures each case on the devices `subjects` and shows progress. Stops early when `keep_going` returns false.
pub fn measure_cases(
    cases: &[Case],
    subjects: &[NamedDevice<'_>],
    budget: Budget,
    keep_going: &dyn Fn() -> bool,
) -> Result<Vec<Measurement>> {
    let mut group = None;
    let mut show = |progress: Progress<'_>| {
        let Progress { case, device, done, total } = progress;
        let now = cases.get(done).map(|case| case.group);
        if !terminal::is_interactive() && group != now {
            group = now;
            say(&format!("measuring {} ({done} of {total} cases done)", now.map_or("", Group::name)));
        }
        show_status(&format!("{}/{total} {case} on {device}", done + 1));
        keep_going()
    };
    let results = measure(cases, subjects, budget, &mut show)?;
    show_status("");
    Ok(results)
}

/// Runs a cold start in this process and prints its times as JSON.
fn cold_start_child(args: &cli::Bench, workload: &str) -> Result<ExitCode> {
    let [choice] = args.devices.as_slice() else {
        return Err(Usage("--cold-start needs exactly one device in --devices".into()).into());
    };
    let started = std::env::var(STARTED).ok().and_then(|ns| ns.parse().ok()).unwrap_or_else(now_ns);
    let figures = cold_start(workload, started, || open(*choice))?;
    terminal::result(&serde_json::to_string(&figures)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Measures a cold start in a new process. Returns `None` if the process fails or does not finish before `until`.
fn measure_cold_start(device: &str, until: Option<Instant>) -> Result<Option<ColdStart>> {
    let this = std::env::current_exe().context("cannot determine the path of this program")?;
    let mut child = Command::new(this)
        .args(["bench", "--devices", device, "--cold-start", COLD_WORKLOAD])
        .env(STARTED, now_ns().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process for the cold start")?;
    // Read stderr while the process runs: with RUST_LOG it writes more than a pipe holds, and would block.
    let stderr = child.stderr.take().map(|stderr| std::thread::spawn(|| std::io::read_to_string(stderr)));
    while child.try_wait()?.is_none() {
        if until.is_some_and(|until| Instant::now() >= until) {
            child.kill()?;
            child.wait()?;
            say(&format!("{device}: the cold start ran out of time"));
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let stderr = stderr.and_then(|reader| reader.join().ok()?.ok()).unwrap_or_default();
        say(&format!("{device}: the cold start failed: {}", stderr.trim()));
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    Ok(Some(serde_json::from_str(last).context("the cold start printed no times")?))
}

fn print(bench: &Bench) -> std::io::Result<()> {
    terminal::result("Ceilings\n")?;
    terminal::result(&terminal::table(&ceilings(bench), true))?;
    for group in Group::ALL {
        let rows = rows(bench, group);
        if rows.len() > 1 {
            terminal::result(&format!("\n{}\n", group.name()))?;
            terminal::result(&terminal::table(&rows, true))?;
        }
    }
    let cold = cold_rows(bench);
    if cold.len() > 1 {
        terminal::result(&format!("\ncold start: first step of {COLD_WORKLOAD} in a new process, ms\n"))?;
        terminal::result(&terminal::table(&cold, true))?;
    }
    terminal::result("")?;
    for crossover in &bench.crossovers {
        terminal::result(&crossover.to_string())?;
    }
    for result in &bench.results {
        let (case, device) = (&result.case, &result.device);
        let why = result.reason.as_deref().unwrap_or_default();
        match result.status {
            Status::Timed => {}
            Status::Wrong => {
                terminal::error(&format!("{case} on {device} is wrong and was not timed: {why}"))
            }
            Status::Failed => terminal::error(&format!("{case} on {device}: {why}")),
            Status::Skipped => say(&format!("skipped: {case} on {device}: {why}")),
        }
    }
    if let Some(warning) = &bench.noise.warning {
        say(&format!("warning: {warning}"));
    }
    Ok(())
}

/// Formats a value, or returns a dash for `None`.
fn or_dash(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".into(), show)
}

/// Formats a number with three significant digits.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0.0,
        size => (2.0 - size.log10().floor()).clamp(0.0, 6.0),
    };
    format!("{value:.digits$}", digits = digits as usize)
}

fn ceilings(bench: &Bench) -> Vec<Vec<String>> {
    let header = [
        "device",
        "GFLOP/s",
        "by",
        "fma",
        "memory GB/s",
        "cache GB/s",
        "launch µs",
        "round trip µs",
        "upload GB/s",
        "readback GB/s",
    ];
    let row = |report: &DeviceReport| {
        let [compute, rest @ ..] = report.ceilings.to_array().map(|value| or_dash(value, figure));
        let by = report.ceilings.compute_by.clone().unwrap_or_else(|| "–".into());
        [report.device.clone(), compute, by].into_iter().chain(rest).collect()
    };
    std::iter::once(header.map(str::to_owned).to_vec()).chain(bench.devices.iter().map(row)).collect()
}

fn rows(bench: &Bench, group: Group) -> Vec<Vec<String>> {
    let step = group == Group::Step;
    let mut header = vec!["case", "device", "ms", "p10–p90", "device ms", "GFLOP/s", "GB/s", "roofline"];
    if step {
        header.extend(["samples/s", "host µs", "traffic", "allocated", "watts"]);
    }
    let mut rows: Vec<Vec<String>> = vec![header.into_iter().map(str::to_owned).collect()];
    for result in bench.results.iter().filter(|result| result.group == group) {
        let Some(time) = &result.time else {
            rows.push(vec![result.case.clone(), result.device.clone(), result.status.name().into()]);
            continue;
        };
        let mut row = vec![
            result.case.clone(),
            result.device.clone(),
            figure(time.ms),
            format!("{}–{}", figure(time.p10_ms), figure(time.p90_ms)),
            or_dash(time.device_ms, figure),
            figure(time.gflops),
            figure(time.gbytes_per_s),
            or_dash(time.roofline_share, |share| format!("{:.0}%", 100.0 * share)),
        ];
        if step {
            row.extend([
                or_dash(time.samples_per_s, terminal::count),
                or_dash(time.host_us, figure),
                terminal::bytes(result.cost.map_or(0, |cost| cost.bytes)),
                terminal::bytes(time.allocated_bytes),
                or_dash(time.watts, figure),
            ]);
        }
        rows.push(row);
    }
    rows
}

fn cold_rows(bench: &Bench) -> Vec<Vec<String>> {
    let header = ["device", "process", "device", "plan", "load", "first step", "total", "peak resident"];
    let row = |report: &DeviceReport| {
        let cold = report.cold_start.as_ref()?;
        let mut row = vec![report.device.clone()];
        row.extend(cold.parts().map(figure));
        row.push(cold.peak_rss_bytes.map_or_else(|| "–".into(), terminal::bytes));
        Some(row)
    };
    std::iter::once(header.map(str::to_owned).to_vec()).chain(bench.devices.iter().filter_map(row)).collect()
}

fn print_comparison(comparison: &BenchComparison) -> std::io::Result<()> {
    let header = ["case", "device", "before ms", "now ms", "now / before", ""];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(comparison.changes.iter().map(|change| {
        vec![
            change.case.clone(),
            change.device.clone(),
            figure(change.old_ms),
            figure(change.new_ms),
            format!("{:.2}", change.ratio),
            change.label().to_owned(),
        ]
    }));
    terminal::result(&format!("\ncompared with the benchmark of {}\n", comparison.old_date))?;
    terminal::result(&terminal::table(&rows, true))?;
    for (which, only) in [("before", &comparison.only_old), ("now", &comparison.only_new)] {
        if !only.is_empty() {
            say(&format!("only {which}: {}", wgrad_bench::results::first_few(only)));
        }
    }
    comparison.notes.iter().for_each(|note| say(&format!("note: {note}")));
    Ok(())
}
