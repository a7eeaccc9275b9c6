//! A session: the state of a model on a device, and the programs that share it.

use std::collections::VecDeque;
use std::sync::Arc;

use wgpu::PollType;
use wgrad_graph::{GroupId, States, TensorType};
use wgrad_program::{
    Clock, Data, DeviceError, HostData, Output, Profile, Program, ProgramId, ProgramInput, Readback,
    ReadbackHandler, Record, Session, Span, Stopwatch, check_f32_range,
};
use wgrad_stdx::never;

use crate::buffers::{ProgramBuffers, allocate_state, ensure_fits, grow_slabs};
use crate::check::check;
use crate::compile::Pipelines;
use crate::context::DeviceContext;
use crate::errors::wait;
use crate::readback::Readbacks;
use crate::replay::{BoundDispatch, prepare, rebind, record};
use crate::ring::Ring;
use crate::timing::Timers;
use crate::transfer::{decode, encode, read_buffer};
use crate::upload::Uploads;

/// Number of queued runs at which the next run waits for older runs. Drivers keep resources for each queued run.
const MAX_QUEUED_RUNS: usize = 128;

/// Bits of a NaN in f32, and of two NaNs in f16.
const NAN_BITS: u32 = 0x7fc0_7fc0;

pub(crate) struct GpuSession {
    context: Arc<DeviceContext>,
    pipelines: Arc<Pipelines>,
    states: States,
    state: Vec<Option<wgpu::Buffer>>,
    /// Intermediates, shared by all programs. Each slab is as large as the largest program needs.
    slabs: Vec<Option<wgpu::Buffer>>,
    programs: Vec<LoadedProgram>,
    /// Submissions that may still be running, oldest first.
    queued: VecDeque<wgpu::SubmissionIndex>,
}

struct LoadedProgram {
    inputs: Vec<ProgramInput>,
    outputs: Vec<Output>,
    buffers: ProgramBuffers,
    dispatches: Vec<BoundDispatch>,
    uploads: Uploads,
    ring: Ring,
    readbacks: Readbacks,
    /// Timestamp queries, created by the first profiled run on a device with timestamps.
    timers: Option<Timers>,
    has_run: bool,
}

impl GpuSession {
    pub fn new(
        context: Arc<DeviceContext>,
        pipelines: Arc<Pipelines>,
        states: &States,
    ) -> Result<Self, DeviceError> {
        ensure_fits(&context, &Program { states: states.clone(), ..Program::default() })?;
        let state = allocate_state(&context, states)?;
        let (slabs, programs, queued) = Default::default();
        Ok(Self { context, pipelines, states: states.clone(), state, slabs, programs, queued })
    }

    /// Checks the inputs of a run and records the upload as its first command.
    fn begin_run(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
    ) -> Result<(&mut LoadedProgram, wgpu::CommandEncoder), DeviceError> {
        let context = &self.context;
        let loaded = self.programs.get_mut(program.0).ok_or_else(|| unknown_program(program))?;
        loaded.check_inputs(inputs)?;
        context.errors.check()?;
        if context.options.poison {
            loaded.poison(&context.queue);
        }
        loaded.encode(inputs)?;
        let mut encoder = context.device.create_command_encoder(&Default::default());
        loaded.uploads.record(context, loaded.buffers.inputs.as_ref(), &mut encoder)?;
        Ok((loaded, encoder))
    }

    fn group(&self, id: GroupId) -> Result<&wgrad_graph::Group, DeviceError> {
        let group = self.states.groups().get(id.0);
        group.ok_or_else(|| DeviceError::Usage(format!("the session has no group {}", id.0)))
    }

    /// Returns the buffer of a group, or `None` if the group is empty.
    fn group_buffer(&self, id: GroupId) -> Result<Option<&wgpu::Buffer>, DeviceError> {
        let group = self.group(id)?;
        let buffer = self.state.get(id.0).and_then(Option::as_ref);
        if buffer.is_none() && group.bytes() > 0 {
            let (name, bytes) = (&group.name, group.bytes());
            return Err(DeviceError::from(never!("group `{name}` of {bytes} bytes has no buffer")));
        }
        Ok(buffer)
    }

    /// Replaces the slabs of the session and rebinds the loaded programs that use a replaced slab.
    fn replace_slabs(&mut self, slabs: Vec<Option<wgpu::Buffer>>) -> Result<(), DeviceError> {
        for LoadedProgram { buffers, dispatches, .. } in &mut self.programs {
            let old = std::mem::replace(&mut buffers.slabs, slabs.clone());
            rebind(&self.context, dispatches, buffers, &self.state, |slab| old.get(slab) != slabs.get(slab))?;
        }
        self.slabs = slabs;
        Ok(())
    }

    /// Queues a submission and waits for older ones if too many are queued.
    fn throttle(&mut self, submission: wgpu::SubmissionIndex) -> Result<(), DeviceError> {
        self.queued.push_back(submission);
        if self.queued.len() < MAX_QUEUED_RUNS {
            return Ok(());
        }
        let oldest = self.queued.drain(..MAX_QUEUED_RUNS / 2).next_back();
        wait(&self.context.device, self.context.name(), oldest, self.context.options.timeout)
    }
}

fn unknown_program(id: ProgramId) -> DeviceError {
    DeviceError::Usage(format!("the session has no program {}", id.0))
}

impl Session for GpuSession {
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError> {
        if program.states != self.states {
            let reason = "the state of the program differs from the state of the session";
            return Err(DeviceError::Usage(reason.into()));
        }
        let context = &self.context;
        ensure_fits(context, program)?;
        check(context, program)?;
        let slabs = grow_slabs(context, &self.slabs, program)?;
        let buffers = ProgramBuffers::allocate(context, program, slabs.clone())?;
        let dispatches = prepare(context, &self.pipelines, program, &buffers, &self.state)?;
        context.errors.check()?;
        self.replace_slabs(slabs)?;
        let context = &self.context;
        tracing::debug!(
            dispatches = dispatches.len(),
            bytes = buffers.bytes(),
            device = context.name(),
            "program loaded"
        );
        self.programs.push(LoadedProgram {
            inputs: program.inputs.clone(),
            outputs: program.outputs.clone(),
            buffers,
            dispatches,
            uploads: Uploads::new(program.input_bytes, MAX_QUEUED_RUNS),
            ring: Ring::new(program),
            readbacks: Readbacks::default(),
            timers: None,
            has_run: false,
        });
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        let context = self.context.clone();
        let (loaded, mut encoder) = self.begin_run(program, inputs)?;
        record(&loaded.dispatches, &mut encoder);
        let submission = loaded.submit(&context, encoder)?;
        // An error here is also returned by the next wait. This poll only lets callbacks run.
        let _ = context.device.poll(PollType::Poll);
        loaded.ring.collect(&context)?;
        self.throttle(submission)?;
        context.errors.check()
    }

    fn run_with_readbacks(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
        readbacks: &[Readback],
        each: &mut ReadbackHandler<'_>,
    ) -> Result<(), DeviceError> {
        let context = self.context.clone();
        let loaded = self.programs.get(program.0).ok_or_else(|| unknown_program(program))?;
        Readback::check(readbacks, &self.states, loaded.dispatches.len()).map_err(DeviceError::Usage)?;
        let buffer = |group| Ok(self.group_buffer(group)?.cloned());
        let groups =
            readbacks.iter().map(|readback| buffer(readback.group)).collect::<Result<Vec<_>, _>>()?;
        let replies = readbacks.iter().map(|readback| readback.reply.map_or(Ok(None), buffer));
        let replies = replies.collect::<Result<Vec<_>, DeviceError>>()?;
        self.programs[program.0].readbacks.resize(&context, readbacks)?;
        let (loaded, mut encoder) = self.begin_run(program, inputs)?;
        let (mut done, mut submissions) = (0, VecDeque::with_capacity(readbacks.len()));
        for (i, readback) in readbacks.iter().enumerate() {
            record(&loaded.dispatches[done..readback.after], &mut encoder);
            done = readback.after;
            loaded.readbacks.record(i, readback, groups[i].as_ref(), &mut encoder)?;
            let next = context.device.create_command_encoder(&Default::default());
            let piece = std::mem::replace(&mut encoder, next);
            submissions.push_back((i, readback, context.queue.submit([piece.finish()])));
            loaded.readbacks.request(i);
            // Later submissions depend on the reply, so the reply is written before the next submission.
            while readback.reply.is_some()
                && let Some((i, readback, submission)) = submissions.pop_front()
            {
                let reply = loaded.readbacks.wait_for(&context, i, submission, each)?;
                if readback.reply.is_none() {
                    continue;
                }
                readback.check_reply(i, &reply).map_err(DeviceError::Usage)?;
                if let Some(to) = &replies[i] {
                    let offset = readback.range.start as u64 * 4;
                    context.queue.write_buffer(to, offset, bytemuck::cast_slice(&reply));
                }
            }
        }
        record(&loaded.dispatches[done..], &mut encoder);
        let submission = loaded.submit(&context, encoder)?;
        for (i, _, submission) in submissions {
            loaded.readbacks.wait_for(&context, i, submission, each)?;
        }
        loaded.ring.collect(&context)?;
        self.throttle(submission)?;
        context.errors.check()
    }

    fn profile(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<Profile, DeviceError> {
        let mut watch = Stopwatch::start();
        let context = self.context.clone();
        let loaded = self.programs.get_mut(program.0).ok_or_else(|| unknown_program(program))?;
        if loaded.timers.is_none() {
            loaded.timers = Timers::new(&context, loaded.dispatches.len())?;
        }
        self.wait()?;
        watch.lap("drain");
        let (loaded, encoder) = self.begin_run(program, inputs)?;
        watch.lap("upload");
        let (clock, dispatches) = match loaded.timers.take() {
            Some(timers) => {
                let spans = loaded.time_by_device(&context, &timers, encoder, &mut watch);
                loaded.timers = Some(timers);
                (Clock::Device, spans?)
            }
            None => (Clock::Host, loaded.time_by_host(&context, encoder, &mut watch)?),
        };
        loaded.ring.collect(&context)?;
        Ok(Profile { clock, host: watch.laps(), dispatches })
    }

    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError> {
        let loaded = self.programs.get(program.0).ok_or_else(|| unknown_program(program))?;
        if !loaded.has_run {
            return Err(DeviceError::Usage("the program has not run yet, so it has no outputs".into()));
        }
        let (Some(Output { tensor, .. }), Some(buffer)) =
            (loaded.outputs.get(output), &loaded.buffers.outputs)
        else {
            return Err(DeviceError::Usage(format!("the program has no output {output}")));
        };
        let bytes = read_buffer(&self.context, buffer, tensor.offset, tensor.bytes())?;
        Ok(decode(&bytes, tensor.dtype))
    }

    fn records(&mut self, program: ProgramId, wait_for_all: bool) -> Result<Vec<Record>, DeviceError> {
        let loaded = self.programs.get_mut(program.0).ok_or_else(|| unknown_program(program))?;
        let context = &self.context;
        loaded.ring.flush(wait_for_all);
        if wait_for_all {
            wait(&context.device, context.name(), None, context.options.timeout)?;
        } else {
            let _ = context.device.poll(PollType::Poll);
        }
        context.errors.check()?;
        loaded.ring.collect(context)?;
        Ok(loaded.ring.take())
    }

    fn read_group(&mut self, group: GroupId) -> Result<HostData, DeviceError> {
        let (dtype, bytes) = (self.group(group)?.dtype, self.group(group)?.bytes());
        match self.group_buffer(group)? {
            Some(buffer) => Ok(decode(&read_buffer(&self.context, buffer, 0, bytes)?, dtype)),
            None => Ok(decode(&[], dtype)),
        }
    }

    fn write_group(&mut self, group: GroupId, data: Data<'_>) -> Result<(), DeviceError> {
        let described = self.group(group)?;
        let (name, len) = (&described.name, described.len());
        let expected = TensorType::new(described.dtype, [len]);
        data.check_type(&expected).map_err(|found| {
            DeviceError::Usage(format!("group `{name}` needs {expected}, {len} values; {found} were given"))
        })?;
        let Some(buffer) = self.group_buffer(group)? else { return Ok(()) };
        let mut bytes = vec![0; described.bytes()];
        encode(data, described.dtype, &mut bytes);
        self.context.queue.write_buffer(buffer, 0, &bytes);
        self.context.errors.check()
    }

    fn write_group_range(&mut self, group: GroupId, start: usize, values: &[f32]) -> Result<(), DeviceError> {
        let range = start..start.saturating_add(values.len());
        let writes = |error| DeviceError::Usage(format!("cannot write to {error}"));
        check_f32_range(&self.states, group, &range).map_err(writes)?;
        let Some(buffer) = self.group_buffer(group)? else { return Ok(()) };
        self.context.queue.write_buffer(buffer, start as u64 * 4, bytemuck::cast_slice(values));
        self.context.errors.check()
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        wait(&self.context.device, self.context.name(), None, self.context.options.timeout)?;
        self.queued.clear();
        self.context.errors.check()
    }

    fn allocated_bytes(&self) -> usize {
        let state: usize = self.state.iter().flatten().map(|buffer| buffer.size() as usize).sum();
        let slabs: usize = self.slabs.iter().flatten().map(|buffer| buffer.size() as usize).sum();
        state + slabs + self.programs.iter().map(|program| program.buffers.bytes()).sum::<usize>()
    }
}

impl LoadedProgram {
    fn check_inputs(&self, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        if inputs.len() != self.inputs.len() {
            let names: Vec<String> = self.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
            let (expected, found, names) = (self.inputs.len(), inputs.len(), names.join(", "));
            let reason = format!("the program needs {expected} inputs ({names}); {found} were given");
            return Err(DeviceError::Usage(reason));
        }
        for (input, data) in self.inputs.iter().zip(inputs) {
            data.check_type(&input.ty).map_err(|found| {
                let (name, ty, len) = (&input.name, &input.ty, input.ty.shape.numel());
                DeviceError::Usage(format!("input `{name}` needs {ty}, {len} values; {found} were given"))
            })?;
        }
        Ok(())
    }

    /// Writes the inputs to the upload buffer in the device's format.
    fn encode(&mut self, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        for (input, data) in self.inputs.iter().zip(inputs) {
            let range = input.tensor.offset..input.tensor.offset + input.tensor.bytes();
            let Some(to) = self.uploads.bytes.get_mut(range) else {
                return Err(DeviceError::from(never!(
                    "input `{}` lies outside the input buffer",
                    input.name
                )));
            };
            encode(*data, input.ty.dtype, to);
        }
        Ok(())
    }

    /// Adds the copies of the scalar outputs to the commands of a run and submits them.
    fn submit(
        &mut self,
        context: &DeviceContext,
        mut encoder: wgpu::CommandEncoder,
    ) -> Result<wgpu::SubmissionIndex, DeviceError> {
        self.ring.record(context, self.buffers.outputs.as_ref(), &mut encoder)?;
        let submission = context.queue.submit([encoder.finish()]);
        self.has_run = true;
        self.uploads.submitted(&submission);
        self.ring.submitted();
        Ok(submission)
    }

    /// Runs the program once with timestamps around each dispatch.
    fn time_by_device(
        &mut self,
        context: &DeviceContext,
        timers: &Timers,
        mut encoder: wgpu::CommandEncoder,
        watch: &mut Stopwatch,
    ) -> Result<Vec<Span>, DeviceError> {
        timers.record(&self.dispatches, &mut encoder);
        let Span { end_ns: submitted, .. } = watch.lap("record");
        self.submit(context, encoder)?;
        watch.lap("submit");
        let spans = timers.read(context)?;
        watch.lap("wait");
        let shifted =
            |span: Span| Span { start_ns: span.start_ns + submitted, end_ns: span.end_ns + submitted };
        Ok(spans.into_iter().map(shifted).collect())
    }

    /// Runs the program once and waits for each dispatch.
    fn time_by_host(
        &mut self,
        context: &DeviceContext,
        upload: wgpu::CommandEncoder,
        watch: &mut Stopwatch,
    ) -> Result<Vec<Span>, DeviceError> {
        let finish = || wait(&context.device, context.name(), None, context.options.timeout);
        let encoder = || context.device.create_command_encoder(&Default::default());
        let submission = context.queue.submit([upload.finish()]);
        self.uploads.submitted(&submission);
        finish()?;
        watch.lap("wait");
        let mut spans = Vec::with_capacity(self.dispatches.len());
        for dispatch in &self.dispatches {
            let start_ns = watch.now();
            let mut encoder = encoder();
            record(std::slice::from_ref(dispatch), &mut encoder);
            context.queue.submit([encoder.finish()]);
            finish()?;
            context.errors.check()?;
            spans.push(Span { start_ns, end_ns: watch.now() });
        }
        watch.lap("run");
        self.submit(context, encoder())?;
        watch.lap("submit");
        finish()?;
        watch.lap("wait");
        context.errors.check()?;
        Ok(spans)
    }

    /// Fills the intermediates and outputs with NaN.
    fn poison(&self, queue: &wgpu::Queue) {
        for buffer in self.buffers.slabs.iter().chain([&self.buffers.outputs]).flatten() {
            let bits = vec![NAN_BITS; buffer.size() as usize / 4];
            queue.write_buffer(buffer, 0, bytemuck::cast_slice(&bits));
        }
    }
}
