//! The programs of a run: what is kept on the device, and the graphs that train and evaluate, planned.

use std::ops::Range;

use wgrad_data::{Dataset, Splits, Targets};
use wgrad_graph::{DType, EntryId, GroupId, States, TensorType};
use wgrad_nn::{Builder, Exchange, Module, OptimState, Optimizer, Params, Schedule, Training};
use wgrad_program::{Limits, Options, Program, Readback, compile, share_slabs};
use wgrad_weights::{AssignOptions, Pattern, Weights};

use crate::error::TrainError;
use crate::part::{Part, Shard};

/// A model and the parameters that it declared.
pub struct Model {
    /// The layers.
    pub module: Box<dyn Module>,
    /// Their parameters.
    pub builder: Builder,
}

impl Model {
    /// Makes a model with a function that declares its parameters.
    pub fn new<M: Module + 'static>(make: impl FnOnce(&mut Builder) -> M) -> Self {
        let mut builder = Builder::new();
        Self { module: Box::new(make(&mut builder)), builder }
    }
}

/// What the outputs of the model mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Task {
    /// Logits of this many classes: cross-entropy and accuracy.
    Classification {
        /// Number of classes.
        classes: usize,
        /// Share of the target spread evenly over all classes.
        label_smoothing: f64,
    },
    /// Values: mean squared error.
    Regression {
        /// Number of values an example.
        width: usize,
    },
}

impl Task {
    /// The task that a data set's targets are for.
    pub fn of(data: &Dataset, label_smoothing: f64) -> Self {
        match data.targets() {
            Targets::Classes { names, .. } => Task::Classification { classes: names.len(), label_smoothing },
            Targets::Values { width, .. } => Task::Regression { width: *width },
        }
    }

    /// Numbers that the model gives for an example.
    pub fn outputs(self) -> usize {
        match self {
            Task::Classification { classes, .. } => classes,
            Task::Regression { width } => width,
        }
    }
}

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Update rule.
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub lr: f64,
    /// Its course.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Largest norm of the gradient.
    pub clip_norm: Option<f64>,
    /// Examples in a pass.
    pub batch: usize,
    /// Examples in a pass of an evaluation.
    pub eval_batch: usize,
    /// Passes whose gradients are averaged for a step.
    pub accumulate: u64,
    /// Decay of the moving average of the parameters that is evaluated in their place.
    pub ema: Option<f64>,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// Weight of each class in the training loss, which is then the weighted mean.
    pub class_weights: Option<Vec<f64>>,
    /// Whether the backward pass computes parts of the forward pass again rather than keep what they computed: the same
    /// bits for less memory and more work.
    pub recompute: bool,
    /// Whether batch norms of several replicas go by the statistics of the whole batch, not of each replica's rows.
    pub sync_batch_norm: bool,
    /// Parameters that are not trained, by name.
    pub freeze: Vec<Pattern>,
    /// Factors of the learning rate by name; the first that fits counts.
    pub rates: Vec<(Pattern, f64)>,
    /// Seed of initial values, shuffling and dropout.
    pub seed: u64,
    /// What this replica does where several train one model; `batch` is that of all of them together.
    pub part: Option<Part>,
}

impl Config {
    /// The rows of each training batch that this replica takes.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.part.map_or(0..self.batch, |part| part.rows(self.batch))
    }

    fn training(&self, name: &str) -> Training {
        if self.freeze.iter().any(|pattern| pattern.matches(name)) {
            return Training::Frozen;
        }
        let rate = self.rates.iter().find(|(pattern, _)| pattern.matches(name));
        Training::Rate(rate.map_or(1.0, |(_, rate)| *rate))
    }

    /// A pattern that fits no parameter is a mistake in it.
    fn check_patterns(&self, builder: &Builder) -> Result<(), TrainError> {
        let names: Vec<&str> = builder.specs().iter().map(|spec| spec.name.as_str()).collect();
        let patterns: Vec<Pattern> =
            self.freeze.iter().chain(self.rates.iter().map(|(pattern, _)| pattern)).cloned().collect();
        Ok(Pattern::check_all(&patterns, &names)?)
    }
}

impl Default for Config {
    /// AdamW at 1e-3, constant, batch 64.
    fn default() -> Self {
        let optimizer =
            Optimizer::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decoupled: true };
        Self {
            optimizer,
            lr: 1e-3,
            schedule: Schedule::Constant,
            warmup: 0,
            clip_norm: None,
            batch: 64,
            eval_batch: 256,
            accumulate: 1,
            ema: None,
            label_smoothing: 0.0,
            class_weights: None,
            recompute: false,
            sync_batch_norm: false,
            freeze: Vec::new(),
            rates: Vec::new(),
            seed: 0,
            part: None,
        }
    }
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum SplitName {
    Train,
    Validation,
    Test,
}

impl SplitName {
    /// `train`, `validation` or `test`.
    pub fn as_str(self) -> &'static str {
        match self {
            SplitName::Train => "train",
            SplitName::Validation => "validation",
            SplitName::Test => "test",
        }
    }

    /// That part of some splits.
    pub fn of(self, splits: &Splits) -> Option<&Dataset> {
        match self {
            SplitName::Train => Some(&splits.train),
            SplitName::Validation => splits.validation.as_ref(),
            SplitName::Test => Some(&splits.test),
        }
    }
}

/// Examples and their shape: what a plan needs to know of a part of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitShape {
    /// Which part.
    pub name: SplitName,
    /// Number of examples.
    pub len: usize,
    /// Shape of the features of an example: `[channels, height, width]` for images, `[features]` for numbers.
    pub shape: Vec<usize>,
}

impl SplitShape {
    /// Features of an example.
    pub fn features(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Where a part of the data lies on the device, if it fits an operand; else its batches are uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub group: GroupId,
    pub features: EntryId,
    pub targets_group: GroupId,
    pub targets: EntryId,
}

/// Part of a step: with accumulation, several passes make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The only pass: gradients go straight to the optimizer.
    Whole,
    /// The first of several: gradients are kept.
    First,
    /// Gradients are added.
    Middle,
    /// Gradients are added and the optimizer runs.
    Last,
    /// The optimizer runs by gradients that all replicas have added up.
    Update,
    /// The moving average follows parameters that came from several replicas.
    Average,
}

/// Everything that a device needs to train and evaluate a model on some data, known before anything is allocated.
pub struct Plan {
    /// How to train.
    pub config: Config,
    /// What the outputs mean.
    pub task: Task,
    /// The state on the device.
    pub states: States,
    /// The parameters in it.
    pub params: Params,
    pub(crate) module: Box<dyn Module>,
    pub(crate) optim: OptimState,
    pub(crate) average: Option<GroupId>,
    pub(crate) gradients: Option<GroupId>,
    pub(crate) shard: Option<Shard>,
    /// What replicas add up in the midst of a pass.
    pub(crate) exchange: Option<Exchange>,
    pub(crate) splits: Vec<(SplitShape, Option<Resident>)>,
    /// Values that parameters and buffers start from in place of their initial ones, by name.
    pub(crate) start: Vec<(String, Vec<f32>)>,
    /// Floating-point operations of a forward pass and of an update, each by itself.
    pub(crate) apart: (u64, u64),
    /// The programs of a step.
    pub passes: Vec<(Phase, Program)>,
    /// The program that evaluates each part of the data but the training part.
    pub evaluations: Vec<(SplitName, Program)>,
}

impl Plan {
    /// Plans training of a model on data.
    ///
    /// # Errors
    /// Mistakes in the model; a batch larger than the data.
    pub fn new(model: Model, splits: &Splits, config: Config, limits: &Limits) -> Result<Self, TrainError> {
        let task = Task::of(&splits.train, config.label_smoothing);
        let shapes =
            [SplitName::Train, SplitName::Validation, SplitName::Test].into_iter().filter_map(|name| {
                let data = name.of(splits)?;
                Some(SplitShape { name, len: data.len(), shape: data.feature_shape().to_vec() })
            });
        let mut states = States::new();
        config.check_patterns(&model.builder)?;
        let params = model.builder.finish_with(&mut states, |name| config.training(name));
        if params.trained() == 0 {
            return Err(TrainError::Config("the model has no parameters to train".into()));
        }
        if let (Task::Classification { classes, .. }, Some(weights)) = (task, &config.class_weights)
            && weights.len() != classes
        {
            let message = format!("train.class_weights: there are {classes} classes, not {}", weights.len());
            return Err(TrainError::Config(message));
        }
        let mut names: Vec<&str> = params.specs().iter().map(|spec| spec.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message =
                format!("two parameters are called {}; make their layers in scopes of their own", pair[0]);
            return Err(TrainError::Config(message));
        }
        if let Some(Part { ranks, .. }) = config.part.filter(|part| config.batch < part.ranks) {
            let batch = config.batch;
            return Err(TrainError::Config(format!(
                "train.batch is {batch}: {ranks} replicas need {ranks} examples at least"
            )));
        }
        let shard = config.part.filter(|part| part.shard);
        let shard = shard.map(|part| Shard::declare(&mut states, &params, part));
        let updated = shard.as_ref().map_or(params.group(), |shard| shard.parameters);
        let optim = config.optimizer.declare_like(&mut states, updated);
        let average = config.ema.map(|_| states.group_like("average", params.group()));
        let kept = config.accumulate > 1 || config.part.is_some();
        let gradients = kept.then(|| states.group_like("gradients", params.group()));
        let syncs = config.sync_batch_norm && config.part.is_some_and(|part| part.ranks > 1);
        let (rows, batch) = (config.rows().len(), config.batch);
        let exchange = if syncs { params.declare_exchange(&mut states, rows, batch) } else { None };
        if exchange.is_some() && config.recompute {
            return Err(TrainError::Config(
                "train.sync_batch_norm and train.recompute exclude each other: replicas would have to add up statistics again"
                    .into(),
            ));
        }
        let augmented = !splits.augment.is_off();
        let splits = shapes.map(|shape| {
            // What changes from epoch to epoch is made ready on the host.
            let stays = !(augmented && shape.name == SplitName::Train);
            let resident = stays.then(|| resident(&mut states, &shape, task, limits)).flatten();
            (shape, resident)
        });
        let splits = splits.collect();
        let (passes, evaluations) = (Vec::new(), Vec::new());
        let mut plan = Self {
            config,
            task,
            states,
            params,
            module: model.module,
            optim,
            average,
            gradients,
            shard,
            exchange,
            splits,
            start: Vec::new(),
            apart: (0, 0),
            passes,
            evaluations,
        };
        let options = Options::within(limits);
        plan.passes = plan.plan_passes(limits)?;
        plan.apart = plan.plan_apart(limits)?;
        for i in 0..plan.splits.len() {
            let name = plan.splits[i].0.name;
            if name == SplitName::Train {
                continue;
            }
            plan.evaluations.push((name, compile(&plan.trace_evaluation(name)?, options)?));
        }
        let passes = plan.passes.iter_mut().map(|(_, program)| program);
        let evaluations = plan.evaluations.iter_mut().map(|(_, program)| program);
        share_slabs(&mut passes.chain(evaluations).collect::<Vec<_>>(), limits.buffer_bytes);
        Ok(plan)
    }

    /// Starts parameters and buffers from weights, by name; parameters that one of `replace` fits keep their random start.
    ///
    /// # Errors
    /// Names the weights do not have, other shapes, patterns that fit nothing.
    pub fn start_from(&mut self, weights: &Weights, replace: Vec<Pattern>) -> Result<(), TrainError> {
        let params = self.params.specs().iter().map(|spec| (&spec.name, &spec.shape));
        let buffers = self.params.buffers().iter().map(|spec| (&spec.name, &spec.shape));
        let wanted: Vec<(String, Vec<usize>)> =
            params.chain(buffers).map(|(name, shape)| (name.clone(), shape.to_vec())).collect();
        let assignment = weights.assign(&wanted, &AssignOptions { replace })?;
        assignment.complete()?;
        let found = assignment.found.iter();
        self.start = found.map(|(name, tensor)| ((*name).to_owned(), tensor.values().to_vec())).collect();
        Ok(())
    }

    /// Groups that training changes or that a model is made of, in the order of a checkpoint: a plain state dictionary
    /// (parameters, frozen ones, buffers), and the others.
    pub(crate) fn kept_groups(&self) -> (Vec<GroupId>, Vec<GroupId>) {
        let model = [Some(self.params.group()), self.params.frozen(), self.params.buffer_group()];
        let others = self.optim.moments.iter().copied().chain(self.average);
        (model.into_iter().flatten().collect(), others.collect())
    }

    /// What pass number `pass` of a step is.
    pub(crate) fn phase(&self, pass: u64) -> Phase {
        match pass {
            _ if self.config.accumulate <= 1 => Phase::Whole,
            0 => Phase::First,
            _ if pass + 1 == self.config.accumulate => Phase::Last,
            _ => Phase::Middle,
        }
    }

    /// The programs of a step, and how often it runs each.
    pub fn step_programs(&self) -> Vec<(&Program, u64)> {
        self.passes.iter().map(|(phase, program)| (program, self.often(*phase))).collect()
    }

    /// How often a step has a pass.
    pub(crate) fn often(&self, phase: Phase) -> u64 {
        if phase == Phase::Middle { self.config.accumulate - 2 } else { 1 }
    }

    /// Floating-point operations of a step.
    pub fn flops_per_step(&self) -> u64 {
        self.step_programs().into_iter().map(|(program, often)| program.cost().flops * often).sum()
    }

    /// Dispatches of a step.
    pub fn dispatches_per_step(&self) -> u64 {
        self.step_programs().into_iter().map(|(program, often)| program.dispatches.len() as u64 * often).sum()
    }

    pub(crate) fn split(&self, name: SplitName) -> Option<&(SplitShape, Option<Resident>)> {
        self.splits.iter().find(|(shape, _)| shape.name == name)
    }

    /// The programs of a step.
    pub(crate) fn plan_passes(&self, limits: &Limits) -> Result<Vec<(Phase, Program)>, TrainError> {
        let planned = |&phase| Ok((phase, compile(&self.trace_pass(phase)?, Options::within(limits))?));
        phases(self.config.accumulate).iter().chain(&self.phases_after()).map(planned).collect()
    }

    /// What replicas have to add up while a pass goes on, in the order in which all of them do.
    pub(crate) fn exchanges(&self, program: &Program) -> Vec<Readback> {
        let Some(Exchange { sent, received, .. }) = self.exchange else { return Vec::new() };
        let readings = self.states.get(sent).entries.iter().filter_map(|entry| {
            let range = entry.offset..entry.offset + entry.shape.numel();
            let after = program.final_after(sent, &range);
            // A norm that is frozen sends nothing.
            (after > 0).then_some(Readback { group: sent, range, after, reply: Some(received) })
        });
        let mut readings: Vec<Readback> = readings.collect();
        readings.sort_by_key(|reading| reading.after);
        readings
    }

    /// What follows the passes of a step once the gradients of all replicas are added up.
    fn phases_after(&self) -> Vec<Phase> {
        let mut phases = Vec::new();
        if self.config.part.is_some() && self.shard.as_ref().is_none_or(|shard| !shard.range.is_empty()) {
            phases.push(Phase::Update);
        }
        if self.shard.is_some() && self.average.is_some() {
            phases.push(Phase::Average);
        }
        phases
    }

    /// The rows of each training batch that this replica takes: all of them where it is alone.
    pub fn rows(&self) -> Range<usize> {
        self.config.rows()
    }
}

/// Type of the targets of `len` examples.
pub(crate) fn target_type(task: Task, len: usize) -> TensorType {
    match task {
        Task::Classification { .. } => TensorType::u32([len]),
        Task::Regression { width } => TensorType::f32([len, width]),
    }
}

fn phases(accumulate: u64) -> &'static [Phase] {
    match accumulate {
        0 | 1 => &[Phase::Whole],
        2 => &[Phase::First, Phase::Last],
        _ => &[Phase::First, Phase::Middle, Phase::Last],
    }
}

/// Gives a part of the data a place on the device if the device can bind it as one operand.
fn resident(states: &mut States, shape: &SplitShape, task: Task, limits: &Limits) -> Option<Resident> {
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
