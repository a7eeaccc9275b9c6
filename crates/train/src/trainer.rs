//! Trainer: runs training steps of a model on a device, alone or together with other replicas.

use std::time::Duration;

use serde_json::{Value, json};
use wgrad_comm::Worker;
use wgrad_data::{Dataset, LoaderPosition, Splits, Targets};
use wgrad_graph::{Entry, GroupId};
use wgrad_program::{Data, Device, DeviceError, DeviceInfo, HostData, Program, ProgramId, Session};
use wgrad_run::Flops;

use crate::early_stopping::EarlyStopping;
use crate::error::TrainError;
use crate::flops::FlopCounter;
use crate::non_finite::find_first_non_finite;
use crate::pass::{PassRunner, with_tensor_table};
use crate::plan::{Plan, SplitName};
use crate::profile::{ProfileOptions, Profiler};
use crate::records::{NamedTensor, PendingStep, RecordQueue, StepRecord};
use crate::replicas::{CommStats, ProcessGroup, Replicas};
use crate::snapshot::Snapshot;

/// Trainer of a model on a device, with the training state.
///
/// A step draws a batch and runs one program per pass. Loss and metrics are returned by [`Trainer::records`].
pub struct Trainer {
    pub(crate) runner: PassRunner,
    pub(crate) records: RecordQueue,
    pub(crate) replicas: Replicas,
    device: DeviceInfo,
    /// Loaded programs of [`Plan::evaluations`].
    pub(crate) evaluations: Vec<(SplitName, ProgramId)>,
    /// Program that computes the model's outputs, loaded on first use.
    pub(crate) prediction: Option<ProgramId>,
    pub(crate) flops: FlopCounter,
    pub(crate) early_stopping: EarlyStopping,
    pub(crate) snapshot: Option<Snapshot>,
    profiler: Option<Profiler>,
    last_epoch: u64,
}

impl Trainer {
    /// Allocates the state of a plan on a device: initial parameters, zero moments, resident data. `total_steps` is the
    /// number of steps that the learning-rate schedule spans.
    ///
    /// # Errors
    /// Returns an error if a batch is larger than the data, or if the device runs out of memory, does not support a
    /// program or fails.
    pub fn new(
        device: &dyn Device,
        plan: Plan,
        splits: Splits,
        total_steps: u64,
    ) -> Result<Self, TrainError> {
        let mut runner = PassRunner::new(device, plan, splits, total_steps)?;
        let evaluations = load_evaluations(&mut runner)?;
        let mut trainer = Self {
            runner,
            records: RecordQueue::default(),
            replicas: Replicas::default(),
            device: device.info().clone(),
            evaluations,
            prediction: None,
            flops: FlopCounter::default(),
            early_stopping: EarlyStopping::default(),
            snapshot: None,
            profiler: None,
            last_epoch: 0,
        };
        upload_resident_data(&mut trainer.runner)?;
        trainer.reset()?;
        Ok(trainer)
    }

    /// Resets the state to the initial parameters, zero moments and the first batch.
    ///
    /// # Errors
    /// Returns an error if the device or the batch source fails.
    pub fn reset(&mut self) -> Result<(), TrainError> {
        let PassRunner { plan, session, .. } = &mut self.runner;
        let (params, seed) = (&plan.params, plan.config.seed);
        if let Some(frozen) = params.frozen() {
            let values = with_initial_values(plan, frozen, params.initial(&plan.states, frozen, seed));
            session.write_group(frozen, Data::F32(&values))?;
        }
        if let Some(buffers) = params.buffer_group() {
            let values = with_initial_values(plan, buffers, params.initial_buffers(&plan.states));
            session.write_group(buffers, Data::F32(&values))?;
        }
        let trained = params.group();
        let initial = with_initial_values(plan, trained, params.initial(&plan.states, trained, seed));
        self.write_full_group(trained, &initial)?;
        let PassRunner { plan, session, .. } = &mut self.runner;
        if let Some(id) = plan.average {
            session.write_group(id, Data::F32(&initial))?;
        }
        for id in plan.optim.moments.iter().copied().chain(plan.gradients) {
            let zeros = vec![0.0; plan.states.get(id).len()];
            session.write_group(id, Data::F32(&zeros))?;
        }
        self.runner.step = 0;
        Ok(self.runner.source.restore(LoaderPosition::default())?)
    }

    /// Returns the plan that the trainer runs.
    pub fn plan(&self) -> &Plan {
        &self.runner.plan
    }

    /// Returns the description of the device that the trainer runs on.
    pub fn device(&self) -> &DeviceInfo {
        &self.device
    }

    /// Bytes of device memory in use, as predicted by [`Plan::peak_bytes`].
    pub fn allocated_bytes(&self) -> usize {
        self.runner.session.allocated_bytes()
    }

    /// Number of steps done, including steps before a resume.
    pub fn steps_done(&self) -> u64 {
        self.runner.step
    }

    /// Epoch of the next batch, from 0.
    pub fn epoch(&self) -> u64 {
        u64::from(self.runner.source.position().epoch)
    }

    /// Epoch of the last step, from 0.
    pub fn last_epoch(&self) -> u64 {
        self.last_epoch
    }

    /// Number of steps in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        (u64::from(self.runner.source.per_epoch()) / self.plan().config.passes()).max(1)
    }

    /// Number of examples per step, summed over all replicas.
    pub fn examples_per_step(&self) -> u64 {
        self.plan().config.batch as u64 * self.plan().config.passes()
    }

    /// Returns the learning rate of the next step after `step` steps.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.runner.learning_rate(step)
    }

    /// Returns a split of the data, or `None` if the data has no such split.
    pub fn split(&self, split: SplitName) -> Option<&Dataset> {
        split.of(&self.runner.splits)
    }

    /// Number of features of an example.
    pub fn features(&self) -> usize {
        self.runner.splits.train.feature_len()
    }

    /// Targets of the training data: class names, or the width of the values.
    pub fn targets(&self) -> &Targets {
        self.runner.splits.train.targets()
    }

    /// Total time that passes waited for their batches, and the number of such waits; `None` without prefetching.
    pub fn data_wait(&self) -> Option<(Duration, u64)> {
        self.runner.source.wait_time()
    }

    /// Runs one step on one batch, or on several with gradient accumulation. Without replicas, the step is queued and
    /// the call does not wait for the device.
    ///
    /// # Errors
    /// Returns an error if the device or the batch source fails, or if another replica fails, cannot be reached or
    /// holds different parameters.
    pub fn step(&mut self) -> Result<(), TrainError> {
        let done = self.runner.step;
        let (lr, epoch, step) = (self.learning_rate(done), self.epoch(), done + 1);
        let profiler = self.profiler.as_mut().filter(|profiler| profiler.covers(done));
        if self.replicas.is_joined() {
            let (loss, metrics) = self.replicas.step(&mut self.runner, profiler)?;
            self.records.push_complete(StepRecord { step, epoch, lr, loss, metrics });
        } else {
            self.runner.run_step(profiler)?;
            self.records.push_pending(PendingStep { step, epoch, lr });
        }
        self.runner.step = step;
        self.last_epoch = epoch;
        Ok(())
    }

    /// Waits until the device has finished all queued steps.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn wait(&mut self) -> Result<(), TrainError> {
        Ok(self.runner.session.wait()?)
    }

    /// Returns the records of the steps finished since the last call, in order. With `wait`, waits for all queued steps
    /// first.
    ///
    /// A loss may be infinite or NaN; [`Trainer::explain`] then finds the operation that computed it.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn records(&mut self, wait: bool) -> Result<Vec<StepRecord>, TrainError> {
        if self.replicas.is_joined() {
            return Ok(self.records.take_complete());
        }
        self.records.collect(&mut self.runner, wait)
    }

    /// Returns the error for a record with a non-finite value, or `None` if all values are finite.
    ///
    /// To find the first operation with a non-finite output, the run is repeated from the last snapshot. The trainer is
    /// left in the middle of the repeated step.
    pub fn explain(&mut self, record: &StepRecord) -> Option<TrainError> {
        let (what, value) = record.non_finite()?;
        self.profiler = None;
        self.records.clear();
        let found = find_first_non_finite(self, record.step).map(|found| found.map(|op| op.to_string()));
        let cause = match found.and_then(|own| self.replicas.first_found(own)) {
            Ok(Some(cause)) => cause,
            Ok(None) => {
                "the step was repeated to find the cause, but the repeated step computed only finite values"
                    .into()
            }
            Err(error) => format!("the operation that computed it was not found: {error}"),
        };
        Some(TrainError::NonFinite { what, value, step: record.step, cause })
    }

    /// Runs a program once, with the inputs of pass number `pass` on the next batch. The step count stays unchanged.
    pub(crate) fn run_once(&mut self, program: &Program, pass: u64) -> Result<ProgramId, TrainError> {
        let id = self.runner.session.load(program)?;
        self.replicas.run_pass(&mut self.runner, (id, program), pass)?;
        Ok(id)
    }

    /// Returns the named parameters after all queued steps, frozen parameters last. With `averaged`, returns the moving
    /// average of the parameters if the plan keeps one.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn parameters(&mut self, averaged: bool) -> Result<Vec<NamedTensor>, TrainError> {
        let plan = &self.runner.plan;
        let frozen = plan.params.frozen();
        let group = plan.average.filter(|_| averaged).unwrap_or(plan.params.group());
        let mut all = self.tensors(group)?;
        if let Some(frozen) = frozen {
            all.extend(self.tensors(frozen)?);
        }
        Ok(all)
    }

    /// Reads the tensors of a group. A sharded group is gathered from all replicas.
    pub(crate) fn tensors(&mut self, id: GroupId) -> Result<Vec<NamedTensor>, TrainError> {
        let values = self.read_full_group(id)?;
        let entries = self.runner.plan.full_entries(id).iter();
        let tensor = |entry: &Entry| {
            let end = entry.offset + entry.shape.numel();
            let values = values[entry.offset..end].to_vec();
            NamedTensor { name: entry.name.clone(), shape: entry.shape.clone(), values }
        };
        Ok(entries.map(tensor).collect())
    }

    /// Reads all elements of a group; a sharded group is gathered from all replicas.
    pub(crate) fn read_full_group(&mut self, id: GroupId) -> Result<Vec<f32>, TrainError> {
        self.replicas.read_full_group(&mut self.runner, id)
    }

    /// Writes all elements of a group; of a sharded group, the shard of this replica.
    pub(crate) fn write_full_group(&mut self, id: GroupId, flat: &[f32]) -> Result<(), TrainError> {
        self.replicas.write_full_group(&mut self.runner, id, flat)
    }

    /// Joins a process group. All replicas of the group call this at the same time.
    ///
    /// # Errors
    /// Returns an error if the plan is for a trainer without replicas, for another rank or for another number of
    /// replicas. Also returns an error if the other replicas train a different model or cannot be reached.
    pub fn join(&mut self, group: ProcessGroup) -> Result<(), TrainError> {
        self.replicas.join(&self.runner.plan, group)?;
        let local = self.plan().step_flops()?;
        let sums = self.replicas.sum_during_setup(local.to_array())?;
        self.flops.per_step = Some(Flops::from_array(sums));
        Ok(())
    }

    /// Leaves the process group and returns its communication thread.
    pub fn leave(&mut self) -> Option<Worker> {
        self.replicas.leave()
    }

    /// Copies the state of the first replica to all replicas: parameters, moments, position in the data, early
    /// stopping. Every replica calls this once, before its first step.
    ///
    /// # Errors
    /// Returns an error if the other replicas cannot be reached, if the state of the first replica cannot be read, or
    /// if the device fails.
    pub fn broadcast_state(&mut self) -> Result<(), TrainError> {
        if !self.replicas.is_joined() {
            return Ok(());
        }
        self.replicas.broadcast_groups(&mut self.runner)?;
        let own = json!({
            "step": self.steps_done(),
            "position": self.runner.source.position(),
            "best": self.early_stopping.best.map(f64::to_bits),
            "since_best": self.early_stopping.since_best,
            "flops": self.flops()?,
        });
        let first = self.replicas.broadcast_json(&own)?;
        self.apply_broadcast(&first)
    }

    /// Applies the broadcast state of the first replica, except the groups.
    fn apply_broadcast(&mut self, first: &Value) -> Result<(), TrainError> {
        let unreadable = || {
            let message = "the training state of the first replica cannot be read; start all replicas from the same build of wgrad";
            TrainError::Config(message.into())
        };
        self.runner.step = first["step"].as_u64().ok_or_else(unreadable)?;
        let position = serde_json::from_value(first["position"].clone()).map_err(|_| unreadable())?;
        self.runner.source.restore(position)?;
        let best = first["best"].as_u64().map(f64::from_bits);
        let since_best = first["since_best"].as_u64().ok_or_else(unreadable)?;
        self.early_stopping = EarlyStopping { best, since_best };
        let counted = serde_json::from_value(first["flops"].clone()).map_err(|_| unreadable())?;
        self.flops.resume(counted, self.runner.step);
        Ok(())
    }

    /// Communication statistics so far; `None` without other replicas.
    pub fn comm_stats(&self) -> Option<CommStats> {
        self.replicas.comm_stats()
    }

    /// Number of floating-point operations of the run so far on all replicas, including steps before a resume.
    ///
    /// # Errors
    /// Returns an error if the forward pass or the update cannot be compiled separately.
    pub fn flops(&self) -> Result<Flops, TrainError> {
        self.flops_at(self.steps_done())
    }

    /// Number of floating-point operations of the first `step` steps and of all evaluations so far.
    ///
    /// # Errors
    /// Returns an error if the forward pass or the update cannot be compiled separately.
    pub fn flops_at(&self, step: u64) -> Result<Flops, TrainError> {
        Ok(self.flops.at(step, self.step_flops()?))
    }

    /// Number of floating-point operations of a step on all replicas together.
    ///
    /// # Errors
    /// Returns an error if the forward pass or the update cannot be compiled separately.
    pub fn step_flops(&self) -> Result<Flops, TrainError> {
        self.flops.per_step.map_or_else(|| self.plan().step_flops(), Ok)
    }

    /// Starts a timeline with details of some of the next steps. `total` is the total number of steps of the run.
    ///
    /// # Errors
    /// Returns an error if replicas sum statistics during a step, since a profiled step cannot wait for other replicas.
    pub fn profile(&mut self, options: ProfileOptions, total: u64) -> Result<(), TrainError> {
        if self.plan().replica_sync.is_some() {
            let message = "a step with train.sync_batch_norm cannot be profiled: it waits for other replicas during a pass";
            return Err(TrainError::Config(message.into()));
        }
        self.profiler = Some(Profiler::new(options, self.steps_done(), total));
        Ok(())
    }

    /// Ends the timeline that [`Trainer::profile`] started and returns it.
    pub fn take_profile(&mut self) -> Option<Profiler> {
        self.profiler.take()
    }

    /// Calls `work` and adds a span named `name` to the timeline.
    pub(crate) fn with_timeline_span<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.profiler.as_ref().map(Profiler::now);
        let result = work(self);
        let done = self.steps_done();
        if let (Some(start), Some(profiler)) = (start, &mut self.profiler) {
            profiler.add_host_span(name, start, profiler.now(), done);
        }
        result
    }
}

fn load_evaluations(runner: &mut PassRunner) -> Result<Vec<(SplitName, ProgramId)>, DeviceError> {
    let PassRunner { plan, session, .. } = runner;
    let mut loaded = Vec::new();
    for (name, program) in &plan.evaluations {
        loaded.push((*name, session.load(program).map_err(|error| with_tensor_table(error, plan))?));
    }
    Ok(loaded)
}

/// Replaces the random initial values of a group with the plan's initial values of the same names.
fn with_initial_values(plan: &Plan, group: GroupId, mut values: Vec<f32>) -> Vec<f32> {
    for entry in &plan.states.get(group).entries {
        if let Some((_, initial)) = plan.initial_values.iter().find(|(name, _)| *name == entry.name) {
            values[entry.offset..entry.offset + initial.len()].copy_from_slice(initial);
        }
    }
    values
}

fn upload_resident_data(runner: &mut PassRunner) -> Result<(), TrainError> {
    let PassRunner { plan, session, splits, .. } = runner;
    for (shape, resident) in &plan.splits {
        let (Some(resident), Some(data)) = (resident, shape.name.of(splits)) else { continue };
        write_padded(&mut **session, plan, resident.group, HostData::F32(data.to_f32()))?;
        let targets = match data.targets() {
            Targets::Classes { labels, .. } => HostData::U32(labels.clone()),
            Targets::Values { values, .. } => HostData::F32(values.clone()),
        };
        write_padded(&mut **session, plan, resident.targets_group, targets)?;
    }
    Ok(())
}

/// Writes a group that holds one tensor, filling the padding with zeros.
fn write_padded(
    session: &mut dyn Session,
    plan: &Plan,
    group: GroupId,
    data: HostData,
) -> Result<(), DeviceError> {
    let len = plan.states.get(group).len();
    let data = match data {
        HostData::F32(mut values) => {
            values.resize(len, 0.0);
            HostData::F32(values)
        }
        HostData::U32(mut values) => {
            values.resize(len, 0);
            HostData::U32(values)
        }
    };
    session.write_group(group, data.as_data())
}
