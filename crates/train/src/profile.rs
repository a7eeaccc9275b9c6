//! Profiler that records a timeline of kernels and host work during a few steps.
//!
//! Most steps of a run are not profiled, because timing makes a step slower and a few steps are representative.

use std::ops::Range;
use std::time::Instant;

use serde_json::{Map, Value, json};
use wgrad_program::{Clock, Cost, Data, DeviceError, Dispatch, Profile, ProgramId, Session, Span};
use wgrad_run::trace::{Trace, Track};

use crate::plan::{Phase, Plan};

/// Range of steps to profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileOptions {
    /// Number of steps before the first profiled step. The first steps of a process are slower than later steps.
    pub warmup: u64,
    /// Number of profiled steps.
    pub steps: u64,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self { warmup: 10, steps: 10 }
    }
}

/// Timeline of a training run, with details of the profiled steps.
#[derive(Debug)]
pub struct Profiler {
    /// Start of the timeline.
    begun: Instant,
    /// Range of profiled steps, counted from 0.
    steps: Range<u64>,
    passes: Vec<Pass>,
    /// Host work outside of passes.
    host_spans: Vec<HostSpan>,
    /// End of the last span in the timeline in nanoseconds, and the number of steps done at that time.
    covered: (u64, u64),
}

#[derive(Debug)]
struct Pass {
    /// Step that the pass belongs to, counted from 1.
    step: u64,
    phase: Phase,
    /// Time at which the session was called, in nanoseconds since the start of the timeline.
    start_ns: u64,
    profile: Profile,
}

#[derive(Debug)]
struct HostSpan {
    name: String,
    start_ns: u64,
    end_ns: u64,
}

/// Mean time of a kernel in the profiled steps.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// Name of the kernel's dispatches.
    pub name: String,
    /// Mean number of dispatches per step.
    pub dispatches: f64,
    /// Milliseconds per step.
    pub ms: f64,
    /// Fraction of the time of all kernels.
    pub fraction: f64,
    /// Billions of floating-point operations per second.
    pub gflops: f64,
    /// Gigabytes (10⁹ bytes) read and written per second, counting each operand once.
    pub gbytes: f64,
}

/// Time at which the gradient of a parameter is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientTime {
    /// Name of the parameter.
    pub name: String,
    /// Bytes of the gradient, including padding.
    pub bytes: usize,
    /// Time at which the gradient is complete, as a fraction of the last pass of a step, averaged over the profiled
    /// steps.
    pub done: f64,
}

impl Profiler {
    /// Starts a timeline after `done` of a total of `total` steps.
    pub(crate) fn new(options: ProfileOptions, done: u64, total: u64) -> Self {
        // A run that is shorter than the warm-up is profiled at its end.
        let left = total.saturating_sub(done);
        let first = done + options.warmup.min(left.saturating_sub(options.steps));
        let steps = first..first.saturating_add(options.steps);
        let (passes, host_spans) = Default::default();
        Self { begun: Instant::now(), steps, passes, host_spans, covered: (0, done) }
    }

    /// Nanoseconds since the start of the timeline.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the step after `done` steps is profiled.
    pub(crate) fn covers(&self, done: u64) -> bool {
        self.steps.contains(&done)
    }

    /// Runs and times a pass of the step after `done` steps. `batch` holds the label and the start time of the host
    /// work that prepared the batch.
    pub(crate) fn run(
        &mut self,
        session: &mut dyn Session,
        (id, phase): (ProgramId, Phase),
        done: u64,
        batch: (&str, u64),
        inputs: &[Data<'_>],
    ) -> Result<(), DeviceError> {
        let start_ns = self.now();
        self.add_host_span(batch.0, batch.1, start_ns, done);
        let profile = session.profile(id, inputs)?;
        self.passes.push(Pass { step: done + 1, phase, start_ns, profile });
        self.covered = (self.now(), done + 1);
        Ok(())
    }

    /// Adds host work from `start_ns` to `end_ns`, after `done` steps. Steps since the last span are shown as one span
    /// labelled `not profiled`.
    pub(crate) fn add_host_span(&mut self, name: &str, start_ns: u64, end_ns: u64, done: u64) {
        let (since, steps) = self.covered;
        if done > steps && start_ns > since {
            let name = match done - steps {
                1 => format!("step {done}, not profiled"),
                _ => format!("steps {} to {done}, not profiled", steps + 1),
            };
            self.host_spans.push(HostSpan { name, start_ns: since, end_ns: start_ns });
        }
        self.host_spans.push(HostSpan { name: name.into(), start_ns, end_ns });
        self.covered = (end_ns, done.max(steps));
    }

    /// Number of profiled steps.
    pub fn profiled_steps(&self) -> usize {
        self.passes.iter().filter(|pass| matches!(pass.phase, Phase::Whole | Phase::Last)).count()
    }

    /// Clock that timed the kernels; `None` if no step was profiled.
    pub fn kernel_clock(&self) -> Option<Clock> {
        self.passes.first().map(|pass| pass.profile.clock)
    }

    /// Returns the mean time of each kernel, slowest first.
    pub fn kernels(&self, plan: &Plan) -> Vec<KernelTime> {
        let mut all: Vec<(&str, usize, u64, Cost)> = Vec::new();
        for (dispatch, span) in self.passes.iter().flat_map(|pass| dispatches(plan, pass)) {
            let at = all.iter().position(|(name, ..)| *name == dispatch.name).unwrap_or_else(|| {
                all.push((&dispatch.name, 0, 0, Cost::default()));
                all.len() - 1
            });
            let (_, count, ns, cost) = &mut all[at];
            *count += 1;
            *ns += span.ns();
            *cost += dispatch.cost;
        }
        let total = all.iter().map(|(_, _, ns, _)| ns).sum::<u64>().max(1) as f64;
        let steps = self.profiled_steps().max(1) as f64;
        all.sort_by_key(|&(_, _, ns, _)| std::cmp::Reverse(ns));
        let kernel = |(name, count, ns, cost): (&str, usize, u64, Cost)| KernelTime {
            name: name.into(),
            dispatches: count as f64 / steps,
            ms: ns as f64 / 1e6 / steps,
            fraction: ns as f64 / total,
            gflops: per_ns(cost.flops, ns),
            gbytes: per_ns(cost.read + cost.written, ns),
        };
        all.into_iter().map(kernel).collect()
    }

    /// Returns the time at which the gradient of each parameter is complete, earliest first. The list is empty if no
    /// step was profiled, or if the plan keeps no gradients. Plans without replicas and accumulation keep none.
    pub fn gradients(&self, plan: &Plan) -> Vec<GradientTime> {
        let last = |pass: &&Pass| matches!(pass.phase, Phase::Whole | Phase::Last);
        let passes: Vec<&Pass> = self.passes.iter().filter(last).collect();
        let program = |phase: Phase| plan.passes.iter().find(|(other, _)| *other == phase).map(|(_, p)| p);
        let (Some(group), Some(program)) =
            (plan.gradients, passes.first().and_then(|pass| program(pass.phase)))
        else {
            return Vec::new();
        };
        let state = plan.states.get(group);
        let ends = state.entries.iter().skip(1).map(|entry| entry.offset).chain([state.len()]);
        let mut all: Vec<GradientTime> = (state.entries.iter().zip(ends))
            .map(|(entry, end)| {
                let after = program.final_after(group, &(entry.offset..end));
                let sum: f64 = passes.iter().map(|pass| pass.fraction_done(after)).sum();
                let bytes = (end - entry.offset) * state.dtype.bytes();
                GradientTime { name: entry.name.clone(), bytes, done: sum / passes.len() as f64 }
            })
            .collect();
        all.sort_by(|a, b| a.done.total_cmp(&b.done));
        all
    }

    /// Returns the timeline with a track for the host and one for the device named `device`.
    pub fn trace(&self, plan: &Plan, device: &str) -> Trace {
        let mut trace = Trace::new("wgrad train");
        let host = trace.track("host");
        let clock = self.kernel_clock().unwrap_or(Clock::Host);
        let kernels = trace.track(&format!("{device} ({} clock)", clock.name()));
        trace.add_metadata("device", device);
        trace.add_metadata("clock", clock.name());
        for span in &self.host_spans {
            trace.span(host, &span.name, span.start_ns, span.end_ns, Map::new());
        }
        for pass in &self.passes {
            self.trace_pass(&mut trace, plan, pass, (host, kernels));
        }
        trace
    }

    fn trace_pass(&self, trace: &mut Trace, plan: &Plan, pass: &Pass, (host, kernels): (Track, Track)) {
        let at = |ns: u64| pass.start_ns + ns;
        let name = match pass.phase {
            Phase::Whole => format!("step {}", pass.step),
            phase => format!("step {}: {} pass", pass.step, format!("{phase:?}").to_lowercase()),
        };
        let end = pass.profile.host.last().map_or(0, |last| last.span.end_ns);
        trace.span(host, &name, at(0), at(end), Map::new());
        for part in &pass.profile.host {
            trace.span(host, part.name, at(part.span.start_ns), at(part.span.end_ns), Map::new());
        }
        for (number, (dispatch, span)) in dispatches(plan, pass).enumerate() {
            let (Cost { flops, read, written }, ns) = (dispatch.cost, span.ns());
            let args = [
                ("step", json!(pass.step)),
                ("dispatch", json!(number)),
                ("flops", json!(flops)),
                ("bytes", json!(read + written)),
                ("GFLOP/s", json!(per_ns(flops, ns))),
                ("GB/s", json!(per_ns(read + written, ns))),
            ];
            let args = args.map(|(key, value): (&str, Value)| (key.to_owned(), value));
            trace.span(
                kernels,
                &dispatch.name,
                at(span.start_ns),
                at(span.end_ns),
                args.into_iter().collect(),
            );
        }
    }
}

impl Pass {
    /// Returns the time until the first `count` dispatches finished, as a fraction of the pass.
    fn fraction_done(&self, count: usize) -> f64 {
        let spans = &self.profile.dispatches;
        let start = spans.first().map_or(0, |span| span.start_ns);
        let elapsed = |span: Option<&Span>| span.map_or(0.0, |span| span.end_ns.saturating_sub(start) as f64);
        let end = count.checked_sub(1).and_then(|last| spans.get(last));
        (elapsed(end) / elapsed(spans.last()).max(1.0)).min(1.0)
    }
}

/// Returns the dispatches of a pass, each with its time span.
fn dispatches<'a>(plan: &'a Plan, pass: &'a Pass) -> impl Iterator<Item = (&'a Dispatch, Span)> {
    let program = plan.passes.iter().find(|(phase, _)| *phase == pass.phase).map(|(_, program)| program);
    program.into_iter().flat_map(|p| &p.dispatches).zip(pass.profile.dispatches.iter().copied())
}

/// Returns `count` per nanosecond, equal to billions per second, or 0 if `ns` is 0.
fn per_ns(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 / ns as f64 }
}
