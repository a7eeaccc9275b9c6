//! Finds the first operation of a step with an output that is not finite.
//!
//! A step is a pure function of state, data and step number. The run is therefore repeated from the last snapshot (a
//! checkpoint or the start) up to the state before the step. The step then runs without fusion and keeps every value.

use std::fmt;

use wgrad_graph::{DType, NodeId};
use wgrad_program::{Options, compile};
use wgrad_stdx::never;

use crate::error::TrainError;
use crate::plan::Phase;
use crate::snapshot::rewind;
use crate::trainer::Trainer;

/// First operation of a step with an output that is not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstNonFinite {
    /// Name of the operation, or `the update` for a parameter update.
    pub op: String,
    /// Path of the layer, or name of the parameter; empty outside of layers.
    pub path: String,
    /// `forward pass`, `backward pass or update`, or `in the previous step`.
    pub part: &'static str,
    /// Number of non-finite elements, and total number of elements.
    pub count: (usize, usize),
}

impl fmt::Display for FirstNonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = if self.path.is_empty() { String::new() } else { format!(" in layer {}", self.path) };
        let (bad, all) = self.count;
        write!(
            f,
            "the first operation with a non-finite result is {}{layer} ({}; {bad} of {all} elements are not finite)",
            self.op, self.part
        )
    }
}

/// Finds the first operation of `step` (counted from 1) with an output that is not finite. Returns `None` if the
/// repeated step computes only finite values. The trainer is left in the middle of the repeated step.
///
/// # Errors
/// Returns an error if the device fails or cannot hold all values of a pass at once.
pub fn find_first_non_finite(trainer: &mut Trainer, step: u64) -> Result<Option<FirstNonFinite>, TrainError> {
    rewind(trainer, step.saturating_sub(1))?;
    for tensor in trainer.parameters(false)? {
        if let Some(count) = count_non_finite(&tensor.values) {
            let (op, part) = ("the update".into(), "in the previous step");
            return Ok(Some(FirstNonFinite { op, path: tensor.name, part, count }));
        }
    }
    let mut first = None;
    for pass in 0..trainer.plan().config.passes() {
        let found = find_in_pass(trainer, trainer.plan().phase(pass), pass)?;
        first = first.or(found);
        // If replicas exchange statistics, every replica must run all passes.
        if first.is_some() && trainer.plan().replica_sync.is_none() {
            break;
        }
    }
    Ok(first)
}

/// Runs a pass without fusion and examines the outputs of its operations in order.
fn find_in_pass(
    trainer: &mut Trainer,
    phase: Phase,
    pass: u64,
) -> Result<Option<FirstNonFinite>, TrainError> {
    let graph = trainer.plan().trace_pass(phase)?;
    let outputs = graph.outputs();
    let loss = outputs.iter().find(|(name, _)| name == "loss").map(|(_, id)| *id);
    let loss = loss.ok_or_else(|| never!("the training pass has no output `loss`"))?;
    // Inputs are not checked: the data is finite, and a non-finite parameter shows in the first operation that reads
    // the parameter.
    let computed =
        |id: &NodeId| graph.var(*id).ty().dtype == DType::F32 && !graph.nodes()[id.0].ins.is_empty();
    let floats: Vec<NodeId> = (0..graph.len()).map(NodeId).filter(computed).collect();
    for &id in &floats {
        graph.output("", graph.var(id));
    }
    let program = compile(&graph, Options { fuse: false, ..Options::within(&trainer.device().limits) })?;
    let id = trainer.run_once(&program, pass)?;
    for (i, &node) in floats.iter().enumerate() {
        let values = trainer.runner.session.output(id, outputs.len() + i)?.to_f32();
        if let Some(count) = count_non_finite(&values) {
            let found = &graph.nodes()[node.0];
            let part = if node <= loss { "forward pass" } else { "backward pass or update" };
            let (op, path) = (found.op.name().into(), found.path.clone());
            return Ok(Some(FirstNonFinite { op, path, part, count }));
        }
    }
    Ok(None)
}

/// Returns the number of non-finite values and the total number of values, or `None` if all values are finite.
fn count_non_finite(values: &[f32]) -> Option<(usize, usize)> {
    let bad = values.iter().filter(|x| !x.is_finite()).count();
    (bad > 0).then_some((bad, values.len()))
}
