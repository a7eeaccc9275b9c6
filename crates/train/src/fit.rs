//! The loop over epochs: steps, reports, evaluation, early stopping, checkpoints.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, Value};
use wgrad_run::{EventWriter, Flops, MetricsWriter, Row, RunDir};

use crate::checkpoint::{assist, save};
use crate::error::TrainError;
use crate::flops::Pace;
use crate::plan::SplitName;
use crate::trainer::{Evaluation, StepRecord, Trainer};

/// Steps that may be queued before the loop looks at their reports.
const LOOK_EVERY: u64 = 16;

/// The metric that says how many floating-point operations the steps so far took.
const FLOPS: &str = "flops";

/// How long to train, and what to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitOptions {
    /// Steps of the whole run, those before a resume included.
    pub steps: u64,
    /// Steps between two rows of training metrics.
    pub log_every: u64,
    /// Epochs between two evaluations.
    pub eval_every_epochs: u64,
    /// Evaluations without a better loss after which the run ends.
    pub patience: Option<u64>,
    /// Epochs between two checkpoints; 0 keeps only the one at the end.
    pub checkpoint_every_epochs: u64,
    /// Checkpoints that stay.
    pub keep_checkpoints: usize,
}

/// Is told what happens, and may end the run.
pub trait Callback {
    /// Once the device has done the first step of this process.
    fn on_first_step(&mut self) {}
    /// After a step was reported.
    fn on_step(&mut self, _: &StepRecord) {}
    /// After an evaluation.
    fn on_evaluation(&mut self, _: &Evaluation, _: u64) {}
    /// After a checkpoint was written.
    fn on_checkpoint(&mut self, _: &std::path::Path) {}
    /// Whether to finish the step, save and stop.
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Callback for () {}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All steps were made.
    Done,
    /// The evaluated loss stopped falling.
    Patience,
    /// A callback asked for it.
    Interrupted,
}

/// What came out of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why it ended.
    pub stop: Stop,
    /// Steps made, those before a resume included.
    pub steps: u64,
    /// Steps made in this process.
    pub made: u64,
    /// Seconds of training, evaluations included, in this process.
    pub seconds: f64,
    /// Floating-point operations of the run, those before a resume included.
    pub flops: Flops,
    /// How long the steps of this process took.
    pub pace: Pace,
    /// Mean loss over the last epoch's worth of steps in this process.
    pub train_loss: f64,
    /// The last evaluation.
    pub test: Evaluation,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
}

/// Trains until the steps are made, the loss stops falling, or a callback ends it; evaluates at the end.
///
/// Early stopping looks at the validation part where there is one, else at the test part.
///
/// # Errors
/// What the device reports; a loss that is not finite; a disk that cannot be written. Steps reported until then are in the
/// metrics.
pub fn fit(
    trainer: &mut Trainer,
    options: &FitOptions,
    run: Option<&RunDir>,
    callback: &mut dyn Callback,
) -> Result<Finished, TrainError> {
    let mut log = Log::open(run, trainer.steps_done())?;
    let judged = if trainer.plan().split(SplitName::Validation).is_some() {
        SplitName::Validation
    } else {
        SplitName::Test
    };
    let (start, resumed) = (Instant::now(), trainer.steps_done());
    let mut clock = Clock::default();
    let mut recent = Recent { losses: Vec::new(), keep: trainer.steps_per_epoch() as usize };
    let mut stop = Stop::Done;
    let (mut checkpoint, mut saved) = (None, false);
    let mut last: Option<Evaluation> = None;
    while trainer.steps_done() < options.steps {
        if trainer.agree(callback.should_stop()) {
            stop = Stop::Interrupted;
            break;
        }
        trainer.step()?;
        let done = trainer.steps_done();
        if done == resumed + 1 {
            trainer.wait()?;
            callback.on_first_step();
            clock.begin(done);
        }
        let epoch_ends = done.is_multiple_of(trainer.steps_per_epoch());
        if done.is_multiple_of(LOOK_EVERY) || epoch_ends {
            report(trainer, epoch_ends, options, &mut log, &mut recent, callback)?;
        }
        if !epoch_ends || done >= options.steps {
            continue;
        }
        let epoch = done / trainer.steps_per_epoch();
        clock.pause(done);
        if options.eval_every_epochs > 0 && epoch.is_multiple_of(options.eval_every_epochs) {
            let evaluation = evaluate(trainer, judged, &mut log, callback)?;
            trainer.watch.see(evaluation.loss);
            last = Some(evaluation);
            if options.patience.is_some_and(|patience| trainer.watch.worse >= patience) {
                stop = Stop::Patience;
                break;
            }
        }
        if options.checkpoint_every_epochs > 0 && epoch.is_multiple_of(options.checkpoint_every_epochs) {
            checkpoint = write_checkpoint(trainer, options, run, callback)?.or(checkpoint);
            saved = true;
        }
        clock.begin(done);
    }
    report(trainer, true, options, &mut log, &mut recent, callback)?;
    clock.pause(trainer.steps_done());
    let fresh = last.filter(|e| stop == Stop::Patience && e.split == SplitName::Test);
    let test = match fresh {
        Some(evaluation) => evaluation,
        None => evaluate(trainer, SplitName::Test, &mut log, callback)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    if trainer.steps_done() > resumed || !saved {
        checkpoint = write_checkpoint(trainer, options, run, callback)?.or(checkpoint);
    }
    log.sync()?;
    let made = trainer.steps_done() - resumed;
    Ok(Finished {
        stop,
        steps: trainer.steps_done(),
        made,
        seconds,
        flops: trainer.flops(),
        pace: clock.pace,
        train_loss: recent.mean(),
        test,
        checkpoint,
    })
}

fn report(
    trainer: &mut Trainer,
    wait: bool,
    options: &FitOptions,
    log: &mut Log,
    recent: &mut Recent,
    callback: &mut dyn Callback,
) -> Result<(), TrainError> {
    for record in trainer.records(wait)? {
        if let Some(error) = trainer.explain(&record) {
            log.sync()?;
            return Err(error);
        }
        recent.push(f64::from(record.loss));
        if record.step.is_multiple_of(options.log_every.max(1)) {
            log.step(&record, trainer.flops_at(record.step))?;
        }
        callback.on_step(&record);
    }
    Ok(())
}

fn evaluate(
    trainer: &mut Trainer,
    split: SplitName,
    log: &mut Log,
    callback: &mut dyn Callback,
) -> Result<Evaluation, TrainError> {
    let evaluation = trainer.noted("evaluation", |trainer| trainer.evaluate(split))?;
    let step = trainer.steps_done();
    if !evaluation.loss.is_finite() {
        return Err(TrainError::NonFinite {
            what: format!("{} loss", split.as_str()),
            value: evaluation.loss as f32,
            step,
            culprit: "the evaluation after that step gave it; the step's own loss was finite".into(),
        });
    }
    let spent = trainer.flops_at(step);
    log.evaluation(&evaluation, step, trainer.last_epoch(), trainer.rate(step.saturating_sub(1)), spent)?;
    callback.on_evaluation(&evaluation, step);
    Ok(evaluation)
}

fn write_checkpoint(
    trainer: &mut Trainer,
    options: &FitOptions,
    run: Option<&RunDir>,
    callback: &mut dyn Callback,
) -> Result<Option<PathBuf>, TrainError> {
    let Some(run) = run else {
        // The other replicas wait even for one that writes nothing.
        if trainer.traffic().is_some() {
            trainer.noted("checkpoint", assist)?;
        }
        return Ok(None);
    };
    let version = Value::from(env!("CARGO_PKG_VERSION"));
    let extra = Map::from_iter([("wgrad".to_owned(), version)]);
    let path =
        trainer.noted("checkpoint", |trainer| save(trainer, run.path(), options.keep_checkpoints, extra))?;
    callback.on_checkpoint(&path);
    Ok(Some(path))
}

/// Times steps, and nothing between them.
#[derive(Default)]
struct Clock {
    pace: Pace,
    /// Since when, and how many steps were done then.
    running: Option<(Instant, u64)>,
}

impl Clock {
    fn begin(&mut self, done: u64) {
        self.running = Some((Instant::now(), done));
    }

    /// All steps are done and read back.
    fn pause(&mut self, done: u64) {
        if let Some((since, before)) = self.running.take() {
            self.pace.steps += done - before;
            self.pace.time += since.elapsed();
        }
    }
}

/// The losses of the last epoch.
struct Recent {
    losses: Vec<f64>,
    keep: usize,
}

impl Recent {
    fn push(&mut self, loss: f64) {
        if self.losses.len() >= 2 * self.keep.max(1) {
            self.losses.drain(..self.keep.max(1));
        }
        self.losses.push(loss);
    }

    fn mean(&self) -> f64 {
        let last = &self.losses[self.losses.len().saturating_sub(self.keep.max(1))..];
        last.iter().sum::<f64>() / last.len() as f64
    }
}

/// Metrics and events of a run directory, or of none.
struct Log {
    files: Option<(MetricsWriter, EventWriter)>,
}

impl Log {
    fn open(run: Option<&RunDir>, step: u64) -> Result<Self, TrainError> {
        // A run that was begun without reaching a checkpoint has files too: it starts again at step 0.
        let after = run.is_some_and(|run| run.metrics_path().exists()).then_some(step);
        let files =
            run.map(|run| Ok::<_, TrainError>((run.metrics(after)?, run.events(after)?))).transpose()?;
        Ok(Self { files })
    }

    fn step(&mut self, record: &StepRecord, flops: Flops) -> Result<(), TrainError> {
        let metrics = record.metrics.iter().map(|(name, value)| (name.clone(), f64::from(*value)));
        let metrics = metrics.chain([(FLOPS.to_owned(), flops.training())]).collect();
        self.row(Row {
            step: record.step,
            epoch: record.epoch,
            split: SplitName::Train.as_str().into(),
            loss: f64::from(record.loss),
            lr: record.lr,
            metrics,
        })
    }

    fn evaluation(
        &mut self,
        evaluation: &Evaluation,
        step: u64,
        epoch: u64,
        lr: f64,
        flops: Flops,
    ) -> Result<(), TrainError> {
        let accuracy = evaluation.accuracy.map(|accuracy| ("accuracy".to_owned(), accuracy));
        let metrics = accuracy.into_iter().chain([(FLOPS.to_owned(), flops.training())]).collect();
        self.row(Row {
            step,
            epoch,
            split: evaluation.split.as_str().into(),
            loss: evaluation.loss,
            lr,
            metrics,
        })
    }

    fn row(&mut self, row: Row) -> Result<(), TrainError> {
        let Some((metrics, events)) = &mut self.files else { return Ok(()) };
        metrics.write(&row)?;
        let tag = |name: &str| format!("{name}/{}", row.split);
        let mut scalars = vec![(tag("loss"), row.loss as f32)];
        scalars.extend(row.metrics.iter().map(|(name, value)| (tag(name), *value as f32)));
        if row.split == SplitName::Train.as_str() {
            scalars.push(("lr".into(), row.lr as f32));
        }
        let named: Vec<(&str, f32)> = scalars.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        Ok(events.scalars(row.step, &named)?)
    }

    fn sync(&self) -> Result<(), TrainError> {
        if let Some((metrics, events)) = &self.files {
            metrics.sync()?;
            events.sync()?;
        }
        Ok(())
    }
}
