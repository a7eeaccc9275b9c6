//! Reverse-mode differentiation: one walk over the graph from the end, calling the gradient rule of each operation.

use std::collections::HashSet;
use std::rc::Rc;

use crate::error::{GraphError, Rule};
use crate::graph::{NodeId, Var};
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
    let graph = y.graph();
    if y.shape().numel() != 1 || y.ty().dtype != DType::F32 {
        graph.refuse("grad", &[y], Rule::new("only a float scalar has a gradient; sum or average it first"));
    }
    graph.finish()?;
    let one = (graph.arithmetic().full)(graph, &y.shape(), 1.0);
    grad_with(y, one, wrt)
}

/// Like [`grad`] for a `y` of any shape, contracted with `cotangent` (of the shape of `y`).
#[track_caller]
pub fn grad_with<'g>(y: Var<'g>, cotangent: Var<'g>, wrt: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
    let graph = y.graph();
    if cotangent.shape() != y.shape() {
        graph.refuse("grad_with", &[y, cotangent], Rule::new("the cotangent has the shape of the value"));
    }
    graph.finish()?;
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
        let ins: Vec<Var<'g>> = node.ins.iter().map(|&id| graph.var(id)).collect();
        let op = Rc::clone(&node.op);
        let grads = graph.scope(&node.path, || op.vjp(&ins, graph.var(NodeId(i)), cotangent));
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
