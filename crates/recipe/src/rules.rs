//! Rules that the JSON Schema does not express, such as rules between several keys.

use super::check::Problem;
use super::{Family, Model, Optimizer, Recipe, ResNetModel, Schedule, Train, Transfer};
use wgrad_data::DataError;

/// Maximum depth of a residual network, in layers with weights.
const MAX_DEPTH: usize = 10_000;

/// Returns an error for the first rule that a recipe breaks.
pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    check_name(&recipe.name)?;
    match recipe.data.check() {
        Ok(()) => {}
        Err(DataError::Spec { field, problem }) => {
            return Err(Problem::broken(format!("data.{field}"), problem));
        }
        Err(other) => return Err(Problem::broken("data", other.to_string())),
    }
    if let Model::ResNet(net) = &recipe.model {
        check_depth(net)?;
    }
    check_momentum(&recipe.optimizer)?;
    check_min_lr(&recipe.schedule, recipe.optimizer.lr())?;
    check_rates(&recipe.transfer)?;
    check_class_weights(&recipe.train)
}

fn check_name(name: &str) -> Result<(), Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain);
    require(good, "name", "must be 1 to 100 letters, digits, `-`, `_` or `.`, and not begin with `.`", name)
}

fn check_depth(net: &ResNetModel) -> Result<(), Problem> {
    let depth = net.depth;
    let (good, rule) = match net.family {
        Family::Cifar => (
            depth >= 8 && (depth - 2).is_multiple_of(6) && depth <= MAX_DEPTH,
            "must be 6n + 2, e.g. 20, 32, 44, 56 or 110, in the family \"cifar\"",
        ),
        Family::Imagenet => {
            ([18, 34, 50].contains(&depth), "must be 18, 34 or 50 in the family \"imagenet\"")
        }
    };
    require(good, "model.depth", rule, depth)
}

fn check_momentum(optimizer: &Optimizer) -> Result<(), Problem> {
    let Optimizer::Sgd(sgd) = optimizer else { return Ok(()) };
    require(
        !sgd.nesterov || sgd.momentum > 0.0,
        "optimizer.nesterov",
        "must be false if `optimizer.momentum` is 0",
        sgd.nesterov,
    )
}

fn check_min_lr(schedule: &Schedule, lr: f64) -> Result<(), Problem> {
    let min_lr = match schedule {
        Schedule::Constant(_) | Schedule::Step(_) => return Ok(()),
        Schedule::Cosine(cosine) => cosine.min_lr,
        Schedule::OneCycle(cycle) => cycle.min_lr,
    };
    let rule = format!("must be at least 0 and at most `optimizer.lr`, {lr}");
    require(min_lr <= lr, "schedule.min_lr", &rule, min_lr)
}

fn check_rates(transfer: &Transfer) -> Result<(), Problem> {
    let rule =
        "must be finite numbers greater than 0 (to keep a parameter unchanged, list it in transfer.freeze)";
    for (pattern, rate) in &transfer.rates {
        let good = rate.is_finite() && *rate > 0.0;
        require(good, "transfer.rates", rule, format!("{rate} for {pattern}"))?;
    }
    Ok(())
}

fn check_class_weights(train: &Train) -> Result<(), Problem> {
    let Some(weights) = &train.class_weights else { return Ok(()) };
    let rule = "must be absent if train.balance_classes is true";
    require(!train.balance_classes, "train.class_weights", rule, format!("{weights:?}"))
}

fn require(good: bool, key: &str, rule: &str, found: impl std::fmt::Display) -> Result<(), Problem> {
    if good { Ok(()) } else { Err(Problem::invalid(key, rule, found)) }
}
