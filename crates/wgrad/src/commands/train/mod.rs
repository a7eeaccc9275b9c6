//! `wgrad train`: trains a model, from recipe to report, alone or as the first of several replicas.

mod progress;
mod resume;
mod summary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use wgrad_comm::Worker;
use wgrad_program::Device;
use wgrad_recipe::Recipe;
use wgrad_run::RunDir;
use wgrad_studies::run::write_report;
use wgrad_train::{Plan, ProcessGroup, Setup, SplitName, Stop, Trainer, fit, open_for_replica, score, setup};

use crate::cli::Train;
use crate::commands::ceiling::Sustained;
use crate::commands::common::{INTERRUPTED, announce_device, interruption};
use crate::commands::profile;
use crate::commands::replicas::{self, FaultInjection};
use crate::failure::Usage;
use crate::terminal::{self, say};
use progress::Progress;
use resume::{choose_recipe, create_run, load_weights, run_directory};
use summary::{Trained, print_summary};

/// Trains a recipe and prints a summary.
pub fn run(args: &Train) -> Result<ExitCode> {
    let code = replicas::with_group(args, |worker| lead(args, worker))?;
    Ok(ExitCode::from(code))
}

/// Trains alone, or as the first of several replicas. Returns the exit code.
fn lead(args: &Train, mut worker: Option<Worker>) -> Result<u8> {
    let (mut recipe, resumed) = choose_recipe(args)?;
    if args.scale_batch {
        let ranks = worker.as_ref().map_or(1, Worker::size);
        let parts = setup(&recipe)?;
        scale_batch(&mut recipe, ranks, &parts)?;
    }
    let profile = profile::Request::from_args(args)?;
    // Load the data before pretraining, so that a missing data set fails before hours of pretraining.
    let parts = setup(&recipe)?;
    let device = announce_device(args.device, open_for_replica(args.device, 0)?)?;
    if let (None, Some(name)) = (&recipe.transfer.weights, recipe.transfer.pretrain.clone()) {
        let Some(weights) = pretrain(args, &*device, &recipe, &name, &mut worker)? else {
            return Ok(INTERRUPTED);
        };
        recipe.transfer.weights = Some(weights);
    }
    let directory =
        |trainer: &mut Trainer, steps| run_directory(args, &recipe, resumed.as_deref(), trainer, steps);
    let job = Job { args, recipe: &recipe, resumed: resumed.as_deref(), profile };
    let trained = train(&*device, job, parts, &mut worker, directory)?;
    if let Some(worker) = worker {
        replicas::dismiss(worker)?;
    }
    print_summary(&trained, &args.recipe.recipe);
    if args.json {
        terminal::result(&trained.to_json().to_string())?;
    }
    Ok(if trained.finished.stop == Stop::Interrupted { INTERRUPTED } else { 0 })
}

/// Requested training run.
struct Job<'a, 'r> {
    args: &'a Train,
    recipe: &'r Recipe,
    resumed: Option<&'a Path>,
    profile: Option<profile::Request>,
}

/// Applies the linear scaling rule (Goyal et al., 2017): multiplies batch and learning rate by `ranks`, with a warm-up
/// of five epochs.
fn scale_batch(recipe: &mut Recipe, ranks: usize, parts: &Setup) -> Result<(), Usage> {
    let batch = recipe.train.batch * ranks;
    let rate = recipe.optimizer.lr() * ranks as f64;
    let steps = 5 * (parts.splits.train.len() / (batch * parts.config.accumulate.max(1) as usize)).max(1);
    let mut settings = vec![format!("train.batch={batch}"), format!("optimizer.lr={rate}")];
    // The one-cycle schedule includes a warm-up.
    if !matches!(recipe.schedule, wgrad_recipe::Schedule::OneCycle(_)) {
        settings.push(format!(
            "schedule.warmup_steps={}",
            (steps as u64).max(parts.config.schedule.warmup_steps())
        ));
    }
    recipe.set_all(&settings).map_err(|error| Usage(format!("--scale-batch: {error}")))?;
    let epochs = if ranks > 1 { "; the learning rate rises over the first five epochs" } else { "" };
    say(&format!("Batch {batch} and learning rate {rate} for {ranks} replicas{epochs}."));
    Ok(())
}

/// Trains a recipe and writes checkpoints, scores and report into the run directory that `directory` returns.
fn train<'r>(
    device: &dyn Device,
    Job { args, recipe, resumed, profile }: Job<'_, 'r>,
    parts: Setup,
    worker: &mut Option<Worker>,
    directory: impl FnOnce(&mut Trainer, u64) -> Result<RunDir>,
) -> Result<Trained<'r>> {
    if let Some(worker) = &mut *worker {
        replicas::announce(worker, recipe)?;
    }
    print_recipe(recipe);
    let steps = parts.fit.steps;
    let mut config = parts.config;
    config.replica = worker.as_ref().map(|worker| replicas::rank_config(args, worker));
    let mut plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits)?;
    load_weights(&mut plan, recipe, resumed)?;
    say(&plan_line(&plan, parts.splits.train.len()));
    let mut trainer = Trainer::new(device, plan, parts.splits, steps)?;
    let dir = directory(&mut trainer, steps)?;
    if let Some(worker) = worker.take() {
        trainer.join(ProcessGroup::new(worker, replicas::options(args, recipe)))?;
        trainer.broadcast_state()?;
    }
    let mut progress = Progress::new(&trainer, steps, interruption()?);
    progress.faults =
        trainer.plan().config.replica.map(|replica| FaultInjection::for_rank(args, replica.rank));
    if let Some(request) = &profile {
        trainer.profile(request.options, steps)?;
    }
    let finished = fit(&mut trainer, &parts.fit, Some(&dir), &mut progress)?;
    progress.close();
    let traffic = trainer.comm_stats().map(|traffic| (traffic, trainer.plan().config.replica));
    *worker = trainer.leave();
    let profiled =
        profile.and_then(|request| request.write(&mut trainer, dir.path()).transpose()).transpose()?;
    let scores = score(&mut trainer, SplitName::Test)?;
    if let Some(scores) = &scores {
        dir.write_scores(scores)?;
    }
    let alone = traffic.is_none() && finished.stop != Stop::Interrupted;
    let rate = finished.throughput.flops_per_second(trainer.step_flops()?.training());
    let sustained = rate.map(|rate| Sustained::new(rate, alone.then_some(device)));
    let mut trained = Trained {
        recipe,
        trainer,
        finished,
        scores,
        sustained,
        first_step: progress.first_step,
        profiled,
        traffic,
        dir: dir.path().to_owned(),
        report: PathBuf::new(),
    };
    if trained.finished.stop != Stop::Interrupted {
        dir.finish(&trained.to_json())?;
    }
    trained.report = write_report(&dir)?;
    Ok(trained)
}

/// Prints the name and description of a recipe.
fn print_recipe(recipe: &Recipe) {
    let separator = if recipe.description.is_empty() { "" } else { ", " };
    say(&format!("Recipe: {}{separator}{}.", recipe.name, recipe.description));
}

/// Trains the recipe `name`, whose weights `recipe` starts from, in a separate run. Returns the directory of that run,
/// or `None` if training was interrupted.
fn pretrain(
    args: &Train,
    device: &dyn Device,
    recipe: &Recipe,
    name: &str,
    worker: &mut Option<Worker>,
) -> Result<Option<PathBuf>> {
    let mut first = wgrad_recipe::load(name)?;
    first.set_all(&recipe.transfer.pretrain_set)?;
    if first.transfer.pretrain.is_some() {
        let message = format!(
            "transfer.pretrain: {name} also has transfer.pretrain, which cannot be nested; train {name} first and use transfer.weights"
        );
        return Err(Usage(message).into());
    }
    say(&format!("Training {name} first: {} starts from its weights.", recipe.name));
    let out = args.out.as_ref().map(|out| {
        let mut folder = out.clone().into_os_string();
        folder.push("-pretrained");
        PathBuf::from(folder)
    });
    let parts = setup(&first)?;
    let directory = |_: &mut Trainer, _| create_run(out.as_deref(), &first);
    let job = Job { args, recipe: &first, resumed: None, profile: None };
    let trained = train(device, job, parts, worker, directory)?;
    if trained.finished.stop == Stop::Interrupted {
        let (recipe, dir) = (&recipe.name, trained.dir.display());
        say(&format!("Interrupted before {recipe} started. Resume {name} with --resume --out {dir}"));
        if let Some(worker) = worker.take() {
            replicas::dismiss(worker)?;
        }
        return Ok(None);
    }
    say(&format!(
        "{name} is trained: {}. Other recipes can start from it with --init.\n",
        trained.dir.display()
    ));
    Ok(Some(trained.dir))
}

/// Describes a plan in one line: parameters, dispatches, FLOPs and memory.
fn plan_line(plan: &Plan, examples: usize) -> String {
    let (all, trained) = (plan.params.count(), plan.params.trained());
    let parts = if trained < all {
        format!("{all} parameters, {trained} of them trained")
    } else {
        format!("{all} parameters")
    };
    format!(
        "Model: {parts}; a step is {} dispatches and {}FLOP; memory {}; {examples} training examples.",
        plan.dispatches_per_step(),
        terminal::count(plan.flops_per_step() as f64),
        terminal::bytes(plan.peak_bytes() as u64),
    )
}
