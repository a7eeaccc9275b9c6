//! Which operation first gave a number that is not finite.
//!
//! A step is a pure function of state, data and counter, so the way there is gone again: from the last anchor (a
//! checkpoint, or the start) to just before the bad step, which is then run without fusion, every value kept.

use std::fmt;

use wgrad_graph::{DType, NodeId};
use wgrad_program::{Options, compile};

use crate::error::TrainError;
use crate::plan::Phase;
use crate::trainer::Trainer;

/// The first operation whose output is not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// Name of the operation, or `the update` of a parameter.
    pub op: String,
    /// Path of its layer, or name of the parameter; empty outside of any.
    pub path: String,
    /// `forward pass`, `backward pass or update`, or `of the step before`.
    pub part: &'static str,
    /// How many of its numbers are not finite, and of how many.
    pub count: (usize, usize),
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = if self.path.is_empty() { String::new() } else { format!(" in layer {}", self.path) };
        let (bad, all) = self.count;
        write!(
            f,
            "the first operation to give a number that is not finite is {}{layer} ({}; {bad} of {all})",
            self.op, self.part
        )
    }
}

/// Finds the culprit in `step` (from 1). The trainer is left somewhere in that step. `None` where the step, run again, gives
/// finite numbers only.
///
/// # Errors
/// The device cannot hold all values at once.
pub fn first_bad_operation(trainer: &mut Trainer, step: u64) -> Result<Option<Culprit>, TrainError> {
    trainer.rewind(step - 1)?;
    for tensor in trainer.parameters(false)? {
        let bad = tensor.values.iter().filter(|x| !x.is_finite()).count();
        if bad > 0 {
            let (op, part) = ("the update".into(), "of the step before");
            return Ok(Some(Culprit { op, path: tensor.name, part, count: (bad, tensor.values.len()) }));
        }
    }
    let mut first = None;
    for pass in 0..trainer.plan.config.accumulate.max(1) {
        let phase = trainer.plan.phase(pass);
        let found = examine(trainer, phase, pass)?;
        first = first.or(found);
        // A replica that found nothing may wait for this one's part of the next pass.
        if first.is_some() && trainer.plan.exchange.is_none() {
            break;
        }
    }
    Ok(first)
}

fn examine(trainer: &mut Trainer, phase: Phase, pass: u64) -> Result<Option<Culprit>, TrainError> {
    let graph = trainer.plan.trace_pass(phase)?;
    let loss = graph.outputs().into_iter().find(|(name, _)| name == "loss").map_or(NodeId(0), |(_, id)| id);
    let reported = graph.outputs().len();
    // Not the leaves: the data is finite, and a parameter that is not shows in the first operation that reads it.
    let computed =
        |id: &NodeId| graph.var(*id).ty().dtype == DType::F32 && !graph.nodes()[id.0].ins.is_empty();
    let floats: Vec<NodeId> = (0..graph.len()).map(NodeId).filter(computed).collect();
    for &id in &floats {
        graph.output("", graph.var(id));
    }
    let program = compile(&graph, Options { fuse: false, ..Options::within(&trainer.device().limits) })?;
    let id = trainer.rerun(&program, pass)?;
    for (i, &node) in floats.iter().enumerate() {
        let values = trainer.session.output(id, reported + i)?.to_f32();
        let bad = values.iter().filter(|x| !x.is_finite()).count();
        if bad > 0 {
            let node_of = &graph.nodes()[node.0];
            let part = if node <= loss { "forward pass" } else { "backward pass or update" };
            return Ok(Some(Culprit {
                op: node_of.op.name().into(),
                path: node_of.path.clone(),
                part,
                count: (bad, values.len()),
            }));
        }
    }
    Ok(None)
}
