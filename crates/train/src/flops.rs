//! What a run costs in floating-point operations: counted from its programs, by what they are for.

use std::time::Duration;

use serde_json::{Map, Value};
use wgrad_graph::TensorType;
use wgrad_nn::Optimizer;
use wgrad_ops::graph;
use wgrad_program::{Limits, Options, compile};
use wgrad_run::Flops;

use crate::error::TrainError;
use crate::plan::{Phase, Plan, SplitName};
use crate::trainer::Trainer;

/// Keys of a checkpoint's state.
const KEYS: [&str; 4] = ["forward_flops", "backward_flops", "update_flops", "evaluation_flops"];

/// What a trainer has spent, and what it spends on a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Ledger {
    /// Of a step, on all replicas together.
    per_step: Flops,
    /// Spent when `since` steps were done; evaluations until now.
    spent: Flops,
    since: u64,
}

impl Ledger {
    pub fn new(per_step: Flops) -> Self {
        Self { per_step, ..Self::default() }
    }

    /// Everything spent when `steps` steps are done.
    pub fn at(&self, steps: u64) -> Flops {
        self.spent + self.per_step * (steps as f64 - self.since as f64)
    }

    /// Goes on from what was spent on the first `steps` steps.
    pub fn go_on(&mut self, spent: Flops, steps: u64) {
        (self.spent, self.since) = (spent, steps);
    }
}

impl Plan {
    /// Floating-point operations of a step of this replica. The forward pass is what computing the loss and the running
    /// statistics takes by itself, the update what the optimizer, clipping and the moving average do; the rest of the step is the
    /// backward pass, with what it computes again under `recompute`.
    pub fn step_flops(&self) -> Flops {
        let (forward, update) = self.apart;
        let passes = self.config.accumulate.max(1) as f64;
        let forward = forward as f64 * passes;
        Flops {
            forward,
            backward: (self.flops_per_step() as f64 - forward - update as f64).max(0.0),
            update: update as f64,
            evaluation: 0.0,
        }
    }

    /// Floating-point operations of evaluating a part of the data once. The last batch is filled up, and counts in full.
    pub fn evaluation_flops(&self, name: SplitName) -> f64 {
        let program = self.evaluations.iter().find(|(other, _)| *other == name).map(|(_, program)| program);
        let batches = self.split(name).map_or(0, |(shape, _)| shape.len.div_ceil(self.config.eval_batch));
        program.map_or(0.0, |program| program.cost().flops as f64 * batches as f64)
    }

    /// Floating-point operations of a forward pass and of an update by themselves.
    pub(crate) fn plan_apart(&self, limits: &Limits) -> Result<(u64, u64), TrainError> {
        let options = Options::within(limits);
        let forward = compile(&self.trace_forward()?, options)?.cost().flops;
        let apart = |phase: &Phase| matches!(phase, Phase::Update | Phase::Average);
        if self.config.part.is_some() {
            let programs = self.passes.iter().filter(|(phase, _)| apart(phase));
            return Ok((forward, programs.map(|(_, program)| program.cost().flops).sum()));
        }
        let graph = graph(self.states.clone());
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let len = self.states.get(self.params.group()).len();
        self.record_update(&graph, graph.input("gradients", TensorType::f32([len])), hyper);
        graph.finish()?;
        Ok((forward, compile(&graph, options)?.cost().flops))
    }
}

impl Trainer {
    /// Floating-point operations of the run so far on all of its replicas, those before a resume included.
    pub fn flops(&self) -> Flops {
        self.ledger.at(self.steps_done())
    }

    /// The same when `step` steps were done, with the evaluations until now.
    pub fn flops_at(&self, step: u64) -> Flops {
        self.ledger.at(step)
    }

    /// Floating-point operations of a step, on all replicas together.
    pub fn step_flops(&self) -> Flops {
        self.ledger.per_step
    }

    /// Takes note of an evaluation.
    pub(crate) fn evaluated(&mut self, flops: f64) {
        self.ledger.spent.evaluation += flops;
    }

    /// Adds up what a step costs every replica. All of them call this at the same time.
    pub(crate) fn count_together(&mut self) -> Result<(), TrainError> {
        let own = self.plan.step_flops();
        let Some(team) = &mut self.team else { return Ok(()) };
        let sums = team.total(own.to_array(), true)?;
        self.ledger.per_step = Flops::from_array(sums);
        Ok(())
    }

    /// What was spent, for a checkpoint.
    pub(crate) fn spent_json(&self) -> impl Iterator<Item = (String, Value)> {
        let values = self.flops().to_array();
        KEYS.into_iter().zip(values).map(|(key, value)| (key.to_owned(), value.into()))
    }

    /// Goes on from what a checkpoint says was spent; one of an older version says nothing, and its steps count as those of
    /// now.
    pub(crate) fn restore_spent(&mut self, state: &Map<String, Value>) {
        let values = KEYS.map(|key| state.get(key).and_then(Value::as_f64));
        let step = self.steps_done();
        match values {
            [Some(forward), Some(backward), Some(update), Some(evaluation)] => {
                self.ledger.go_on(Flops { forward, backward, update, evaluation }, step);
            }
            _ => self.ledger.go_on(Flops::default(), 0),
        }
    }
}

/// How long steps took, apart from evaluations, checkpoints and the first step of a process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pace {
    /// Steps that were timed.
    pub steps: u64,
    /// How long they took.
    pub time: Duration,
}

impl Pace {
    /// Floating-point operations a second, if so many make a step; `None` where no step was timed.
    pub fn rate(&self, flops_per_step: f64) -> Option<f64> {
        let seconds = self.time.as_secs_f64();
        (self.steps > 0 && seconds > 0.0).then(|| self.steps as f64 * flops_per_step / seconds)
    }
}
