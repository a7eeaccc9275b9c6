//! Checks of random values: equal keys give equal values, and no two random nodes of a graph draw the same values.

use wgrad_cpu::reference::{self, Array, State, Values};
use wgrad_graph::{Call, Expr, Graph, Lowered, NodeId, TensorType};

use crate::report::{Comparison, Failure};
use crate::trial::{Trial, With};

/// Minimum number of values of two draws that are compared. Shorter draws may be equal by chance.
const MIN_LENGTH: usize = 8;

/// Checks that the random values of a trial depend on the seed and on the step. Also checks that no two random nodes
/// of the trial draw the same values.
pub fn random(trial: &Trial) -> Comparison {
    let (graph, inputs) = trial.graph(With::Value)?;
    let draws = random_nodes(&graph);
    if draws.is_empty() {
        return Ok(0.0);
    }
    distinct(&graph, &inputs)?;
    let now = evaluate_nodes(&graph, &inputs, &draws)?;
    for element in 0..3 {
        let later = evaluate_nodes(&graph, &with_incremented_seed(&inputs, element), &draws)?;
        if now.iter().zip(&later).any(|(now, later)| now.len() >= MIN_LENGTH && now == later) {
            let names = ["lower 32 bits of the seed", "upper 32 bits of the seed", "step"];
            return Err(Failure::Violation(format!(
                "the random values do not depend on the {}",
                names[element]
            )));
        }
    }
    Ok(0.0)
}

/// Checks that no two random nodes of the graph draw sequences that start with the same values.
pub fn distinct(graph: &Graph, inputs: &[Array]) -> Comparison {
    let draws = random_nodes(graph);
    let values = evaluate_nodes(graph, inputs, &draws)?;
    for (i, one) in values.iter().enumerate() {
        for (j, other) in values.iter().enumerate().skip(i + 1) {
            let len = one.len().min(other.len());
            if len >= MIN_LENGTH && one[..len] == other[..len] {
                let paths = [i, j].map(|k| graph.nodes()[draws[k].0].path.clone());
                let rule = "draw the same random values; give each its own stream";
                return Err(Failure::Violation(format!(
                    "nodes {} and {} ({}) {rule}",
                    draws[i].0,
                    draws[j].0,
                    paths.join(", ")
                )));
            }
        }
    }
    Ok(0.0)
}

/// Returns the ids of the graph nodes that draw random values.
fn random_nodes(graph: &Graph) -> Vec<NodeId> {
    let nodes = graph.nodes();
    let draws = nodes.iter().enumerate().filter(|(_, node)| {
        let types: Vec<TensorType> = node.ins.iter().map(|id| nodes[id.0].ty.clone()).collect();
        matches!(node.op.lower(&types, &node.ty), Lowered::Map(expr) if calls_random(&expr))
    });
    draws.map(|(i, _)| NodeId(i)).collect()
}

fn calls_random(expr: &Expr) -> bool {
    match expr {
        Expr::Call(f, args) => matches!(f.f64, Call::Random(_)) || args.iter().any(calls_random),
        _ => false,
    }
}

fn evaluate_nodes(graph: &Graph, inputs: &[Array], draws: &[NodeId]) -> Result<Vec<Vec<f64>>, Failure> {
    let state = State::zeros(graph.states());
    let values = reference::evaluate(graph, inputs, &state, draws)?;
    Ok(values.iter().map(Array::to_f64).collect())
}

/// Increments element number `element` of every input `[seed low, seed high, step]` of a random generator.
fn with_incremented_seed(inputs: &[Array], element: usize) -> Vec<Array> {
    let mut inputs = inputs.to_vec();
    for input in inputs.iter_mut().filter(|input| input.ty == TensorType::u32([3])) {
        if let Values::U32(values) = &mut input.values {
            values[element] = values[element].wrapping_add(1);
        }
    }
    inputs
}
