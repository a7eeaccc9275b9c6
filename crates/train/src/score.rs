//! Scores of a trained classifier.

use wgrad_data::Targets;
use wgrad_run::{Predictions, Scores};

use crate::error::TrainError;
use crate::plan::SplitName;
use crate::trainer::Trainer;

/// Computes the scores of a classifier on a split of the data; returns `None` for regression. With two classes, the
/// second class is the positive class.
///
/// # Errors
/// Returns an error if the data has no such split, if the device fails, or if a probability is not finite.
pub fn score(trainer: &mut Trainer, split: SplitName) -> Result<Option<Scores>, TrainError> {
    let Targets::Classes { names, .. } = trainer.targets() else { return Ok(None) };
    let names = names.clone();
    let Some(Targets::Classes { labels, .. }) = trainer.split(split).map(|data| data.targets()) else {
        return Err(TrainError::Config(format!("there is no {} data to score", split.as_str())));
    };
    let labels = labels.clone();
    let probabilities = trainer.predict_split(split)?;
    let predictions = Predictions::new(&probabilities, names.len(), &labels)?;
    Ok(Some(Scores::of(&predictions, &names, None)?))
}
