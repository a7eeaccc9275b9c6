//! Records of training steps: loss and metrics, collected as the device finishes the steps.

use std::collections::VecDeque;

use wgrad_graph::Shape;
use wgrad_program::Program;
use wgrad_stdx::never;

use crate::error::TrainError;
use crate::pass::PassRunner;
use crate::plan::Phase;

/// Loss and metrics of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// Number of steps done, including this step.
    pub step: u64,
    /// Epoch of the step, from 0.
    pub epoch: u64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Mean loss of the step's examples.
    pub loss: f32,
    /// Other metrics by name.
    pub metrics: Vec<(String, f32)>,
}

impl StepRecord {
    /// Returns name and value of the first non-finite metric, checking the loss first.
    pub(crate) fn non_finite(&self) -> Option<(String, f32)> {
        let loss = std::iter::once(("loss".to_owned(), self.loss));
        loss.chain(self.metrics.iter().cloned()).find(|(_, value)| !value.is_finite())
    }
}

/// A tensor of the state, read back from the device.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Name of the tensor.
    pub name: String,
    /// Shape of the tensor.
    pub shape: Shape,
    /// Elements in row-major order.
    pub values: Vec<f32>,
}

/// A step that is queued on the device.
pub(crate) struct PendingStep {
    pub step: u64,
    pub epoch: u64,
    pub lr: f64,
}

/// Queue of steps whose records have not been returned, oldest first.
#[derive(Default)]
pub(crate) struct RecordQueue {
    pending: VecDeque<PendingStep>,
    /// For each program of a step, values that wait for the remaining passes of the same step.
    arrived: Vec<VecDeque<Vec<f32>>>,
    /// Complete records that have not been returned.
    complete: VecDeque<StepRecord>,
}

impl RecordQueue {
    /// Adds a step whose values are still on the device.
    pub fn push_pending(&mut self, step: PendingStep) {
        self.pending.push_back(step);
    }

    /// Adds the record of a step that is complete.
    pub fn push_complete(&mut self, record: StepRecord) {
        self.complete.push_back(record);
    }

    /// Removes and returns the complete records.
    pub fn take_complete(&mut self) -> Vec<StepRecord> {
        self.complete.drain(..).collect()
    }

    /// Discards all steps.
    pub fn clear(&mut self) {
        self.pending.clear();
        self.complete.clear();
        self.arrived.iter_mut().for_each(VecDeque::clear);
    }

    /// Returns the records of the steps that the device has finished. With `wait`, waits for all queued steps first.
    pub fn collect(&mut self, runner: &mut PassRunner, wait: bool) -> Result<Vec<StepRecord>, TrainError> {
        self.arrived.resize_with(runner.programs.len(), VecDeque::new);
        for (queue, &(_, id)) in self.arrived.iter_mut().zip(&runner.programs) {
            queue.extend(runner.session.records(id, wait)?.into_iter().map(|record| record.values));
        }
        let mut records = Vec::new();
        while let Some(passes) = self.next_step(runner) {
            let Some(pending) = self.pending.pop_front() else {
                return Err(never!("the device returned a record of a step that was not queued").into());
            };
            records.push(mean_of_passes(runner, pending, &passes)?);
        }
        Ok(records)
    }

    /// Removes and returns the values of the oldest step, one list per pass in order. Returns `None` until all passes
    /// have arrived.
    fn next_step(&mut self, runner: &PassRunner) -> Option<Vec<Vec<f32>>> {
        let middle = runner.plan.config.accumulate.saturating_sub(2) as usize;
        let count = |phase: Phase| if phase == Phase::Middle { middle } else { 1 };
        let mut queues = runner.programs.iter().zip(&self.arrived);
        let ready = queues.all(|((phase, _), queue)| queue.len() >= count(*phase));
        ready.then(|| {
            let queues = runner.programs.iter().zip(&mut self.arrived);
            queues.flat_map(|((phase, _), queue)| queue.drain(..count(*phase)).collect::<Vec<_>>()).collect()
        })
    }
}

/// Averages the values of a step over its passes. Metrics that only the last pass reports stay unchanged.
fn mean_of_passes(
    runner: &PassRunner,
    pending: PendingStep,
    passes: &[Vec<f32>],
) -> Result<StepRecord, TrainError> {
    let (_, program) = runner.plan.last_pass()?;
    let values = recorded_names(program).into_iter().enumerate().map(|(i, name)| {
        let found: Vec<f32> = passes.iter().filter_map(|values| values.get(i).copied()).collect();
        (name, found.iter().sum::<f32>() / found.len() as f32)
    });
    let (loss, metrics) = split_loss(values.collect())?;
    Ok(StepRecord { step: pending.step, epoch: pending.epoch, lr: pending.lr, loss, metrics })
}

/// Splits a list of metrics into the loss, which is the first entry, and the remaining metrics.
pub(crate) fn split_loss(mut metrics: Vec<(String, f32)>) -> Result<(f32, Vec<(String, f32)>), TrainError> {
    if metrics.is_empty() {
        return Err(never!("the training pass has no loss").into());
    }
    let (_, loss) = metrics.remove(0);
    Ok((loss, metrics))
}

/// Returns the names of the scalar outputs that a program records.
pub(crate) fn recorded_names(program: &Program) -> Vec<String> {
    program.outputs.iter().filter(|output| output.is_recorded()).map(|output| output.name.clone()).collect()
}
