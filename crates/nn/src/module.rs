//! Parameters, buffers, and the context in which layers are traced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use wgrad_graph::{DType, EntryId, Graph, GroupId, Shape, States, Var};
use wgrad_ops::AllReduceSlots;

use crate::init::Init;

/// A layer or model: a function with parameters that maps a tensor to a tensor.
pub trait Module {
    /// Records the layer on the graph of `x`.
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g>;
}

/// Returns the number of layers per recomputed segment ([`Graph::segment`]) for which the fewest values are kept.
///
/// The model has `layers` equal layers, each of which computes about `values_per_layer` tensors of the size of its
/// input. With recomputation, the input of every segment and all values of one segment are kept.
pub(crate) fn layers_per_segment(layers: usize, values_per_layer: usize) -> usize {
    (layers / values_per_layer.max(1)).isqrt().max(1)
}

/// Handle to a parameter of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Param(usize);

/// Handle to a buffer of a model: state that is not trained by gradients, such as a running mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buffer(usize);

/// Handle to a tensor that is summed over replicas within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncTensor(usize);

/// State groups of the tensors that are summed over replicas within a step, and the sizes of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaSync {
    /// Group of the summands of this replica.
    pub sent: GroupId,
    /// Group of the sums, with the same layout.
    pub received: GroupId,
    /// Number of examples of this replica.
    pub rows: usize,
    /// Number of examples of all replicas.
    pub batch: usize,
}

impl ReplicaSync {
    /// Returns the state entries of a tensor.
    pub fn slots(&self, tensor: SyncTensor) -> AllReduceSlots {
        let entry = |group| EntryId { group, index: tensor.0 };
        AllReduceSlots { sent: entry(self.sent), received: entry(self.received) }
    }
}

/// Name, shape and initial value of a buffer.
#[derive(Debug, Clone)]
pub struct BufferSpec {
    /// Full name, e.g. `layer1.0.bn1.running_mean`.
    pub name: String,
    /// Shape of the buffer.
    pub shape: Shape,
    /// Initial value of every element.
    pub value: f32,
}

/// Whether a parameter is trained, and the factor of its learning rate. Usually chosen by the name of the parameter.
///
/// ```
/// use wgrad_nn::Training;
///
/// let training = |name: &str| match name {
///     name if name.starts_with("layer1.") => Training::Frozen,
///     name if name.starts_with("fc.") => Training::Rate(10.0),
///     _ => Training::Rate(1.0),
/// };
/// assert_eq!(training("fc.weight"), Training::Rate(10.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Training {
    /// Not trained: no gradient is computed and no optimizer state is kept. A batch norm with a frozen weight does not
    /// update its running statistics either.
    Frozen,
    /// Trained with the learning rate times this factor.
    Rate(f64),
}

/// Contiguous range of the trained parameters with the same hyperparameters. The range starts where the previous group
/// ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParamGroup {
    /// Index of the first element after the group.
    pub end: usize,
    /// Factor by which the learning rate is multiplied.
    pub rate: f64,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// Name, shape, initialization and weight decay of a parameter.
#[derive(Debug, Clone)]
pub struct ParamSpec {
    /// Full name, e.g. `body.0.weight`.
    pub name: String,
    /// Shape of the parameter.
    pub shape: Shape,
    /// Initialization of the elements.
    pub init: Init,
    /// Whether weight decay applies. By convention, weight decay applies to matrices but not to biases and norms.
    pub decay: bool,
}

/// Collects the parameters of a model while its layers are created.
#[derive(Debug, Default)]
pub struct Builder {
    specs: Vec<ParamSpec>,
    buffers: Vec<BufferSpec>,
    sync_tensors: Vec<Shape>,
    path: Vec<String>,
}

impl Builder {
    /// Creates a builder without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a parameter in the current scope.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init, decay: bool) -> Param {
        let name = self.full_name(name);
        self.specs.push(ParamSpec { name, shape: shape.into(), init, decay });
        Param(self.specs.len() - 1)
    }

    /// Declares a buffer in the current scope, in which all elements are initially `value`.
    pub fn buffer(&mut self, name: &str, shape: impl Into<Shape>, value: f32) -> Buffer {
        let name = self.full_name(name);
        self.buffers.push(BufferSpec { name, shape: shape.into(), value });
        Buffer(self.buffers.len() - 1)
    }

    /// Declares a tensor that is summed over replicas within a step, if the training run synchronizes replicas.
    pub fn sync_tensor(&mut self, shape: impl Into<Shape>) -> SyncTensor {
        self.sync_tensors.push(shape.into());
        SyncTensor(self.sync_tensors.len() - 1)
    }

    fn full_name(&self, name: &str) -> String {
        self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }

    /// Returns the specifications of the parameters declared so far.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Returns the specifications of the buffers declared so far.
    pub fn buffers(&self) -> &[BufferSpec] {
        &self.buffers
    }

    /// Calls `build` in a scope: the names of its parameters start with `name`.
    pub fn scope<T>(&mut self, name: impl Into<String>, build: impl FnOnce(&mut Builder) -> T) -> T {
        self.path.push(name.into());
        let layer = build(self);
        self.path.pop();
        layer
    }

    /// Creates the state group `parameters` with all parameters, which are trained with the same learning rate.
    pub fn finish(self, states: &mut States) -> Params {
        self.finish_with(states, |_| Training::Rate(1.0))
    }

    /// Creates the state groups `parameters`, `frozen` and `buffers`; the last two only if the model has such tensors.
    ///
    /// Parameters with the same hyperparameters are contiguous, so that an optimizer can distinguish them by position.
    pub fn finish_with(self, states: &mut States, training: impl Fn(&str) -> Training) -> Params {
        let training: Vec<Training> = self.specs.iter().map(|spec| training(&spec.name)).collect();
        let group = states.group("parameters", DType::F32);
        let mut entries: Vec<Option<EntryId>> = vec![None; self.specs.len()];
        let mut param_groups: Vec<ParamGroup> = Vec::new();
        // Rates in order of first appearance; within a rate, parameters with weight decay come first.
        let mut rates: Vec<f64> = Vec::new();
        for rate in training.iter().filter_map(|training| training.rate()) {
            if !rates.contains(&rate) {
                rates.push(rate);
            }
        }
        for (rate, decay) in rates.iter().flat_map(|&rate| [(rate, true), (rate, false)]) {
            let in_group = |i: &usize| training[*i].rate() == Some(rate) && self.specs[*i].decay == decay;
            for i in (0..self.specs.len()).filter(in_group) {
                entries[i] = Some(states.entry(group, &self.specs[i].name, self.specs[i].shape.clone()));
            }
            let end = states.get(group).len();
            if param_groups.last().map_or(0, |last| last.end) < end {
                param_groups.push(ParamGroup { end, rate, decay });
            }
        }
        let frozen = training.contains(&Training::Frozen).then(|| states.group("frozen", DType::F32));
        for (i, spec) in self.specs.iter().enumerate().filter(|(i, _)| training[*i] == Training::Frozen) {
            entries[i] = frozen.map(|frozen| states.entry(frozen, &spec.name, spec.shape.clone()));
        }
        let buffer_group = (!self.buffers.is_empty()).then(|| states.group("buffers", DType::F32));
        let buffer_entries = self
            .buffers
            .iter()
            .filter_map(|spec| buffer_group.map(|group| states.entry(group, &spec.name, spec.shape.clone())));
        Params {
            buffer_entries: buffer_entries.collect(),
            specs: self.specs,
            buffers: self.buffers,
            sync_tensors: self.sync_tensors,
            group,
            frozen,
            buffer_group,
            entries: entries.into_iter().flatten().collect(),
            param_groups,
        }
    }
}

impl Training {
    fn rate(self) -> Option<f64> {
        match self {
            Training::Frozen => None,
            Training::Rate(rate) => Some(rate),
        }
    }
}

/// Parameters and buffers of a model. Trained parameters, frozen parameters and buffers are in separate state groups.
#[derive(Debug, Clone)]
pub struct Params {
    specs: Vec<ParamSpec>,
    buffers: Vec<BufferSpec>,
    sync_tensors: Vec<Shape>,
    group: GroupId,
    frozen: Option<GroupId>,
    buffer_group: Option<GroupId>,
    entries: Vec<EntryId>,
    buffer_entries: Vec<EntryId>,
    param_groups: Vec<ParamGroup>,
}

impl Params {
    /// State group of the trained parameters.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// State group of the frozen parameters, if there are any.
    pub fn frozen(&self) -> Option<GroupId> {
        self.frozen
    }

    /// State group of the buffers, if there are any.
    pub fn buffer_group(&self) -> Option<GroupId> {
        self.buffer_group
    }

    /// Specifications of all parameters, in order of declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Specifications of all buffers, in order of declaration.
    pub fn buffers(&self) -> &[BufferSpec] {
        &self.buffers
    }

    /// Declares the groups `exchange.sent` and `exchange.received` for tensors that are summed over replicas within a
    /// step. Returns `None` if the model has no such tensors.
    pub fn declare_replica_sync(
        &self,
        states: &mut States,
        rows: usize,
        batch: usize,
    ) -> Option<ReplicaSync> {
        if self.sync_tensors.is_empty() {
            return None;
        }
        let sent = states.group("exchange.sent", DType::F32);
        for (i, shape) in self.sync_tensors.iter().enumerate() {
            states.entry(sent, i.to_string(), shape.clone());
        }
        Some(ReplicaSync { sent, received: states.group_like("exchange.received", sent), rows, batch })
    }

    /// State entries of all parameters, in order of declaration.
    pub fn entries(&self) -> &[EntryId] {
        &self.entries
    }

    /// Number of elements of all parameters, including frozen parameters.
    pub fn count(&self) -> usize {
        self.specs.iter().map(|spec| spec.shape.numel()).sum()
    }

    /// Number of elements of the trained parameters.
    pub fn trained(&self) -> usize {
        let all = self.specs.iter().zip(&self.entries);
        all.filter(|(_, entry)| entry.group == self.group).map(|(spec, _)| spec.shape.numel()).sum()
    }

    /// Groups of the trained parameters, in order of position.
    pub fn param_groups(&self) -> &[ParamGroup] {
        &self.param_groups
    }

    /// Returns the groups within a range of the trained parameters, with positions relative to the start of the range.
    /// The range must start and end between tensors or at a multiple of 64 elements.
    pub fn param_groups_in(&self, range: &Range<usize>) -> Vec<ParamGroup> {
        let mut group_start = 0;
        let mut groups = Vec::new();
        for group in &self.param_groups {
            let (start, end) = (group_start.max(range.start), group.end.min(range.end));
            group_start = group.end;
            if start < end {
                groups.push(ParamGroup { end: end - range.start, ..*group });
            }
        }
        groups
    }

    /// Returns the initial values of a group of parameters, trained or frozen, with zeros as padding.
    ///
    /// The name of a parameter determines its random stream, so adding a layer does not change the other parameters.
    pub fn initial(&self, states: &States, group: GroupId, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; states.get(group).len()];
        for (spec, &entry) in self.specs.iter().zip(&self.entries).filter(|(_, entry)| entry.group == group) {
            let start = states.get_entry(entry).offset;
            spec.init.fill(&mut values[start..start + spec.shape.numel()], &spec.shape, seed, &spec.name);
        }
        values
    }

    /// Returns the initial values of the buffer group, with zeros as padding. Returns an empty vector if the model has
    /// no buffers.
    pub fn initial_buffers(&self, states: &States) -> Vec<f32> {
        let mut values = vec![0.0; self.buffer_group.map_or(0, |group| states.get(group).len())];
        for (spec, &entry) in self.buffers.iter().zip(&self.buffer_entries) {
            let start = states.get_entry(entry).offset;
            values[start..start + spec.shape.numel()].fill(spec.value);
        }
        values
    }
}

/// Mode in which a model is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Training: dropout is active, and batch norms use the statistics of the batch.
    Train,
    /// Evaluation: dropout is the identity, and batch norms use the running statistics.
    Evaluate,
}

/// Context in which a model is traced: graph, parameters, mode and random number generator.
#[derive(Debug)]
pub struct Context<'p, 'g> {
    graph: &'g Graph,
    params: &'p Params,
    group: GroupId,
    mode: Mode,
    rng: Option<Var<'g>>,
    first_row: usize,
    replica_sync: Option<ReplicaSync>,
    vars: RefCell<BTreeMap<Param, Var<'g>>>,
}

impl<'p, 'g> Context<'p, 'g> {
    /// Creates a context in evaluation mode that reads the parameters from their own group.
    pub fn new(graph: &'g Graph, params: &'p Params) -> Self {
        let (group, mode, vars) = (params.group, Mode::Evaluate, RefCell::default());
        Self { graph, params, group, mode, rng: None, first_row: 0, replica_sync: None, vars }
    }

    /// Switches to training mode. `rng` is u32 `[3]`: low and high u32 of the seed, and the step.
    pub fn training(self, rng: Var<'g>) -> Self {
        Self { mode: Mode::Train, rng: Some(rng), ..self }
    }

    /// Sets the index of the first example within a larger batch. Random masks depend on this index.
    pub fn with_first_row(self, first: usize) -> Self {
        Self { first_row: first, ..self }
    }

    /// Makes layers compute batch statistics over all replicas. With `None`, they use the statistics of this replica.
    pub fn with_replica_sync(self, replica_sync: Option<ReplicaSync>) -> Self {
        Self { replica_sync, ..self }
    }

    /// Makes the context read the trained parameters from another group with the same layout, e.g. their moving
    /// average.
    pub fn with_params_from(self, group: GroupId) -> Self {
        Self { group, ..self }
    }

    /// Graph on which layers are recorded.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// Mode in which the model is traced.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns a parameter as a value of the graph.
    pub fn param(&self, param: Param) -> Var<'g> {
        let mut entry = self.params.entries[param.0];
        if entry.group == self.params.group {
            entry.group = self.group;
        }
        *self.vars.borrow_mut().entry(param).or_insert_with(|| self.graph.entry(entry))
    }

    /// Whether a parameter is not trained.
    pub fn is_frozen(&self, param: Param) -> bool {
        self.params.entries[param.0].group != self.params.group
    }

    /// Returns the value of a buffer before the step.
    pub fn buffer(&self, buffer: Buffer) -> Var<'g> {
        self.graph.entry(self.params.buffer_entries[buffer.0])
    }

    /// Sets the value of a buffer after the step.
    pub fn update_buffer(&self, buffer: Buffer, value: Var<'g>) {
        self.graph.update_entry(self.params.buffer_entries[buffer.0], value);
    }

    /// Returns the trained parameters in order of position, each with the index of its first element.
    pub fn all_params(&self) -> Vec<(Var<'g>, usize)> {
        let states = self.graph.states();
        let trained = (0..self.params.entries.len()).filter(|&i| !self.is_frozen(Param(i)));
        let mut all: Vec<_> = trained.map(|i| (self.param(Param(i)), self.params.entries[i])).collect();
        all.sort_by_key(|(_, entry)| entry.index);
        all.into_iter().map(|(var, entry)| (var, states.get_entry(entry).offset)).collect()
    }

    /// Iterates over the trained parameters with their names, in order of declaration.
    pub fn named_params(&self) -> impl Iterator<Item = (Var<'g>, &'p str)> {
        let trained = (0..self.params.entries.len()).filter(|&i| !self.is_frozen(Param(i)));
        trained.map(|i| (self.param(Param(i)), self.params.specs[i].name.as_str()))
    }

    /// Index of the first example within the whole batch.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// Synchronization of batch statistics over replicas, if enabled.
    pub fn replica_sync(&self) -> Option<ReplicaSync> {
        self.replica_sync
    }

    /// Seed and step of the random number generator, u32 `[3]`; `None` in evaluation mode.
    pub fn rng(&self) -> Option<Var<'g>> {
        self.rng
    }
}
