//! `wgrad verify`: the conformance suite on the devices of this machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use wgrad_conformance::{
    DeviceSummary, Options, Outcome, Progress, Report, TestDevice, check_device, check_reference,
};
use wgrad_cpu::Precision;
use wgrad_gpu::{Adapter, Class, adapters};
use wgrad_program::DeviceError;
use wgrad_train::DeviceChoice;

use crate::cli::Verify;
use crate::failure::Usage;
use crate::terminal;

/// Largest number of failures that are printed in full. Only the number of other failures is printed.
const SHOWN: usize = 20;

/// Checks the selected operations on the selected devices. Returns a failure exit code if a check fails.
pub fn run(args: &Verify) -> Result<ExitCode> {
    let options = Options {
        only: args.only.clone(),
        samples: args.samples.max(1),
        seed: args.seed,
        ..Options::default()
    };
    if options.entries().is_empty() {
        let only = args.only.clone().unwrap_or_default();
        return Err(Usage(format!("--only: no operation has a name that contains `{only}`")).into());
    }
    let mut line = ProgressLine::default();
    let mut report = check_reference(&options, &mut |progress| line.show(progress));
    for subject in subjects(args.device)? {
        report.extend(check_device(&subject, &options, &mut |progress| line.show(progress)));
    }
    line.clear();
    print(&report)?;
    if args.json {
        terminal::result(&to_json(&report).to_string())?;
    }
    Ok(if report.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the devices to check, with one entry per kernel variant. Variants of software adapters are included only if
/// the adapter was requested, because software adapters compile slowly and are not used for training.
fn subjects(choice: Option<DeviceChoice>) -> Result<Vec<TestDevice>> {
    let real = |adapter: &&Adapter| adapter.class != Class::Software;
    let (cpu, chosen): (bool, Vec<&Adapter>) = match choice {
        None => (true, adapters().iter().collect()),
        Some(DeviceChoice::Cpu) => (true, Vec::new()),
        Some(DeviceChoice::Auto) => match adapters().iter().find(real) {
            Some(adapter) => (false, vec![adapter]),
            None => (true, Vec::new()),
        },
        Some(DeviceChoice::Gpu) => {
            let best = adapters().iter().find(real).or(adapters().first());
            (false, vec![best.ok_or_else(|| not_found("gpu".into()))?])
        }
        Some(DeviceChoice::Adapter(index)) => {
            let adapter = adapters().get(index);
            (false, vec![adapter.ok_or_else(|| not_found(format!("gpu:{index}")))?])
        }
    };
    let mut subjects = Vec::new();
    if cpu {
        subjects.extend([Precision::F32, Precision::F64].map(TestDevice::cpu));
    }
    for adapter in chosen {
        subjects.push(TestDevice::adapter(adapter)?);
        if real(&adapter) || choice.is_some() {
            subjects.extend(TestDevice::variants(adapter)?);
        }
    }
    Ok(subjects)
}

fn not_found(wanted: String) -> DeviceError {
    let found = format!("wgpu finds {} adapters; see `wgrad devices`", adapters().len());
    DeviceError::NotFound { wanted, found }
}

fn print(report: &Report) -> std::io::Result<()> {
    let header = ["device", "checked", "passed", "failed", "checks", "worst / tolerance"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(report.summaries().iter().map(cells));
    terminal::result(&terminal::table(&rows, true))?;
    let failures = report.failures();
    for failure in failures.iter().take(SHOWN) {
        terminal::error(&failure.to_string());
        terminal::say(&format!("  reproduce: {}", reproduce(failure)));
    }
    if failures.len() > SHOWN {
        terminal::say(&format!("… and {} more failures", failures.len() - SHOWN));
    }
    for (outcome, reason) in &report.expected {
        terminal::say(&format!("known failure of this driver: {outcome}\n  {reason}"));
    }
    report.skipped.iter().for_each(|what| terminal::say(&format!("skipped: {what}")));
    Ok(())
}

fn cells(row: &DeviceSummary) -> Vec<String> {
    let (worst, whose) = &row.worst;
    vec![
        row.device.clone(),
        row.subjects.to_string(),
        (row.subjects - row.failed.len()).to_string(),
        row.failed.len().to_string(),
        row.checks.to_string(),
        if *worst > 0.0 { format!("{worst:.2}  {whose}") } else { "–".into() },
    ]
}

/// Returns the command that reproduces a failure. The command has no `--only` if a complete program failed, because
/// `--only` selects operations.
fn reproduce(failure: &Outcome) -> String {
    let named = wgrad_ops::ops().any(|entry| entry.name == failure.subject);
    let only = if named { format!(" --only {}", failure.subject) } else { String::new() };
    let device = failure.device.split(' ').next().filter(|name| name.starts_with("gpu:") || *name == "cpu");
    let device = device.map(|name| format!(" --device {name}")).unwrap_or_default();
    format!("wgrad verify{only}{device} --samples 1 --seed {}", failure.seed)
}

fn to_json(report: &Report) -> Value {
    let rows: Vec<Value> = report
        .summaries()
        .iter()
        .map(|row| {
            json!({
                "device": row.device,
                "checked": row.subjects,
                "passed": row.subjects - row.failed.len(),
                "failed": row.failed,
                "checks": row.checks,
                "worst": { "of_tolerance": row.worst.0, "by": row.worst.1 },
            })
        })
        .collect();
    let failure = |outcome: &&Outcome| {
        json!({
            "operation": outcome.subject,
            "device": outcome.device,
            "check": outcome.check.name(),
            "seed": outcome.seed,
            "message": outcome.result.as_ref().err().map(ToString::to_string),
        })
    };
    let failures: Vec<Value> = report.failures().iter().map(failure).collect();
    let expected: Vec<Value> = report.expected.iter().map(|(outcome, _)| failure(&outcome)).collect();
    json!({ "passed": failures.is_empty(), "devices": rows, "failures": failures, "expected": expected, "skipped": report.skipped })
}

/// Progress of the suite: an updated status line on a terminal, otherwise one line per device.
#[derive(Default)]
struct ProgressLine {
    device: String,
    last: Option<Instant>,
    shown: bool,
}

impl ProgressLine {
    fn show(&mut self, progress: Progress<'_>) {
        let Progress { entry, device, done, total } = progress;
        let new = self.device != device;
        self.device = device.to_owned();
        if !terminal::is_interactive() {
            if new {
                terminal::say(&format!("checking {total} operations on {device}"));
            }
            return;
        }
        let due = self.last.is_none_or(|last| last.elapsed() > Duration::from_millis(50));
        if new || due {
            self.last = Some(Instant::now());
            self.shown = true;
            terminal::status(&format!("{device}: {done}/{total} {entry}"));
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            terminal::status("");
        }
    }
}
