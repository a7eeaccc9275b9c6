//! Metrics and events that a training run writes into its run directory.

use wgrad_run::{EventWriter, Flops, MetricsWriter, Row, RunDir};

use crate::error::TrainError;
use crate::evaluate::Evaluation;
use crate::plan::SplitName;
use crate::records::StepRecord;

/// Name of the metric for the floating-point operations of the steps so far.
const FLOPS: &str = "flops";

/// Metrics and event files of a run directory. Without a run directory, nothing is written.
pub(crate) struct MetricsLog {
    files: Option<(MetricsWriter, EventWriter)>,
}

impl MetricsLog {
    /// Opens the files of a run directory and removes the rows after `step`.
    pub fn open(run: Option<&RunDir>, step: u64) -> Result<Self, TrainError> {
        // A run that ended before its first checkpoint also has files; it restarts at step 0.
        let after = run.is_some_and(|run| run.metrics_path().exists()).then_some(step);
        let files =
            run.map(|run| Ok::<_, TrainError>((run.metrics(after)?, run.events(after)?))).transpose()?;
        Ok(Self { files })
    }

    /// Writes the record of a step.
    pub fn step(&mut self, record: &StepRecord, flops: Flops) -> Result<(), TrainError> {
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

    /// Writes an evaluation after `step` steps.
    pub fn evaluation(
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

    /// Appends a row to both files.
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

    /// Syncs the files to disk.
    pub fn sync(&self) -> Result<(), TrainError> {
        if let Some((metrics, events)) = &self.files {
            metrics.sync()?;
            events.sync()?;
        }
        Ok(())
    }
}
