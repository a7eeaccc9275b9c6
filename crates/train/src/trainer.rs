//! The trainer: a plan's state on a device, and the step.

use std::collections::VecDeque;
use std::time::Duration;

use wgrad_data::{Dataset, Sequential, Splits, Targets};
use wgrad_graph::{GroupId, Shape};
use wgrad_program::{Data, Device, DeviceError, DeviceInfo, HostData, ProgramId, Session};

use crate::diagnose::first_bad_operation;
use crate::error::TrainError;
use crate::feed::{Feed, rest, share_of_loss};
use crate::inputs::{Inputs, Upload, write_padded};
use crate::ledger::Ledger;
use crate::plan::{Phase, Plan, SplitName, Task};
use crate::profile::Profiler;
use crate::rewind::Anchor;
use crate::team::Team;

/// What runs a program on the inputs that it is given.
type Run<'r> = dyn FnMut(&mut dyn Session, &[Data<'_>]) -> Result<(), DeviceError> + 'r;

type Loaded = (Box<dyn Session>, Vec<(Phase, ProgramId)>, Vec<(SplitName, ProgramId)>);

fn load(device: &dyn Device, plan: &Plan) -> Result<Loaded, DeviceError> {
    let mut session = device.session(&plan.states)?;
    let mut passes = Vec::new();
    for (phase, program) in &plan.passes {
        passes.push((*phase, session.load(program)?));
    }
    let mut evaluations = Vec::new();
    for (name, program) in &plan.evaluations {
        evaluations.push((*name, session.load(program)?));
    }
    Ok((session, passes, evaluations))
}

/// A device that runs out of memory knows a buffer's size; the plan knows which tensors it is made of.
fn explained(error: DeviceError, plan: &Plan) -> DeviceError {
    match error {
        DeviceError::DoesNotFit { name, reason, .. } => {
            DeviceError::DoesNotFit { name, reason, table: plan.largest_tensors() }
        }
        DeviceError::OutOfMemory { name, what, needed } => {
            let reason = format!("{what} needs {needed} bytes, and there is no more memory");
            DeviceError::DoesNotFit { name, reason, table: plan.largest_tensors() }
        }
        other => other,
    }
}

/// What a step reported.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Steps done, this one included.
    pub step: u64,
    /// Epoch it belongs to, from 0.
    pub epoch: u64,
    /// Learning rate.
    pub lr: f64,
    /// Mean loss of its examples.
    pub loss: f32,
    /// Further metrics by name.
    pub metrics: Vec<(String, f32)>,
}

/// A tensor of the state, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Its elements, row by row.
    pub values: Vec<f32>,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Which part of the data.
    pub split: SplitName,
    /// Mean loss.
    pub loss: f64,
    /// Share of examples classified rightly, for classification.
    pub accuracy: Option<f64>,
    /// Number of examples.
    pub examples: usize,
}

pub(crate) struct Pending {
    step: u64,
    epoch: u64,
    lr: f64,
}

/// A model in training on a device.
pub struct Trainer {
    pub(crate) plan: Plan,
    pub(crate) session: Box<dyn Session>,
    device: DeviceInfo,
    pub(crate) passes: Vec<(Phase, ProgramId)>,
    evaluations: Vec<(SplitName, ProgramId)>,
    splits: Splits,
    pub(crate) feed: Feed,
    pub(crate) step: u64,
    total: u64,
    pub(crate) pending: VecDeque<Pending>,
    /// Records of each program that wait for those of the other passes of their step.
    arrived: Vec<VecDeque<Vec<f32>>>,
    buffers: Upload,
    pub(crate) anchor: Option<Anchor>,
    pub(crate) watch: Watch,
    pub(crate) ledger: Ledger,
    pub(crate) last_epoch: u64,
    prediction: Option<ProgramId>,
    pub(crate) profiler: Option<Profiler>,
    pub(crate) team: Option<Team>,
    /// Records of steps that were made together with other replicas.
    pub(crate) shared: VecDeque<StepRecord>,
    /// Groups of which this replica keeps a share, as they were given before there were others.
    pub(crate) unshared: Vec<(GroupId, Vec<f32>)>,
    /// The replica's share of the loss of each pass of the step under way.
    pub(crate) shares: Vec<f32>,
}

/// What early stopping has seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Watch {
    /// The best loss of an evaluation.
    pub best: Option<f64>,
    /// Evaluations since.
    pub worse: u64,
}

impl Watch {
    /// Takes note of an evaluation.
    pub fn see(&mut self, loss: f64) {
        let better = self.best.is_none_or(|best| loss < best);
        self.worse = if better { 0 } else { self.worse + 1 };
        self.best = if better { Some(loss) } else { self.best };
    }
}

impl Trainer {
    /// Puts a plan's state and programs on a device: initial parameters, zero moments, the data. `total` is the number of
    /// steps that the learning-rate schedule spans.
    ///
    /// # Errors
    /// A batch larger than the data; what the device cannot hold or do.
    pub fn new(device: &dyn Device, plan: Plan, splits: Splits, total: u64) -> Result<Self, TrainError> {
        let config = &plan.config;
        let feed = Feed::new(&plan, &splits, config)?;
        let (session, passes, evaluations) = load(device, &plan).map_err(|error| explained(error, &plan))?;
        let arrived = passes.iter().map(|_| VecDeque::new()).collect();
        let ledger = Ledger::new(plan.step_flops());
        let mut trainer = Self {
            plan,
            session,
            device: device.info().clone(),
            passes,
            evaluations,
            splits,
            feed,
            step: 0,
            total,
            pending: VecDeque::new(),
            arrived,
            buffers: Upload::default(),
            anchor: None,
            watch: Watch::default(),
            ledger,
            last_epoch: 0,
            prediction: None,
            profiler: None,
            team: None,
            shared: VecDeque::new(),
            unshared: Vec::new(),
            shares: Vec::new(),
        };
        trainer.upload_data()?;
        trainer.reset()?;
        Ok(trainer)
    }

    /// Resets the state to the initial parameters, zero moments and the first batch.
    ///
    /// # Errors
    /// Returns an error if the device or the batch source fails.
    pub fn reset(&mut self) -> Result<(), TrainError> {
        let (params, seed) = (&self.plan.params, self.plan.config.seed);
        if let Some(frozen) = params.frozen() {
            let values = self.started(frozen, params.initial(&self.plan.states, frozen, seed));
            self.session.write_group(frozen, Data::F32(&values))?;
        }
        if let Some(buffers) = self.plan.params.buffer_group() {
            let values = self.started(buffers, self.plan.params.initial_buffers(&self.plan.states));
            self.session.write_group(buffers, Data::F32(&values))?;
        }
        let trained = self.plan.params.group();
        let initial = self.started(trained, self.plan.params.initial(&self.plan.states, trained, seed));
        self.write_flat(trained, &initial)?;
        if let Some(id) = self.plan.average {
            self.session.write_group(id, Data::F32(&initial))?;
        }
        for id in self.plan.optim.moments.iter().copied().chain(self.plan.gradients) {
            let zeros = vec![0.0; self.plan.states.get(id).len()];
            self.session.write_group(id, Data::F32(&zeros))?;
        }
        self.step = 0;
        Ok(self.feed.restore(wgrad_data::LoaderPosition::default())?)
    }

    /// Initial values of a group with those that the plan starts from in their places.
    fn started(&self, group: GroupId, mut values: Vec<f32>) -> Vec<f32> {
        for entry in &self.plan.states.get(group).entries {
            if let Some((_, start)) = self.plan.start.iter().find(|(name, _)| *name == entry.name) {
                values[entry.offset..entry.offset + start.len()].copy_from_slice(start);
            }
        }
        values
    }

    fn upload_data(&mut self) -> Result<(), TrainError> {
        for (shape, resident) in &self.plan.splits {
            let (Some(resident), Some(data)) = (resident, shape.name.of(&self.splits)) else { continue };
            write_padded(&mut *self.session, &self.plan, resident.group, HostData::F32(data.to_f32()))?;
            let targets = match data.targets() {
                Targets::Classes { labels, .. } => HostData::U32(labels.clone()),
                Targets::Values { values, .. } => HostData::F32(values.clone()),
            };
            write_padded(&mut *self.session, &self.plan, resident.targets_group, targets)?;
        }
        Ok(())
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The device it runs on.
    pub fn device(&self) -> &DeviceInfo {
        &self.device
    }

    /// Bytes of device memory it holds; what [`Plan::peak_bytes`] foretold.
    pub fn allocated_bytes(&self) -> usize {
        self.session.allocated_bytes()
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Epoch of the next batch, from 0.
    pub fn epoch(&self) -> u64 {
        u64::from(self.feed.position().epoch)
    }

    /// Epoch of the last step, from 0.
    pub fn last_epoch(&self) -> u64 {
        self.last_epoch
    }

    /// Steps that make an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        (u64::from(self.feed.per_epoch()) / self.plan.config.accumulate.max(1)).max(1)
    }

    /// Examples of a step.
    pub fn examples_per_step(&self) -> u64 {
        self.plan.config.batch as u64 * self.plan.config.accumulate.max(1)
    }

    /// Learning rate of the step after `step` steps.
    pub fn rate(&self, step: u64) -> f64 {
        let config = &self.plan.config;
        config.schedule.rate(config.lr, step, config.warmup, self.total)
    }

    /// Queues one step: a batch, or several with accumulation. Does not wait for the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn step(&mut self) -> Result<(), TrainError> {
        if let Some(mut team) = self.team.take() {
            let made = self.step_together(&mut team);
            self.team = Some(team);
            return made;
        }
        let lr = self.rate(self.step);
        let epoch = self.epoch();
        // Only steps are profiled, not what is run again to explain one.
        let mut profiler = self.profiler.take_if(|profiler| profiler.covers(self.step));
        let made = (0..self.plan.config.accumulate.max(1)).try_for_each(|pass| {
            let phase = self.plan.phase(pass);
            let id = self.program(phase)?;
            let (done, since) = (self.step, profiler.as_ref().map_or(0, Profiler::now));
            let batch = self.feed.name();
            self.pass(pass, &mut |session, inputs| match &mut profiler {
                Some(profiler) => profiler.run(session, (id, phase), done, (batch, since), inputs),
                None => session.run(id, inputs),
            })
        });
        self.profiler = profiler.or(self.profiler.take());
        made?;
        self.step += 1;
        self.last_epoch = epoch;
        self.pending.push_back(Pending { step: self.step, epoch, lr });
        Ok(())
    }

    /// Calls `run` with the inputs of pass number `pass` of the step under way, on the next batch.
    pub(crate) fn pass(&mut self, pass: u64, run: &mut Run<'_>) -> Result<(), TrainError> {
        let hyper = self.plan.config.optimizer.hyper(self.rate(self.step), self.step + 1);
        let rng = self.rng(pass);
        let config = &self.plan.config;
        let resident = self.is_resident(SplitName::Train);
        let run = &mut |inputs: &[Data<'_>]| run(&mut *self.session, inputs);
        let targets = self.splits.train.targets();
        match &mut self.feed {
            Feed::Drawn(batches) => {
                let batch = batches.next_batch();
                let share = [share_of_loss(config, &batch, targets)];
                let rest = rest(config, &rng, &hyper, &share);
                self.shares.extend(config.part.map(|_| share[0]));
                let inputs = Inputs { data: &self.splits.train, resident };
                inputs.run(&batch.indices, &mut self.buffers, &rest, run)
            }
            Feed::Prepared(loader) => {
                let ready = loader.next_batch()?;
                let share = [share_of_loss(config, &ready.batch, targets)];
                self.shares.extend(config.part.map(|_| share[0]));
                let targets = match targets {
                    Targets::Classes { .. } => Data::U32(&ready.classes),
                    Targets::Values { .. } => Data::F32(&ready.values),
                };
                let rest = rest(config, &rng, &hyper, &share);
                let inputs: Vec<Data<'_>> =
                    [Data::F32(&ready.features), targets].into_iter().chain(rest).collect();
                Ok(run(&inputs)?)
            }
        }
    }

    /// Waits until the device has done all steps.
    ///
    /// # Errors
    /// What the device reports.
    pub fn wait(&mut self) -> Result<(), TrainError> {
        Ok(self.session.wait()?)
    }

    /// How long and how often steps had to wait for their batches; `None` where the data lies on the device.
    pub fn waited_for_data(&self) -> Option<(Duration, u64)> {
        self.feed.waited()
    }

    /// Key of the random numbers of a pass: the seed, and a counter that no other pass of the run has.
    fn rng(&self, pass: u64) -> [u32; 3] {
        let seed = self.plan.config.seed;
        let count = self.step * self.plan.config.accumulate.max(1) + pass;
        [seed as u32, (seed >> 32) as u32, count as u32]
    }

    pub(crate) fn program(&self, phase: Phase) -> Result<ProgramId, TrainError> {
        let found = self.passes.iter().find(|(p, _)| *p == phase).map(|(_, id)| *id);
        found.ok_or_else(|| TrainError::Config(format!("the plan has no program for {phase:?}")))
    }

    fn is_resident(&self, name: SplitName) -> bool {
        self.plan.split(name).is_some_and(|(_, resident)| resident.is_some())
    }

    /// The reports of steps since the last call, in order. Those under way are left for later unless `wait`.
    ///
    /// A loss may be no finite number; [`Trainer::explain`] then says where that came from.
    ///
    /// # Errors
    /// What the device reports.
    pub fn records(&mut self, wait: bool) -> Result<Vec<StepRecord>, TrainError> {
        if self.team.is_some() {
            return Ok(self.shared.drain(..).collect());
        }
        for (i, &(_, id)) in self.passes.iter().enumerate() {
            self.arrived[i].extend(self.session.records(id, wait)?.into_iter().map(|record| record.values));
        }
        let mut records = Vec::new();
        while let Some(passes) = self.next_arrived() {
            let Some(pending) = self.pending.pop_front() else { break };
            records.push(self.combine(&pending, &passes));
        }
        Ok(records)
    }

    /// The error for a record with a number that is not finite, with the first operation that gave one: the way there is
    /// gone again, and the trainer is left somewhere in that step. `None` for a record that is sound.
    pub fn explain(&mut self, record: &StepRecord) -> Option<TrainError> {
        let (step, what, value) = non_finite(record)?;
        self.profiler = None;
        self.pending.clear();
        self.shared.clear();
        self.arrived.iter_mut().for_each(VecDeque::clear);
        let found = first_bad_operation(self, step).map(|culprit| culprit.map(|culprit| culprit.to_string()));
        let culprit = match found.and_then(|culprit| self.first_culprit(culprit)) {
            Ok(Some(culprit)) => culprit,
            Ok(None) => "run again, the step gave finite numbers only".into(),
            Err(error) => format!("which operation gave it could not be found: {error}"),
        };
        Some(TrainError::NonFinite { what, value, step, culprit })
    }

    /// The records of all passes of the oldest step, the last pass last, if they are all there.
    fn next_arrived(&mut self) -> Option<Vec<Vec<f32>>> {
        let middle = self.plan.config.accumulate.saturating_sub(2) as usize;
        let count = |phase: Phase| if phase == Phase::Middle { middle } else { 1 };
        let ready =
            self.passes.iter().zip(&self.arrived).all(|((phase, _), queue)| queue.len() >= count(*phase));
        ready.then(|| {
            let queues = self.passes.iter().zip(&mut self.arrived);
            queues.flat_map(|((phase, _), queue)| queue.drain(..count(*phase)).collect::<Vec<_>>()).collect()
        })
    }

    /// Means over the passes; what only the last pass reports is taken as it is.
    fn combine(&self, pending: &Pending, passes: &[Vec<f32>]) -> StepRecord {
        let names = self.plan.passes.last().map(|(_, program)| scalar_names(program)).unwrap_or_default();
        let values = names.iter().enumerate().map(|(i, name)| {
            let found: Vec<f32> = passes.iter().filter_map(|values| values.get(i).copied()).collect();
            (name.clone(), found.iter().sum::<f32>() / found.len() as f32)
        });
        let mut metrics: Vec<(String, f32)> = values.collect();
        let loss = if metrics.is_empty() { f32::NAN } else { metrics.remove(0).1 };
        StepRecord { step: pending.step, epoch: pending.epoch, lr: pending.lr, loss, metrics }
    }

    /// Loss and accuracy on a part of the data.
    ///
    /// # Errors
    /// The part is missing; what the device reports.
    pub fn evaluate(&mut self, split: SplitName) -> Result<Evaluation, TrainError> {
        let missing = || TrainError::Config(format!("there is no {} data to evaluate on", split.as_str()));
        let id = self
            .evaluations
            .iter()
            .find(|(name, _)| *name == split)
            .map(|(_, id)| *id)
            .ok_or_else(missing)?;
        let data = split.of(&self.splits).ok_or_else(missing)?;
        let inputs = Inputs { data, resident: self.is_resident(split) };
        let batch = self.plan.config.eval_batch;
        // Replicas take turns with the batches.
        let (rank, ranks) = self.team.as_ref().map_or((0, 1), |team| (team.rank(), team.size()));
        let flops = self.plan.evaluation_flops(split);
        for part in Sequential::new(data.len(), batch)?.skip(rank).step_by(ranks) {
            let weights: Vec<f32> = (0..batch).map(|i| if i < part.valid { 1.0 } else { 0.0 }).collect();
            let run = &mut |inputs: &[Data<'_>]| self.session.run(id, inputs);
            inputs.run(&part.indices, &mut self.buffers, &[Data::F32(&weights)], run)?;
        }
        let examples = data.len();
        let mut sums = [0.0f64; 2];
        for record in &self.session.records(id, true)? {
            record.values.iter().zip(&mut sums).for_each(|(&value, sum)| *sum += f64::from(value));
        }
        if let Some(team) = &mut self.team {
            sums = team.sum(sums)?;
        }
        self.evaluated(flops);
        let classifies = matches!(self.plan.task, Task::Classification { .. });
        Ok(Evaluation {
            split,
            loss: sums[0] / examples as f64,
            accuracy: classifies.then_some(sums[1] / examples as f64),
            examples,
        })
    }

    /// Features of an example.
    pub fn features(&self) -> usize {
        self.splits.train.feature_len()
    }

    /// A part of the data.
    pub fn part(&self, split: SplitName) -> Option<&Dataset> {
        split.of(&self.splits)
    }

    /// The targets of the training data: class names, or the width of the values.
    pub fn targets(&self) -> &Targets {
        self.splits.train.targets()
    }

    /// The model's outputs for raw examples (flat, as a file has them): class probabilities, or values.
    ///
    /// # Errors
    /// What the device reports.
    pub fn predict(&mut self, raw: &[f32]) -> Result<Vec<f32>, TrainError> {
        let (width, batch) = (self.features(), self.plan.config.eval_batch);
        let mut outputs = Vec::new();
        for part in raw.chunks(width * batch) {
            let mut features = part.to_vec();
            self.splits.prepare(&mut features);
            outputs.extend(self.outputs(features)?);
        }
        Ok(outputs)
    }

    /// The model's outputs for every example of a part of the data, in order: class probabilities, or values.
    ///
    /// # Errors
    /// The part is missing; what the device reports.
    pub fn predict_split(&mut self, split: SplitName) -> Result<Vec<f32>, TrainError> {
        let missing = || TrainError::Config(format!("there is no {} data to predict from", split.as_str()));
        let (width, batch) = (self.features(), self.plan.config.eval_batch);
        let len = split.of(&self.splits).ok_or_else(missing)?.len();
        let mut outputs = Vec::new();
        for first in (0..len).step_by(batch) {
            let data = split.of(&self.splits).ok_or_else(missing)?;
            let mut features = vec![0.0; width * batch.min(len - first)];
            features.chunks_exact_mut(width).enumerate().for_each(|(i, to)| data.fill(first + i, to));
            outputs.extend(self.outputs(features)?);
        }
        Ok(outputs)
    }

    /// The outputs for examples in the form that the model takes, at most a batch of them.
    fn outputs(&mut self, mut features: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let (width, batch) = (self.features(), self.plan.config.eval_batch);
        let limits = self.device.limits;
        let id = match self.prediction {
            Some(id) => id,
            None => self.session.load(&self.plan.prediction(batch, &limits)?)?,
        };
        self.prediction = Some(id);
        let examples = features.len() / width;
        features.resize(width * batch, 0.0);
        self.session.run(id, &[Data::F32(&features)])?;
        let mut values = self.session.output(id, 0)?.to_f32();
        values.truncate(examples * self.plan.task.outputs());
        Ok(values)
    }

    /// The parameters by name, frozen ones last, as they are after all queued steps; the moving average where one is kept
    /// and `averaged`.
    ///
    /// # Errors
    /// What the device reports.
    pub fn parameters(&mut self, averaged: bool) -> Result<Vec<NamedTensor>, TrainError> {
        let group = self.plan.average.filter(|_| averaged).unwrap_or(self.plan.params.group());
        let mut all = self.tensors(group)?;
        if let Some(frozen) = self.plan.params.frozen() {
            all.extend(self.tensors(frozen)?);
        }
        Ok(all)
    }

    pub(crate) fn tensors(&mut self, id: GroupId) -> Result<Vec<NamedTensor>, TrainError> {
        let values = self.read_flat(id)?;
        let entries = self.plan.entries(id).iter();
        let tensor = |entry: &wgrad_graph::Entry| {
            let end = entry.offset + entry.shape.numel();
            let values = values[entry.offset..end].to_vec();
            NamedTensor { name: entry.name.clone(), shape: entry.shape.clone(), values }
        };
        Ok(entries.map(tensor).collect())
    }
}

pub(crate) fn scalar_names(program: &wgrad_program::Program) -> Vec<String> {
    program.outputs.iter().filter(|o| o.is_recorded()).map(|o| o.name.clone()).collect()
}

fn non_finite(record: &StepRecord) -> Option<(u64, String, f32)> {
    let loss = std::iter::once(("loss".to_owned(), record.loss));
    let mut values = loss.chain(record.metrics.iter().cloned());
    values.find(|(_, value)| !value.is_finite()).map(|(name, value)| (record.step, name, value))
}
