//! Parameters and the context in which layers are traced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use wgrad_graph::{DType, EntryId, Graph, GroupId, Shape, States, Var};
use wgrad_ops::Places;

use crate::init::Init;

/// A layer, or a whole model: a function from tensor to tensor with parameters.
pub trait Module {
    /// Records the layer on the graph of `x`.
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g>;
}

/// How many of `layers` layers of one kind make a segment ([`Graph::segment`]), where a layer computes about `inside` values
/// of the size of its input: as many as keep the fewest values when segments are computed again, the input of each segment
/// and all of one.
pub(crate) fn layers_a_segment(layers: usize, inside: usize) -> usize {
    (layers / inside.max(1)).isqrt().max(1)
}

/// Handle to a parameter of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Param(usize);

/// Handle to a buffer of a model: a tensor that it keeps and that no gradient changes, such as a running mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buffer(usize);

/// Handle to a tensor that replicas add up in the midst of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Summed(usize);

/// What replicas add up in the midst of a step, and this one's share of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The group of what this replica adds.
    pub sent: GroupId,
    /// The group of the sums, laid out alike.
    pub received: GroupId,
    /// Examples that this replica has.
    pub rows: usize,
    /// Examples that all have.
    pub batch: usize,
}

impl Exchange {
    /// Where a tensor goes, and where its sum comes from.
    pub fn places(&self, summed: Summed) -> Places {
        let entry = |group| EntryId { group, index: summed.0 };
        Places { sent: entry(self.sent), received: entry(self.received) }
    }
}

/// What a layer declares about a buffer.
#[derive(Debug, Clone)]
pub struct BufferSpec {
    /// Full name, e.g. `layer1.0.bn1.running_mean`.
    pub name: String,
    /// Shape.
    pub shape: Shape,
    /// Initial value of every element.
    pub value: f32,
}

/// How the parameters of a model are trained: by name.
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
    /// Stays as it is: no gradient is computed and no moment kept. A batch norm whose weight is frozen keeps its
    /// statistics as well.
    Frozen,
    /// Follows its gradient at the learning rate times this.
    Rate(f64),
}

/// A run of trained parameters, in the order in which they lie, that are trained alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// First element after it.
    pub end: usize,
    /// Factor of the learning rate.
    pub rate: f64,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// What a layer declares about a parameter.
#[derive(Debug, Clone)]
pub struct ParamSpec {
    /// Full name, e.g. `body.0.weight`.
    pub name: String,
    /// Shape.
    pub shape: Shape,
    /// Initial values.
    pub init: Init,
    /// Whether weight decay applies: to matrices, by custom, and not to biases and norms.
    pub decay: bool,
}

/// Collects the parameters of a model while its layers are made.
#[derive(Debug, Default)]
pub struct Builder {
    specs: Vec<ParamSpec>,
    buffers: Vec<BufferSpec>,
    summed: Vec<Shape>,
    path: Vec<String>,
}

impl Builder {
    /// No parameters yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a parameter under the current layer name.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init, decay: bool) -> Param {
        let name = self.full(name);
        self.specs.push(ParamSpec { name, shape: shape.into(), init, decay });
        Param(self.specs.len() - 1)
    }

    /// Declares a buffer under the current layer name, with one value everywhere at first.
    pub fn buffer(&mut self, name: &str, shape: impl Into<Shape>, value: f32) -> Buffer {
        let name = self.full(name);
        self.buffers.push(BufferSpec { name, shape: shape.into(), value });
        Buffer(self.buffers.len() - 1)
    }

    /// Declares a tensor that replicas add up in the midst of a step, where they do.
    pub fn summed(&mut self, shape: impl Into<Shape>) -> Summed {
        self.summed.push(shape.into());
        Summed(self.summed.len() - 1)
    }

    fn full(&self, name: &str) -> String {
        self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }

    /// What has been declared so far.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The buffers that have been declared so far.
    pub fn buffers(&self) -> &[BufferSpec] {
        &self.buffers
    }

    /// Makes layers under a name.
    pub fn scope<T>(&mut self, name: impl Into<String>, make: impl FnOnce(&mut Builder) -> T) -> T {
        self.path.push(name.into());
        let made = make(self);
        self.path.pop();
        made
    }

    /// Lays the parameters into a new group of `states` named `parameters`, all of them trained alike.
    pub fn finish(self, states: &mut States) -> Params {
        self.finish_with(states, |_| Training::Rate(1.0))
    }

    /// Lays the parameters into a new group of `states` named `parameters`, those that are trained alike one after the
    /// other, so that an optimizer can tell them apart by position; frozen ones into a group `frozen`, and buffers into a
    /// group `buffers`, where there are any.
    pub fn finish_with(self, states: &mut States, training: impl Fn(&str) -> Training) -> Params {
        let training: Vec<Training> = self.specs.iter().map(|spec| training(&spec.name)).collect();
        let group = states.group("parameters", DType::F32);
        let mut entries: Vec<Option<EntryId>> = vec![None; self.specs.len()];
        let mut segments: Vec<Segment> = Vec::new();
        // In order of appearance; weights before what does not decay.
        let mut rates: Vec<f64> = Vec::new();
        for rate in training.iter().filter_map(|training| training.rate()) {
            if !rates.contains(&rate) {
                rates.push(rate);
            }
        }
        for (rate, decay) in rates.iter().flat_map(|&rate| [(rate, true), (rate, false)]) {
            let alike = |i: &usize| training[*i].rate() == Some(rate) && self.specs[*i].decay == decay;
            for i in (0..self.specs.len()).filter(alike) {
                entries[i] = Some(states.entry(group, &self.specs[i].name, self.specs[i].shape.clone()));
            }
            let end = states.get(group).len();
            if segments.last().map_or(0, |last| last.end) < end {
                segments.push(Segment { end, rate, decay });
            }
        }
        let frozen = training.contains(&Training::Frozen).then(|| states.group("frozen", DType::F32));
        for (i, spec) in self.specs.iter().enumerate().filter(|(i, _)| training[*i] == Training::Frozen) {
            entries[i] = frozen.map(|frozen| states.entry(frozen, &spec.name, spec.shape.clone()));
        }
        let kept = (!self.buffers.is_empty()).then(|| states.group("buffers", DType::F32));
        let buffer_entries = self
            .buffers
            .iter()
            .filter_map(|spec| kept.map(|kept| states.entry(kept, &spec.name, spec.shape.clone())));
        Params {
            buffer_entries: buffer_entries.collect(),
            specs: self.specs,
            buffers: self.buffers,
            summed: self.summed,
            group,
            frozen,
            kept,
            entries: entries.into_iter().flatten().collect(),
            segments,
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

/// The parameters and buffers of a model: the trained parameters flat in one group, the frozen ones in another, and the
/// buffers in a third.
#[derive(Debug, Clone)]
pub struct Params {
    specs: Vec<ParamSpec>,
    buffers: Vec<BufferSpec>,
    summed: Vec<Shape>,
    group: GroupId,
    frozen: Option<GroupId>,
    kept: Option<GroupId>,
    entries: Vec<EntryId>,
    buffer_entries: Vec<EntryId>,
    segments: Vec<Segment>,
}

impl Params {
    /// The group of the trained parameters.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The group of the frozen parameters, if there are any.
    pub fn frozen(&self) -> Option<GroupId> {
        self.frozen
    }

    /// The group of the buffers, if there are any.
    pub fn buffer_group(&self) -> Option<GroupId> {
        self.kept
    }

    /// Name, shape and initial values of the parameters, in order of declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Name, shape and initial value of the buffers, in order of declaration.
    pub fn buffers(&self) -> &[BufferSpec] {
        &self.buffers
    }

    /// Declares the groups `exchange.sent` and `exchange.received` for what replicas add up in the midst of a step; `None`
    /// where the model has nothing of that kind.
    pub fn declare_exchange(&self, states: &mut States, rows: usize, batch: usize) -> Option<Exchange> {
        if self.summed.is_empty() {
            return None;
        }
        let sent = states.group("exchange.sent", DType::F32);
        for (i, shape) in self.summed.iter().enumerate() {
            states.entry(sent, i.to_string(), shape.clone());
        }
        Some(Exchange { sent, received: states.group_like("exchange.received", sent), rows, batch })
    }

    /// Where each parameter lies, in order of declaration.
    pub fn entries(&self) -> &[EntryId] {
        &self.entries
    }

    /// Number of numbers in all parameters, frozen ones included.
    pub fn count(&self) -> usize {
        self.specs.iter().map(|spec| spec.shape.numel()).sum()
    }

    /// Number of trained numbers.
    pub fn trained(&self) -> usize {
        let all = self.specs.iter().zip(&self.entries);
        all.filter(|(_, entry)| entry.group == self.group).map(|(spec, _)| spec.shape.numel()).sum()
    }

    /// The runs of the trained parameters, in the order in which they lie.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The runs of a part of the trained parameters, counted from its start. The part begins and ends between tensors, or
    /// at a multiple of 64 elements.
    pub fn segments_of(&self, part: &Range<usize>) -> Vec<Segment> {
        let mut before = 0;
        let mut segments = Vec::new();
        for segment in &self.segments {
            let (start, end) = (before.max(part.start), segment.end.min(part.end));
            before = segment.end;
            if start < end {
                segments.push(Segment { end: end - part.start, ..*segment });
            }
        }
        segments
    }

    /// Initial values of a whole group of parameters, trained or frozen, padding zero.
    ///
    /// Each parameter draws from a stream of its own, chosen by its name, so that a layer added elsewhere changes nothing.
    pub fn initial(&self, states: &States, group: GroupId, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; states.get(group).len()];
        for (spec, &entry) in self.specs.iter().zip(&self.entries).filter(|(_, entry)| entry.group == group) {
            let start = states.get_entry(entry).offset;
            spec.init.fill(&mut values[start..start + spec.shape.numel()], &spec.shape, seed, &spec.name);
        }
        values
    }

    /// Initial values of the group of the buffers, padding zero; empty where there is none.
    pub fn initial_buffers(&self, states: &States) -> Vec<f32> {
        let mut values = vec![0.0; self.kept.map_or(0, |kept| states.get(kept).len())];
        for (spec, &entry) in self.buffers.iter().zip(&self.buffer_entries) {
            let start = states.get_entry(entry).offset;
            values[start..start + spec.shape.numel()].fill(spec.value);
        }
        values
    }
}

/// Whether a model is traced to be trained or to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout drops, and a batch norm goes by its batch.
    Train,
    /// Dropout does nothing.
    Evaluate,
}

/// What layers need while they are traced: parameters, mode and randomness.
#[derive(Debug)]
pub struct Context<'p, 'g> {
    graph: &'g Graph,
    params: &'p Params,
    group: GroupId,
    mode: Mode,
    rng: Option<Var<'g>>,
    first_row: usize,
    exchange: Option<Exchange>,
    vars: RefCell<BTreeMap<Param, Var<'g>>>,
}

impl<'p, 'g> Context<'p, 'g> {
    /// Traces in evaluation mode, on the parameters themselves.
    pub fn new(graph: &'g Graph, params: &'p Params) -> Self {
        let (group, mode, vars) = (params.group, Mode::Evaluate, RefCell::default());
        Self { graph, params, group, mode, rng: None, first_row: 0, exchange: None, vars }
    }

    /// Traces in training mode. `rng` is u32 `[3]`: low and high word of the seed, and the step.
    pub fn training(self, rng: Var<'g>) -> Self {
        Self { mode: Mode::Train, rng: Some(rng), ..self }
    }

    /// The examples are those from number `first` on of a larger batch: what is random follows their numbers there.
    pub fn from_row(self, first: usize) -> Self {
        Self { first_row: first, ..self }
    }

    /// Layers that go by the batch go by that of all replicas.
    pub fn exchanging(self, exchange: Option<Exchange>) -> Self {
        Self { exchange, ..self }
    }

    /// Reads parameters from a group laid out like theirs, e.g. their moving average.
    pub fn reading(self, group: GroupId) -> Self {
        Self { group, ..self }
    }

    /// The graph.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// Training or evaluation.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A parameter as a value of the graph.
    pub fn param(&self, param: Param) -> Var<'g> {
        let mut entry = self.params.entries[param.0];
        if entry.group == self.params.group {
            entry.group = self.group;
        }
        *self.vars.borrow_mut().entry(param).or_insert_with(|| self.graph.entry(entry))
    }

    /// True for a parameter that is not trained.
    pub fn is_frozen(&self, param: Param) -> bool {
        self.params.entries[param.0].group != self.params.group
    }

    /// A buffer as a value of the graph, as it is before the step.
    pub fn buffer(&self, buffer: Buffer) -> Var<'g> {
        self.graph.entry(self.params.buffer_entries[buffer.0])
    }

    /// Says what a buffer becomes after the step.
    pub fn update_buffer(&self, buffer: Buffer, value: Var<'g>) {
        self.graph.update_entry(self.params.buffer_entries[buffer.0], value);
    }

    /// The trained parameters in order of their place in the group, with the first element of each.
    pub fn all_params(&self) -> Vec<(Var<'g>, usize)> {
        let states = self.graph.states();
        let trained = (0..self.params.entries.len()).filter(|&i| !self.is_frozen(Param(i)));
        let mut all: Vec<_> = trained.map(|i| (self.param(Param(i)), self.params.entries[i])).collect();
        all.sort_by_key(|(_, entry)| entry.index);
        all.into_iter().map(|(var, entry)| (var, states.get_entry(entry).offset)).collect()
    }

    /// The trained parameters and their names, in order of declaration.
    pub fn params_in_order(&self) -> impl Iterator<Item = (Var<'g>, &'p str)> {
        let trained = (0..self.params.entries.len()).filter(|&i| !self.is_frozen(Param(i)));
        trained.map(|i| (self.param(Param(i)), self.params.specs[i].name.as_str()))
    }

    /// Number of the first example in the whole batch, of which this one may be a part.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// What replicas add up, where they do.
    pub fn exchange(&self) -> Option<Exchange> {
        self.exchange
    }

    /// The generator's key, in training mode.
    pub fn rng(&self) -> Option<Var<'g>> {
        self.rng
    }
}
