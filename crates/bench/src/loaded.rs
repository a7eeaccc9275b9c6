//! A work on a device, ready to run.

use std::time::{Duration, Instant};

use wgrad_graph::GroupId;
use wgrad_nn::Optimizer;
use wgrad_program::{
    Clock, Cost, Data, Device, DeviceError, HostData, Options, Program, ProgramId, Session, compile,
};

use crate::error::BenchError;
use crate::work::Work;

/// A session with one program and the state that the program starts from.
pub struct Loaded<'w> {
    work: &'w Work,
    session: Box<dyn Session>,
    id: ProgramId,
    updated: Vec<GroupId>,
    steps: u64,
    /// Work and traffic of a run, as the plan has it.
    pub cost: Cost,
    /// Kernels of a run.
    pub dispatches: usize,
    /// Bytes of all buffers, as planned.
    pub footprint: usize,
    /// What planning took.
    pub plan_time: Duration,
    /// What compiling kernels, allocating, uploading and the first run took: some drivers compile only then.
    pub load_time: Duration,
}

/// Plans a work for a device.
///
/// # Errors
/// The first mistake in the graph.
pub(crate) fn plan(device: &dyn Device, work: &Work) -> Result<Program, BenchError> {
    let options = Options { fuse: work.fuse, ..Options::within(&device.info().limits) };
    Ok(compile(&work.graph, options)?)
}

impl<'w> Loaded<'w> {
    /// Plans a work for a device, loads it, and fills its state.
    ///
    /// # Errors
    /// The first mistake in the graph, or what the device reports.
    pub fn new(device: &dyn Device, work: &'w Work) -> Result<Self, BenchError> {
        let start = Instant::now();
        let program = plan(device, work)?;
        let plan_time = start.elapsed();
        let mut session = device.session(&program.states)?;
        let id = session.load(&program)?;
        for (group, values) in &work.data {
            session.write_group(*group, values.as_data())?;
        }
        session.wait()?;
        let load_time = start.elapsed() - plan_time;
        Ok(Self {
            work,
            session,
            id,
            updated: work.updated(),
            steps: 0,
            cost: program.cost(),
            dispatches: program.dispatches.len(),
            footprint: program.peak_bytes(),
            plan_time,
            load_time,
        })
    }

    /// Queues a run.
    ///
    /// # Errors
    /// What the device reports.
    pub fn run(&mut self) -> Result<(), BenchError> {
        self.next(|session, id, inputs| session.run(id, inputs))
    }

    /// Runs once, waits, and counts that as loading.
    pub(crate) fn first_run(&mut self) -> Result<(), BenchError> {
        let begin = Instant::now();
        self.step(true)?;
        self.load_time += begin.elapsed();
        Ok(())
    }

    /// Time of a run on the device, all its kernels together, by the device's own clock; none where it has no such clock.
    ///
    /// # Errors
    /// What the device reports.
    pub fn device_time(&mut self) -> Result<Option<Duration>, BenchError> {
        let profile = self.next(|session, id, inputs| session.profile(id, inputs))?;
        self.session.records(self.id, true)?;
        let total = profile.dispatches.iter().map(|span| span.ns()).sum();
        Ok((profile.clock == Clock::Device).then(|| Duration::from_nanos(total)))
    }

    /// Does something with the inputs of the next step.
    fn next<T>(
        &mut self,
        run: impl FnOnce(&mut dyn Session, ProgramId, &[Data<'_>]) -> Result<T, DeviceError>,
    ) -> Result<T, BenchError> {
        self.steps += 1;
        let rng = [1, 0, self.steps as u32];
        let hyper = match &self.work.update {
            Some(update) => update.optimizer.hyper(update.rate, self.steps),
            None => [0.0; Optimizer::HYPER],
        };
        let all = [Data::U32(&rng), Data::F32(&hyper)];
        let inputs = match &self.work.update {
            None => &all[..0],
            Some(update) if update.keyed => &all,
            Some(_) => &all[1..],
        };
        Ok(run(&mut *self.session, self.id, inputs)?)
    }

    /// Waits until everything queued is done, and gives the scalar output of the last run, if there is one.
    ///
    /// # Errors
    /// What the device reports.
    pub fn wait(&mut self) -> Result<Option<f32>, BenchError> {
        self.session.wait()?;
        let records = self.session.records(self.id, true)?;
        Ok(records.last().and_then(|record| record.values.first().copied()))
    }

    /// Runs a step. With `sync` it returns when the device is done, with the loss if there is one.
    ///
    /// # Errors
    /// What the device reports.
    pub fn step(&mut self, sync: bool) -> Result<Option<f32>, BenchError> {
        self.run()?;
        if sync { self.wait() } else { Ok(None) }
    }

    /// Puts the state that runs change back to what it was at first: a network that has learnt its one batch by heart has
    /// gradients so small that some processors slow down.
    ///
    /// # Errors
    /// What the device reports.
    pub fn reset(&mut self) -> Result<(), BenchError> {
        for &group in &self.updated {
            match self.work.data.iter().find(|(filled, _)| *filled == group) {
                Some((_, values)) => self.session.write_group(group, values.as_data())?,
                None => {
                    let zeros = vec![0.0; self.work.graph.states().get(group).len()];
                    self.session.write_group(group, Data::F32(&zeros))?;
                }
            }
        }
        self.steps = 0;
        Ok(())
    }

    /// The outputs of the last run, in order of declaration.
    ///
    /// # Errors
    /// What the device reports.
    pub fn outputs(&mut self) -> Result<Vec<HostData>, BenchError> {
        let count = self.work.graph.outputs().len();
        (0..count).map(|i| Ok(self.session.output(self.id, i)?)).collect()
    }

    /// The groups that runs change, as they are now.
    ///
    /// # Errors
    /// What the device reports.
    pub fn updated(&mut self) -> Result<Vec<(GroupId, HostData)>, BenchError> {
        self.updated.clone().into_iter().map(|group| Ok((group, self.session.read_group(group)?))).collect()
    }

    /// Bytes that the session holds on the device.
    pub fn allocated_bytes(&self) -> usize {
        self.session.allocated_bytes()
    }

    /// The session, to move data.
    pub(crate) fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }
}
