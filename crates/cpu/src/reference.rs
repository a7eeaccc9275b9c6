//! The judge: evaluates a graph node by node in f64, with the plainest loops there are.
//!
//! It shares no code with the executor or with the planning of programs, not even layouts, so that it can tell them wrong.
//! It is slow and means to stay so.

mod form;

use std::collections::HashMap;

use half::f16;
use wgrad_graph::{DType, Graph, Leaf, Lowered, NodeId, States, TensorType};

/// Values of a tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Of f32 and f16 tensors. Those of f16 are rounded to what f16 can hold.
    Float(Vec<f64>),
    /// Of u32 tensors.
    Word(Vec<u32>),
}

impl Values {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::Float(values) => values.len(),
            Values::U32(values) => values.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Element type and shape.
    pub ty: TensorType,
    /// Its elements.
    pub values: Values,
}

impl Array {
    /// A float tensor, rounded where its type is f16.
    pub fn float(ty: TensorType, values: Vec<f64>) -> Self {
        Self::rounded(ty, Values::Float(values))
    }

    /// A u32 tensor of this shape.
    pub fn word(shape: impl Into<wgrad_graph::Shape>, values: Vec<u32>) -> Self {
        Self { ty: TensorType::u32(shape), values: Values::U32(values) }
    }

    /// All zero.
    pub fn zeros(ty: TensorType) -> Self {
        let len = ty.shape.numel();
        let values =
            if ty.dtype == DType::U32 { Values::U32(vec![0; len]) } else { Values::Float(vec![0.0; len]) };
        Self { ty, values }
    }

    /// The elements as floats; words are converted.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.values {
            Values::Float(values) => values.clone(),
            Values::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    /// An f64 on its way to f16 passes f32, as it does on a device.
    fn rounded(ty: TensorType, mut values: Values) -> Self {
        if let (DType::F16, Values::Float(values)) = (ty.dtype, &mut values) {
            values.iter_mut().for_each(|x| *x = f64::from(f16::from_f32(*x as f32).to_f32()));
        }
        Self { ty, values }
    }

    /// Whether the values are of the kind and number that the type says.
    fn is_well_formed(&self) -> bool {
        let words = matches!(self.values, Values::U32(_));
        words == (self.ty.dtype == DType::U32) && self.values.len() == self.ty.shape.numel()
    }
}

/// The persistent state: each group as one flat tensor, padding included, in order of group.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The groups.
    pub groups: Vec<Array>,
}

impl State {
    /// All zero.
    pub fn zeros(states: &States) -> Self {
        let zeros = |group: &wgrad_graph::Group| Array::zeros(TensorType::new(group.dtype, [group.len()]));
        Self { groups: states.groups().iter().map(zeros).collect() }
    }

    fn get(&self, states: &States, leaf: Leaf, ty: &TensorType) -> Option<Array> {
        let (group, first) = place(states, leaf)?;
        let range = first..first + ty.shape.numel();
        let values = match &self.groups.get(group)?.values {
            Values::Float(values) => Values::Float(values.get(range)?.to_vec()),
            Values::U32(values) => Values::U32(values.get(range)?.to_vec()),
        };
        Some(Array { ty: ty.clone(), values })
    }

    fn set(&mut self, states: &States, leaf: Leaf, array: &Array) -> Option<()> {
        let (group, first) = place(states, leaf)?;
        let range = first..first + array.values.len();
        match (&mut self.groups.get_mut(group)?.values, &array.values) {
            (Values::Float(to), Values::Float(from)) => to.get_mut(range)?.copy_from_slice(from),
            (Values::U32(to), Values::U32(from)) => to.get_mut(range)?.copy_from_slice(from),
            _ => return None,
        }
        Some(())
    }
}

/// Group and first element of a leaf that is state.
fn place(states: &States, leaf: Leaf) -> Option<(usize, usize)> {
    match leaf {
        Leaf::Input(_) => None,
        Leaf::Entry(id) => Some((id.group.0, states.groups().get(id.group.0)?.entries.get(id.index)?.offset)),
        Leaf::Group(id) => Some((id.0, 0)),
    }
}

/// What can be wrong with what the reference is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// An input is missing or has another type than the graph says.
    #[error("input `{name}` is {expected}, and {found} was given")]
    Input {
        /// Its name.
        name: String,
        /// Its type in the graph.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The state is not that of the graph.
    #[error("the state does not hold what the graph reads or updates: {0}")]
    State(String),
    /// An operation lowers to something that does not fit its types.
    #[error("{op} (node {node}): {reason}")]
    Lowering {
        /// Name of the operation.
        op: &'static str,
        /// Its position in the graph.
        node: usize,
        /// What does not fit.
        reason: String,
    },
    /// There is no such node.
    #[error("the graph has no node {0}")]
    Node(usize),
}

/// The values of the `wanted` nodes.
///
/// # Errors
/// The inputs or the state are not those of the graph, or an operation lowers to something that does not fit its types.
pub fn evaluate(
    graph: &Graph,
    inputs: &[Array],
    state: &State,
    wanted: &[NodeId],
) -> Result<Vec<Array>, ReferenceError> {
    let mut walk = Walk { graph, inputs, state, done: HashMap::new() };
    walk.compute(wanted)?;
    wanted.iter().map(|&id| walk.done.get(&id.0).cloned().ok_or(ReferenceError::Node(id.0))).collect()
}

/// One step: the values of the outputs, in order of declaration, and the state after the updates of the graph.
///
/// # Errors
/// As [`evaluate`]; the state is then as it was.
pub fn step(graph: &Graph, inputs: &[Array], state: &mut State) -> Result<Vec<Array>, ReferenceError> {
    let (outputs, updates) = (graph.outputs(), graph.updates());
    let ids = outputs.iter().map(|(_, id)| *id).chain(updates.iter().map(|(_, id)| *id));
    let mut values = evaluate(graph, inputs, state, &ids.collect::<Vec<_>>())?;
    let new = values.split_off(outputs.len());
    let mut after = state.clone();
    for ((leaf, _), value) in updates.into_iter().zip(&new) {
        let set = after.set(graph.states(), leaf, value);
        set.ok_or_else(|| ReferenceError::State(format!("{leaf:?} becomes {}", value.ty)))?;
    }
    *state = after;
    Ok(values)
}

struct Walk<'a> {
    graph: &'a Graph,
    inputs: &'a [Array],
    state: &'a State,
    done: HashMap<usize, Array>,
}

impl Walk<'_> {
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
            let ins: Vec<&Array> = node.ins.iter().filter_map(|id| self.done.get(&id.0)).collect();
            let types: Vec<TensorType> = ins.iter().map(|array| array.ty.clone()).collect();
            let values =
                match node.op.lower(&types, &node.ty) {
                    Lowered::Leaf(leaf) => self.leaf(leaf, &node.ty)?.values,
                    form => form::evaluate(&form, &ins, &node.ty)
                        .map_err(|reason| ReferenceError::Lowering { op: node.op.name(), node: i, reason })?,
                };
            let array = Array::rounded(node.ty.clone(), values);
            if !array.is_well_formed() {
                let reason = format!("gave {} values for {}", array.values.len(), array.ty);
                return Err(ReferenceError::Lowering { op: node.op.name(), node: i, reason });
            }
            self.done.insert(i, array);
        }
        Ok(())
    }

    fn leaf(&self, leaf: Leaf, ty: &TensorType) -> Result<Array, ReferenceError> {
        let Leaf::Input(slot) = leaf else {
            let value = self.state.get(self.graph.states(), leaf, ty);
            return value.ok_or_else(|| ReferenceError::State(format!("{leaf:?} is {ty}")));
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
