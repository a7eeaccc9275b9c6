//! Measures cases on devices: checks the result of each case, then times the case.

use std::time::{Duration, Instant};

use crate::results::{Check, Group, Measurement, RunCost, Status, Timing};
use wgrad_program::{Data, Device, DeviceError, DeviceKind, HostData};
use wgrad_stdx::stats::quantile;

use crate::cases::{Case, CaseKind};
use crate::check::{Comparison, Expected};
use crate::error::BenchError;
use crate::host::PowerMeter;
use crate::loaded::LoadedWorkload;
use crate::time::{time_repeats, time_runs};
use crate::workload::{Recorder, Workload};

/// Device to measure, with its name in reports.
pub struct NamedDevice<'d> {
    /// Name as passed to `--devices`, e.g. `gpu:0`.
    pub name: String,
    /// Opened device.
    pub device: &'d dyn Device,
}

/// Time budget of a benchmark.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Approximate time for all repeats of a case that is not a training step.
    pub kernel: Duration,
    /// Approximate time for all repeats of a training step.
    pub step: Duration,
    /// Maximum estimated time for a case on a device. Cases estimated to take longer are skipped.
    pub max_case: Duration,
    /// Time after which all remaining cases are skipped.
    pub deadline: Option<Instant>,
}

/// Progress of a benchmark, reported before each measurement.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Name of the case about to be measured.
    pub case: &'a str,
    /// Name of the device about to be measured.
    pub device: &'a str,
    /// Number of cases already measured on all devices.
    pub done: usize,
    /// Total number of cases.
    pub total: usize,
}

/// Minimum number of runs of a case: the check, the warm-up and the repeats.
const MIN_RUNS: f64 = 8.0;
/// Number of runs that are timed with the clock of the device.
const PROFILED_RUNS: usize = 3;

/// Measures each case on each device.
///
/// Each case is measured on all devices before the next case, so that the times of a case on different devices are
/// measured at about the same moment. Cases with a wrong result are not timed. `progress` is called before each
/// measurement and returns whether to continue.
///
/// # Errors
/// Returns [`BenchError::Graph`] if a case is invalid, and [`BenchError::Reference`] if the reference cannot evaluate
/// it. Errors of a device are recorded in the measurement instead.
pub fn measure(
    cases: &[Case],
    devices: &[NamedDevice<'_>],
    budget: Budget,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Vec<Measurement>, BenchError> {
    let mut all: Vec<Measurement> = Vec::new();
    for (done, case) in cases.iter().enumerate() {
        let mut prepared: Option<(Workload, Option<Expected>)> = None;
        for named in devices {
            let next = Progress { case: &case.name, device: &named.name, done, total: cases.len() };
            let proceed = progress(next);
            let mut result = case.measurement(&named.name);
            if !proceed {
                result.skip("interrupted".into());
            } else if budget.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                result.skip("the time limit was reached".into());
            } else {
                match &case.kind {
                    CaseKind::Workload(build) => {
                        if prepared.is_none() {
                            prepared = Some((build()?, None));
                        }
                        let Some((workload, expected)) = &mut prepared else { continue };
                        match reason_to_skip(&all, named, workload, budget.max_case)? {
                            Some(reason) => result.skip(reason),
                            None => measure_workload(case, named, workload, expected, budget, &mut result)?,
                        }
                    }
                    CaseKind::Upload(bytes) => measure_transfer(named, *bytes, true, budget, &mut result)?,
                    CaseKind::Readback(bytes) => measure_transfer(named, *bytes, false, budget, &mut result)?,
                }
            }
            all.push(result);
        }
    }
    Ok(all)
}

/// Returns the reason to skip a workload if it would take longer than `max_case`, otherwise `None`.
///
/// The time is estimated from the best rates measured so far on the device.
fn reason_to_skip(
    so_far: &[Measurement],
    named: &NamedDevice<'_>,
    workload: &Workload,
    max_case: Duration,
) -> Result<Option<String>, BenchError> {
    let times = || so_far.iter().filter(|m| m.device == named.name).filter_map(|m| m.time.as_ref());
    let best = |rate: fn(&Timing) -> f64| times().map(rate).fold(0.0, f64::max);
    let cost = crate::loaded::plan(named.device, workload)?.cost();
    let seconds = |amount: u64, giga_per_s: f64| match giga_per_s > 0.0 {
        true => amount as f64 / giga_per_s / 1e9,
        false => 0.0,
    };
    let (gflops, gbytes) = (best(|t| t.gflops), best(|t| t.gbytes_per_s));
    let one = seconds(cost.flops, gflops).max(seconds(cost.read + cost.written, gbytes));
    let total = MIN_RUNS * one;
    Ok((total > max_case.as_secs_f64()).then(|| {
        format!(
            "a run would take about {one:.1} s ({:.1} GFLOP at {gflops:.1} GFLOP/s); {MIN_RUNS:.0} runs would take more than {:.0} s",
            cost.flops as f64 / 1e9,
            max_case.as_secs_f64()
        )
    }))
}

/// Records a device error in the measurement. Returns any other error unchanged.
///
/// The case is recorded as skipped if it does not fit the device, otherwise as failed.
fn device_error(error: BenchError, result: &mut Measurement) -> Result<(), BenchError> {
    match error {
        BenchError::Device(error @ (DeviceError::DoesNotFit { .. } | DeviceError::OutOfMemory { .. })) => {
            let message = error.to_string();
            result.skip(message.lines().next().unwrap_or_default().to_owned());
            Ok(())
        }
        BenchError::Device(error) => {
            (result.status, result.reason) = (Status::Failed, Some(error.to_string()));
            Ok(())
        }
        other => Err(other),
    }
}

/// Checks and times a workload. Computes the expected results if `expected` is `None`.
fn measure_workload(
    case: &Case,
    named: &NamedDevice<'_>,
    workload: &Workload,
    expected: &mut Option<Expected>,
    budget: Budget,
    result: &mut Measurement,
) -> Result<(), BenchError> {
    if expected.is_none() {
        *expected = Some(Expected::compute(workload)?);
    }
    let Some(expected) = expected else { return Ok(()) };
    match check_and_time(case, named, workload, expected, budget, result) {
        Ok(()) => Ok(()),
        Err(error) => device_error(error, result),
    }
}

fn check_and_time(
    case: &Case,
    named: &NamedDevice<'_>,
    workload: &Workload,
    expected: &Expected,
    budget: Budget,
    result: &mut Measurement,
) -> Result<(), BenchError> {
    let mut loaded = LoadedWorkload::new(named.device, workload)?;
    result.cost = Some(RunCost {
        flops: loaded.cost.flops,
        bytes: loaded.cost.read + loaded.cost.written,
        dispatches: loaded.dispatches as u64,
        footprint: loaded.footprint as u64,
    });
    let comparison = expected.compare(workload, &mut loaded)?;
    let worst = Some(comparison.worst).filter(|worst| worst.is_finite());
    result.check =
        Some(Check { by: expected.reference.name().into(), worst, at: comparison.location.clone() });
    if !comparison.passed() {
        mark_wrong(result, &comparison, expected, "");
        return Ok(());
    }
    let time = if case.group == Group::Step { budget.step } else { budget.kernel };
    let meter = match named.device.info() {
        info if info.kind == DeviceKind::Cpu || info.class == "software" => PowerMeter::for_cpu(),
        _ => PowerMeter::for_single_gpu(),
    };
    let power_start = meter.as_ref().map(PowerMeter::start);
    let times = time_runs(&mut loaded, time, case.synchronous)?;
    let watts = meter.as_ref().zip(power_start.as_ref()).and_then(|(meter, start)| meter.watts_since(start));
    let mut timing = timing(result, &times.sorted);
    timing.device_ms = device_ms(&mut loaded)?;
    timing.runs_per_repeat = u64::from(times.runs);
    // The CPU backend executes a run within the call and has no queue.
    timing.host_us = (named.device.info().kind == DeviceKind::Gpu).then_some(1e6 * times.queue);
    timing.load_ms = loaded.load_time.as_secs_f64() * 1e3;
    timing.allocated_bytes = loaded.allocated_bytes() as u64;
    timing.watts = watts;
    // Check again from the initial state: the timed runs were queued and replayed, unlike the first run.
    loaded.reset()?;
    let comparison = expected.compare(workload, &mut loaded)?;
    if !comparison.passed() {
        mark_wrong(result, &comparison, expected, " after it was timed");
        return Ok(());
    }
    (result.status, result.time) = (Status::Timed, Some(timing));
    Ok(())
}

/// Records that a result is wrong, with the element that has the largest error. `when` follows the value found in the
/// message.
fn mark_wrong(result: &mut Measurement, comparison: &Comparison, expected: &Expected, when: &str) {
    let Comparison { location, found, expected: right, worst } = comparison;
    result.status = Status::Wrong;
    result.reason = Some(format!(
        "{location} is {found:e}{when}; expected {right:e} according to {}; the error is {worst:.3e} times the tolerance",
        expected.reference.name()
    ));
}

/// Returns the median time of a few runs in milliseconds, measured by the clock of the device.
///
/// Returns `None` if the device has no clock.
fn device_ms(loaded: &mut LoadedWorkload<'_>) -> Result<Option<f64>, BenchError> {
    let mut times = Vec::new();
    for _ in 0..PROFILED_RUNS {
        // The CPU backend has no clock of its own; the host clock has already timed the runs.
        let Some(time) = loaded.device_time()? else { return Ok(None) };
        times.push(1e3 * time.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(Some(quantile(&times, 0.5)))
}

/// Computes percentiles in milliseconds and rates from the sorted seconds of all repeats.
fn timing(result: &Measurement, sorted: &[f64]) -> Timing {
    let seconds = quantile(sorted, 0.5);
    let (flops, bytes) = result.cost.map_or((0, 0), |cost| (cost.flops, cost.bytes));
    Timing {
        ms: 1e3 * seconds,
        p10_ms: 1e3 * quantile(sorted, 0.1),
        p90_ms: 1e3 * quantile(sorted, 0.9),
        repeats: sorted.len() as u64,
        runs_per_repeat: 1,
        device_ms: None,
        host_us: None,
        load_ms: 0.0,
        gflops: flops as f64 / seconds / 1e9,
        gbytes_per_s: bytes as f64 / seconds / 1e9,
        samples_per_s: result.samples.map(|samples| samples as f64 / seconds),
        roofline_share: None,
        allocated_bytes: 0,
        watts: None,
    }
}

/// Times the upload or the readback of a group.
///
/// Before timing, checks that the data read back are equal to the data uploaded.
fn measure_transfer(
    named: &NamedDevice<'_>,
    bytes: usize,
    upload: bool,
    budget: Budget,
    result: &mut Measurement,
) -> Result<(), BenchError> {
    let mut recorder = Recorder::new();
    let entry = recorder.floats("data", [bytes / 4]);
    let workload = recorder.record(|graph| {
        use wgrad_ops::TensorOps;
        // Written data reaches the device with the next submission, so a run submits the upload.
        graph.output("first", -graph.entry(entry).slice(0, 0..64));
        Ok(())
    })?;
    let outcome = (|| {
        let mut loaded = LoadedWorkload::new(named.device, &workload)?;
        let Some((group, data)) = workload.data.first() else { return Ok(()) };
        result.cost = Some(RunCost { flops: 0, bytes: bytes as u64, dispatches: 1, footprint: bytes as u64 });
        let returned = loaded.session().read_group(*group)?;
        let same = bits(&returned).eq(bits(data));
        let worst = if same { 0.0 } else { f64::INFINITY };
        let check =
            Check { by: "bits".into(), worst: Some(worst).filter(|w| w.is_finite()), at: "data".into() };
        result.check = Some(check);
        if !same {
            result.status = Status::Wrong;
            result.reason = Some("the data read back differ from the data uploaded".into());
            return Ok(());
        }
        let transfer = |loaded: &mut LoadedWorkload<'_>| -> Result<f64, BenchError> {
            let begin = Instant::now();
            match upload {
                true => {
                    loaded.session().write_group(*group, data.as_data())?;
                    loaded.step(true)?;
                }
                false => drop(loaded.session().read_group(*group)?),
            }
            Ok(begin.elapsed().as_secs_f64())
        };
        transfer(&mut loaded)?;
        let sorted = time_repeats(budget.kernel, || transfer(&mut loaded))?;
        let mut timing = timing(result, &sorted);
        timing.allocated_bytes = loaded.allocated_bytes() as u64;
        (result.status, result.time) = (Status::Timed, Some(timing));
        Ok(())
    })();
    outcome.or_else(|error| device_error(error, result))
}

fn bits(data: &HostData) -> impl Iterator<Item = u32> + '_ {
    let (floats, integers): (&[f32], &[u32]) = match data.as_data() {
        Data::F32(floats) => (floats, &[]),
        Data::U32(integers) => (&[], integers),
    };
    floats.iter().map(|x| x.to_bits()).chain(integers.iter().copied())
}

/// Marks a measurement as skipped, with a reason.
trait Skip {
    fn skip(&mut self, reason: String);
}

impl Skip for Measurement {
    fn skip(&mut self, reason: String) {
        (self.status, self.reason) = (Status::Skipped, Some(reason));
    }
}
