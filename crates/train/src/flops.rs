//! Floating-point operations of a run by phase, counted from its programs, and throughput.

use std::time::Duration;

use serde_json::{Map, Value};
use wgrad_graph::TensorType;
use wgrad_nn::Optimizer;
use wgrad_ops::graph;
use wgrad_program::{Options, compile};
use wgrad_run::Flops;

use crate::error::TrainError;
use crate::plan::{Phase, Plan, SplitName};

/// JSON keys of the operation counts in a checkpoint.
const KEYS: [&str; 4] = ["forward_flops", "backward_flops", "update_flops", "evaluation_flops"];

impl Plan {
    /// Number of floating-point operations of a step of this replica.
    pub fn flops_per_step(&self) -> u64 {
        self.step_programs().into_iter().map(|(program, runs)| program.cost().flops * runs).sum()
    }

    /// Number of floating-point operations of a step of this replica, by phase.
    ///
    /// The count of the forward pass is that of a program that computes only the loss and the running statistics. The
    /// count of the update is that of a program with only clipping, the optimizer and the moving average. The remaining
    /// operations of the step are the backward pass, including recomputation. The two programs are compiled on the
    /// first call.
    ///
    /// # Errors
    /// Returns an error if the forward pass or the update cannot be compiled separately.
    pub fn step_flops(&self) -> Result<Flops, TrainError> {
        let (forward, update) = self.flops_by_phase()?;
        let forward = forward as f64 * self.config.passes() as f64;
        Ok(Flops {
            forward,
            backward: (self.flops_per_step() as f64 - forward - update as f64).max(0.0),
            update: update as f64,
            evaluation: 0.0,
        })
    }

    /// Number of floating-point operations of one evaluation of a split; 0 for the training data, which is not
    /// evaluated. The padding of the last batch is included.
    pub fn evaluation_flops(&self, name: SplitName) -> f64 {
        let program = self.evaluations.iter().find(|(other, _)| *other == name).map(|(_, program)| program);
        let batches = self.split(name).map_or(0, |(shape, _)| shape.len.div_ceil(self.config.eval_batch));
        program.map_or(0.0, |program| program.cost().flops as f64 * batches as f64)
    }

    /// Number of floating-point operations of a forward pass and of an update, each compiled separately.
    fn flops_by_phase(&self) -> Result<(u64, u64), TrainError> {
        if let Some(&flops) = self.forward_and_update_flops.get() {
            return Ok(flops);
        }
        let forward = compile(&self.trace_forward()?, Options::within(&self.limits))?.cost().flops;
        let update = match self.config.replica {
            Some(_) => self.update_program_flops(),
            None => self.separate_update_flops()?,
        };
        Ok(*self.forward_and_update_flops.get_or_init(|| (forward, update)))
    }

    /// Number of floating-point operations of the programs that update the parameters of a replica.
    fn update_program_flops(&self) -> u64 {
        let updates = self.passes.iter().filter(|(phase, _)| matches!(phase, Phase::Update | Phase::Average));
        updates.map(|(_, program)| program.cost().flops).sum()
    }

    /// Number of floating-point operations of an update that is compiled separately from the passes.
    fn separate_update_flops(&self) -> Result<u64, TrainError> {
        let graph = graph(self.states.clone());
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let len = self.states.get(self.params.group()).len();
        self.record_update(&graph, graph.input("gradients", TensorType::f32([len])), hyper);
        graph.finish()?;
        Ok(compile(&graph, Options::within(&self.limits))?.cost().flops)
    }
}

/// Counter of the floating-point operations of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct FlopCounter {
    /// Operations of a step on all replicas together. `None` until a process group is joined; the operations of the
    /// plan are used then.
    pub per_step: Option<Flops>,
    /// Operations of the first `since` steps and of all evaluations so far.
    counted: Flops,
    since: u64,
}

impl FlopCounter {
    /// Returns the total FLOPs of the first `steps` steps. Steps after `since` count `per_step` each.
    pub fn at(&self, steps: u64, per_step: Flops) -> Flops {
        self.counted + per_step * (steps as f64 - self.since as f64)
    }

    /// Sets the operations of the first `steps` steps.
    pub fn resume(&mut self, counted: Flops, steps: u64) {
        (self.counted, self.since) = (counted, steps);
    }

    /// Adds the operations of an evaluation.
    pub fn add_evaluation(&mut self, flops: f64) {
        self.counted.evaluation += flops;
    }

    /// Restores the counts of a checkpoint after `steps` steps. If a checkpoint of an older version has no counts, all
    /// steps are assumed to have the operations of the current plan.
    pub fn restore(&mut self, state: &Map<String, Value>, steps: u64) {
        let values = KEYS.map(|key| state.get(key).and_then(Value::as_f64));
        match values {
            [Some(forward), Some(backward), Some(update), Some(evaluation)] => {
                self.resume(Flops { forward, backward, update, evaluation }, steps);
            }
            _ => self.resume(Flops::default(), 0),
        }
    }
}

/// Returns the checkpoint entries, key and value, that store the operation counts.
pub(crate) fn checkpoint_entries(flops: Flops) -> impl Iterator<Item = (String, Value)> {
    KEYS.into_iter().zip(flops.to_array()).map(|(key, value)| (key.to_owned(), value.into()))
}

/// Number and time of training steps, without evaluations, checkpoints and the first step of the process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Throughput {
    /// Number of timed steps.
    pub steps: u64,
    /// Total time of the timed steps.
    pub time: Duration,
}

impl Throughput {
    /// Floating-point operations per second at `flops_per_step` operations per step; `None` if no step was timed.
    pub fn flops_per_second(&self, flops_per_step: f64) -> Option<f64> {
        let seconds = self.time.as_secs_f64();
        (self.steps > 0 && seconds > 0.0).then(|| self.steps as f64 * flops_per_step / seconds)
    }
}
