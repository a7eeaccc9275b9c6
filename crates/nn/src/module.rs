//! Parameters and the context in which layers are traced.

use std::cell::RefCell;
use std::collections::BTreeMap;

use wgrad_graph::{DType, EntryId, Graph, GroupId, Shape, States, Var};

use crate::init::Init;

/// A layer, or a whole model: a function from tensor to tensor with parameters.
pub trait Module {
    /// Records the layer on the graph of `x`.
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g>;
}

/// Handle to a parameter of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Param(usize);

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
    path: Vec<String>,
}

impl Builder {
    /// No parameters yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a parameter under the current layer name.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init, decay: bool) -> Param {
        let name = self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
        self.specs.push(ParamSpec { name, shape: shape.into(), init, decay });
        Param(self.specs.len() - 1)
    }

    /// Makes layers under a name.
    pub fn scope<T>(&mut self, name: impl Into<String>, make: impl FnOnce(&mut Builder) -> T) -> T {
        self.path.push(name.into());
        let made = make(self);
        self.path.pop();
        made
    }

    /// Lays the parameters into a new group of `states` named `parameters`: those with weight decay first, each kind in
    /// order of declaration, so that an optimizer can tell them apart by position.
    pub fn finish(self, states: &mut States) -> Params {
        let group = states.group("parameters", DType::F32);
        let mut entries: Vec<Option<EntryId>> = vec![None; self.specs.len()];
        let mut decayed = 0;
        for decay in [true, false] {
            for (i, spec) in self.specs.iter().enumerate().filter(|(_, spec)| spec.decay == decay) {
                entries[i] = Some(states.entry(group, &spec.name, spec.shape.clone()));
            }
            if decay {
                decayed = states.get(group).len();
            }
        }
        Params { specs: self.specs, group, entries: entries.into_iter().flatten().collect(), decayed }
    }
}

/// The parameters of a model, laid flat in one group.
#[derive(Debug, Clone)]
pub struct Params {
    specs: Vec<ParamSpec>,
    group: GroupId,
    entries: Vec<EntryId>,
    decayed: usize,
}

impl Params {
    /// The group they lie in.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Name, shape and initial values, in order of declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Where each lies, in order of declaration.
    pub fn entries(&self) -> &[EntryId] {
        &self.entries
    }

    /// Number of trainable numbers.
    pub fn count(&self) -> usize {
        self.specs.iter().map(|spec| spec.shape.numel()).sum()
    }

    /// Elements at the front of the group to which weight decay applies.
    pub fn decayed(&self) -> usize {
        self.decayed
    }

    /// Initial values of the whole group, padding zero.
    ///
    /// Each parameter draws from a stream of its own, chosen by its name, so that a layer added elsewhere changes nothing.
    pub fn initial(&self, states: &States, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; states.get(self.group).len()];
        for (spec, &entry) in self.specs.iter().zip(&self.entries) {
            let start = states.get_entry(entry).offset;
            spec.init.fill(&mut values[start..start + spec.shape.numel()], &spec.shape, seed, &spec.name);
        }
        values
    }
}

/// Whether a model is traced to be trained or to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout drops.
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
    vars: RefCell<BTreeMap<Param, Var<'g>>>,
}

impl<'p, 'g> Context<'p, 'g> {
    /// Traces in evaluation mode, on the parameters themselves.
    pub fn new(graph: &'g Graph, params: &'p Params) -> Self {
        Self { graph, params, group: params.group, mode: Mode::Evaluate, rng: None, vars: RefCell::default() }
    }

    /// Traces in training mode. `rng` is u32 `[3]`: low and high word of the seed, and the step.
    pub fn training(self, rng: Var<'g>) -> Self {
        Self { mode: Mode::Train, rng: Some(rng), ..self }
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
        let entry = EntryId { group: self.group, ..self.params.entries[param.0] };
        *self.vars.borrow_mut().entry(param).or_insert_with(|| self.graph.entry(entry))
    }

    /// All parameters in order of their place in the group, with the first element of each.
    pub fn all_params(&self) -> Vec<(Var<'g>, usize)> {
        let states = self.graph.states();
        let mut all: Vec<_> =
            (0..self.params.entries.len()).map(|i| (self.param(Param(i)), self.params.entries[i])).collect();
        all.sort_by_key(|(_, entry)| entry.index);
        all.into_iter().map(|(var, entry)| (var, states.get_entry(entry).offset)).collect()
    }

    /// The generator's key, in training mode.
    pub fn rng(&self) -> Option<Var<'g>> {
        self.rng
    }
}
