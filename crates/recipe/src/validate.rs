//! The range of every value. Types and key names have been checked before; what data and device allow is checked later.

use super::{
    CsvData, Data, Family, Images, Model, Normalize, Optimizer, Recipe, ResNetModel, Schedule, Train,
    Transfer,
};
use std::fmt::Display;
use std::path::Path;

/// A value out of range.
#[derive(Debug)]
pub(super) struct Problem {
    pub key: String,
    pub message: String,
}

// Far above what trains, and low enough that products of two stay far from overflowing an index.
const MAX_BATCH: usize = 1 << 24;
const MAX_WIDTH: usize = 1 << 20;
const MAX_LAYERS: usize = 10_000;
const MAX_IMAGE: usize = 4096;
const MAX_CHANNELS: usize = 4096;
/// TOML's integers end here.
const MAX_SEED: u64 = i64::MAX as u64;

/// The first value that is out of range.
pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    let name = &recipe.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain);
    holds("name", name, good, "must be 1 to 100 letters, digits, `-`, `_` or `.`, and not begin with `.`")?;
    check_data(&recipe.data)?;
    check_model(&recipe.model)?;
    check_optimizer(&recipe.optimizer)?;
    check_schedule(&recipe.schedule, recipe.optimizer.lr())?;
    check_transfer(&recipe.transfer)?;
    check_train(&recipe.train)
}

fn check_data(data: &Data) -> Result<(), Problem> {
    match data {
        Data::Csv(csv) => check_csv(csv)?,
        Data::ImageFolder(images) => not_empty("data.path", &images.path)?,
        Data::ImageCsv(images) => {
            not_empty("data.path", &images.path)?;
            not_empty("data.labels", &images.labels)?;
        }
        _ => {}
    }
    data.images().map_or(Ok(()), |images| check_images(&images))
}

fn check_images(images: &Images<'_>) -> Result<(), Problem> {
    let Images { size, channels, normalize, split_seed, .. } = *images;
    let size_rule = format!("must be 1 to {MAX_IMAGE}");
    holds("data.size", size, (1..=MAX_IMAGE).contains(&size), &size_rule)?;
    holds("data.channels", channels, [1, 3].contains(&channels), "must be 1 (grey) or 3 (colour)")?;
    let suits = normalize != Normalize::Imagenet || channels == 3;
    holds("data.normalize", "\"imagenet\" for grey images", suits, "must be \"dataset\" or \"none\"")?;
    if let Some(classes) = images.classes {
        let distinct = (1..classes.len()).all(|i| !classes[..i].contains(&classes[i]));
        let found = format!("[{}]", classes.join(", "));
        let rule = "must be 2 or more different labels";
        holds("data.classes", found, distinct && classes.len() >= 2, rule)?;
    }
    let fractions = [
        ("data.test_fraction", images.test_fraction),
        ("data.validation_fraction", images.validation_fraction),
    ];
    for (key, fraction) in fractions {
        if let Some(fraction) = fraction {
            holds(key, fraction, open_unit(fraction), "must lie between 0 and 1")?;
        }
    }
    if let Some(limit) = images.limit {
        holds("data.limit", limit, (1..=u32::MAX as usize).contains(&limit), "must be 1 to 4294967295")?;
    }
    holds("data.split_seed", split_seed, split_seed <= MAX_SEED, "must be at most 2^63 - 1")?;
    check_augment(images)
}

fn check_augment(images: &Images<'_>) -> Result<(), Problem> {
    let augment = images.augment;
    if let Some([low, high]) = augment.scale {
        let good = low > 0.0 && low <= high && high <= 1.0;
        let rule = "must be two shares of the area, more than 0, at most 1 and the smaller first";
        holds("data.augment.scale", format!("[{low}, {high}]"), good, rule)?;
    }
    for (key, pixels) in [("data.augment.crop", augment.crop), ("data.augment.cutout", augment.cutout)] {
        let rule = format!("must be 0 to {}, the side of the images", images.size);
        holds(key, pixels, pixels <= images.size, &rule)?;
    }
    let shares =
        [("data.augment.brightness", augment.brightness), ("data.augment.contrast", augment.contrast)];
    for (key, share) in shares {
        holds(key, share, (0.0..=1.0).contains(&share), "must be 0 to 1")?;
    }
    Ok(())
}

fn not_empty(key: &str, path: &Path) -> Result<(), Problem> {
    holds(key, path.display(), !path.as_os_str().is_empty(), "must not be empty")
}

fn check_csv(csv: &CsvData) -> Result<(), Problem> {
    let CsvData { path, delimiter, test_fraction, split_seed, .. } = csv;
    not_empty("data.path", path)?;
    let separates =
        delimiter.is_ascii() && !delimiter.is_ascii_alphanumeric() && !"\"\r\n.-+".contains(*delimiter);
    holds(
        "data.delimiter",
        format!("{delimiter:?}"),
        separates,
        "must be an ASCII character that is in no number",
    )?;
    holds("data.test_fraction", test_fraction, open_unit(*test_fraction), "must lie between 0 and 1")?;
    holds("data.split_seed", split_seed, *split_seed <= MAX_SEED, "must be at most 2^63 - 1")
}

fn check_model(model: &Model) -> Result<(), Problem> {
    let width_rule = format!("must be 1 to {MAX_WIDTH}");
    let layers_rule = |what: &str| format!("must be {what} {MAX_LAYERS}");
    let dropout = match model {
        Model::Mlp(mlp) => {
            let layers = mlp.hidden.len();
            holds("model.hidden", format!("{layers} layers"), layers <= MAX_LAYERS, &layers_rule("at most"))?;
            for width in &mlp.hidden {
                holds("model.hidden", width, (1..=MAX_WIDTH).contains(width), &width_rule)?;
            }
            mlp.dropout
        }
        Model::ResidualMlp(mlp) => {
            holds("model.width", mlp.width, (1..=MAX_WIDTH).contains(&mlp.width), &width_rule)?;
            holds("model.depth", mlp.depth, (1..=MAX_LAYERS).contains(&mlp.depth), &layers_rule("1 to"))?;
            mlp.dropout
        }
        Model::ResNet(net) => {
            check_resnet(net)?;
            0.0
        }
    };
    holds("model.dropout", dropout, half_open_unit(dropout), "must be at least 0 and less than 1")
}

fn check_resnet(net: &ResNetModel) -> Result<(), Problem> {
    let (good, rule) = match net.family {
        Family::Cifar => (
            net.depth >= 8 && (net.depth - 2).is_multiple_of(6) && net.depth <= MAX_LAYERS,
            "must be 6n + 2, e.g. 20, 32, 44, 56 or 110, in the family \"cifar\"",
        ),
        Family::Imagenet => {
            ([18, 34, 50].contains(&net.depth), "must be 18, 34 or 50 in the family \"imagenet\"")
        }
    };
    holds("model.depth", net.depth, good, rule)?;
    let width = net.width.unwrap_or(1);
    holds("model.width", width, (1..=MAX_CHANNELS).contains(&width), &format!("must be 1 to {MAX_CHANNELS}"))
}

fn check_transfer(transfer: &Transfer) -> Result<(), Problem> {
    for (pattern, rate) in &transfer.rates {
        let rule = "must be finite numbers over 0; to train nothing, name it in transfer.freeze";
        let found = format!("{rate} for {pattern}");
        holds("transfer.rates", found, rate.is_finite() && *rate > 0.0, rule)?;
    }
    Ok(())
}

fn check_optimizer(optimizer: &Optimizer) -> Result<(), Problem> {
    positive("optimizer.lr", optimizer.lr())?;
    not_negative("optimizer.weight_decay", optimizer.weight_decay())?;
    if let Some(norm) = optimizer.clip_norm() {
        positive("optimizer.clip_norm", norm)?;
    }
    let (betas, eps) = match optimizer {
        Optimizer::Sgd(sgd) => {
            let (momentum, nesterov) = (sgd.momentum, sgd.nesterov);
            holds(
                "optimizer.momentum",
                momentum,
                half_open_unit(momentum),
                "must be at least 0 and less than 1",
            )?;
            let useful = !nesterov || momentum > 0.0;
            return holds("optimizer.nesterov", nesterov, useful, "needs a momentum over 0");
        }
        Optimizer::Adam(adam) => (adam.betas, adam.eps),
        Optimizer::AdamW(adamw) => (adamw.betas, adamw.eps),
    };
    for beta in betas {
        holds("optimizer.betas", beta, half_open_unit(beta), "must be at least 0 and less than 1")?;
    }
    positive("optimizer.eps", eps)
}

fn check_schedule(schedule: &Schedule, lr: f64) -> Result<(), Problem> {
    match schedule {
        Schedule::Constant(_) => Ok(()),
        Schedule::Step(step) => {
            let gamma = step.gamma;
            holds("schedule.step_every", step.step_every, step.step_every >= 1, "must be at least 1")?;
            holds("schedule.gamma", gamma, gamma > 0.0 && gamma <= 1.0, "must be more than 0 and at most 1")
        }
        Schedule::Cosine(cosine) => check_min_lr(cosine.min_lr, lr),
        Schedule::OneCycle(cycle) => check_min_lr(cycle.min_lr, lr),
    }
}

fn check_min_lr(min_lr: f64, lr: f64) -> Result<(), Problem> {
    let rule = format!("must be at least 0 and at most `optimizer.lr`, {lr}");
    holds("schedule.min_lr", min_lr, (0.0..=lr).contains(&min_lr), &rule)
}

fn check_train(train: &Train) -> Result<(), Problem> {
    let counts = [
        ("train.epochs", train.epochs),
        ("train.steps", train.steps.unwrap_or(1)),
        ("train.log_every", train.log_every),
        ("train.eval_every_epochs", train.eval_every_epochs),
        ("train.accumulate", train.accumulate),
        ("train.patience", train.patience.unwrap_or(1)),
        ("train.keep_checkpoints", train.keep_checkpoints as u64),
    ];
    for (key, count) in counts {
        holds(key, count, (1..=u64::from(u32::MAX)).contains(&count), "must be 1 to 4294967295")?;
    }
    for (key, batch) in [("train.batch", train.batch), ("train.eval_batch", train.eval_batch)] {
        holds(key, batch, (1..=MAX_BATCH).contains(&batch), &format!("must be 1 to {MAX_BATCH}"))?;
    }
    holds("train.seed", train.seed, train.seed <= MAX_SEED, "must be at most 2^63 - 1")?;
    if let Some(ema) = train.ema {
        holds("train.ema", ema, open_unit(ema), "must lie between 0 and 1")?;
    }
    let smoothing = train.label_smoothing;
    holds(
        "train.label_smoothing",
        smoothing,
        half_open_unit(smoothing),
        "must be at least 0 and less than 1",
    )?;
    let Some(weights) = &train.class_weights else { return Ok(()) };
    let found = format!("{weights:?}");
    let good = weights.iter().all(|weight| weight.is_finite() && *weight > 0.0);
    holds("train.class_weights", &found, good, "must be finite numbers over 0")?;
    holds(
        "train.class_weights",
        found,
        !train.balance_classes,
        "must be absent where train.balance_classes is true",
    )
}

fn open_unit(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

fn half_open_unit(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

fn positive(key: &str, value: f64) -> Result<(), Problem> {
    holds(key, value, value.is_finite() && value > 0.0, "must be a finite number over 0")
}

fn not_negative(key: &str, value: f64) -> Result<(), Problem> {
    holds(key, value, value.is_finite() && value >= 0.0, "must be a finite number, 0 or more")
}

fn holds(key: &str, value: impl Display, good: bool, rule: &str) -> Result<(), Problem> {
    if good {
        Ok(())
    } else {
        Err(Problem { key: key.to_owned(), message: format!("{rule}, found {value}") })
    }
}
