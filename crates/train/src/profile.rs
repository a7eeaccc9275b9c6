//! A few steps under the clock: when each kernel ran, beside what the host did.
//!
//! Most of a run is not profiled: timing a step makes it slower, and the timeline of a few says what there is to know.

use std::time::Instant;

use serde_json::{Map, Value, json};
use wgrad_program::{Clock, Cost, Data, DeviceError, Profile, ProgramId, Session};
use wgrad_run::trace::{Trace, Track};

use crate::error::TrainError;
use crate::plan::{Phase, Plan};
use crate::trainer::Trainer;

/// Which steps of a run are profiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileOptions {
    /// Steps before the first that is profiled. Those of a fresh process are slower than the rest.
    pub warmup: u64,
    /// Steps that are profiled.
    pub steps: u64,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self { warmup: 10, steps: 10 }
    }
}

/// What the profiled steps of a run took.
#[derive(Debug)]
pub struct Profiler {
    begun: Instant,
    /// Steps done before the first profiled one, and before the first that no longer is.
    steps: std::ops::Range<u64>,
    passes: Vec<Pass>,
    /// What the host did apart from passes.
    stretches: Vec<Stretch>,
    /// End of the last thing in the timeline, and the steps that were done then.
    known: (u64, u64),
}

#[derive(Debug)]
struct Pass {
    step: u64,
    phase: Phase,
    /// When the session was called.
    start_ns: u64,
    profile: Profile,
}

#[derive(Debug)]
struct Stretch {
    name: String,
    start_ns: u64,
    end_ns: u64,
}

/// A kernel in the profiled steps.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// Name of its dispatches.
    pub name: String,
    /// Dispatches of that name in a step.
    pub dispatches: f64,
    /// Mean milliseconds of a step.
    pub ms: f64,
    /// Share of the time of all kernels.
    pub share: f64,
    /// Billions of floating-point operations a second.
    pub gflops: f64,
    /// Gigabytes (10⁹) read and written a second, each operand counted once.
    pub gbytes: f64,
}

/// When a tensor's gradient is done.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientTime {
    /// Name of the parameter.
    pub name: String,
    /// Bytes of the gradient, with the padding after it.
    pub bytes: usize,
    /// Share of the time of the step's last pass, forward and backward, after which no kernel writes it; the mean of the
    /// profiled steps.
    pub done: f64,
}

impl Profiler {
    fn new(options: ProfileOptions, done: u64, total: u64) -> Self {
        // A run shorter than the warm-up still gets profiled, at its end.
        let left = total.saturating_sub(done);
        let first = done + options.warmup.min(left.saturating_sub(options.steps));
        let steps = first..first.saturating_add(options.steps);
        let (passes, stretches) = Default::default();
        Self { begun: Instant::now(), steps, passes, stretches, known: (0, done) }
    }

    /// Nanoseconds since the timeline began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the step after `done` steps is profiled.
    pub(crate) fn covers(&self, done: u64) -> bool {
        self.steps.contains(&done)
    }

    /// Runs a pass of the step after `done` steps. Its batch took from the end of the last thing until now.
    pub(crate) fn run(
        &mut self,
        session: &mut dyn Session,
        (id, phase): (ProgramId, Phase),
        done: u64,
        batch: (&str, u64),
        inputs: &[Data<'_>],
    ) -> Result<(), DeviceError> {
        let start_ns = self.now();
        self.note(batch.0, batch.1, start_ns, done);
        let profile = session.profile(id, inputs)?;
        self.passes.push(Pass { step: done + 1, phase, start_ns, profile });
        self.known = (self.now(), done + 1);
        Ok(())
    }

    /// Something that the host did from `start_ns` to `end_ns`, after `done` steps.
    pub(crate) fn note(&mut self, name: &str, start_ns: u64, end_ns: u64, done: u64) {
        let (since, steps) = self.known;
        if done > steps && start_ns > since {
            let name = match done - steps {
                1 => format!("step {done}, not profiled"),
                _ => format!("steps {} to {done}, not profiled", steps + 1),
            };
            self.stretches.push(Stretch { name, start_ns: since, end_ns: start_ns });
        }
        self.stretches.push(Stretch { name: name.into(), start_ns, end_ns });
        self.known = (end_ns, done.max(steps));
    }

    /// Number of profiled steps.
    pub fn profiled_steps(&self) -> usize {
        self.passes.iter().filter(|pass| matches!(pass.phase, Phase::Whole | Phase::Last)).count()
    }

    /// Which clock timed the kernels; `None` where no step was profiled.
    pub fn clock_of_kernels(&self) -> Option<Clock> {
        self.passes.first().map(|pass| pass.profile.clock)
    }

    /// Kernels by name, those that took most time first.
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
            share: ns as f64 / total,
            gflops: per_ns(cost.flops, ns),
            gbytes: per_ns(cost.read + cost.written, ns),
        };
        all.into_iter().map(kernel).collect()
    }

    /// When the gradient of each parameter is done, the first ones first; empty where gradients are not kept, which they are
    /// for replicas, or no step was profiled.
    pub fn gradients(&self, plan: &Plan) -> Vec<GradientTime> {
        let last = |pass: &&Pass| matches!(pass.phase, Phase::Whole | Phase::Last);
        let passes: Vec<&Pass> = self.passes.iter().filter(last).collect();
        let program = |phase: Phase| plan.passes.iter().find(|(other, _)| *other == phase).map(|(_, p)| p);
        let (Some(group), Some(program)) =
            (plan.gradients, passes.first().and_then(|pass| program(pass.phase)))
        else {
            return Vec::new();
        };
        let share = |pass: &Pass, after: usize| {
            let spans = &pass.profile.dispatches;
            let start = spans.first().map_or(0, |span| span.start_ns);
            let at = |span: Option<&wgrad_program::Span>| {
                span.map_or(0.0, |span| span.end_ns.saturating_sub(start) as f64)
            };
            let end = after.checked_sub(1).and_then(|last| spans.get(last));
            (at(end) / at(spans.last()).max(1.0)).min(1.0)
        };
        let state = plan.states.get(group);
        let ends = state.entries.iter().skip(1).map(|entry| entry.offset).chain([state.len()]);
        let mut all: Vec<GradientTime> = (state.entries.iter().zip(ends))
            .map(|(entry, end)| {
                let after = program.final_after(group, &(entry.offset..end));
                let sum: f64 = passes.iter().map(|pass| share(pass, after)).sum();
                let bytes = (end - entry.offset) * state.dtype.bytes();
                GradientTime { name: entry.name.clone(), bytes, done: sum / passes.len() as f64 }
            })
            .collect();
        all.sort_by(|a, b| a.done.total_cmp(&b.done));
        all
    }

    /// The timeline, for `device`: a track for the host, and one for the device.
    pub fn trace(&self, plan: &Plan, device: &str) -> Trace {
        let mut trace = Trace::new("wgrad train");
        let host = trace.track("host");
        let clock = self.clock_of_kernels().unwrap_or(Clock::Host);
        let kernels = trace.track(&format!("{device} ({} clock)", clock.name()));
        trace.add_metadata("device", device);
        trace.add_metadata("clock", clock.name());
        for stretch in &self.stretches {
            trace.span(host, &stretch.name, stretch.start_ns, stretch.end_ns, Map::new());
        }
        for pass in &self.passes {
            self.pass(&mut trace, plan, pass, (host, kernels));
        }
        trace
    }

    fn pass(&self, trace: &mut Trace, plan: &Plan, pass: &Pass, (host, kernels): (Track, Track)) {
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

/// The dispatches of a pass, each with when it ran.
fn dispatches<'a>(
    plan: &'a Plan,
    pass: &'a Pass,
) -> impl Iterator<Item = (&'a wgrad_program::Dispatch, wgrad_program::Span)> {
    let program = plan.passes.iter().find(|(phase, _)| *phase == pass.phase).map(|(_, program)| program);
    program.into_iter().flat_map(|p| &p.dispatches).zip(pass.profile.dispatches.iter().copied())
}

/// Something a nanosecond, which is billions of it a second; 0 in no time.
fn per_ns(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 / ns as f64 }
}

impl Trainer {
    /// From now on: a timeline, with some of the steps to come in detail. `total` is the number of steps of the whole run.
    ///
    /// # Errors
    /// Replicas add up statistics in the midst of a step, which a profiled one has no room for.
    pub fn profile(&mut self, options: ProfileOptions, total: u64) -> Result<(), TrainError> {
        if self.plan.exchange.is_some() {
            let message = "a step with train.sync_batch_norm cannot be profiled: it waits for other replicas in its midst";
            return Err(TrainError::Config(message.into()));
        }
        self.profiler = Some(Profiler::new(options, self.steps_done(), total));
        Ok(())
    }

    /// The timeline since [`Trainer::profile`], and its end.
    pub fn profiled(&mut self) -> Option<Profiler> {
        self.profiler.take()
    }

    /// Does something that a timeline should show, by name.
    pub(crate) fn noted<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.profiler.as_ref().map(Profiler::now);
        let result = work(self);
        let done = self.steps_done();
        if let (Some(start), Some(profiler)) = (start, &mut self.profiler) {
            profiler.note(name, start, profiler.now(), done);
        }
        result
    }
}
