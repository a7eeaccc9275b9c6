//! A session: the state of a model on a device, and the programs that share it.

use std::collections::VecDeque;
use std::sync::Arc;

use wgpu::PollType;
use wgrad_graph::{GroupId, States, TensorType};
use wgrad_program::{
    Clock, Data, DeviceError, HostData, Output, Profile, Program, ProgramId, ProgramInput, Readback, ReadbackHandler,
    Record, Session, Span, Stopwatch,
};

use crate::buffers::{Own, ensure_fits, grown, state};
use crate::check::check;
use crate::device::Shared;
use crate::errors::wait;
use crate::readings::Arrivals;
use crate::replay::{Step, bind_again, prepare, record};
use crate::ring::Ring;
use crate::timing::Timers;
use crate::transfer::{decode, encode, read};
use crate::upload::Uploads;

/// Runs that may be queued before the next one waits for the oldest: what drivers keep for each is not free.
const AHEAD: usize = 128;

/// NaN as f32 and, twice, as f16.
const POISON: u32 = 0x7fc0_7fc0;

pub(crate) struct GpuSession {
    shared: Arc<Shared>,
    states: States,
    state: Vec<Option<wgpu::Buffer>>,
    /// Intermediates of whichever program runs; each as large as the largest program needs.
    slabs: Vec<Option<wgpu::Buffer>>,
    programs: Vec<Loaded>,
    /// The latest submissions, oldest first.
    queued: VecDeque<wgpu::SubmissionIndex>,
}

struct Loaded {
    inputs: Vec<ProgramInput>,
    outputs: Vec<Output>,
    own: Own,
    steps: Vec<Step>,
    uploads: Uploads,
    ring: Ring,
    arrivals: Arrivals,
    /// Once it was profiled, on a device that has timestamps.
    timers: Option<Timers>,
    has_run: bool,
}

impl GpuSession {
    pub fn new(shared: Arc<Shared>, states: &States) -> Result<Self, DeviceError> {
        ensure_fits(&shared, &Program { states: states.clone(), ..Program::default() })?;
        let state = state(&shared, states)?;
        let (slabs, programs, queued) = Default::default();
        Ok(Self { shared, states: states.clone(), state, slabs, programs, queued })
    }

    /// Checks the inputs of a run and begins its commands with their upload.
    fn begin(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
    ) -> Result<(&mut Loaded, wgpu::CommandEncoder), DeviceError> {
        let shared = &self.shared;
        let loaded = self.programs.get_mut(program.0).ok_or_else(|| no_program(program))?;
        loaded.check_inputs(inputs)?;
        shared.faults.check()?;
        if shared.options.poison {
            loaded.poison(&shared.queue);
        }
        loaded.encode(inputs)?;
        let mut encoder = shared.device.create_command_encoder(&Default::default());
        loaded.uploads.record(shared, loaded.own.inputs.as_ref(), &mut encoder)?;
        Ok((loaded, encoder))
    }

    fn group(&self, id: GroupId) -> Result<&wgrad_graph::Group, DeviceError> {
        let group = self.states.groups().get(id.0);
        group.ok_or_else(|| DeviceError::Usage(format!("the session has no group {}", id.0)))
    }

    /// Gives these slabs to the programs that are loaded, where they are not what those have.
    fn share(&mut self, slabs: Vec<Option<wgpu::Buffer>>) -> Result<(), DeviceError> {
        for Loaded { own, steps, .. } in &mut self.programs {
            let had = std::mem::replace(&mut own.slabs, slabs.clone());
            bind_again(&self.shared, steps, own, &self.state, |slab| had.get(slab) != slabs.get(slab))?;
        }
        self.slabs = slabs;
        Ok(())
    }

    fn pace(&mut self, submission: wgpu::SubmissionIndex) -> Result<(), DeviceError> {
        self.queued.push_back(submission);
        if self.queued.len() < AHEAD {
            return Ok(());
        }
        let oldest = self.queued.drain(..AHEAD / 2).next_back();
        wait(&self.shared.device, self.shared.name(), oldest, self.shared.options.timeout)
    }
}

fn no_program(id: ProgramId) -> DeviceError {
    DeviceError::Usage(format!("the session has no program {}", id.0))
}

impl Session for GpuSession {
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError> {
        if program.states != self.states {
            let reason = "the program is for another state than that of the session";
            return Err(DeviceError::Usage(reason.into()));
        }
        let shared = &self.shared;
        ensure_fits(shared, program)?;
        check(shared, program)?;
        let slabs = grown(shared, &self.slabs, program)?;
        let own = Own::allocate(shared, program, slabs.clone())?;
        let steps = prepare(shared, program, &own, &self.state)?;
        shared.faults.check()?;
        self.share(slabs)?;
        let shared = &self.shared;
        tracing::debug!(dispatches = steps.len(), bytes = own.bytes(), device = shared.name(), "loaded");
        self.programs.push(Loaded {
            inputs: program.inputs.clone(),
            outputs: program.outputs.clone(),
            own,
            steps,
            uploads: Uploads::new(program.input_bytes, AHEAD),
            ring: Ring::new(program),
            arrivals: Arrivals::default(),
            timers: None,
            has_run: false,
        });
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        let shared = self.shared.clone();
        let (loaded, mut encoder) = self.begin(program, inputs)?;
        record(&loaded.steps, &mut encoder);
        let submission = loaded.submit(&shared, encoder)?;
        // An error here comes back from the next wait; this only lets callbacks run.
        let _ = shared.device.poll(PollType::Poll);
        loaded.ring.collect(&shared)?;
        self.pace(submission)?;
        shared.faults.check()
    }

    fn run_with_readbacks(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
        readings: &[Readback],
        each: &mut ReadbackHandler<'_>,
    ) -> Result<(), DeviceError> {
        let shared = self.shared.clone();
        let loaded = self.programs.get_mut(program.0).ok_or_else(|| no_program(program))?;
        let dispatches = loaded.steps.len();
        Readback::check(readings, &self.states, dispatches).map_err(DeviceError::Usage)?;
        loaded.arrivals.fit(&shared, readings)?;
        let state = self.state.clone();
        let (loaded, mut encoder) = self.begin(program, inputs)?;
        let (mut done, mut submissions) = (0, VecDeque::with_capacity(readings.len()));
        for (i, reading) in readings.iter().enumerate() {
            record(&loaded.steps[done..reading.after], &mut encoder);
            done = reading.after;
            let group = state.get(reading.group.0).and_then(Option::as_ref);
            loaded.arrivals.record(i, reading, group, &mut encoder);
            let next = shared.device.create_command_encoder(&Default::default());
            let piece = std::mem::replace(&mut encoder, next);
            submissions.push_back((i, reading, shared.queue.submit([piece.finish()])));
            loaded.arrivals.request(i);
            // What is submitted later is computed from the answer.
            while reading.reply.is_some()
                && let Some((i, reading, submission)) = submissions.pop_front()
            {
                let answer = loaded.arrivals.take(&shared, i, submission, each)?;
                let to = reading.reply.and_then(|group| state.get(group.0)?.as_ref());
                let Some(to) = to else { continue };
                reading.check_reply(i, &answer).map_err(DeviceError::Usage)?;
                shared.queue.write_buffer(to, reading.range.start as u64 * 4, bytemuck::cast_slice(&answer));
            }
        }
        record(&loaded.steps[done..], &mut encoder);
        let submission = loaded.submit(&shared, encoder)?;
        for (i, _, submission) in submissions {
            loaded.arrivals.take(&shared, i, submission, each)?;
        }
        loaded.ring.collect(&shared)?;
        self.pace(submission)?;
        shared.faults.check()
    }

    fn profile(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<Profile, DeviceError> {
        let mut watch = Stopwatch::start();
        let shared = self.shared.clone();
        let loaded = self.programs.get_mut(program.0).ok_or_else(|| no_program(program))?;
        if loaded.timers.is_none() {
            loaded.timers = Timers::new(&shared, loaded.steps.len())?;
        }
        self.wait()?;
        watch.lap("drain");
        let (loaded, encoder) = self.begin(program, inputs)?;
        watch.lap("upload");
        let (clock, dispatches) = match loaded.timers.take() {
            Some(timers) => {
                let spans = loaded.time_by_device(&shared, &timers, encoder, &mut watch);
                loaded.timers = Some(timers);
                (Clock::Device, spans?)
            }
            None => (Clock::Host, loaded.time_by_host(&shared, encoder, &mut watch)?),
        };
        loaded.ring.collect(&shared)?;
        Ok(Profile { clock, host: watch.laps(), dispatches })
    }

    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError> {
        let loaded = self.programs.get(program.0).ok_or_else(|| no_program(program))?;
        if !loaded.has_run {
            return Err(DeviceError::Usage("the program has not run yet, so it has no outputs".into()));
        }
        let (Some(Output { tensor, .. }), Some(buffer)) = (loaded.outputs.get(output), &loaded.own.outputs)
        else {
            return Err(DeviceError::Usage(format!("the program has no output {output}")));
        };
        let bytes = read(&self.shared, buffer, tensor.offset, tensor.bytes())?;
        Ok(decode(&bytes, tensor.dtype))
    }

    fn records(&mut self, program: ProgramId, wait_for_all: bool) -> Result<Vec<Record>, DeviceError> {
        let loaded = self.programs.get_mut(program.0).ok_or_else(|| no_program(program))?;
        let shared = &self.shared;
        loaded.ring.flush(wait_for_all);
        if wait_for_all {
            wait(&shared.device, shared.name(), None, shared.options.timeout)?;
        } else {
            let _ = shared.device.poll(PollType::Poll);
        }
        shared.faults.check()?;
        loaded.ring.collect(shared)?;
        Ok(loaded.ring.take())
    }

    fn read_group(&mut self, group: GroupId) -> Result<HostData, DeviceError> {
        let (dtype, bytes) = (self.group(group)?.dtype, self.group(group)?.bytes());
        match self.state.get(group.0) {
            Some(Some(buffer)) => Ok(decode(&read(&self.shared, buffer, 0, bytes)?, dtype)),
            _ => Ok(decode(&[], dtype)),
        }
    }

    fn write_group(&mut self, group: GroupId, data: Data<'_>) -> Result<(), DeviceError> {
        let described = self.group(group)?;
        let (name, len) = (&described.name, described.len());
        let wanted = TensorType::new(described.dtype, [len]);
        data.check_type(&wanted).map_err(|found| {
            DeviceError::Usage(format!("group `{name}` takes {wanted}, {len} values; {found} were given"))
        })?;
        let Some(Some(buffer)) = self.state.get(group.0) else { return Ok(()) };
        let mut bytes = vec![0; described.bytes()];
        encode(data, described.dtype, &mut bytes);
        self.shared.queue.write_buffer(buffer, 0, &bytes);
        self.shared.faults.check()
    }

    fn write_group_range(&mut self, group: GroupId, start: usize, values: &[f32]) -> Result<(), DeviceError> {
        let range = start..start.saturating_add(values.len());
        let part = Readback { group, range, after: 0, reply: None };
        Readback::check(&[part], &self.states, 0).map_err(DeviceError::Usage)?;
        let Some(Some(buffer)) = self.state.get(group.0) else { return Ok(()) };
        self.shared.queue.write_buffer(buffer, start as u64 * 4, bytemuck::cast_slice(values));
        self.shared.faults.check()
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        wait(&self.shared.device, self.shared.name(), None, self.shared.options.timeout)?;
        self.queued.clear();
        self.shared.faults.check()
    }

    fn allocated_bytes(&self) -> usize {
        let state: usize = self.state.iter().flatten().map(|buffer| buffer.size() as usize).sum();
        let slabs: usize = self.slabs.iter().flatten().map(|buffer| buffer.size() as usize).sum();
        state + slabs + self.programs.iter().map(|program| program.own.bytes()).sum::<usize>()
    }
}

impl Loaded {
    fn check_inputs(&self, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        if inputs.len() != self.inputs.len() {
            let names: Vec<String> = self.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
            let (wanted, found, names) = (self.inputs.len(), inputs.len(), names.join(", "));
            let reason = format!("the program takes {wanted} inputs ({names}); {found} were given");
            return Err(DeviceError::Usage(reason));
        }
        for (input, data) in self.inputs.iter().zip(inputs) {
            data.check_type(&input.ty).map_err(|found| {
                let (name, ty, len) = (&input.name, &input.ty, input.ty.shape.numel());
                DeviceError::Usage(format!("input `{name}` takes {ty}, {len} values; {found} were given"))
            })?;
        }
        Ok(())
    }

    /// The inputs as the device stores them.
    fn encode(&mut self, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        for (input, data) in self.inputs.iter().zip(inputs) {
            let range = input.tensor.offset..input.tensor.offset + input.tensor.bytes();
            let Some(to) = self.uploads.bytes.get_mut(range) else {
                return Err(DeviceError::Usage(format!("input `{}` lies outside the inputs", input.name)));
            };
            encode(*data, input.ty.dtype, to);
        }
        Ok(())
    }

    /// Adds the copies of the scalars to the commands of a run, and submits them.
    fn submit(
        &mut self,
        shared: &Shared,
        mut encoder: wgpu::CommandEncoder,
    ) -> Result<wgpu::SubmissionIndex, DeviceError> {
        self.ring.record(shared, self.own.outputs.as_ref(), &mut encoder)?;
        let submission = shared.queue.submit([encoder.finish()]);
        self.has_run = true;
        self.uploads.submitted(&submission);
        self.ring.submitted();
        Ok(submission)
    }

    /// A run between timestamps.
    fn time_by_device(
        &mut self,
        shared: &Shared,
        timers: &Timers,
        mut encoder: wgpu::CommandEncoder,
        watch: &mut Stopwatch,
    ) -> Result<Vec<Span>, DeviceError> {
        timers.record(&self.steps, &mut encoder);
        let Span { end_ns: submitted, .. } = watch.lap("record");
        self.submit(shared, encoder)?;
        watch.lap("submit");
        let spans = timers.read(shared)?;
        watch.lap("wait");
        let later =
            |span: Span| Span { start_ns: span.start_ns + submitted, end_ns: span.end_ns + submitted };
        Ok(spans.into_iter().map(later).collect())
    }

    /// A run that waits for each dispatch.
    fn time_by_host(
        &mut self,
        shared: &Shared,
        upload: wgpu::CommandEncoder,
        watch: &mut Stopwatch,
    ) -> Result<Vec<Span>, DeviceError> {
        let finish = || wait(&shared.device, shared.name(), None, shared.options.timeout);
        let encoder = || shared.device.create_command_encoder(&Default::default());
        let submission = shared.queue.submit([upload.finish()]);
        self.uploads.submitted(&submission);
        finish()?;
        watch.lap("wait");
        let mut spans = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let start_ns = watch.now();
            let mut encoder = encoder();
            record(std::slice::from_ref(step), &mut encoder);
            shared.queue.submit([encoder.finish()]);
            finish()?;
            shared.faults.check()?;
            spans.push(Span { start_ns, end_ns: watch.now() });
        }
        watch.lap("run");
        self.submit(shared, encoder())?;
        watch.lap("submit");
        finish()?;
        watch.lap("wait");
        shared.faults.check()?;
        Ok(spans)
    }

    fn poison(&self, queue: &wgpu::Queue) {
        for buffer in self.own.slabs.iter().chain([&self.own.outputs]).flatten() {
            let words = vec![POISON; buffer.size() as usize / 4];
            queue.write_buffer(buffer, 0, bytemuck::cast_slice(&words));
        }
    }
}
