//! Workloads that are loaded on a device and ready to run.

use std::time::{Duration, Instant};

use wgrad_graph::GroupId;
use wgrad_nn::Optimizer;
use wgrad_program::{
    Clock, Cost, Data, Device, DeviceError, HostData, Options, Program, ProgramId, Session, compile,
};

use crate::error::BenchError;
use crate::workload::Workload;

/// Workload on a device: a session with the program and its initial state.
pub struct LoadedWorkload<'w> {
    workload: &'w Workload,
    session: Box<dyn Session>,
    id: ProgramId,
    updated: Vec<GroupId>,
    steps: u64,
    /// Planned FLOPs of a run, and planned bytes of its memory traffic.
    pub cost: Cost,
    /// Number of kernels that a run dispatches.
    pub dispatches: usize,
    /// Planned size of all buffers together, in bytes.
    pub footprint: usize,
    /// Duration of planning.
    pub plan_time: Duration,
    /// Duration of kernel compilation, allocation, upload and the first run.
    ///
    /// The first run is included because some drivers compile kernels during the first run.
    pub load_time: Duration,
}

/// Compiles a workload to a program for a device.
///
/// # Errors
/// Returns [`BenchError::Graph`] if the graph is invalid.
pub(crate) fn plan(device: &dyn Device, workload: &Workload) -> Result<Program, BenchError> {
    let options = Options { fuse: workload.fuse, ..Options::within(&device.info().limits) };
    Ok(compile(&workload.graph, options)?)
}

impl<'w> LoadedWorkload<'w> {
    /// Compiles a workload for a device, loads the program and initializes the state.
    ///
    /// # Errors
    /// Returns [`BenchError::Graph`] if the graph is invalid, and [`BenchError::Device`] if the program does not fit
    /// or the device fails.
    pub fn new(device: &dyn Device, workload: &'w Workload) -> Result<Self, BenchError> {
        let start = Instant::now();
        let program = plan(device, workload)?;
        let plan_time = start.elapsed();
        let mut session = device.session(&program.states)?;
        let id = session.load(&program)?;
        for (group, values) in &workload.data {
            session.write_group(*group, values.as_data())?;
        }
        session.wait()?;
        let load_time = start.elapsed() - plan_time;
        Ok(Self {
            workload,
            session,
            id,
            updated: workload.updated(),
            steps: 0,
            cost: program.cost(),
            dispatches: program.dispatches.len(),
            footprint: program.peak_bytes(),
            plan_time,
            load_time,
        })
    }

    /// Queues a run without waiting for it.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn run(&mut self) -> Result<(), BenchError> {
        self.run_with(|session, id, inputs| session.run(id, inputs))
    }

    /// Runs once, waits, and adds the duration to `load_time`.
    pub(crate) fn first_run(&mut self) -> Result<(), BenchError> {
        let begin = Instant::now();
        self.step(true)?;
        self.load_time += begin.elapsed();
        Ok(())
    }

    /// Runs once and returns the total time of the kernels, measured by the clock of the device.
    ///
    /// Returns `None` if the device has no clock.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn device_time(&mut self) -> Result<Option<Duration>, BenchError> {
        let profile = self.run_with(|session, id, inputs| session.profile(id, inputs))?;
        self.session.records(self.id, true)?;
        let total = profile.dispatches.iter().map(|span| span.ns()).sum();
        Ok((profile.clock == Clock::Device).then(|| Duration::from_nanos(total)))
    }

    /// Calls `run` with the inputs of the next step.
    fn run_with<T>(
        &mut self,
        run: impl FnOnce(&mut dyn Session, ProgramId, &[Data<'_>]) -> Result<T, DeviceError>,
    ) -> Result<T, BenchError> {
        self.steps += 1;
        let rng = [1, 0, self.steps as u32];
        let hyper = match &self.workload.update {
            Some(update) => update.optimizer.hyper(update.rate, self.steps),
            None => [0.0; Optimizer::HYPER],
        };
        let all = [Data::U32(&rng), Data::F32(&hyper)];
        let inputs = match &self.workload.update {
            None => &all[..0],
            Some(update) if update.has_rng => &all,
            Some(_) => &all[1..],
        };
        Ok(run(&mut *self.session, self.id, inputs)?)
    }

    /// Waits until all queued runs are done. Returns the first scalar output of the last run, if there is one.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn wait(&mut self) -> Result<Option<f32>, BenchError> {
        self.session.wait()?;
        let records = self.session.records(self.id, true)?;
        Ok(records.last().and_then(|record| record.values.first().copied()))
    }

    /// Queues a step. If `sync` is true, waits for the device and returns the loss.
    ///
    /// Returns `None` if `sync` is false or the workload has no scalar output.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn step(&mut self, sync: bool) -> Result<Option<f32>, BenchError> {
        self.run()?;
        if sync { self.wait() } else { Ok(None) }
    }

    /// Resets the state that runs modify to its initial contents.
    ///
    /// Without resets, a network overfits its only batch and its gradients become subnormal numbers. Subnormal
    /// arithmetic is slow on some processors.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn reset(&mut self) -> Result<(), BenchError> {
        for &group in &self.updated {
            match self.workload.data.iter().find(|(filled, _)| *filled == group) {
                Some((_, values)) => self.session.write_group(group, values.as_data())?,
                None => {
                    let zeros = vec![0.0; self.workload.graph.states().get(group).len()];
                    self.session.write_group(group, Data::F32(&zeros))?;
                }
            }
        }
        self.steps = 0;
        Ok(())
    }

    /// Returns the outputs of the last run, in order of declaration.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn outputs(&mut self) -> Result<Vec<HostData>, BenchError> {
        let count = self.workload.graph.outputs().len();
        (0..count).map(|i| Ok(self.session.output(self.id, i)?)).collect()
    }

    /// Returns the current contents of the groups that runs modify.
    ///
    /// # Errors
    /// Returns [`BenchError::Device`] if the device fails.
    pub fn updated(&mut self) -> Result<Vec<(GroupId, HostData)>, BenchError> {
        self.updated.clone().into_iter().map(|group| Ok((group, self.session.read_group(group)?))).collect()
    }

    /// Returns the number of bytes that the session has allocated on the device.
    pub fn allocated_bytes(&self) -> usize {
        self.session.allocated_bytes()
    }

    /// Returns the session, e.g. to upload and read back groups.
    pub(crate) fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }
}
