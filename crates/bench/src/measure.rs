//! All cases on all devices: judged, then timed.

use std::time::{Duration, Instant};

use crate::results::{Check, Group, Measurement, Status, Timing, WorkDone};
use wgrad_program::{Data, Device, DeviceError, DeviceKind, HostData};
use wgrad_stdx::stats::quantile;

use crate::cases::{Case, What};
use crate::check::{Expected, Verdict};
use crate::error::BenchError;
use crate::host::Power;
use crate::loaded::Loaded;
use crate::time::{repeats, runs};
use crate::work::{Recorder, Work};

/// A device to measure.
pub struct Subject<'d> {
    /// What `--devices` calls it.
    pub name: String,
    /// The device.
    pub device: &'d dyn Device,
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Repeats of a kernel go on for about so long.
    pub kernel: Duration,
    /// Repeats of a training step do.
    pub step: Duration,
    /// A case that would take longer on a device, by what the device has shown so far, is skipped there.
    pub longest: Duration,
    /// When everything has to be over; what is left by then is skipped.
    pub until: Option<Instant>,
}

/// What is being done.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Name of the case.
    pub case: &'a str,
    /// The device.
    pub device: &'a str,
    /// Cases done.
    pub done: usize,
    /// Cases in all.
    pub total: usize,
}

/// So many runs of a case are made at least: to judge, to warm up, and to repeat.
const RUNS: f64 = 8.0;
/// Runs that are timed by the device's own clock.
const PROFILED: usize = 3;

/// Measures each case on each device, one device after the other, so that what they are compared by was measured at the same
/// time. A result that is wrong has no time. `progress` is told what comes next, and says whether to measure it.
///
/// # Errors
/// A case is recorded wrongly, or the judge fails. What a device reports is in the measurement.
pub fn measure(
    cases: &[Case],
    subjects: &[Subject<'_>],
    effort: Effort,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Vec<Measurement>, BenchError> {
    let mut all: Vec<Measurement> = Vec::new();
    for (done, case) in cases.iter().enumerate() {
        let mut prepared: Option<(Work, Option<Expected>)> = None;
        for subject in subjects {
            let step = Progress { case: &case.name, device: &subject.name, done, total: cases.len() };
            let goes_on = progress(step);
            let mut result = case.measurement(&subject.name);
            if !goes_on {
                result.skip("interrupted".into());
            } else if effort.until.is_some_and(|until| Instant::now() >= until) {
                result.skip("the time is up".into());
            } else {
                match &case.what {
                    What::Work(build) => {
                        if prepared.is_none() {
                            prepared = Some((build()?, None));
                        }
                        let Some((work, expected)) = &mut prepared else { continue };
                        let slow = too_long(&all, subject, work, effort.longest)?;
                        match slow {
                            Some(reason) => result.skip(reason),
                            None => work_on(case, subject, work, expected, effort, &mut result)?,
                        }
                    }
                    What::Upload(bytes) => moved(subject, *bytes, true, effort, &mut result)?,
                    What::Readback(bytes) => moved(subject, *bytes, false, effort, &mut result)?,
                }
            }
            all.push(result);
        }
    }
    Ok(all)
}

/// Why a work takes too long on a device, by the best rates that it has shown.
fn too_long(
    so_far: &[Measurement],
    subject: &Subject<'_>,
    work: &Work,
    longest: Duration,
) -> Result<Option<String>, BenchError> {
    let times = || so_far.iter().filter(|m| m.device == subject.name).filter_map(|m| m.time.as_ref());
    let best = |rate: fn(&Timing) -> f64| times().map(rate).fold(0.0, f64::max);
    let cost = crate::loaded::plan(subject.device, work)?.cost();
    let seconds = |amount: u64, giga_a_second: f64| match giga_a_second > 0.0 {
        true => amount as f64 / giga_a_second / 1e9,
        false => 0.0,
    };
    let (gflops, gbytes) = (best(|t| t.gflops), best(|t| t.gbytes_per_s));
    let one = seconds(cost.flops, gflops).max(seconds(cost.read + cost.written, gbytes));
    let whole = RUNS * one;
    Ok((whole > longest.as_secs_f64()).then(|| {
        format!(
            "a run would take about {one:.1} s ({:.1} GFLOP at {gflops:.1} GFLOP/s), {RUNS:.0} runs more than {:.0} s",
            cost.flops as f64 / 1e9,
            longest.as_secs_f64()
        )
    }))
}

/// What a device said, where that says something about the device and nothing about the bench.
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

fn work_on(
    case: &Case,
    subject: &Subject<'_>,
    work: &Work,
    expected: &mut Option<Expected>,
    effort: Effort,
    result: &mut Measurement,
) -> Result<(), BenchError> {
    if expected.is_none() {
        *expected = Some(Expected::of(work)?);
    }
    let Some(expected) = expected else { return Ok(()) };
    match judged_and_timed(case, subject, work, expected, effort, result) {
        Ok(()) => Ok(()),
        Err(error) => device_error(error, result),
    }
}

fn judged_and_timed(
    case: &Case,
    subject: &Subject<'_>,
    work: &Work,
    expected: &Expected,
    effort: Effort,
    result: &mut Measurement,
) -> Result<(), BenchError> {
    let mut loaded = Loaded::new(subject.device, work)?;
    result.work = Some(WorkDone {
        flops: loaded.cost.flops,
        bytes: loaded.cost.read + loaded.cost.written,
        dispatches: loaded.dispatches as u64,
        footprint: loaded.footprint as u64,
    });
    let verdict = expected.judge(work, &mut loaded)?;
    let worst = Some(verdict.worst).filter(|worst| worst.is_finite());
    result.check = Some(Check { by: expected.by.name().into(), worst, at: verdict.at.clone() });
    if !verdict.is_right() {
        refuse(result, &verdict, expected, "");
        return Ok(());
    }
    let budget = if case.group == Group::Step { effort.step } else { effort.kernel };
    let meter = match subject.device.info() {
        info if info.kind == DeviceKind::Cpu || info.class == "software" => Power::of_processor(),
        _ => Power::of_only_card(),
    };
    let reading = meter.as_ref().map(Power::read);
    let times = runs(&mut loaded, budget, case.each)?;
    let watts = meter.as_ref().zip(reading.as_ref()).and_then(|(meter, reading)| meter.since(reading));
    let mut timing = timing(result, &times.sorted);
    timing.device_ms = device_ms(&mut loaded)?;
    timing.runs_per_repeat = u64::from(times.runs);
    // Where a run happens in the call there is no queue.
    timing.host_us = (subject.device.info().kind == DeviceKind::Gpu).then_some(1e6 * times.queue);
    timing.load_ms = loaded.load_time.as_secs_f64() * 1e3;
    timing.allocated_bytes = loaded.allocated_bytes() as u64;
    timing.watts = watts;
    // Once more, from where the first run began: what was timed are queued and replayed runs.
    loaded.reset()?;
    let verdict = expected.judge(work, &mut loaded)?;
    if !verdict.is_right() {
        refuse(result, &verdict, expected, " after it was timed");
        return Ok(());
    }
    (result.status, result.time) = (Status::Timed, Some(timing));
    Ok(())
}

/// Says that a result is wrong, and where it is most so.
fn refuse(result: &mut Measurement, verdict: &Verdict, expected: &Expected, when: &str) {
    let Verdict { at, found, expected: right, worst } = verdict;
    result.status = Status::Wrong;
    result.reason = Some(format!(
        "{at} is {found:e}{when} where {} has {right:e}: {worst:.3e} times its tolerance",
        expected.by.name()
    ));
}

/// Milliseconds of a run by the device's own clock, the median of a few.
fn device_ms(loaded: &mut Loaded<'_>) -> Result<Option<f64>, BenchError> {
    let mut times = Vec::new();
    for _ in 0..PROFILED {
        // The CPU backend's clock is the host's, which timed it already.
        let Some(time) = loaded.device_time()? else { return Ok(None) };
        times.push(1e3 * time.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(Some(quantile(&times, 0.5)))
}

/// Times in milliseconds and the rates that follow, of sorted seconds.
fn timing(result: &Measurement, sorted: &[f64]) -> Timing {
    let seconds = quantile(sorted, 0.5);
    let (flops, bytes) = result.work.map_or((0, 0), |work| (work.flops, work.bytes));
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

/// Times moving a group to the device or back, after what came back was compared with what was sent.
fn moved(
    subject: &Subject<'_>,
    bytes: usize,
    up: bool,
    effort: Effort,
    result: &mut Measurement,
) -> Result<(), BenchError> {
    let mut recorder = Recorder::new();
    let entry = recorder.floats("data", [bytes / 4]);
    let work = recorder.record(|graph| {
        use wgrad_ops::TensorOps;
        // Something to run: what is written lands on the device with the next submission.
        graph.output("first", -graph.entry(entry).slice(0, 0..64));
        Ok(())
    })?;
    let outcome = (|| {
        let mut loaded = Loaded::new(subject.device, &work)?;
        let Some((group, data)) = work.data.first() else { return Ok(()) };
        result.work =
            Some(WorkDone { flops: 0, bytes: bytes as u64, dispatches: 1, footprint: bytes as u64 });
        let back = loaded.session().read_group(*group)?;
        let same = bits(&back).eq(bits(data));
        let worst = if same { 0.0 } else { f64::INFINITY };
        let check =
            Check { by: "bits".into(), worst: Some(worst).filter(|w| w.is_finite()), at: "data".into() };
        result.check = Some(check);
        if !same {
            result.status = Status::Wrong;
            result.reason = Some("what came back is not what was sent".into());
            return Ok(());
        }
        let one = |loaded: &mut Loaded<'_>| -> Result<f64, BenchError> {
            let begin = Instant::now();
            match up {
                true => {
                    loaded.session().write_group(*group, data.as_data())?;
                    loaded.step(true)?;
                }
                false => drop(loaded.session().read_group(*group)?),
            }
            Ok(begin.elapsed().as_secs_f64())
        };
        one(&mut loaded)?;
        let sorted = repeats(effort.kernel, || one(&mut loaded))?;
        let mut timing = timing(result, &sorted);
        timing.allocated_bytes = loaded.allocated_bytes() as u64;
        (result.status, result.time) = (Status::Timed, Some(timing));
        Ok(())
    })();
    outcome.or_else(|error| device_error(error, result))
}

fn bits(data: &HostData) -> impl Iterator<Item = u32> + '_ {
    let (floats, words): (&[f32], &[u32]) = match data.as_data() {
        Data::F32(floats) => (floats, &[]),
        Data::U32(words) => (&[], words),
    };
    floats.iter().map(|x| x.to_bits()).chain(words.iter().copied())
}

trait Skip {
    fn skip(&mut self, reason: String);
}

impl Skip for Measurement {
    fn skip(&mut self, reason: String) {
        (self.status, self.reason) = (Status::Skipped, Some(reason));
    }
}
