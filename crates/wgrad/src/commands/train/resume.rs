//! Chooses the recipe and the directory of a run, which is new or resumed from its last checkpoint.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use wgrad_recipe::Recipe;
use wgrad_run::{Checkpoint, Run, RunDir};
use wgrad_train::{Plan, TrainError, Trainer, read_weights, restore, run_recipe};
use wgrad_weights::Pattern;

use crate::cli::Train;
use crate::commands::common::{RUNS, load_recipe};
use crate::failure::Usage;
use crate::terminal::say;

/// Returns the recipe, and the directory of the run to resume; `None` for a new run. A resumed run keeps its recipe,
/// except for the fields that `--set` changes.
pub fn choose_recipe(args: &Train) -> Result<(Recipe, Option<PathBuf>)> {
    let mut named = load_recipe(&args.recipe)?;
    if let Some(weights) = &args.init {
        named.transfer.weights = Some(weights.clone());
    }
    if !args.resume {
        return Ok((named, None));
    }
    let path = match &args.out {
        Some(out) => out.clone(),
        None => last_run(&named.name)?,
    };
    let mut kept = run_recipe(&Run::open(&path)?)?;
    if kept.name != named.name {
        return Err(
            Usage(format!("{} is a run of {}, not of {}", path.display(), kept.name, named.name)).into()
        );
    }
    let original = kept.clone();
    kept.set_all(&args.recipe.set)?;
    refuse_other_batches(&original, &kept)?;
    Ok((kept, Some(path)))
}

/// Loads the initial weights of a recipe into a plan, unless a checkpoint will replace them.
pub fn load_weights(plan: &mut Plan, recipe: &Recipe, resumed: Option<&Path>) -> Result<()> {
    let checkpoint =
        resumed.map(Run::open).transpose()?.map(|run| run.latest_checkpoint()).transpose()?.flatten();
    let (Some(path), None) = (&recipe.transfer.weights, checkpoint) else { return Ok(()) };
    let weights = read_weights(path)?;
    let replace = recipe.transfer.replace.iter().map(|p| Pattern::new(p)).collect::<Result<_, _>>()?;
    plan.start_from(&weights, replace)?;
    say(&format!("Weights: {} tensors from {}.", weights.len(), path.display()));
    Ok(())
}

/// Rejects changes to keys that determine the examples of a batch. The saved position in the data would be wrong
/// otherwise.
fn refuse_other_batches(original: &Recipe, now: &Recipe) -> Result<(), Usage> {
    let (a, b) = (&original.train, &now.train);
    let changed = [
        ("data", original.data != now.data),
        ("train.batch", a.batch != b.batch),
        ("train.accumulate", a.accumulate != b.accumulate),
        ("train.seed", a.seed != b.seed),
    ];
    match changed.into_iter().find(|(_, changed)| *changed) {
        Some((key, _)) => Err(Usage(format!("{key} cannot change when a run is resumed; start a new run"))),
        None => Ok(()),
    }
}

/// Returns the directory of the newest run of the recipe `name` in [`RUNS`]. The last part of a run's name is its
/// start time.
fn last_run(name: &str) -> Result<PathBuf> {
    let none =
        || Usage(format!("{RUNS}/ has no run of {name} to resume; pass the directory of a run with --out"));
    let entries = std::fs::read_dir(RUNS).map_err(|_| none())?;
    let of_recipe = |path: &PathBuf| {
        let recipe = Run::open(path).map_err(TrainError::from).and_then(|run| run_recipe(&run));
        recipe.is_ok_and(|recipe| recipe.name == name)
    };
    let mut runs: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(of_recipe).collect();
    runs.sort();
    Ok(runs.pop().ok_or_else(none)?)
}

/// Creates the directory of a new run: `out`, or a directory named after the recipe and the time.
pub fn create_run(out: Option<&Path>, recipe: &Recipe) -> Result<RunDir> {
    Ok(RunDir::create(Path::new(RUNS), out, &recipe.name, &recipe.to_toml()?)?)
}

/// Creates the directory of a new run, or restores the last checkpoint of the run to resume.
pub fn run_directory(
    args: &Train,
    recipe: &Recipe,
    resumed: Option<&Path>,
    trainer: &mut Trainer,
    steps: u64,
) -> Result<RunDir> {
    let Some(path) = resumed else {
        return create_run(args.out.as_deref(), recipe);
    };
    // Check everything before changing the run.
    match Run::open(path)?.latest_checkpoint()? {
        Some(checkpoint) => {
            let loaded = Checkpoint::load(&checkpoint)?;
            restore(trainer, &loaded)?;
            let done = trainer.steps_done();
            if done >= steps {
                let message = format!(
                    "{} has finished its {done} steps; increase train.epochs or train.steps",
                    path.display()
                );
                return Err(Usage(message).into());
            }
            say(&format!("Resuming {} at step {}.", path.display(), trainer.steps_done()));
            if let Some(note) = replicas_note(&loaded, trainer) {
                say(&note);
            }
            if let Some(other) = other_device(&loaded, trainer) {
                say(&format!(
                    "Note: the run was trained on {other}; kernels of another device round differently, so results are not bit-identical."
                ));
            }
        }
        None => say(&format!("{} has no checkpoint; the run starts from the beginning.", path.display())),
    }
    let dir = RunDir::resume(path)?;
    dir.set_recipe(&recipe.to_toml()?)?;
    Ok(dir)
}

/// Returns a note if the checkpoint was written by a different number of replicas.
fn replicas_note(checkpoint: &Checkpoint, trainer: &Trainer) -> Option<String> {
    let then = checkpoint.state.kernels.get("replicas").and_then(Value::as_u64).unwrap_or(1);
    let now = trainer.plan().config.replica.map_or(1, |replica| replica.size as u64);
    (then != now).then(|| {
        format!(
            "Note: the checkpoint was written by {then} replicas, but this run has {now}. Batches, their order, dropout and the \
             learning rate stay the same; gradients are summed in another order, so results are not bit-identical."
        )
    })
}

/// Returns the name of the device that wrote the checkpoint, or `None` if it is the trainer's device.
fn other_device(checkpoint: &Checkpoint, trainer: &Trainer) -> Option<String> {
    let text = |key: &str| checkpoint.state.kernels.get(key).and_then(Value::as_str).unwrap_or_default();
    let device = trainer.device();
    let same =
        text("device") == device.name && text("backend") == device.backend && text("driver") == device.driver;
    (!same).then(|| format!("{} ({})", text("device"), text("driver")))
}
