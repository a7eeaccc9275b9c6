//! Measures the training steps of a recipe as run by one of several replicas.

use std::time::{Duration, Instant};

use anyhow::Result;
use wgrad_cluster::{Layer, Measured, MeasuredStep, ParameterBytes, Workload};
use wgrad_comm::{Collective, Single, Worker};
use wgrad_program::Device;
use wgrad_recipe::Recipe;
use wgrad_stdx::stats::median;
use wgrad_train::{
    Plan, ProcessGroup, ProcessGroupOptions, ProfileOptions, RankConfig, Trainer, open_for_replica, setup,
};

use crate::cli;
use crate::commands::common::open_device;
use crate::terminal::say;

/// Number of warm-up steps, which are not timed.
const WARM: u64 = 3;
/// Smallest and largest number of timed steps.
const STEPS: (usize, usize) = (5, 200);
/// Time after which no additional step is started.
const LONGEST: Duration = Duration::from_secs(3);
/// Number of steps whose kernels are timed individually.
const PROFILED: u64 = 3;
/// Ratio of the larger to the smaller batch.
const SMALLER: u64 = 4;

/// Measures a recipe on a device of this machine and returns the recipe as a workload, with the measured step times.
/// The steps run at the batch of one device and at a quarter of this batch, and the time at any other batch follows
/// from both. `print` is true on replica 0, which prints messages and uses the requested device. `local` is the index
/// of this replica in its process; it selects the device of every other replica.
pub fn work(args: &cli::Cluster, print: bool, local: usize) -> Result<(Workload, Measured)> {
    let mut recipe = wgrad_recipe::load(&args.work)?;
    recipe.set_all(&args.set)?;
    let device = if print { open_device(args.device)? } else { open_for_replica(args.device, local)? };
    let own = recipe.train.batch as u64;
    let batch = args.batch.unwrap_or(own);
    if print {
        let small = smaller(batch);
        say(&format!("Measuring steps of {} with batches of {batch} and {small}.", recipe.name));
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

/// Returns the smaller of the two batches.
fn smaller(batch: u64) -> u64 {
    (batch / SMALLER).max(1)
}

/// Step times measured at one batch size, and the resulting workload.
struct Steps {
    step: MeasuredStep,
    /// Workload with empty name and description.
    work: Workload,
}

/// Measures steps at one batch size. Measures the time of the passes and of the update, and the point in the passes at
/// which each gradient is complete.
fn steps(recipe: &Recipe, batch: u64, device: &dyn Device, bucket_bytes: usize) -> Result<Steps> {
    let mut trainer = single_replica(recipe, batch, device, bucket_bytes)?;
    for _ in 0..WARM {
        timed_step(&mut trainer)?;
    }
    let (begun, mut passes, mut updates) = (Instant::now(), Vec::new(), Vec::new());
    while passes.len() < STEPS.0 || (passes.len() < STEPS.1 && begun.elapsed() < LONGEST) {
        let (pass, update) = timed_step(&mut trainer)?;
        passes.push(pass);
        updates.push(update);
    }
    let made = trainer.steps_done();
    trainer.profile(ProfileOptions { warmup: 0, steps: PROFILED }, made + PROFILED)?;
    for _ in 0..PROFILED {
        timed_step(&mut trainer)?;
    }
    let layers = layers(&mut trainer);
    let plan = trainer.plan();
    let step = MeasuredStep { batch, passes: median(passes), update: median(updates) };
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

/// Creates a trainer that is the only replica of a process group, so that its steps include the work that replicas do
/// in addition to a single trainer.
fn single_replica(recipe: &Recipe, batch: u64, device: &dyn Device, bucket_bytes: usize) -> Result<Trainer> {
    let mut recipe = recipe.clone();
    (recipe.train.batch, recipe.train.accumulate) = (batch as usize, 1);
    let parts = setup(&recipe)?;
    let mut config = parts.config;
    config.replica = Some(RankConfig { rank: 0, size: 1, shard: false });
    let plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits)?;
    let mut trainer = Trainer::new(device, plan, parts.splits, parts.fit.steps)?;
    let options = ProcessGroupOptions { bucket_bytes, check_every: 0, ..ProcessGroupOptions::default() };
    let alone = || Ok(Box::new(Single) as Box<dyn Collective>);
    trainer.join(ProcessGroup::new(Worker::start(alone, options.setup_timeout)?, options))?;
    Ok(trainer)
}

/// Returns the gradients in order of completion, each with the time since the previous one as a fraction of the pass.
/// A last entry holds metrics and buffers.
fn layers(trainer: &mut Trainer) -> Vec<Layer> {
    let profiler = trainer.take_profile();
    let plan = trainer.plan();
    let mut layers: Vec<Layer> = Vec::new();
    let mut done = 0.0;
    for gradient in profiler.map(|profiler| profiler.gradients(plan)).unwrap_or_default() {
        let share = (gradient.done - done).max(0.0);
        done += share;
        layers.push(Layer { name: gradient.name, share, bytes: gradient.bytes as f64 });
    }
    // The last bucket also carries loss, metrics and running statistics, which are known at the end of the pass.
    let buffers = plan.params.buffer_group().map_or(0, |group| plan.states.get(group).bytes());
    layers.push(Layer { name: "metrics".into(), share: 1.0 - done, bytes: (buffers + 16) as f64 });
    layers
}

/// Runs a step. Returns the seconds of its passes and of its update.
fn timed_step(trainer: &mut Trainer) -> Result<(f64, f64)> {
    let before = trainer.comm_stats().unwrap_or_default();
    trainer.step()?;
    let after = trainer.comm_stats().unwrap_or_default();
    // Read and drop the records, which would accumulate otherwise.
    trainer.records(false)?;
    let passes = after.compute - before.compute;
    let exposed = after.exposed - before.exposed;
    Ok((passes, (after.total - before.total - passes - exposed).max(0.0)))
}
