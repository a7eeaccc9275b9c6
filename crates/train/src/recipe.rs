//! From a recipe to everything that a run needs.

use std::path::Path;

use wgrad_data::{Augment, DataKind, DataSpec, Normalize, Splits, Targets};
use wgrad_nn::{
    Activation, ImageNorm, Mlp, MlpConfig, Norm, Optimizer, ResNet, ResNetConfig, ResidualMlp,
    ResidualMlpConfig, Schedule, Shortcut, Stem,
};
use wgrad_recipe as r;
use wgrad_recipe::Recipe;
use wgrad_run::Run;
use wgrad_weights::{Pattern, WeightsError};

use crate::config::{Config, Task};
use crate::error::TrainError;
use crate::fit::FitOptions;
use crate::plan::Model;

/// What a recipe means: data, model and how to train.
pub struct Setup {
    /// The data, features flat.
    pub splits: Splits,
    /// The model.
    pub model: Model,
    /// How to train.
    pub config: Config,
    /// How long, and what to keep.
    pub fit: FitOptions,
}

/// Reads the recipe that a run was started with.
///
/// # Errors
/// Returns an error if the file cannot be read, or is not a recipe that this version can read.
pub fn run_recipe(run: &Run) -> Result<Recipe, TrainError> {
    Ok(Recipe::parse(&run.recipe_text()?, &run.recipe_path().display().to_string())?)
}

/// Loads the data of a recipe and makes its model.
///
/// # Errors
/// Data that is missing or broken.
pub fn setup(recipe: &Recipe) -> Result<Setup, TrainError> {
    let spec = DataSpec { flatten: !takes_images(recipe), ..data_spec(&recipe.data) };
    setup_on(recipe, wgrad_data::load(&spec)?)
}

/// Makes the model of a recipe for other data than that which the recipe names.
///
/// # Errors
/// Data that is not what the recipe's model takes.
pub fn setup_on(recipe: &Recipe, splits: Splits) -> Result<Setup, TrainError> {
    let splits = if takes_images(recipe) { splits } else { splits.flattened() };
    let train = &recipe.train;
    let accumulate = train.accumulate.max(1);
    let passes = (splits.train.len() / train.batch.max(1)) as u64;
    if accumulate > passes.max(1) {
        return Err(TrainError::Config(format!(
            "train.accumulate = {accumulate}: an epoch has {passes} batches of {}, and a step cannot take more",
            train.batch
        )));
    }
    let per_epoch = (passes / accumulate).max(1);
    let steps = train.epochs.saturating_mul(per_epoch).min(train.steps.unwrap_or(u64::MAX));
    let (schedule, warmup) = schedule(&recipe.schedule);
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
        optimizer: optimizer(&recipe.optimizer),
        lr: recipe.optimizer.lr(),
        schedule,
        warmup,
        clip_norm: recipe.optimizer.clip_norm(),
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

/// One over the share of each class in the training data, so that they count alike; their mean over the examples is 1.
fn balanced(splits: &Splits) -> Result<Option<Vec<f64>>, TrainError> {
    let Targets::Classes { labels, names } = splits.train.targets() else {
        return Err(TrainError::Config("train.balance_classes: the data has values, not classes".into()));
    };
    let mut counts = vec![0usize; names.len()];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    if let Some(class) = counts.iter().position(|&count| count == 0) {
        let message = format!("train.balance_classes: no training example is {}", names[class]);
        return Err(TrainError::Config(message));
    }
    let even = labels.len() as f64 / names.len() as f64;
    Ok(Some(counts.into_iter().map(|count| even / count as f64).collect()))
}

fn data_spec(data: &r::Data) -> DataSpec {
    let mut spec = match data {
        r::Data::Digits(_) => DataSpec::from(DataKind::Digits),
        r::Data::FashionMnist(_) => DataSpec::from(DataKind::FashionMnist),
        r::Data::Mnist(_) => DataSpec::from(DataKind::Mnist),
        r::Data::Cifar10(_) => DataSpec::from(DataKind::Cifar10),
        r::Data::Isic2017(isic) => DataSpec {
            size: Some(isic.size),
            channels: Some(isic.channels),
            ..DataSpec::from(DataKind::Isic2017)
        },
        r::Data::ImageFolder(folder) => DataSpec {
            path: Some(folder.path.clone()),
            size: Some(folder.size),
            channels: Some(folder.channels),
            ..DataSpec::from(DataKind::ImageFolder)
        },
        r::Data::ImageCsv(table) => DataSpec {
            path: Some(table.path.clone()),
            labels: Some(table.labels.clone()),
            image_column: table.image_column.clone(),
            label_column: table.label_column.clone(),
            split_column: table.split_column.clone(),
            size: Some(table.size),
            channels: Some(table.channels),
            ..DataSpec::from(DataKind::ImageCsv)
        },
        r::Data::Csv(csv) => DataSpec {
            path: Some(Path::new(&csv.path).to_owned()),
            label: csv.label.clone(),
            task: Some(match csv.task {
                r::Task::Classification => wgrad_data::Task::Classification,
                r::Task::Regression => wgrad_data::Task::Regression,
            }),
            header: csv.header,
            delimiter: Some(csv.delimiter),
            test_fraction: Some(csv.test_fraction),
            seed: csv.split_seed,
            standardize: csv.standardize,
            ..DataSpec::from(DataKind::Csv)
        },
    };
    if let Some(images) = data.images() {
        spec.classes = images.classes.map(<[String]>::to_vec);
        spec.normalize = match images.normalize {
            r::Normalize::None => Normalize::None,
            r::Normalize::Dataset => Normalize::Dataset,
            r::Normalize::Imagenet => Normalize::Imagenet,
        };
        spec.test_fraction = images.test_fraction;
        spec.validation_fraction = images.validation_fraction;
        spec.limit = images.limit;
        spec.seed = images.split_seed;
        spec.augment = augment(images.augment);
    }
    spec
}

fn augment(augment: &r::Augment) -> Augment {
    Augment {
        scale: augment.scale.map(|shares| shares.map(|share| share as f32)),
        crop: augment.crop,
        flip: augment.flip,
        vertical_flip: augment.vertical_flip,
        rotate90: augment.rotate90,
        brightness: augment.brightness as f32,
        contrast: augment.contrast as f32,
        cutout: augment.cutout,
    }
}

fn model(model: &r::Model, shape: &[usize], outputs: usize) -> Result<Model, TrainError> {
    let inputs = shape.iter().product();
    Ok(match model {
        r::Model::Mlp(m) => Model::new(|b| {
            let config = MlpConfig {
                hidden: m.hidden.clone(),
                activation: activation(m.activation),
                norm: norm(m.norm),
                dropout: m.dropout,
            };
            Mlp::new(b, &config, inputs, outputs)
        }),
        r::Model::ResidualMlp(m) => Model::new(|b| {
            let config = ResidualMlpConfig {
                width: m.width,
                depth: m.depth,
                activation: activation(m.activation),
                norm: norm(m.norm),
                dropout: m.dropout,
            };
            ResidualMlp::new(b, &config, inputs, outputs)
        }),
        r::Model::ResNet(net) => {
            let &[channels, _, _] = shape else {
                return Err(TrainError::Config(
                    "model.kind = \"resnet\" is for images, and the data has none".into(),
                ));
            };
            let config = resnet(net)?;
            Model::new(|b| ResNet::new(b, config, channels, outputs))
        }
    })
}

/// The residual network that a recipe's section says.
///
/// # Errors
/// A depth that the family does not have.
pub fn resnet(net: &r::ResNetModel) -> Result<ResNetConfig, TrainError> {
    let known = match net.family {
        r::Family::Cifar => ResNetConfig::cifar(net.depth),
        r::Family::Imagenet => ResNetConfig::imagenet(net.depth),
    };
    let known =
        known.ok_or_else(|| TrainError::Config(format!("there is no network of depth {}", net.depth)))?;
    let stem = net.stem.map(|stem| match stem {
        r::Stem::Small => Stem::Small,
        r::Stem::Large => Stem::Large,
    });
    let shortcut = net.shortcut.map(|shortcut| match shortcut {
        r::Shortcut::None => Shortcut::None,
        r::Shortcut::Pad => Shortcut::Pad,
        r::Shortcut::Projection => Shortcut::Projection,
    });
    let norm = match net.norm {
        r::ImageNorm::Batch => ImageNorm::Batch,
        r::ImageNorm::Group => ImageNorm::Group,
        r::ImageNorm::None => ImageNorm::None,
    };
    Ok(ResNetConfig {
        stem: stem.unwrap_or(known.stem),
        width: net.width.unwrap_or(known.width),
        shortcut: shortcut.unwrap_or(known.shortcut),
        preactivation: net.preactivation,
        zero_init: net.zero_init,
        norm,
        ..known
    })
}

fn activation(activation: r::Activation) -> Activation {
    match activation {
        r::Activation::Relu => Activation::Relu,
        r::Activation::LeakyRelu => Activation::LeakyRelu,
        r::Activation::Gelu => Activation::Gelu,
        r::Activation::Silu => Activation::Silu,
        r::Activation::Softplus => Activation::Softplus,
        r::Activation::Sigmoid => Activation::Sigmoid,
        r::Activation::Tanh => Activation::Tanh,
    }
}

fn norm(norm: r::Norm) -> Norm {
    match norm {
        r::Norm::None => Norm::None,
        r::Norm::Layer => Norm::Layer,
        r::Norm::Rms => Norm::Rms,
    }
}

fn optimizer(optimizer: &r::Optimizer) -> Optimizer {
    match *optimizer {
        r::Optimizer::Sgd(r::SgdOptimizer { momentum, nesterov, weight_decay, .. }) => {
            Optimizer::Sgd { momentum, nesterov, weight_decay }
        }
        r::Optimizer::Adam(r::AdamOptimizer { betas, eps, weight_decay, .. }) => {
            Optimizer::Adam { betas, eps, weight_decay, decoupled: false }
        }
        r::Optimizer::AdamW(r::AdamWOptimizer { betas, eps, weight_decay, .. }) => {
            Optimizer::Adam { betas, eps, weight_decay, decoupled: true }
        }
    }
}

fn schedule(schedule: &r::Schedule) -> (Schedule, u64) {
    match schedule {
        r::Schedule::Constant(s) => (Schedule::Constant, s.warmup_steps),
        r::Schedule::Step(s) => (Schedule::Step { every: s.step_every, gamma: s.gamma }, s.warmup_steps),
        r::Schedule::Cosine(s) => (Schedule::Cosine { min: s.min_lr }, s.warmup_steps),
        r::Schedule::OneCycle(s) => (Schedule::OneCycle { rise: s.warmup_steps, min: s.min_lr }, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_recipe_names_file_line_and_key_of_a_damaged_recipe() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.toml"), "name = 'mine'\nmodle.kind = 'mlp'").unwrap();
        let message = run_recipe(&Run::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(message.contains("recipe.toml:2:1: unknown key `modle`, did you mean `model`?"), "{message}");
    }
}
