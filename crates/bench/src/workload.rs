//! Workloads: graphs with random inputs, and the tolerances of their results.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, EntryId, Graph, GraphError, GroupId, Leaf, Shape, States};
use wgrad_nn::Optimizer;
use wgrad_ops::graph;
use wgrad_program::HostData;

/// Default tolerance of an element, relative to its absolute value or to the root mean square of its tensor, whichever is
/// larger. Sums of random terms cancel, so an element can be much smaller than the rounding errors of its terms.
const TOLERANCE: f64 = 1e-4;

/// Graph with the initial contents of its state.
pub struct Workload {
    /// Graph of a run.
    pub graph: Graph,
    /// Initial contents of groups; all other groups are zero.
    pub data: Vec<(GroupId, HostData)>,
    /// Source of the inputs of a run, if the graph has inputs.
    pub update: Option<Update>,
    /// Whether operations may be fused into one kernel.
    pub fuse: bool,
    /// Relative tolerance of an element of a result.
    pub tolerance: f64,
    /// Whether the graph has a non-smooth function such as ReLU. For a few of a million values near 0, rounding then decides
    /// whether a term of a gradient exists. State groups are compared with [`NonSmoothTolerance`] in this case.
    pub non_smooth: bool,
    /// Absolute tolerances of groups. If an optimizer divides a gradient by its own size, the last bit of the gradient can
    /// change the update by a whole step.
    pub absolute: Vec<(GroupId, f64)>,
}

impl Workload {
    /// Returns the groups that a run changes, in order.
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

/// Tolerance of a state tensor behind a non-smooth function.
#[derive(Debug, Clone, Copy)]
pub struct NonSmoothTolerance {
    /// Tolerance of each element, relative to its absolute value or to the root mean square of its tensor.
    pub element: f64,
    /// Tolerance of the norm of the error, relative to the norm of the tensor.
    pub norm: f64,
}

impl NonSmoothTolerance {
    /// Default tolerance.
    ///
    /// A term that appears or disappears can be the only term of an element, but affects few elements of a tensor. The
    /// norm detects a missing tile of 8×8 in a matrix of 512×512.
    pub const DEFAULT: Self = Self { element: 3.0, norm: 1e-2 };
}

/// Inputs of an optimizer, which depend on the number of the step.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// Optimizer.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub rate: f64,
    /// Whether the first input of the graph is the random key, u32 `[3]`. The last input is `hyper`.
    pub has_rng: bool,
}

/// Recorder of a [`Workload`]: declares tensors, then records the graph.
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

    /// Creates a recorder on top of existing state.
    pub fn with_states(states: States) -> Self {
        Self { states, data: Vec::new(), random: Stream::new(1, 0) }
    }

    /// Declares a tensor of random values from −1 to 1 in its own group.
    pub fn floats(&mut self, name: &str, shape: impl Into<Shape>) -> EntryId {
        let group = self.states.group(name, DType::F32);
        let entry = self.states.entry(group, name, shape);
        let elements = self.states.get_entry(entry).shape.numel();
        let mut values = vec![0.0; self.states.get(group).len()];
        values[..elements].iter_mut().for_each(|x| *x = 2.0 * self.random.uniform() - 1.0);
        self.data.push((group, HostData::F32(values)));
        entry
    }

    /// Declares `count` random class indices below `classes` in their own group.
    pub fn classes(&mut self, name: &str, count: usize, classes: usize) -> EntryId {
        let group = self.states.group(name, DType::U32);
        let entry = self.states.entry(group, name, [count]);
        let mut values = vec![0; self.states.get(group).len()];
        values[..count].iter_mut().for_each(|x| *x = self.random.below(classes as u32));
        self.data.push((group, HostData::U32(values)));
        entry
    }

    /// Returns the state declared so far, to declare more.
    pub fn states(&mut self) -> &mut States {
        &mut self.states
    }

    /// Sets the initial contents of a group.
    pub fn fill(&mut self, group: GroupId, values: Vec<f32>) {
        self.data.push((group, HostData::F32(values)));
    }

    /// Records the graph and returns the workload.
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
