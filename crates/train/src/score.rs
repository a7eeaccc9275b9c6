//! A trained classifier's scores on a part of the data.

use wgrad_data::Targets;
use wgrad_run::{Predictions, Scores};

use crate::error::TrainError;
use crate::plan::SplitName;
use crate::trainer::Trainer;

/// Scores the model, as it is, on a part of the data; `None` where it predicts values. Of two classes the second is the
/// positive one.
///
/// # Errors
/// The part is missing; what the device reports; probabilities that are not finite.
pub fn score(trainer: &mut Trainer, split: SplitName) -> Result<Option<Scores>, TrainError> {
    let Targets::Classes { names, .. } = trainer.targets() else { return Ok(None) };
    let names = names.clone();
    let Some(Targets::Classes { labels, .. }) = trainer.part(split).map(|data| data.targets()) else {
        return Err(TrainError::Config(format!("there is no {} data to score", split.as_str())));
    };
    let labels = labels.clone();
    let probabilities = trainer.predict_split(split)?;
    let predictions = Predictions::new(&probabilities, names.len(), &labels)?;
    Ok(Some(Scores::of(&predictions, &names, None)?))
}
