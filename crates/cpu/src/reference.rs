//! The f64 reference: evaluates a graph node by node with plain loops.
//!
//! The reference shares no code with the executor or the planner, so that it can detect errors in both. Even layouts
//! are not shared. The reference is deliberately simple and slow.

mod lowered;

use std::collections::HashMap;

use half::f16;
use wgrad_graph::{DType, Graph, Leaf, Lowered, NodeId, States, TensorType};
use wgrad_stdx::ErrorKind;

/// Values of a tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Values of an f32 or f16 tensor. f16 values are rounded to f16 precision.
    Float(Vec<f64>),
    /// Values of a u32 tensor.
    U32(Vec<u32>),
}

impl Values {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::Float(values) => values.len(),
            Values::U32(values) => values.len(),
        }
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor: its type and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Element type and shape of the tensor.
    pub ty: TensorType,
    /// Elements in row-major order.
    pub values: Values,
}

impl Array {
    /// Creates a float tensor. If the type is f16, the values are rounded to f16.
    pub fn float(ty: TensorType, values: Vec<f64>) -> Self {
        Self::rounded(ty, Values::Float(values))
    }

    /// Creates a u32 tensor of this shape.
    pub fn u32(shape: impl Into<wgrad_graph::Shape>, values: Vec<u32>) -> Self {
        Self { ty: TensorType::u32(shape), values: Values::U32(values) }
    }

    /// Creates a tensor of zeros.
    pub fn zeros(ty: TensorType) -> Self {
        let len = ty.shape.numel();
        let values =
            if ty.dtype == DType::U32 { Values::U32(vec![0; len]) } else { Values::Float(vec![0.0; len]) };
        Self { ty, values }
    }

    /// Returns the elements as f64. The elements of a u32 tensor are converted.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.values {
            Values::Float(values) => values.clone(),
            Values::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    /// Creates a tensor. If the type is f16, first rounds the values to f32 and then to f16, as a device does.
    fn rounded(ty: TensorType, mut values: Values) -> Self {
        if let (DType::F16, Values::Float(values)) = (ty.dtype, &mut values) {
            values.iter_mut().for_each(|x| *x = f64::from(f16::from_f32(*x as f32).to_f32()));
        }
        Self { ty, values }
    }

    /// Whether the values match the tensor type in element type and in number of elements.
    fn is_well_formed(&self) -> bool {
        let is_u32 = matches!(self.values, Values::U32(_));
        is_u32 == (self.ty.dtype == DType::U32) && self.values.len() == self.ty.shape.numel()
    }
}

/// The persistent state of a graph: parameters, optimizer state and buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// One flat tensor per group, including padding, in order of group id.
    pub groups: Vec<Array>,
}

impl State {
    /// Creates a state in which all elements are zero.
    pub fn zeros(states: &States) -> Self {
        let zeros = |group: &wgrad_graph::Group| Array::zeros(TensorType::new(group.dtype, [group.len()]));
        Self { groups: states.groups().iter().map(zeros).collect() }
    }

    fn get(&self, states: &States, leaf: Leaf, ty: &TensorType) -> Option<Array> {
        let (group, offset) = group_and_offset(states, leaf)?;
        let range = offset..offset + ty.shape.numel();
        let values = match &self.groups.get(group)?.values {
            Values::Float(values) => Values::Float(values.get(range)?.to_vec()),
            Values::U32(values) => Values::U32(values.get(range)?.to_vec()),
        };
        Some(Array { ty: ty.clone(), values })
    }

    fn set(&mut self, states: &States, leaf: Leaf, array: &Array) -> Option<()> {
        let (group, offset) = group_and_offset(states, leaf)?;
        let range = offset..offset + array.values.len();
        match (&mut self.groups.get_mut(group)?.values, &array.values) {
            (Values::Float(to), Values::Float(from)) => to.get_mut(range)?.copy_from_slice(from),
            (Values::U32(to), Values::U32(from)) => to.get_mut(range)?.copy_from_slice(from),
            _ => return None,
        }
        Some(())
    }
}

/// Returns the group number of a state leaf, and the offset of its first element in the group. Returns `None` for an
/// input, or if the entry does not exist.
fn group_and_offset(states: &States, leaf: Leaf) -> Option<(usize, usize)> {
    match leaf {
        Leaf::Input(_) => None,
        Leaf::Entry(id) => Some((id.group.0, states.groups().get(id.group.0)?.entries.get(id.index)?.offset)),
        Leaf::Group(id) => Some((id.0, 0)),
    }
}

/// Error of an evaluation of a graph by the reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// An input is missing, or its type differs from the type in the graph.
    #[error("input `{name}` must be {expected}; found {found}")]
    Input {
        /// Name of the input.
        name: String,
        /// Type of the input in the graph.
        expected: String,
        /// Description of the given input.
        found: String,
    },
    /// The given state does not match the groups of the graph.
    #[error("the state does not match the graph: {0}")]
    State(String),
    /// The computation that an operation lowers to does not match the types of the operation.
    #[error("{op} (node {node}): {reason}")]
    Lowering {
        /// Name of the operation.
        op: &'static str,
        /// Position of the operation in the graph.
        node: usize,
        /// Description of the mismatch.
        reason: String,
    },
    /// The graph has no node at this position.
    #[error("the graph has no node {0}")]
    Node(usize),
}

impl ReferenceError {
    /// Returns the category of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ReferenceError::Input { .. } | ReferenceError::State(_) | ReferenceError::Node(_) => {
                ErrorKind::Usage
            }
            ReferenceError::Lowering { .. } => ErrorKind::Internal,
        }
    }
}

/// Evaluates a graph. Returns the values of the `wanted` nodes, in the same order.
///
/// # Errors
/// Returns an error if the inputs or the state do not match the graph, if a node does not exist, or if an operation
/// lowers to a computation that does not match its types.
pub fn evaluate(
    graph: &Graph,
    inputs: &[Array],
    state: &State,
    wanted: &[NodeId],
) -> Result<Vec<Array>, ReferenceError> {
    let mut evaluator = Evaluator { graph, inputs, state, computed: HashMap::new() };
    evaluator.compute(wanted)?;
    wanted
        .iter()
        .map(|&id| evaluator.computed.get(&id.0).cloned().ok_or(ReferenceError::Node(id.0)))
        .collect()
}

/// Runs one step. Returns the outputs of the graph in order of declaration, and applies the updates of the graph to
/// the state.
///
/// # Errors
/// Returns an error under the same conditions as [`evaluate`]; the state is then unchanged.
pub fn step(graph: &Graph, inputs: &[Array], state: &mut State) -> Result<Vec<Array>, ReferenceError> {
    let (outputs, updates) = (graph.outputs(), graph.updates());
    let ids = outputs.iter().map(|(_, id)| *id).chain(updates.iter().map(|(_, id)| *id));
    let mut values = evaluate(graph, inputs, state, &ids.collect::<Vec<_>>())?;
    let new = values.split_off(outputs.len());
    let mut updated = state.clone();
    for ((leaf, _), value) in updates.into_iter().zip(&new) {
        let set = updated.set(graph.states(), leaf, value);
        set.ok_or_else(|| ReferenceError::State(format!("{leaf:?} cannot be updated with {}", value.ty)))?;
    }
    *state = updated;
    Ok(values)
}

struct Evaluator<'a> {
    graph: &'a Graph,
    inputs: &'a [Array],
    state: &'a State,
    computed: HashMap<usize, Array>,
}

impl Evaluator<'_> {
    fn compute(&mut self, wanted: &[NodeId]) -> Result<(), ReferenceError> {
        let nodes = self.graph.nodes();
        let mut needed = vec![false; nodes.len()];
        for id in wanted {
            *needed.get_mut(id.0).ok_or(ReferenceError::Node(id.0))? = true;
        }
        for i in (0..nodes.len()).rev() {
            if needed[i] {
                nodes[i].ins.iter().for_each(|id| needed[id.0] = true);
            }
        }
        for (i, node) in nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
            let ins = node.ins.iter().map(|id| self.computed.get(&id.0).ok_or(ReferenceError::Node(id.0)));
            let ins = ins.collect::<Result<Vec<&Array>, _>>()?;
            let types: Vec<TensorType> = ins.iter().map(|array| array.ty.clone()).collect();
            let values = match node.op.lower(&types, &node.ty) {
                Lowered::Leaf(leaf) => self.leaf(leaf, &node.ty)?.values,
                lowered => lowered::evaluate(&lowered, &ins, &node.ty)
                    .map_err(|reason| ReferenceError::Lowering { op: node.op.name(), node: i, reason })?,
            };
            let array = Array::rounded(node.ty.clone(), values);
            if !array.is_well_formed() {
                let reason = format!("the result has {} values; expected {}", array.values.len(), array.ty);
                return Err(ReferenceError::Lowering { op: node.op.name(), node: i, reason });
            }
            self.computed.insert(i, array);
        }
        Ok(())
    }

    fn leaf(&self, leaf: Leaf, ty: &TensorType) -> Result<Array, ReferenceError> {
        let Leaf::Input(slot) = leaf else {
            let value = self.state.get(self.graph.states(), leaf, ty);
            return value.ok_or_else(|| ReferenceError::State(format!("{leaf:?} must be {ty}")));
        };
        let given = self.inputs.get(slot);
        given.filter(|array| array.ty == *ty && array.is_well_formed()).cloned().ok_or_else(|| {
            ReferenceError::Input {
                name: self.graph.inputs().get(slot).map(|(name, _)| name.clone()).unwrap_or_default(),
                expected: ty.to_string(),
                found: given.map_or("nothing".into(), |array| {
                    format!("{} with {} values", array.ty, array.values.len())
                }),
            }
        })
    }
}
