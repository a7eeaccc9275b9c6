//! Workloads: graphs with random inputs, and tolerances for their results.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, EntryId, Graph, GraphError, GroupId, Leaf, Shape, States};
use wgrad_nn::Optimizer;
use wgrad_ops::graph;
use wgrad_program::HostData;

/// Default relative tolerance of an element.
///
/// The tolerance is relative to the absolute value of the element or to the root mean square of its tensor, whichever
/// is larger. Sums of random terms cancel, so an element can be much smaller than the rounding errors of its terms.
const TOLERANCE: f64 = 1e-4;

/// Graph of a benchmark, with the initial contents of its state and tolerances for its results.
pub struct Workload {
    /// Graph that each run evaluates.
    pub graph: Graph,
    /// Initial contents of groups; all other groups are zero.
    pub data: Vec<(GroupId, HostData)>,
    /// Optimizer that determines the inputs of each run, if the graph has inputs.
    pub update: Option<Update>,
    /// Whether the planner may fuse several operations into one kernel.
    pub fuse: bool,
    /// Relative tolerance of each element of a result.
    pub tolerance: f64,
    /// Whether the graph contains a non-smooth function such as ReLU.
    ///
    /// For the few inputs closest to 0, rounding then decides whether a gradient contains a term. State groups are
    /// therefore compared with [`NonSmoothTolerance`].
    pub non_smooth: bool,
    /// Absolute tolerances of state groups, which replace the relative tolerance.
    ///
    /// Required for optimizers such as Adam that divide a gradient by its magnitude: a rounding error in the gradient
    /// can then change the update by as much as the learning rate.
    pub absolute: Vec<(GroupId, f64)>,
}

impl Workload {
    /// Returns the groups that a run modifies, sorted by identifier.
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

/// Tolerance of a state tensor whose gradient passes through a non-smooth function.
#[derive(Debug, Clone, Copy)]
pub struct NonSmoothTolerance {
    /// Tolerance of each element, relative to its absolute value or to the root mean square of its tensor.
    pub element: f64,
    /// Tolerance of the norm of the error, relative to the norm of the tensor.
    pub norm: f64,
}

impl NonSmoothTolerance {
    /// Default tolerance of workloads with non-smooth functions.
    ///
    /// A gradient term that appears or disappears can be the only term of an element, so the tolerance of an element
    /// is large. Only few elements are affected, so the tolerance of the norm is small: it detects a missing 8×8 tile
    /// in a 512×512 matrix.
    pub const DEFAULT: Self = Self { element: 3.0, norm: 1e-2 };
}

/// Optimizer of a workload. Its hyperparameters for each step are inputs of the graph.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// Optimizer that updates the parameters.
    pub optimizer: Optimizer,
    /// Learning rate of every step.
    pub rate: f64,
    /// Whether the first input of the graph is the random key, u32 `[3]`. The last input is always `hyper`, the
    /// hyperparameters of the step.
    pub has_rng: bool,
}

/// Builder of a [`Workload`]: declares tensors, then records the graph.
///
/// All tensors are filled from one random stream, in order of declaration.
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
    /// Creates a recorder without tensors.
    pub fn new() -> Self {
        Self::with_states(States::new())
    }

    /// Creates a recorder that starts with the groups and entries of `states`.
    pub fn with_states(states: States) -> Self {
        Self { states, data: Vec::new(), random: Stream::new(1, 0) }
    }

    /// Declares an f32 tensor of random values from −1 to 1, in a group of its own.
    pub fn floats(&mut self, name: &str, shape: impl Into<Shape>) -> EntryId {
        let group = self.states.group(name, DType::F32);
        let entry = self.states.entry(group, name, shape);
        let elements = self.states.get_entry(entry).shape.numel();
        let mut values = vec![0.0; self.states.get(group).len()];
        values[..elements].iter_mut().for_each(|x| *x = 2.0 * self.random.uniform() - 1.0);
        self.data.push((group, HostData::F32(values)));
        entry
    }

    /// Declares a u32 tensor of `count` random class indices below `classes`, in a group of its own.
    pub fn classes(&mut self, name: &str, count: usize, classes: usize) -> EntryId {
        let group = self.states.group(name, DType::U32);
        let entry = self.states.entry(group, name, [count]);
        let mut values = vec![0; self.states.get(group).len()];
        values[..count].iter_mut().for_each(|x| *x = self.random.below(classes as u32));
        self.data.push((group, HostData::U32(values)));
        entry
    }

    /// Returns the states declared so far. The caller can add more groups and entries.
    pub fn states(&mut self) -> &mut States {
        &mut self.states
    }

    /// Sets the initial contents of a group.
    pub fn fill(&mut self, group: GroupId, values: Vec<f32>) {
        self.data.push((group, HostData::F32(values)));
    }

    /// Records the graph by calling `build`, and returns the workload.
    ///
    /// # Errors
    /// Returns the first error of building the graph, e.g. shapes that do not match.
    pub fn record(
        self,
        build: impl FnOnce(&Graph) -> Result<(), GraphError>,
    ) -> Result<Workload, GraphError> {
        let graph = graph(self.states);
        build(&graph)?;
        graph.finish()?;
        let (data, absolute) = (self.data, Vec::new());
        Ok(Workload {
            graph,
            data,
            update: None,
            fuse: true,
            tolerance: TOLERANCE,
            non_smooth: false,
            absolute,
        })
    }
}
