//! Some training steps of a recipe, as one of several replicas would make them, under the clock.

use std::time::{Duration, Instant};

use anyhow::Result;
use wgrad_cluster::{Layer, Measured, MeasuredStep, ParameterBytes, Workload};
use wgrad_comm::{Collective, Single, Worker};
use wgrad_program::Device;
use wgrad_recipe::Recipe;
use wgrad_train::{Part, Plan, ProfileOptions, Team, TeamOptions, Trainer, open_for, setup};

use crate::cli;
use crate::commands::common::open_device;
use crate::terminal::say;

/// Steps before those that count, and how many of those there are at least and at most.
const WARM: u64 = 3;
const STEPS: (usize, usize) = (5, 200);
/// After this no further step begins.
const LONGEST: Duration = Duration::from_secs(3);
/// Steps whose kernels are timed one by one.
const PROFILED: u64 = 3;
/// The smaller batch is this part of the other.
const SMALLER: u64 = 4;

/// What a recipe is as work, with how long it takes on a device of this machine: at the batch of a device and at a quarter of
/// it, so that it is known what a step takes whatever its batch. Says what it does if it `speaks`; `local` is the
/// number of this replica within its process, for each of which there may be a device.
pub fn work(args: &cli::Cluster, speaks: bool, local: usize) -> Result<(Workload, Measured)> {
    let mut recipe = wgrad_recipe::load(&args.work)?;
    recipe.set_all(&args.set)?;
    let device = if speaks { open_device(args.device)? } else { open_for(args.device, local)? };
    let own = recipe.train.batch as u64;
    let batch = args.batch.unwrap_or(own);
    if speaks {
        let small = smaller(batch);
        say(&format!("Measuring steps of {} with a batch of {batch}, and of {small}.", recipe.name));
    }
    let bucket_bytes = (args.bucket_mb * 1e6) as usize;
    let whole = steps(&recipe, batch, &*device, bucket_bytes)?;
    let mut all = vec![whole.step];
    if smaller(batch) < batch {
        all.push(steps(&recipe, smaller(batch), &*device, bucket_bytes)?.step);
    }
    let measured = Measured { device: device.info().name.clone(), steps: all };
    let work = Workload {
        name: recipe.name.clone(),
        description: format!("recipe {}, {}", recipe.name, recipe.description),
        global_batch: own * recipe.train.accumulate.max(1),
        measured: measured.compute(),
        ..whole.work
    };
    Ok((work, measured))
}

fn smaller(batch: u64) -> u64 {
    (batch / SMALLER).max(1)
}

struct Steps {
    step: MeasuredStep,
    /// The work but for what the recipe says of it.
    work: Workload,
}

fn steps(recipe: &Recipe, batch: u64, device: &dyn Device, bucket_bytes: usize) -> Result<Steps> {
    let mut recipe = recipe.clone();
    (recipe.train.batch, recipe.train.accumulate) = (batch as usize, 1);
    let parts = setup(&recipe)?;
    let mut config = parts.config;
    config.part = Some(Part { rank: 0, ranks: 1, shard: false });
    let plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits)?;
    let mut trainer = Trainer::new(device, plan, parts.splits, parts.fit.steps)?;
    let options = TeamOptions { bucket_bytes, check_every: 0, ..TeamOptions::default() };
    let alone = || Ok(Box::new(Single) as Box<dyn Collective>);
    trainer.join(Team::new(Worker::start(alone, options.patience)?, options))?;
    for _ in 0..WARM {
        step(&mut trainer)?;
    }
    let (begun, mut passes, mut updates) = (Instant::now(), Vec::new(), Vec::new());
    while passes.len() < STEPS.0 || (passes.len() < STEPS.1 && begun.elapsed() < LONGEST) {
        let (pass, update) = step(&mut trainer)?;
        passes.push(pass);
        updates.push(update);
    }
    let made = trainer.steps_done();
    trainer.profile(ProfileOptions { warmup: 0, steps: PROFILED }, made + PROFILED)?;
    for _ in 0..PROFILED {
        step(&mut trainer)?;
    }
    let profiler = trainer.profiled();
    let plan = trainer.plan();
    let mut layers: Vec<Layer> = Vec::new();
    let mut done = 0.0;
    for gradient in profiler.map(|profiler| profiler.gradients(plan)).unwrap_or_default() {
        let share = (gradient.done - done).max(0.0);
        done += share;
        layers.push(Layer { name: gradient.name, share, bytes: gradient.bytes as f64 });
    }
    // With the last bucket travels what is known when the pass is over: loss, metrics, running statistics.
    let buffers = plan.params.buffer_group().map_or(0, |group| plan.states.get(group).bytes());
    layers.push(Layer { name: "metrics".into(), share: 1.0 - done, bytes: (buffers + 16) as f64 });
    let step = MeasuredStep { batch, passes: median(&mut passes), update: median(&mut updates) };
    let work = Workload {
        name: String::new(),
        description: String::new(),
        flops: plan.flops_per_step() as f64 / batch as f64,
        parameters: plan.params.trained() as u64,
        bytes: ParameterBytes { weight: 4.0, gradient: 4.0, state: 4.0 * plan.moments() as f64 },
        activation_bytes: plan.scratch().slab_bytes as f64 / batch as f64,
        batch,
        global_batch: batch,
        layers,
        transformer: None,
        measured: None,
    };
    Ok(Steps { step, work })
}

/// Makes a step, and says how long its passes and its update took.
fn step(trainer: &mut Trainer) -> Result<(f64, f64)> {
    let before = trainer.traffic().unwrap_or_default();
    trainer.step()?;
    let after = trainer.traffic().unwrap_or_default();
    // What is told of it is of no use.
    trainer.records(false)?;
    let passes = after.compute - before.compute;
    let exposed = after.exposed - before.exposed;
    Ok((passes, (after.total - before.total - passes - exposed).max(0.0)))
}

/// The middle one of some times; 0 of none.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}
