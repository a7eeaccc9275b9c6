//! Random numbers: the same key gives the same numbers, and no two draws of a graph are made of the same ones.

use wgrad_cpu::reference::{self, Array, State, Values};
use wgrad_graph::{Call, Expr, Graph, Lowered, NodeId, TensorType};

use crate::report::{Failure, Verdict};
use crate::trial::{Trial, With};

/// Draws shorter than this may agree by chance.
const LONG_ENOUGH: usize = 8;

/// The trial at the next step of its generator draws other numbers, and no two draws of it are the same.
pub fn random(trial: &Trial) -> Verdict {
    let (graph, inputs) = trial.graph(With::Value)?;
    let draws = draws(&graph);
    if draws.is_empty() {
        return Ok(0.0);
    }
    distinct(&graph, &inputs)?;
    let now = drawn(&graph, &inputs, &draws)?;
    for word in 0..3 {
        let later = drawn(&graph, &bumped(&inputs, word), &draws)?;
        if now.iter().zip(&later).any(|(now, later)| now.len() >= LONG_ENOUGH && now == later) {
            let words = ["low word of the seed", "high word of the seed", "step"];
            return Err(Failure::Broken(format!("the numbers do not depend on the {}", words[word])));
        }
    }
    Ok(0.0)
}

/// No two draws of the graph begin with the same numbers.
pub fn distinct(graph: &Graph, inputs: &[Array]) -> Verdict {
    let draws = draws(graph);
    let drawn = drawn(graph, inputs, &draws)?;
    for (i, one) in drawn.iter().enumerate() {
        for (j, other) in drawn.iter().enumerate().skip(i + 1) {
            let len = one.len().min(other.len());
            if len >= LONG_ENOUGH && one[..len] == other[..len] {
                let paths = [i, j].map(|k| graph.nodes()[draws[k].0].path.clone());
                let rule = "draw the same numbers; give each a stream of its own";
                return Err(Failure::Broken(format!(
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

/// The nodes that draw.
fn draws(graph: &Graph) -> Vec<NodeId> {
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

fn drawn(graph: &Graph, inputs: &[Array], draws: &[NodeId]) -> Result<Vec<Vec<f64>>, Failure> {
    let state = State::zeros(graph.states());
    let values = reference::evaluate(graph, inputs, &state, draws)?;
    Ok(values.iter().map(Array::to_f64).collect())
}

/// The inputs with one word of every generator one higher.
fn bumped(inputs: &[Array], word: usize) -> Vec<Array> {
    let mut inputs = inputs.to_vec();
    for input in inputs.iter_mut().filter(|input| input.ty == TensorType::u32([3])) {
        if let Values::U32(words) = &mut input.values {
            words[word] = words[word].wrapping_add(1);
        }
    }
    inputs
}
