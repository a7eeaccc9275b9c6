//! Reverse-mode differentiation: one walk over the graph from the end, calling the gradient rule of each operation.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::error::{GraphError, Rule};
use crate::graph::{Graph, NodeId, Var};
use crate::op::Vjp;
use crate::shape::{DType, Shape};

/// Gradients of the scalar `y` with respect to each of `wrt`, as values of the same graph.
///
/// ∂y/∂x has the shape of x; where y does not depend on x it is zero. They can be differentiated again.
///
/// # Errors
/// The first mistake of the graph; `y` is not a float scalar; or an operation on the way has no gradient.
#[track_caller]
pub fn grad<'g>(y: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
    let one = scalar_cotangent(y)?;
    grad_with(y, one, wrt)
}

/// Like [`grad`], with the same values for less memory and more work (Chen et al., 2016): where the walk comes into a segment
/// ([`Graph::segment`]), the segment is recorded once more, from what other parts of the graph have of it, and gradients
/// are formed with that. What the segment computed the first time is then not needed any more when the rest of the graph
/// is computed.
///
/// The segment that comes first, the last one of the graph, stays as it is: its values are needed at once. What is kept
/// anyway, because it is small or used elsewhere, is not computed again.
///
/// # Errors
/// Those of [`grad`].
#[track_caller]
pub fn grad_recomputing<'g>(y: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
    let one = scalar_cotangent(y)?;
    walk(y, one, wrt, Some(Repeats::new(y)))
}

#[track_caller]
fn scalar_cotangent(y: Var<'_>) -> Result<Var<'_>, GraphError> {
    let graph = y.graph();
    if y.shape().numel() != 1 || y.ty().dtype != DType::F32 {
        graph.refuse("grad", &[y], Rule::new("only a float scalar has a gradient; sum or average it first"));
    }
    graph.finish()?;
    Ok((graph.arithmetic().full)(graph, &y.shape(), 1.0))
}

/// Like [`grad`] for a `y` of any shape, contracted with `cotangent` (of the shape of `y`).
#[track_caller]
pub fn grad_with<'g>(y: Var<'g>, cotangent: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
    let graph = y.graph();
    if cotangent.shape() != y.shape() {
        graph.refuse("grad_with", &[y, cotangent], Rule::new("the cotangent has the shape of the value"));
    }
    graph.finish()?;
    walk(y, cotangent, wrt, None)
}

fn walk<'g>(
    y: Var<'g>,
    cotangent: Var<'g>,
    wrt: &[Var<'g>],
    mut repeats: Option<Repeats<'g>>,
) -> Result<Vec<Var<'g>>, GraphError> {
    let graph = y.graph();
    let needed = depends_on(y, wrt);
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
        if let (Some(repeats), Some(segment)) = (&mut repeats, node.segment) {
            repeats.enter(segment, cotangent);
        }
        let value =
            |id: NodeId| graph.var(repeats.as_ref().map_or(id, |repeats| repeats.of(id, node.segment)));
        let ins: Vec<Var<'g>> = node.ins.iter().map(|&id| value(id)).collect();
        let op = Rc::clone(&node.op);
        let grads = graph.scope(&node.path, || op.vjp(&ins, value(NodeId(i)), cotangent));
        match grads {
            Vjp::Zero(_) => {}
            Vjp::Undefined(reason) => {
                let op = if node.path.is_empty() {
                    node.op.name().into()
                } else {
                    format!("{} in {}", node.op.name(), node.path)
                };
                return Err(GraphError::NoGradient { op, reason: reason.into() });
            }
            Vjp::Grads(grads) => {
                for (input, grad) in node.ins.iter().zip(grads) {
                    let Some(grad) = grad.filter(|_| needed.contains(input)) else { continue };
                    let slot = &mut cotangents[input.0];
                    *slot =
                        Some(slot.map_or(grad, |sum| {
                            graph.scope(&node.path, || (graph.arithmetic().add)(sum, grad))
                        }));
                }
            }
        }
    }
    graph.finish()?;
    let gradient = |v: &Var<'g>| cotangents.get(v.id().0).copied().flatten();
    let zero = |shape: Shape| (graph.arithmetic().full)(graph, &shape, 0.0);
    Ok(wrt.iter().map(|v| gradient(v).unwrap_or_else(|| zero(v.shape()))).collect())
}

/// The nodes up to `y` whose value depends on one of `wrt`; no gradient is computed for any other.
fn depends_on<'g>(y: Var<'g>, wrt: &[Var<'g>]) -> HashSet<NodeId> {
    let mut needed: HashSet<NodeId> = wrt.iter().map(|v| v.id()).collect();
    for (i, node) in y.graph().nodes().iter().enumerate().take(y.id().0 + 1) {
        if node.ins.iter().any(|id| needed.contains(id)) {
            needed.insert(NodeId(i));
        }
    }
    needed
}

/// A value is kept rather than computed again where it is this many times smaller than the largest of its segment.
const SMALL: usize = 64;

/// What segments computed, computed once more.
struct Repeats<'g> {
    graph: &'g Graph,
    /// Nodes of the graph that is differentiated.
    len: usize,
    /// Values of a segment that something outside of it uses.
    shared: HashSet<NodeId>,
    /// The first segment that the walk came into.
    first: Option<usize>,
    entered: HashSet<usize>,
    repeated: HashMap<NodeId, NodeId>,
}

impl<'g> Repeats<'g> {
    fn new(y: Var<'g>) -> Self {
        let graph = y.graph();
        let len = y.id().0 + 1;
        let nodes = graph.nodes();
        let used_across = |node: &crate::graph::Node| {
            let segment = node.segment;
            let ins = node.ins.clone();
            ins.into_iter().filter(|id| nodes[id.0].segment != segment).collect::<Vec<_>>()
        };
        let shared = nodes.iter().take(len).flat_map(used_across).chain([y.id()]).collect();
        drop(nodes);
        Self { graph, len, shared, first: None, entered: HashSet::new(), repeated: HashMap::new() }
    }

    /// Records a segment again, the first time that the walk comes into it, to be computed once `cotangent` is there.
    fn enter(&mut self, segment: usize, cotangent: Var<'g>) {
        if *self.first.get_or_insert(segment) == segment || !self.entered.insert(segment) {
            return;
        }
        let nodes: Vec<(NodeId, Vec<NodeId>, usize)> = {
            let nodes = self.graph.nodes();
            let inside = nodes.iter().enumerate().take(self.len).filter(|(_, n)| n.segment == Some(segment));
            inside.map(|(i, node)| (NodeId(i), node.ins.clone(), node.ty.bytes())).collect()
        };
        let largest = nodes.iter().map(|(_, _, bytes)| *bytes).max().unwrap_or(0);
        for (id, ins, bytes) in nodes {
            // A leaf is there anyway.
            if ins.is_empty() || self.shared.contains(&id) || bytes * SMALL <= largest {
                continue;
            }
            let ins = ins.into_iter().map(|id| self.of(id, Some(segment))).collect();
            self.repeated.insert(id, self.graph.repeat(id, ins, cotangent.id()));
        }
    }

    /// The value as the gradients of a segment use it: computed again if it belongs to the segment.
    fn of(&self, id: NodeId, segment: Option<usize>) -> NodeId {
        let inside = segment.is_some() && self.graph.nodes()[id.0].segment == segment;
        self.repeated.get(&id).copied().filter(|_| inside).unwrap_or(id)
    }
}
