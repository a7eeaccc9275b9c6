//! Creates the model, data and configuration of a recipe.

use wgrad_data::{Splits, Targets};
use wgrad_nn::{Mlp, ResNet, ResNetConfig, ResidualMlp};
use wgrad_recipe as r;
use wgrad_recipe::Recipe;
use wgrad_run::Run;
use wgrad_weights::{Pattern, WeightsError};

use crate::config::{Config, Task};
use crate::error::TrainError;
use crate::fit::FitOptions;
use crate::plan::Model;

/// Data, model and configuration of a run.
pub struct Setup {
    /// Data splits; features are flattened unless the model accepts images.
    pub splits: Splits,
    /// Model with untrained parameters.
    pub model: Model,
    /// Hyperparameters of the training run.
    pub config: Config,
    /// Number of steps, and intervals of metrics, evaluations and checkpoints.
    pub fit: FitOptions,
}

/// Reads the recipe of a run.
///
/// # Errors
/// Returns an error if the file cannot be read, or if it is not a valid recipe for this version.
pub fn run_recipe(run: &Run) -> Result<Recipe, TrainError> {
    Ok(Recipe::parse(&run.recipe_text()?, &run.recipe_path().display().to_string())?)
}

/// Loads the data of a recipe and builds its model.
///
/// # Errors
/// Returns an error if the data cannot be loaded, or does not fit the model or the batch.
pub fn setup(recipe: &Recipe) -> Result<Setup, TrainError> {
    setup_on(recipe, wgrad_data::load(&recipe.data)?)
}

/// Builds the model of a recipe for the given data, which replaces the data of the recipe.
///
/// # Errors
/// Returns an error if the data does not fit the model or the batch.
pub fn setup_on(recipe: &Recipe, splits: Splits) -> Result<Setup, TrainError> {
    let splits = if takes_images(recipe) { splits } else { splits.flattened() };
    let train = &recipe.train;
    let accumulate = train.accumulate.max(1);
    let passes = (splits.train.len() / train.batch.max(1)) as u64;
    // Data of less than one batch is rejected by the plan, with a message about the batch.
    if passes > 0 && accumulate > passes {
        return Err(TrainError::Config(format!(
            "train.accumulate is {accumulate}, but must be at most {passes}, the number of batches in an epoch (train.batch is {})",
            train.batch
        )));
    }
    let per_epoch = (passes / accumulate).max(1);
    let steps = train.epochs.saturating_mul(per_epoch).min(train.steps.unwrap_or(u64::MAX));
    let task = Task::of(&splits.train, train.label_smoothing);
    let model = model(&recipe.model, splits.train.feature_shape(), task.outputs())?;
    let class_weights = match &train.class_weights {
        None if train.balance_classes => balanced(&splits)?,
        given => given.clone(),
    };
    let patterns = |all: &[String]| all.iter().map(|p| Pattern::new(p)).collect::<Result<Vec<_>, _>>();
    let rates = recipe.transfer.rates.iter().map(|(pattern, &rate)| Ok((Pattern::new(pattern)?, rate)));
    let rates = rates.collect::<Result<Vec<_>, WeightsError>>()?;
    let config = Config {
        replica: None,
        class_weights,
        recompute: train.recompute,
        sync_batch_norm: train.sync_batch_norm,
        freeze: patterns(&recipe.transfer.freeze)?,
        rates,
        optimizer: recipe.optimizer,
        schedule: recipe.schedule,
        batch: train.batch,
        eval_batch: train.eval_batch,
        accumulate,
        ema: train.ema,
        label_smoothing: train.label_smoothing,
        seed: train.seed,
    };
    let fit = FitOptions {
        steps,
        log_every: train.log_every,
        eval_every_epochs: train.eval_every_epochs,
        patience: train.patience,
        checkpoint_every_epochs: train.checkpoint_every_epochs,
        keep_checkpoints: train.keep_checkpoints,
    };
    Ok(Setup { splits, model, config, fit })
}

fn takes_images(recipe: &Recipe) -> bool {
    matches!(recipe.model, r::Model::ResNet(_))
}

/// Returns class weights: the inverse of each class's fraction of the training data, scaled to a mean weight of 1 per
/// example.
fn balanced(splits: &Splits) -> Result<Option<Vec<f64>>, TrainError> {
    let Targets::Classes { labels, names } = splits.train.targets() else {
        return Err(TrainError::Config(
            "train.balance_classes requires class labels, but the targets are values".into(),
        ));
    };
    let mut counts = vec![0usize; names.len()];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    if let Some(class) = counts.iter().position(|&count| count == 0) {
        let message = format!(
            "train.balance_classes requires examples of every class, but class `{}` has none",
            names[class]
        );
        return Err(TrainError::Config(message));
    }
    let even = labels.len() as f64 / names.len() as f64;
    Ok(Some(counts.into_iter().map(|count| even / count as f64).collect()))
}

fn model(model: &r::Model, shape: &[usize], outputs: usize) -> Result<Model, TrainError> {
    let inputs = shape.iter().product();
    Ok(match model {
        r::Model::Mlp(config) => Model::new(|b| Mlp::new(b, config, inputs, outputs)),
        r::Model::ResidualMlp(config) => Model::new(|b| ResidualMlp::new(b, config, inputs, outputs)),
        r::Model::ResNet(net) => {
            let &[channels, _, _] = shape else {
                return Err(TrainError::Config(
                    "model.kind = \"resnet\" needs images, but the data has none".into(),
                ));
            };
            let config = resnet(net)?;
            Model::new(|b| ResNet::new(b, config, channels, outputs))
        }
    })
}

/// Returns the configuration of the residual network of a recipe.
///
/// # Errors
/// Returns an error if the family has no network of this depth.
pub fn resnet(net: &r::ResNetModel) -> Result<ResNetConfig, TrainError> {
    let known = match net.family {
        r::Family::Cifar => ResNetConfig::cifar(net.depth),
        r::Family::Imagenet => ResNetConfig::imagenet(net.depth),
    };
    let known = known.ok_or_else(|| {
        TrainError::Config(format!(
            "model.depth is {}, but the family has no network of this depth; use 6n + 2 for `cifar`, or 18, 34 or 50 for `imagenet`",
            net.depth
        ))
    })?;
    Ok(ResNetConfig {
        stem: net.stem.unwrap_or(known.stem),
        width: net.width.unwrap_or(known.width),
        shortcut: net.shortcut.unwrap_or(known.shortcut),
        preactivation: net.preactivation,
        zero_init: net.zero_init,
        norm: net.norm,
        ..known
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_recipe_error_names_file_line_and_key() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.toml"), "name = 'mine'\nmodle.kind = 'mlp'").unwrap();
        let message = run_recipe(&Run::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(message.contains("recipe.toml:2:1: unknown key `modle`, did you mean `model`?"), "{message}");
    }
}
