//! Plan of a training run: the state on the device and the compiled programs of steps and evaluations.

use std::ops::Range;
use std::sync::OnceLock;

use wgrad_data::{Dataset, Splits};
use wgrad_graph::{DType, EntryId, GroupId, States, TensorType};
use wgrad_nn::{Builder, Module, OptimState, Params, ReplicaSync};
use wgrad_program::{Limits, Options, Program, Readback, compile, share_slabs};
use wgrad_stdx::{InternalError, never};
use wgrad_weights::{AssignOptions, Pattern, Weights};

use crate::config::{Config, Task};
use crate::error::TrainError;
use crate::replicas::Shard;

/// Model and the declarations of its parameters.
pub struct Model {
    /// Layers of the model.
    pub module: Box<dyn Module>,
    /// Declarations of the parameters.
    pub builder: Builder,
}

impl Model {
    /// Creates a model by calling `make`, which declares the parameters in the builder.
    pub fn new<M: Module + 'static>(make: impl FnOnce(&mut Builder) -> M) -> Self {
        let mut builder = Builder::new();
        Self { module: Box::new(make(&mut builder)), builder }
    }
}

/// Split of the data: training, validation or test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum SplitName {
    Train,
    Validation,
    Test,
}

impl SplitName {
    const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Returns `train`, `validation` or `test`.
    pub fn as_str(self) -> &'static str {
        match self {
            SplitName::Train => "train",
            SplitName::Validation => "validation",
            SplitName::Test => "test",
        }
    }

    /// Returns the data set of this split, or `None` if the data has no such split.
    pub fn of(self, splits: &Splits) -> Option<&Dataset> {
        match self {
            SplitName::Train => Some(&splits.train),
            SplitName::Validation => splits.validation.as_ref(),
            SplitName::Test => Some(&splits.test),
        }
    }
}

/// Size of a split and shape of its examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitShape {
    /// Name of the split.
    pub name: SplitName,
    /// Number of examples.
    pub len: usize,
    /// Shape of the features of an example: `[channels, height, width]` for images, `[features]` for tables.
    pub shape: Vec<usize>,
}

impl SplitShape {
    /// Number of features of an example.
    pub fn features(&self) -> usize {
        self.shape.iter().product()
    }
}

/// State entries of a split that is resident on the device. Batches of non-resident splits are uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub group: GroupId,
    pub features: EntryId,
    pub targets_group: GroupId,
    pub targets: EntryId,
}

/// Phase of a training step, each with its own program. With gradient accumulation, a step has several passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Only pass of a step without gradient accumulation.
    Whole,
    /// First of several passes; stores the gradients.
    First,
    /// Pass between the first and the last; adds to the gradients.
    Middle,
    /// Last of several passes; adds to the gradients and, without replicas, runs the optimizer.
    Last,
    /// Optimizer update of a replica, with gradients summed over all replicas.
    Update,
    /// Moving average of the parameters, after every replica has updated its shard.
    Average,
}

/// State layout and compiled programs to train and evaluate a model on a device. A plan allocates no device memory.
pub struct Plan {
    /// Hyperparameters of the training run.
    pub config: Config,
    /// Learning task, which determines the meaning of the outputs.
    pub task: Task,
    /// Layout of the state on the device.
    pub states: States,
    /// Parameters and buffers of the model, and their positions in the state.
    pub params: Params,
    /// Limits of the device for which the programs are compiled.
    pub(crate) limits: Limits,
    pub(crate) module: Box<dyn Module>,
    pub(crate) optim: OptimState,
    pub(crate) average: Option<GroupId>,
    pub(crate) gradients: Option<GroupId>,
    pub(crate) shard: Option<Shard>,
    /// Groups of the batch-norm statistics that replicas sum during a pass.
    pub(crate) replica_sync: Option<ReplicaSync>,
    pub(crate) splits: Vec<(SplitShape, Option<Resident>)>,
    /// Values that replace the random initial values of parameters and buffers, by name.
    pub(crate) initial_values: Vec<(String, Vec<f32>)>,
    /// FLOPs of a forward pass and of an update, each compiled separately on the first request.
    pub(crate) forward_and_update_flops: OnceLock<(u64, u64)>,
    /// Programs of a step, one per phase.
    pub passes: Vec<(Phase, Program)>,
    /// Evaluation program of each split except the training data.
    pub evaluations: Vec<(SplitName, Program)>,
}

impl Plan {
    /// Plans the training of a model on data.
    ///
    /// # Errors
    /// Returns an error if the configuration does not fit the model or the data, if the model has no parameters to
    /// train or two parameters with the same name, or if its graph is invalid or cannot be compiled within `limits`.
    pub fn new(model: Model, splits: &Splits, config: Config, limits: &Limits) -> Result<Self, TrainError> {
        let task = Task::of(&splits.train, config.label_smoothing);
        config.check_patterns(&model.builder)?;
        let mut states = States::new();
        let params = model.builder.finish_with(&mut states, |name| config.training(name));
        config.check(task, &params)?;
        let mut plan = Self::declare(model.module, splits, config, (states, params), limits)?;
        plan.compile_programs()?;
        Ok(plan)
    }

    /// Declares the state: optimizer, gradients and resident data, after the parameters. The order of the groups is
    /// part of the state layout.
    fn declare(
        module: Box<dyn Module>,
        splits: &Splits,
        config: Config,
        (mut states, params): (States, Params),
        limits: &Limits,
    ) -> Result<Self, TrainError> {
        let task = Task::of(&splits.train, config.label_smoothing);
        let shard = config.replica.filter(|replica| replica.shard);
        let shard = shard.map(|replica| Shard::declare(&mut states, &params, replica));
        let updated = shard.as_ref().map_or(params.group(), |shard| shard.parameters);
        let optim = config.optimizer.declare_like(&mut states, updated);
        let average = config.ema.map(|_| states.group_like("average", params.group()));
        let keeps_gradients = config.accumulate > 1 || config.replica.is_some();
        let gradients = keeps_gradients.then(|| states.group_like("gradients", params.group()));
        let syncs = config.sync_batch_norm && config.replicas() > 1;
        let (rows, batch) = (config.rows().len(), config.batch);
        let replica_sync = if syncs { params.declare_replica_sync(&mut states, rows, batch) } else { None };
        if replica_sync.is_some() && config.recompute {
            return Err(TrainError::Config(
                "train.sync_batch_norm and train.recompute cannot be combined: recomputing the forward pass would sum the \
                 statistics of the replicas a second time"
                    .into(),
            ));
        }
        let splits = declare_splits(&mut states, splits, task, limits);
        Ok(Self {
            config,
            task,
            states,
            params,
            limits: *limits,
            module,
            optim,
            average,
            gradients,
            shard,
            replica_sync,
            splits,
            initial_values: Vec::new(),
            forward_and_update_flops: OnceLock::new(),
            passes: Vec::new(),
            evaluations: Vec::new(),
        })
    }

    /// Traces and compiles the programs of steps and evaluations. All programs share the slabs that hold intermediates.
    fn compile_programs(&mut self) -> Result<(), TrainError> {
        self.passes = self.compile_passes()?;
        for i in 0..self.splits.len() {
            let name = self.splits[i].0.name;
            if name != SplitName::Train {
                let program = compile(&self.trace_evaluation(name)?, Options::within(&self.limits))?;
                self.evaluations.push((name, program));
            }
        }
        let passes = self.passes.iter_mut().map(|(_, program)| program);
        let evaluations = self.evaluations.iter_mut().map(|(_, program)| program);
        share_slabs(&mut passes.chain(evaluations).collect::<Vec<_>>(), self.limits.buffer_bytes);
        Ok(())
    }

    /// Traces and compiles the programs of a step.
    pub(crate) fn compile_passes(&self) -> Result<Vec<(Phase, Program)>, TrainError> {
        let compiled =
            |&phase| Ok((phase, compile(&self.trace_pass(phase)?, Options::within(&self.limits))?));
        phases(self.config.accumulate).iter().chain(&self.update_phases()).map(compiled).collect()
    }

    /// Returns the phases that follow the passes of a step once the gradients are summed over all replicas.
    fn update_phases(&self) -> Vec<Phase> {
        let mut phases = Vec::new();
        let updates = self.shard.as_ref().is_none_or(|shard| !shard.range.is_empty());
        if self.config.replica.is_some() && updates {
            phases.push(Phase::Update);
        }
        if self.shard.is_some() && self.average.is_some() {
            phases.push(Phase::Average);
        }
        phases
    }

    /// Sets the initial values of parameters and buffers from weights with the same names. Parameters that match a
    /// pattern in `replace` keep their random initial values.
    ///
    /// # Errors
    /// Returns an error if the weights lack a name, if a shape differs, or if a pattern matches no parameter.
    pub fn start_from(&mut self, weights: &Weights, replace: Vec<Pattern>) -> Result<(), TrainError> {
        let params = self.params.specs().iter().map(|spec| (&spec.name, &spec.shape));
        let buffers = self.params.buffers().iter().map(|spec| (&spec.name, &spec.shape));
        let wanted: Vec<(String, Vec<usize>)> =
            params.chain(buffers).map(|(name, shape)| (name.clone(), shape.to_vec())).collect();
        let assignment = weights.assign(&wanted, &AssignOptions { replace })?;
        assignment.complete()?;
        let found = assignment.found.iter();
        self.initial_values =
            found.map(|(name, tensor)| ((*name).to_owned(), tensor.values().to_vec())).collect();
        Ok(())
    }

    /// Rows of each training batch that this replica processes: all rows without other replicas.
    pub fn rows(&self) -> Range<usize> {
        self.config.rows()
    }

    /// Returns the programs of a step, each with its number of runs per step.
    pub fn step_programs(&self) -> Vec<(&Program, u64)> {
        self.passes.iter().map(|(phase, program)| (program, self.runs_per_step(*phase))).collect()
    }

    /// Number of dispatches in a step.
    pub fn dispatches_per_step(&self) -> u64 {
        self.step_programs().into_iter().map(|(program, runs)| program.dispatches.len() as u64 * runs).sum()
    }

    /// Returns the phase of pass number `pass` of a step.
    pub(crate) fn phase(&self, pass: u64) -> Phase {
        match pass {
            _ if self.config.accumulate <= 1 => Phase::Whole,
            0 => Phase::First,
            _ if pass + 1 == self.config.accumulate => Phase::Last,
            _ => Phase::Middle,
        }
    }

    /// Returns phase and program of the last pass of a step, after which the gradients are complete.
    pub(crate) fn last_pass(&self) -> Result<&(Phase, Program), InternalError> {
        let last = self.phase(self.config.passes() - 1);
        let found = self.passes.iter().find(|(phase, _)| *phase == last);
        found.ok_or_else(|| never!("the plan has no program for the last pass of a step"))
    }

    /// Returns the number of times a step runs the program of a phase.
    pub(crate) fn runs_per_step(&self, phase: Phase) -> u64 {
        if phase == Phase::Middle { self.config.accumulate - 2 } else { 1 }
    }

    pub(crate) fn split(&self, name: SplitName) -> Option<&(SplitShape, Option<Resident>)> {
        self.splits.iter().find(|(shape, _)| shape.name == name)
    }

    /// Whether a split is resident on the device.
    pub(crate) fn is_resident(&self, name: SplitName) -> bool {
        self.split(name).is_some_and(|(_, resident)| resident.is_some())
    }

    /// Returns the groups that a checkpoint holds, in checkpoint order: first the model (parameters, frozen parameters,
    /// buffers), then the optimizer moments and the moving average.
    pub(crate) fn checkpoint_groups(&self) -> (Vec<GroupId>, Vec<GroupId>) {
        let model = [Some(self.params.group()), self.params.frozen(), self.params.buffer_group()];
        let others = self.optim.moments.iter().copied().chain(self.average);
        (model.into_iter().flatten().collect(), others.collect())
    }

    /// Returns the readbacks of the statistics that replicas sum during a pass. The order is the same on all replicas.
    pub(crate) fn statistics_readbacks(&self, program: &Program) -> Vec<Readback> {
        let Some(ReplicaSync { sent, received, .. }) = self.replica_sync else { return Vec::new() };
        let readbacks = self.states.get(sent).entries.iter().filter_map(|entry| {
            let range = entry.offset..entry.offset + entry.shape.numel();
            let after = program.final_after(sent, &range);
            // A frozen batch norm sends no statistics.
            (after > 0).then_some(Readback { group: sent, range, after, reply: Some(received) })
        });
        let mut readbacks: Vec<Readback> = readbacks.collect();
        readbacks.sort_by_key(|readback| readback.after);
        readbacks
    }
}

/// Returns the type of the targets of `len` examples.
pub(crate) fn target_type(task: Task, len: usize) -> TensorType {
    match task {
        Task::Classification { .. } => TensorType::u32([len]),
        Task::Regression { width } => TensorType::f32([len, width]),
    }
}

/// Returns the phases of the passes in a step.
fn phases(accumulate: u64) -> &'static [Phase] {
    match accumulate {
        0 | 1 => &[Phase::Whole],
        2 => &[Phase::First, Phase::Last],
        _ => &[Phase::First, Phase::Middle, Phase::Last],
    }
}

/// Declares the splits, as resident if they fit on the device. Augmented training data changes every epoch and is
/// therefore prepared on the host.
fn declare_splits(
    states: &mut States,
    splits: &Splits,
    task: Task,
    limits: &Limits,
) -> Vec<(SplitShape, Option<Resident>)> {
    let mut declared = Vec::new();
    for name in SplitName::ALL {
        let Some(data) = name.of(splits) else { continue };
        let shape = SplitShape { name, len: data.len(), shape: data.feature_shape().to_vec() };
        let augmented = name == SplitName::Train && !splits.augment.is_off();
        let resident = if augmented { None } else { declare_resident(states, &shape, task, limits) };
        declared.push((shape, resident));
    }
    declared
}

/// Declares a resident split, or returns `None` if the features exceed the operand or buffer limit of the device.
fn declare_resident(
    states: &mut States,
    shape: &SplitShape,
    task: Task,
    limits: &Limits,
) -> Option<Resident> {
    let bytes = (shape.len * shape.features() * 4) as u64;
    if bytes > limits.operand_bytes.min(limits.buffer_bytes) {
        return None;
    }
    let name = shape.name.as_str();
    let group = states.group(format!("{name}.features"), DType::F32);
    let features = states.entry(group, "features", [shape.len, shape.features()]);
    let ty = target_type(task, shape.len);
    let targets_group = states.group(format!("{name}.targets"), ty.dtype);
    Some(Resident {
        group,
        features,
        targets_group,
        targets: states.entry(targets_group, "targets", ty.shape),
    })
}
