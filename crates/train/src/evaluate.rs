//! Evaluation and prediction with the current parameters, or with their moving average if the plan keeps one.

use wgrad_data::Sequential;
use wgrad_program::Data;

use crate::config::Task;
use crate::error::TrainError;
use crate::pass::PassRunner;
use crate::plan::SplitName;
use crate::trainer::Trainer;

/// Result of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Split that was evaluated.
    pub split: SplitName,
    /// Mean loss over the examples.
    pub loss: f64,
    /// Fraction of correctly classified examples; `None` for regression.
    pub accuracy: Option<f64>,
    /// Number of evaluated examples.
    pub examples: usize,
}

impl Trainer {
    /// Computes the mean loss and the accuracy on a split of the data.
    ///
    /// # Errors
    /// Returns an error if the data has no such split, if `split` is the training data, if the device fails, or if the
    /// other replicas cannot be reached.
    pub fn evaluate(&mut self, split: SplitName) -> Result<Evaluation, TrainError> {
        let missing = || TrainError::Config(format!("there is no {} data to evaluate on", split.as_str()));
        let program = self.evaluations.iter().find(|(name, _)| *name == split);
        let &(_, id) = program.ok_or_else(missing)?;
        let (rank, size) = self.replicas.rank_and_size();
        let PassRunner { plan, session, splits, source, .. } = &mut self.runner;
        let data = split.of(splits).ok_or_else(missing)?;
        let (batch, resident) = (plan.config.eval_batch, plan.is_resident(split));
        // Each replica evaluates every `size`-th batch.
        for part in Sequential::new(data.len(), batch)?.skip(rank).step_by(size) {
            let weights: Vec<f32> = (0..batch).map(|i| if i < part.valid { 1.0 } else { 0.0 }).collect();
            let mut inputs = source.examples(data, part.indices, resident);
            inputs.push(Data::F32(&weights));
            session.run(id, &inputs)?;
        }
        let mut sums = [0.0f64; 2];
        for record in &session.records(id, true)? {
            record.values.iter().zip(&mut sums).for_each(|(&value, sum)| *sum += f64::from(value));
        }
        let (examples, task) = (data.len(), plan.task);
        let flops = plan.evaluation_flops(split);
        let sums = self.replicas.sum_evaluation(sums)?;
        self.flops.add_evaluation(flops);
        let classifies = matches!(task, Task::Classification { .. });
        Ok(Evaluation {
            split,
            loss: sums[0] / examples as f64,
            accuracy: classifies.then_some(sums[1] / examples as f64),
            examples,
        })
    }

    /// Returns the model's outputs for examples that are not normalised yet. `raw` is row-major with the shape
    /// `[examples, features]`. The outputs are `[examples, outputs]`: class probabilities for classification, predicted
    /// values for regression.
    ///
    /// # Errors
    /// Returns an error if the model cannot be compiled for prediction, or if the device fails.
    pub fn predict(&mut self, raw: &[f32]) -> Result<Vec<f32>, TrainError> {
        let (width, batch) = (self.features(), self.plan().config.eval_batch);
        let mut outputs = Vec::new();
        for part in raw.chunks(width * batch) {
            let mut features = part.to_vec();
            self.runner.splits.prepare(&mut features);
            outputs.extend(self.batch_outputs(features)?);
        }
        Ok(outputs)
    }

    /// Returns the model's outputs `[examples, outputs]` for every example of a split, in order: class probabilities
    /// for classification, predicted values for regression.
    ///
    /// # Errors
    /// Returns an error if the data has no such split, if the model cannot be compiled for prediction, or if the device
    /// fails.
    pub fn predict_split(&mut self, split: SplitName) -> Result<Vec<f32>, TrainError> {
        let missing = || TrainError::Config(format!("the data has no {} split", split.as_str()));
        let (width, batch) = (self.features(), self.plan().config.eval_batch);
        let len = self.split(split).ok_or_else(missing)?.len();
        let mut outputs = Vec::new();
        for first in (0..len).step_by(batch) {
            let data = self.split(split).ok_or_else(missing)?;
            let mut features = vec![0.0; width * batch.min(len - first)];
            features.chunks_exact_mut(width).enumerate().for_each(|(i, to)| data.fill(first + i, to));
            outputs.extend(self.batch_outputs(features)?);
        }
        Ok(outputs)
    }

    /// Returns the outputs `[examples, outputs]` for at most one evaluation batch of normalised examples.
    fn batch_outputs(&mut self, mut features: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let width = self.features();
        let PassRunner { plan, session, .. } = &mut self.runner;
        let batch = plan.config.eval_batch;
        let id = match self.prediction {
            Some(id) => id,
            None => session.load(&plan.prediction(batch)?)?,
        };
        self.prediction = Some(id);
        let examples = features.len() / width;
        features.resize(width * batch, 0.0);
        session.run(id, &[Data::F32(&features)])?;
        let mut values = session.output(id, 0)?.to_f32();
        values.truncate(examples * plan.task.outputs());
        Ok(values)
    }
}
