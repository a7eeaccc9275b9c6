//! Reverse-mode differentiation: one backward walk over the graph that calls the gradient rule of each operation.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use wgrad_stdx::never;

use crate::error::{GraphError, Rule};
use crate::graph::{Graph, Node, NodeId, Var};
use crate::op::Vjp;
use crate::shape::{DType, Shape};

/// Returns the gradient of the scalar `y` with respect to each variable of `wrt`, as values of the same graph.
///
/// ∂y/∂x has the shape of x, and is zero where y does not depend on x. The gradients can be differentiated again.
///
/// # Errors
/// Returns an error if the graph contains an error, if `y` is not an f32 scalar, or if an operation between `y` and
/// `wrt` has no gradient.
#[track_caller]
pub fn grad<'g>(y: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
    let one = scalar_cotangent(y)?;
    grad_with(y, one, wrt)
}

/// Computes the same gradients as [`grad`] with activation recomputation (Chen et al., 2016), which trades compute for
/// memory.
///
/// When the backward walk enters a segment ([`Graph::segment`]), it records the operations of that segment again,
/// starting from the values that other parts of the graph share with it, and uses the copies in the gradient rules. The
/// original intermediate values of the segment are then no longer needed after the forward pass.
///
/// The last segment of the graph is not recomputed, because its values are needed immediately. Small values and values
/// that are used outside the segment are kept as well.
///
/// # Errors
/// Returns an error under the same conditions as [`grad`].
#[track_caller]
pub fn grad_recomputing<'g>(y: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
    let one = scalar_cotangent(y)?;
    backward(y, one, wrt, Some(Recomputation::new(y)))
}

#[track_caller]
fn scalar_cotangent(y: Var<'_>) -> Result<Var<'_>, GraphError> {
    let graph = y.graph();
    if y.shape().numel() != 1 || y.ty().dtype != DType::F32 {
        graph.refuse(
            "grad",
            &[y],
            Rule::new("only an f32 scalar can be differentiated; sum or average the tensor first"),
        );
    }
    graph.finish()?;
    Ok((graph.arithmetic().full)(graph, &y.shape(), 1.0))
}

/// Returns the gradient of the sum of `y · cotangent` with respect to each variable of `wrt`, with `cotangent` as a
/// constant (vector-Jacobian product).
///
/// `y` may have any shape; `cotangent` must have the same shape. See [`grad`].
///
/// # Errors
/// Returns an error if the graph contains an error, if the shape of `cotangent` differs from that of `y`, or if an
/// operation between `y` and `wrt` has no gradient.
#[track_caller]
pub fn grad_with<'g>(y: Var<'g>, cotangent: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
    let graph = y.graph();
    if cotangent.shape() != y.shape() {
        graph.refuse(
            "grad_with",
            &[y, cotangent],
            Rule::new("the cotangent must have the shape of the value"),
        );
    }
    graph.finish()?;
    backward(y, cotangent, wrt, None)
}

fn backward<'g>(
    y: Var<'g>,
    cotangent: Var<'g>,
    wrt: &[Var<'g>],
    mut recomputation: Option<Recomputation<'g>>,
) -> Result<Vec<Var<'g>>, GraphError> {
    let graph = y.graph();
    let needed = nodes_depending_on(y, wrt);
    let mut cotangents: Vec<Option<Var<'g>>> = vec![None; y.id().0 + 1];
    cotangents[y.id().0] = Some(cotangent);
    for i in (0..=y.id().0).rev() {
        if !needed.contains(&NodeId(i)) || wrt.iter().all(|v| v.id().0 > i) {
            continue;
        }
        let Some(cotangent) = cotangents[i] else { continue };
        let node = graph.nodes()[i].clone();
        if node.ins.is_empty() {
            continue;
        }
        if let (Some(recomputation), Some(segment)) = (&mut recomputation, node.segment) {
            recomputation.recompute_segment(segment, cotangent);
        }
        let value = |id: NodeId| {
            let resolve = |recomputation: &Recomputation<'g>| recomputation.resolve(id, node.segment);
            graph.var(recomputation.as_ref().map_or(id, resolve))
        };
        let ins: Vec<Var<'g>> = node.ins.iter().map(|&id| value(id)).collect();
        let op = Rc::clone(&node.op);
        let grads = graph.scope(&node.path, || op.vjp(&ins, value(NodeId(i)), cotangent));
        for (input, grad) in node.ins.iter().zip(input_gradients(&node, grads)?) {
            let Some(grad) = grad.filter(|_| needed.contains(input)) else { continue };
            let slot = &mut cotangents[input.0];
            let add = |sum| graph.scope(&node.path, || (graph.arithmetic().add)(sum, grad));
            *slot = Some(slot.map_or(grad, add));
        }
    }
    graph.finish()?;
    let gradient = |v: &Var<'g>| cotangents.get(v.id().0).copied().flatten();
    let zero = |shape: Shape| (graph.arithmetic().full)(graph, &shape, 0.0);
    Ok(wrt.iter().map(|v| gradient(v).unwrap_or_else(|| zero(v.shape()))).collect())
}

/// Returns one gradient for each input of a node, or an empty list if all gradients are zero.
fn input_gradients<'g>(node: &Node, grads: Vjp<'g>) -> Result<Vec<Option<Var<'g>>>, GraphError> {
    match grads {
        Vjp::Zero(_) => Ok(Vec::new()),
        Vjp::Undefined(reason) => {
            let name = node.op.name();
            let op = if node.path.is_empty() { name.into() } else { format!("{name} in {}", node.path) };
            Err(GraphError::NoGradient { op, reason: reason.into() })
        }
        Vjp::Grads(grads) if grads.len() == node.ins.len() => Ok(grads),
        Vjp::Grads(grads) => {
            let (op, found, expected) = (node.op.name(), grads.len(), node.ins.len());
            Err(never!("the gradient rule of {op} returns {found} gradients for {expected} inputs").into())
        }
    }
}

/// Returns the nodes up to `y` that depend on a variable of `wrt`. No gradient is computed for any other node.
fn nodes_depending_on<'g>(y: Var<'g>, wrt: &[Var<'g>]) -> HashSet<NodeId> {
    let mut needed: HashSet<NodeId> = wrt.iter().map(|v| v.id()).collect();
    for (i, node) in y.graph().nodes().iter().enumerate().take(y.id().0 + 1) {
        if node.ins.iter().any(|id| needed.contains(id)) {
            needed.insert(NodeId(i));
        }
    }
    needed
}

/// A value is kept instead of recomputed if it is at least this many times smaller than the largest value of its
/// segment.
const KEEP_RATIO: usize = 64;

/// Copies of the operations of recomputed segments.
struct Recomputation<'g> {
    graph: &'g Graph,
    /// Number of nodes of the differentiated graph.
    len: usize,
    /// Values that are used outside their segment.
    used_outside: HashSet<NodeId>,
    /// The segment that the backward walk enters first. This segment is not recomputed.
    first_segment: Option<usize>,
    recomputed_segments: HashSet<usize>,
    copies: HashMap<NodeId, NodeId>,
}

impl<'g> Recomputation<'g> {
    fn new(y: Var<'g>) -> Self {
        let graph = y.graph();
        let len = y.id().0 + 1;
        let nodes = graph.nodes();
        let inputs_from_other_segments = |node: &Node| {
            let segment = node.segment;
            let ins = node.ins.clone();
            ins.into_iter().filter(|id| nodes[id.0].segment != segment).collect::<Vec<_>>()
        };
        let used_outside =
            nodes.iter().take(len).flat_map(inputs_from_other_segments).chain([y.id()]).collect();
        drop(nodes);
        Self {
            graph,
            len,
            used_outside,
            first_segment: None,
            recomputed_segments: HashSet::new(),
            copies: HashMap::new(),
        }
    }

    /// Records the operations of a segment again when the backward walk first enters the segment. The copies are
    /// computed after `cotangent`.
    fn recompute_segment(&mut self, segment: usize, cotangent: Var<'g>) {
        if *self.first_segment.get_or_insert(segment) == segment || !self.recomputed_segments.insert(segment)
        {
            return;
        }
        let nodes: Vec<(NodeId, Vec<NodeId>, usize)> = {
            let nodes = self.graph.nodes();
            let inside = nodes.iter().enumerate().take(self.len).filter(|(_, n)| n.segment == Some(segment));
            inside.map(|(i, node)| (NodeId(i), node.ins.clone(), node.ty.bytes())).collect()
        };
        let largest = nodes.iter().map(|(_, _, bytes)| *bytes).max().unwrap_or(0);
        for (id, ins, bytes) in nodes {
            // Inputs and state tensors are always available.
            if ins.is_empty() || self.used_outside.contains(&id) || bytes * KEEP_RATIO <= largest {
                continue;
            }
            let ins = ins.into_iter().map(|id| self.resolve(id, Some(segment))).collect();
            self.copies.insert(id, self.graph.record_recomputation(id, ins, cotangent.id()));
        }
    }

    /// Returns the value that the gradient rules of `segment` use for `id`: the copy of `id` if `id` belongs to the
    /// segment and was recomputed, otherwise `id` itself.
    fn resolve(&self, id: NodeId, segment: Option<usize>) -> NodeId {
        let inside = segment.is_some() && self.graph.nodes()[id.0].segment == segment;
        self.copies.get(&id).copied().filter(|_| inside).unwrap_or(id)
    }
}
