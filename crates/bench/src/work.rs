//! What is measured: a graph over state whose contents are random, and how exactly its results must agree.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, EntryId, Graph, GraphError, GroupId, Leaf, Shape, States};
use wgrad_nn::Optimizer;
use wgrad_ops::graph;
use wgrad_program::HostData;

/// Largest error of a result, relative to it or to the root mean square of its tensor, whichever is larger. Sums of random
/// terms cancel, so an element may be much smaller than the rounding of what it is a sum of.
const TOLERANCE: f64 = 1e-4;

/// A graph with what its state holds at first.
pub struct Work {
    /// What a run computes.
    pub graph: Graph,
    /// Contents of groups; the others are zero.
    pub data: Vec<(GroupId, HostData)>,
    /// Where the inputs of a run come from, if the graph has any.
    pub update: Option<Update>,
    /// Whether operations may share a kernel.
    pub fuse: bool,
    /// Largest relative error of a result.
    pub tolerance: f64,
    /// Whether a function on the way has a kink, as a ReLU has: rounding decides for a few of a million values on which side
    /// of 0 they are, and with that on whole terms of a gradient. Groups are then judged by [`Kinked`].
    pub kinked: bool,
    /// Groups that may be off by so much, whatever their values: where an optimizer divides a gradient by its own size, its
    /// last bit decides on a whole step.
    pub absolute: Vec<(GroupId, f64)>,
}

impl Work {
    /// The groups that a run changes, in order.
    pub fn updated(&self) -> Vec<GroupId> {
        let updates = self.graph.updates().into_iter();
        let mut groups: Vec<GroupId> = updates
            .filter_map(|(leaf, _)| match leaf {
                Leaf::Entry(entry) => Some(entry.group),
                Leaf::Group(group) => Some(group),
                Leaf::Input(_) => None,
            })
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// What a tensor of state may be off by, where a kink is on the way.
#[derive(Debug, Clone, Copy)]
pub struct Kinked {
    /// Each element, relative to it or to the root mean square of its tensor.
    pub element: f64,
    /// The tensor: the norm of the error over that of the tensor.
    pub whole: f64,
}

impl Kinked {
    /// A term that appears or disappears may be all that an element has, and moves few of a tensor's elements. The norm finds
    /// a lost tile of 8×8 in a matrix of 512×512.
    pub const DEFAULT: Self = Self { element: 3.0, whole: 1e-2 };
}

/// How an optimizer's inputs follow from the number of the step.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub rate: f64,
    /// Whether the graph's first input is the random key, u32 `[3]`; the last is `hyper`.
    pub keyed: bool,
}

/// Records a [`Work`]: declares tensors, then the graph over them. The numbers are those of one random stream, in order of
/// declaration.
pub struct Recorder {
    states: States,
    data: Vec<(GroupId, HostData)>,
    random: Stream,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// No tensors yet.
    pub fn new() -> Self {
        Self::over(States::new())
    }

    /// On top of state that is there already.
    pub fn over(states: States) -> Self {
        Self { states, data: Vec::new(), random: Stream::new(1, 0) }
    }

    /// A tensor of numbers from −1 to 1, in a group of its own.
    pub fn floats(&mut self, name: &str, shape: impl Into<Shape>) -> EntryId {
        let group = self.states.group(name, DType::F32);
        let entry = self.states.entry(group, name, shape);
        let elements = self.states.get_entry(entry).shape.numel();
        let mut values = vec![0.0; self.states.get(group).len()];
        values[..elements].iter_mut().for_each(|x| *x = 2.0 * self.random.uniform() - 1.0);
        self.data.push((group, HostData::F32(values)));
        entry
    }

    /// `count` words below `classes`, in a group of their own.
    pub fn classes(&mut self, name: &str, count: usize, classes: usize) -> EntryId {
        let group = self.states.group(name, DType::U32);
        let entry = self.states.entry(group, name, [count]);
        let mut values = vec![0; self.states.get(group).len()];
        values[..count].iter_mut().for_each(|x| *x = self.random.below(classes as u32));
        self.data.push((group, HostData::U32(values)));
        entry
    }

    /// The state so far, to declare more.
    pub fn states(&mut self) -> &mut States {
        &mut self.states
    }

    /// Fills a group.
    pub fn fill(&mut self, group: GroupId, values: Vec<f32>) {
        self.data.push((group, HostData::F32(values)));
    }

    /// Records the graph.
    ///
    /// # Errors
    /// The first mistake of the graph.
    pub fn record(self, build: impl FnOnce(&Graph) -> Result<(), GraphError>) -> Result<Work, GraphError> {
        let graph = graph(self.states);
        build(&graph)?;
        graph.finish()?;
        let (data, absolute) = (self.data, Vec::new());
        Ok(Work { graph, data, update: None, fuse: true, tolerance: TOLERANCE, kinked: false, absolute })
    }
}
