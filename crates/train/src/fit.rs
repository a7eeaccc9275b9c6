//! Training loop over epochs, with metrics, evaluation, early stopping and checkpoints.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map, Value};
use wgrad_run::{Flops, RunDir};

use crate::checkpoint::{save, save_shards};
use crate::error::TrainError;
use crate::evaluate::Evaluation;
use crate::flops::Throughput;
use crate::log::MetricsLog;
use crate::plan::SplitName;
use crate::records::StepRecord;
use crate::trainer::Trainer;

/// Number of steps that may be queued before the loop reads their records.
const REPORT_EVERY: u64 = 16;

/// Length of a training run, and intervals of its metrics, evaluations and checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitOptions {
    /// Total number of steps of the run, including steps before a resume.
    pub steps: u64,
    /// Number of steps between two rows of training metrics.
    pub log_every: u64,
    /// Number of epochs between two evaluations; with 0, only the final model is evaluated.
    pub eval_every_epochs: u64,
    /// Number of evaluations without a lower loss after which the run ends; `None` disables early stopping.
    pub patience: Option<u64>,
    /// Number of epochs between two checkpoints; with 0, one checkpoint is written at the end.
    pub checkpoint_every_epochs: u64,
    /// Number of checkpoints that are kept.
    pub keep_checkpoints: usize,
}

/// Observer of a training run, which can also stop the run.
pub trait Callback {
    /// Called when the device has finished the first step of this process.
    fn on_first_step(&mut self) {}
    /// Called with the record of each step.
    fn on_step(&mut self, _: &StepRecord) {}
    /// Called after an evaluation, with the number of steps done.
    fn on_evaluation(&mut self, _: &Evaluation, _: u64) {}
    /// Called with the path of each new checkpoint.
    fn on_checkpoint(&mut self, _: &Path) {}
    /// Returns whether to finish the current step, write a checkpoint and stop.
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Callback for () {}

/// Reason why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All steps are done.
    Done,
    /// Early stopping: the evaluation loss no longer decreased.
    Patience,
    /// A callback requested the stop.
    Interrupted,
}

/// Result of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Reason why the run ended.
    pub stop: Stop,
    /// Number of steps done, including steps before a resume.
    pub steps: u64,
    /// Number of steps done in this process.
    pub new_steps: u64,
    /// Seconds of training in this process, including evaluations.
    pub seconds: f64,
    /// Floating-point operations of the run, including steps before a resume.
    pub flops: Flops,
    /// Throughput of the steps of this process.
    pub throughput: Throughput,
    /// Mean loss of the last epoch of this process.
    pub train_loss: f64,
    /// Final evaluation on the test data.
    pub test: Evaluation,
    /// Path of the last checkpoint; `None` if none was written.
    pub checkpoint: Option<PathBuf>,
}

/// Trains until all steps are done, early stopping ends the run, or a callback stops it. Evaluates on the test data at
/// the end.
///
/// Early stopping uses the validation data, or the test data if there is no validation data.
///
/// # Errors
/// Returns an error if the device fails, if a loss or metric is not finite, if a file of the run directory cannot be
/// written, or if another replica fails or cannot be reached. The metrics file holds the rows of all steps reported
/// before the error.
pub fn fit(
    trainer: &mut Trainer,
    options: &FitOptions,
    run: Option<&RunDir>,
    callback: &mut dyn Callback,
) -> Result<Finished, TrainError> {
    // Compiles the programs that count the FLOPs of each phase before steps are timed.
    trainer.step_flops()?;
    let log = MetricsLog::open(run, trainer.steps_done())?;
    let losses = RecentLosses { losses: Vec::new(), epoch: trainer.steps_per_epoch() as usize };
    let first_step = trainer.steps_done();
    let (clock, checkpoint) = (StepClock::default(), None);
    let mut fit = Fit { trainer, options, run, callback, log, losses, clock, checkpoint, first_step };
    let started = Instant::now();
    let (stop, last) = fit.train()?;
    fit.finish(stop, last, started)
}

/// State of one call of [`fit()`].
struct Fit<'a> {
    trainer: &'a mut Trainer,
    options: &'a FitOptions,
    run: Option<&'a RunDir>,
    callback: &'a mut dyn Callback,
    log: MetricsLog,
    losses: RecentLosses,
    clock: StepClock,
    /// Path of the last checkpoint; `None` if none was written.
    checkpoint: Option<PathBuf>,
    /// Number of steps done before the call.
    first_step: u64,
}

impl Fit<'_> {
    /// Runs all steps. Returns the reason why the loop ended, and the last evaluation.
    fn train(&mut self) -> Result<(Stop, Option<Evaluation>), TrainError> {
        let mut last = None;
        while self.trainer.steps_done() < self.options.steps {
            let requested = self.callback.should_stop();
            if self.trainer.replicas.stop_agreed(requested) {
                return Ok((Stop::Interrupted, last));
            }
            self.trainer.step()?;
            let done = self.trainer.steps_done();
            if done == self.first_step + 1 {
                self.trainer.wait()?;
                self.callback.on_first_step();
                self.clock.start(done);
            }
            let epoch_ends = done.is_multiple_of(self.trainer.steps_per_epoch());
            if done.is_multiple_of(REPORT_EVERY) || epoch_ends {
                self.report(epoch_ends)?;
            }
            if epoch_ends && done < self.options.steps {
                self.clock.stop(done);
                let epoch = done / self.trainer.steps_per_epoch();
                if self.end_epoch(epoch, &mut last)? {
                    return Ok((Stop::Patience, last));
                }
                self.clock.start(done);
            }
        }
        Ok((Stop::Done, last))
    }

    /// Evaluates and writes a checkpoint if due after `epoch`. Returns whether early stopping ends the run.
    fn end_epoch(&mut self, epoch: u64, last: &mut Option<Evaluation>) -> Result<bool, TrainError> {
        let is_due = |every: u64| every > 0 && epoch.is_multiple_of(every);
        if is_due(self.options.eval_every_epochs) {
            let has_validation = self.trainer.plan().split(SplitName::Validation).is_some();
            let split = if has_validation { SplitName::Validation } else { SplitName::Test };
            let evaluation = self.evaluate(split)?;
            self.trainer.early_stopping.record(evaluation.loss);
            *last = Some(evaluation);
            if self.trainer.early_stopping.is_exhausted(self.options.patience) {
                return Ok(true);
            }
        }
        if is_due(self.options.checkpoint_every_epochs) {
            self.write_checkpoint()?;
        }
        Ok(false)
    }

    /// Evaluates on the test data and writes the last checkpoint.
    fn finish(
        mut self,
        stop: Stop,
        last: Option<Evaluation>,
        started: Instant,
    ) -> Result<Finished, TrainError> {
        self.report(true)?;
        let steps = self.trainer.steps_done();
        self.clock.stop(steps);
        let test = match last.filter(|last| stop == Stop::Patience && last.split == SplitName::Test) {
            Some(evaluation) => evaluation,
            None => self.evaluate(SplitName::Test)?,
        };
        let seconds = started.elapsed().as_secs_f64();
        self.write_checkpoint()?;
        self.log.sync()?;
        Ok(Finished {
            stop,
            steps,
            new_steps: steps - self.first_step,
            seconds,
            flops: self.trainer.flops()?,
            throughput: self.clock.throughput,
            train_loss: self.losses.mean(),
            test,
            checkpoint: self.checkpoint,
        })
    }

    /// Logs the records of finished steps. With `wait`, waits for all queued steps first.
    fn report(&mut self, wait: bool) -> Result<(), TrainError> {
        for record in self.trainer.records(wait)? {
            if let Some(error) = self.trainer.explain(&record) {
                self.log.sync()?;
                return Err(error);
            }
            self.losses.push(f64::from(record.loss));
            if record.step.is_multiple_of(self.options.log_every.max(1)) {
                self.log.step(&record, self.trainer.flops_at(record.step)?)?;
            }
            self.callback.on_step(&record);
        }
        Ok(())
    }

    /// Evaluates on a split and logs the result.
    fn evaluate(&mut self, split: SplitName) -> Result<Evaluation, TrainError> {
        let trainer = &mut *self.trainer;
        let evaluation = trainer.with_timeline_span("evaluation", |trainer| trainer.evaluate(split))?;
        let step = trainer.steps_done();
        if !evaluation.loss.is_finite() {
            return Err(TrainError::NonFinite {
                what: format!("{} loss", split.as_str()),
                value: evaluation.loss as f32,
                step,
                cause: "the value comes from the evaluation after the step; the training loss of the step was finite"
                    .into(),
            });
        }
        let lr = trainer.learning_rate(step.saturating_sub(1));
        self.log.evaluation(&evaluation, step, trainer.last_epoch(), lr, trainer.flops_at(step)?)?;
        self.callback.on_evaluation(&evaluation, step);
        Ok(evaluation)
    }

    /// Writes a checkpoint into the run directory, or sends the shards of this replica to the first replica.
    fn write_checkpoint(&mut self) -> Result<(), TrainError> {
        let Some(run) = self.run else {
            if self.trainer.replicas.is_joined() {
                self.trainer.with_timeline_span("checkpoint", save_shards)?;
            }
            return Ok(());
        };
        let version = Value::from(env!("CARGO_PKG_VERSION"));
        let extra = Map::from_iter([("wgrad".to_owned(), version)]);
        let keep = self.options.keep_checkpoints;
        let path = self
            .trainer
            .with_timeline_span("checkpoint", |trainer| save(trainer, run.path(), keep, extra))?;
        self.callback.on_checkpoint(&path);
        self.checkpoint = Some(path);
        Ok(())
    }
}

/// Clock that runs only during steps.
#[derive(Default)]
struct StepClock {
    throughput: Throughput,
    /// Start time of the clock, and the number of steps done at that time.
    running: Option<(Instant, u64)>,
}

impl StepClock {
    fn start(&mut self, done: u64) {
        self.running = Some((Instant::now(), done));
    }

    /// Stops the clock. All queued steps must have finished.
    fn stop(&mut self, done: u64) {
        if let Some((since, before)) = self.running.take() {
            self.throughput.steps += done - before;
            self.throughput.time += since.elapsed();
        }
    }
}

/// Losses of at least the last epoch's steps.
struct RecentLosses {
    losses: Vec<f64>,
    /// Number of steps in an epoch.
    epoch: usize,
}

impl RecentLosses {
    fn push(&mut self, loss: f64) {
        if self.losses.len() >= 2 * self.epoch.max(1) {
            self.losses.drain(..self.epoch.max(1));
        }
        self.losses.push(loss);
    }

    /// Returns the mean loss of the last epoch, or NaN if no step was run.
    fn mean(&self) -> f64 {
        let last = &self.losses[self.losses.len().saturating_sub(self.epoch.max(1))..];
        last.iter().sum::<f64>() / last.len() as f64
    }
}
