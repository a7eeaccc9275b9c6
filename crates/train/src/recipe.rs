//! From a recipe to everything that a run needs.

use std::path::Path;

use wgrad_data::{Augment, DataKind, DataSpec, Normalize, Splits};
use wgrad_nn::{Activation, Mlp, Norm, Optimizer, ResidualMlp, Schedule};
use wgrad_run::Recipe;
use wgrad_run::recipe as r;

use crate::error::TrainError;
use crate::fit::FitOptions;
use crate::plan::{Config, Model, Task};

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

/// Loads the data of a recipe and makes its model.
///
/// # Errors
/// Data that is missing or broken.
pub fn setup(recipe: &Recipe) -> Result<Setup, TrainError> {
    let splits = wgrad_data::load(&data_spec(&recipe.data))?;
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
    let model = model(&recipe.model, splits.train.feature_len(), task.outputs());
    let config = Config {
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
    spec.flatten = true;
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

fn model(model: &r::Model, inputs: usize, outputs: usize) -> Model {
    match model {
        r::Model::Mlp(m) => Model::new(|b| {
            Mlp::new(b, inputs, &m.hidden, outputs, activation(m.activation), norm(m.norm), m.dropout)
        }),
        r::Model::ResidualMlp(m) => Model::new(|b| {
            ResidualMlp::new(
                b,
                inputs,
                m.width,
                m.depth,
                outputs,
                activation(m.activation),
                norm(m.norm),
                m.dropout,
            )
        }),
    }
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
