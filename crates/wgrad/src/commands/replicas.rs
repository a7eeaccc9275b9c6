//! Replicas of one model: threads of this process, processes started by mpirun, or both. Replica 0 prints and writes
//! files, and announces recipes. The other replicas train the announced recipes.

use std::time::Duration;

use anyhow::Result;
use wgrad_comm::{
    AbortHandle, Collective, CommError, Hierarchical, LaunchInfo, Local, PANICKED, Worker, launch_info,
};
use wgrad_recipe::Recipe;
use wgrad_train::{
    Callback, Plan, ProcessGroup, ProcessGroupOptions, RankConfig, StepRecord, TrainError, Trainer, fit,
    open_for_replica, setup,
};

use crate::cli::{Shard, Train};
use crate::commands::heartbeat;
use crate::failure::{Usage, code};

/// Time that the other replicas wait for replica 0 to announce a recipe. Replica 0 may have to load data first.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Environment variable with the number of ranks that `wgrad launch` started. Each rank compares this number with its
/// world size.
pub const RANKS: &str = "WGRAD_RANKS";

/// Environment variable that is set if `wgrad launch` reads the output of this process.
pub const LAUNCHED: &str = "WGRAD_LAUNCHED";

/// Calls `lead` if this process has replica 0. The argument of `lead` is a worker, or `None` if there are no other
/// replicas. The other replicas of this process run on separate threads and train the recipes that replica 0
/// announces.
pub fn with_group<T: Default>(args: &Train, lead: impl FnOnce(Option<Worker>) -> Result<T>) -> Result<T> {
    if args.replicas == 1 && launched()?.is_none() {
        return lead(None);
    }
    let timeout = Duration::from_secs(args.comm_timeout);
    let follow = |i: usize, worker: Worker| follow(args, i, worker);
    on_group(args.replicas, timeout, |worker| lead(Some(worker)), follow)
}

/// Runs the `replicas` replicas of this process, each on its own thread. Calls `lead` for replica 0 of the group, and
/// `follow` for every other replica with its index in this process. Returns the value of `lead` if replica 0 is in
/// this process, otherwise the default value of `T`.
pub fn on_group<T: Default>(
    replicas: usize,
    timeout: Duration,
    lead: impl FnOnce(Worker) -> Result<T>,
    follow: impl Fn(usize, Worker) -> Result<()> + Sync,
) -> Result<T> {
    let (launched, follow) = (launched()?, &follow);
    heartbeat::start();
    let mut locals = Local::group(replicas);
    let first = locals.remove(0);
    let nodes = launched.is_some();
    let node = move |local: Local, first: bool| -> Result<Box<dyn Collective>, CommError> {
        if !nodes {
            return Ok(Box::new(local));
        }
        let between = if first { Some(between_nodes()?) } else { None };
        Ok(Box::new(Hierarchical::new(local, between)?))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = locals
            .into_iter()
            .enumerate()
            .map(|(i, local)| {
                let run = move || {
                    let worker = Worker::start(move || node(local, false), timeout)?;
                    run_guarded(worker, |worker| follow(i + 1, worker))
                };
                std::thread::Builder::new().name(format!("replica-{}", i + 1)).spawn_scoped(scope, run)
            })
            .collect::<Result<_, _>>()?;
        let worker = Worker::start(move || node(first, true), timeout)?;
        let own = run_guarded(worker, |worker| match worker.rank() {
            0 => lead(worker),
            _ => follow(0, worker).map(|()| T::default()),
        });
        let others = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // The replica that failed first has the best message; the others only report the abort.
        let failed: Vec<anyhow::Error> = others.filter_map(Result::err).collect();
        match own {
            Ok(value) => failed.into_iter().next().map_or(Ok(value), Err),
            Err(error) if is_abort(&error) => Err(failed.into_iter().find(|e| !is_abort(e)).unwrap_or(error)),
            Err(error) => Err(error),
        }
    })
}

/// Whether an error only reports that another replica aborted.
fn is_abort(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref::<CommError>(), Some(CommError::Aborted { .. }))
            || matches!(cause.downcast_ref(), Some(TrainError::Comm(CommError::Aborted { .. })))
    })
}

/// Aborts the other replicas if this thread panics.
struct AbortOnPanic(AbortHandle);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort(PANICKED, "it panicked");
        }
    }
}

/// Runs one replica and aborts the others if it fails.
fn run_guarded<T>(worker: Worker, run: impl FnOnce(Worker) -> Result<T>) -> Result<T> {
    let abort: AbortHandle = worker.abort_handle();
    let guard = AbortOnPanic(abort.clone());
    let result = run(worker);
    drop(guard);
    if let Err(error) = &result
        && !is_abort(error)
    {
        abort.abort(code(error), &error.to_string());
    }
    result
}

/// Returns rank and world size if a launcher such as mpirun started this process, otherwise `None`.
fn launched() -> Result<Option<LaunchInfo>> {
    let launched = launch_info();
    let size = launched.as_ref().map_or(1, |launched| launched.size);
    let wanted = std::env::var(RANKS).ok().and_then(|n| n.parse().ok());
    if let Some(wanted) = wanted.filter(|&wanted: &usize| wanted != size) {
        return Err(CommError::WorldSize { expected: wanted, found: size }.into());
    }
    match launched {
        Some(launched) if !cfg!(feature = "mpi") => {
            let (size, by) = (launched.size, launched.launcher);
            let message = format!(
                "{by} started {size} processes, but this wgrad is built without MPI, so each would train alone; build it with \
                 --features mpi"
            );
            Err(Usage(message).into())
        }
        launched => Ok(launched.filter(|_| cfg!(feature = "mpi"))),
    }
}

#[cfg(feature = "mpi")]
fn between_nodes() -> Result<Box<dyn Collective>, CommError> {
    Ok(Box::new(wgrad_comm::Mpi::open()?))
}

#[cfg(not(feature = "mpi"))]
fn between_nodes() -> Result<Box<dyn Collective>, CommError> {
    Err(CommError::Usage("this wgrad is built without MPI".into()))
}

/// Sends the recipe to the other replicas, which need no recipe file of their own.
pub fn announce(worker: &mut Worker, recipe: &Recipe) -> Result<()> {
    worker.all_gather_bytes(recipe.to_toml()?.as_bytes())?;
    Ok(())
}

/// Notifies the other replicas that no more recipes will be announced.
pub fn dismiss(mut worker: Worker) -> Result<()> {
    worker.all_gather_bytes(&[])?;
    worker.close();
    Ok(())
}

/// Trains the recipes that replica 0 announces, until it announces the end.
fn follow(args: &Train, local: usize, mut worker: Worker) -> Result<()> {
    loop {
        let announced = worker.with_timeout(ANNOUNCE_TIMEOUT, |worker| worker.all_gather_bytes(&[]))?;
        let announced = announced.into_iter().next().unwrap_or_default();
        if announced.is_empty() {
            worker.close();
            return Ok(());
        }
        let recipe = Recipe::parse(&String::from_utf8_lossy(&announced), "the recipe of replica 0")?;
        worker = follow_one(args, local, &recipe, worker)?;
    }
}

fn follow_one(args: &Train, local: usize, recipe: &Recipe, worker: Worker) -> Result<Worker> {
    let parts = setup(recipe)?;
    let device = open_for_replica(args.device, local)?;
    let mut config = parts.config;
    let rank = worker.rank();
    config.replica = Some(rank_config(args, &worker));
    let plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits)?;
    let mut trainer = Trainer::new(&*device, plan, parts.splits, parts.fit.steps)?;
    trainer.join(ProcessGroup::new(worker, options(args, recipe)))?;
    trainer.broadcast_state()?;
    fit(&mut trainer, &parts.fit, None, &mut FaultInjection::for_rank(args, rank))?;
    trainer.leave().ok_or_else(|| {
        TrainError::Config("the trainer of this replica has no process group after training".into()).into()
    })
}

/// Returns rank, world size and sharding of a replica.
pub fn rank_config(args: &Train, worker: &Worker) -> RankConfig {
    RankConfig { rank: worker.rank(), size: worker.size(), shard: args.shard == Some(Shard::Optimizer) }
}

/// Returns the process-group options of a run.
pub fn options(args: &Train, recipe: &Recipe) -> ProcessGroupOptions {
    let bucket_bytes = (args.bucket_mb * 1e6) as usize;
    ProcessGroupOptions {
        bucket_bytes,
        check_every: recipe.train.log_every,
        ..ProcessGroupOptions::default()
    }
}

/// Fault injected by the hidden flag `--panic-at`, to test how other replicas react.
pub struct FaultInjection {
    panic_after: Option<u64>,
}

impl FaultInjection {
    /// Returns the faults to inject in one rank.
    pub fn for_rank(args: &Train, rank: usize) -> Self {
        Self { panic_after: args.panic_at.filter(|(planted, _)| *planted == rank).map(|(_, step)| step) }
    }
}

impl Callback for FaultInjection {
    fn on_step(&mut self, record: &StepRecord) {
        if self.panic_after == Some(record.step) {
            panic!("injected by --panic-at");
        }
    }
}
