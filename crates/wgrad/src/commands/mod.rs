//! The commands, a file each.

mod bench;
mod ceiling;
mod cluster;
mod data;
mod devices;
mod eval;
mod export;
mod heartbeat;
mod launch;
mod network;
mod predict;
mod profile;
mod replicas;
mod scale;
mod study;
mod summary;
mod train;
mod tune;
mod verify;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wgrad_program::{Device, DeviceInfo, DeviceKind};
use wgrad_recipe::Recipe;
use wgrad_run::{Checkpoint, Run};
use wgrad_train::{
    DeviceChoice, Plan, TrainError, Trainer, Tuning, load_parameters, open, run_recipe, setup, tuning,
};

use crate::cli::{Cli, Command};
use crate::terminal;
pub use train::RUNS;

/// Runs a command to its exit code.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Train(args) => train::run(&args),
        Command::Launch(args) => launch::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Study(args) => study::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Data(args) => data::run(&args),
    }
}

/// Exit code of a process that was interrupted.
const INTERRUPTED: u8 = 130;

/// A flag that Ctrl-C sets. The second one ends the process at once.
fn interruption() -> Result<Arc<AtomicBool>> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(Arc::clone(flag));
    }
    let flag = Arc::clone(FLAG.get_or_init(Arc::default));
    let set = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(flag)
}

fn recipe(args: &crate::cli::Recipe) -> Result<Recipe> {
    let mut recipe = wgrad_recipe::load(&args.recipe)?;
    recipe.set_all(&args.set)?;
    Ok(recipe)
}

/// Opens a device and says which, and why when it is not what one may have hoped for.
fn open_device(choice: DeviceChoice) -> Result<Box<dyn Device>> {
    opened(choice, open(choice)?)
}

/// Says which device was opened.
fn opened(choice: DeviceChoice, device: Box<dyn Device>) -> Result<Box<dyn Device>> {
    let info = device.info();
    let why = match (choice, info.kind) {
        (DeviceChoice::Auto, DeviceKind::Cpu) => ", because no GPU was found",
        _ => "",
    };
    terminal::say(&format!("Device: {}{why}.", describe(info)));
    say_tuning(info);
    Ok(device)
}

/// Says whether products were tuned on a device, and returns how many are in the table that is used.
fn say_tuning(info: &DeviceInfo) -> usize {
    let table = match tuning(info) {
        Tuning::None => return 0,
        Tuning::Used(table) => table,
        Tuning::Ignored(why) => {
            let again = "`wgrad tune` makes it anew";
            terminal::say(&format!("warning: a table of tuned products is ignored: {why}; {again}"));
            return 0;
        }
    };
    terminal::say(&format!("A table of `wgrad tune` is in use; products in it: {}.", table.len()));
    table.len()
}

fn describe(info: &DeviceInfo) -> String {
    match info.kind {
        DeviceKind::Cpu => format!("CPU, {}", info.name),
        DeviceKind::Gpu => format!("GPU, {} ({}, {})", info.name, info.backend, info.driver),
    }
}

fn device_json(info: &DeviceInfo) -> Value {
    json!({ "kind": kind(info), "name": info.name, "backend": info.backend })
}

fn kind(info: &DeviceInfo) -> &'static str {
    match info.kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
    }
}

/// A run's model on a device with the parameters of its last checkpoint.
fn trained(run: &Path, choice: DeviceChoice) -> Result<(Run, Trainer)> {
    let run = Run::open(run)?;
    let recipe = run_recipe(&run)?;
    let path = run.latest_checkpoint()?;
    let path = path.ok_or_else(|| TrainError::NoCheckpoint(run.path().to_owned()))?;
    let checkpoint = Checkpoint::load(&path)?;
    let parts = setup(&recipe)?;
    let device = open_device(choice)?;
    let plan = Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits)?;
    let mut trainer = Trainer::new(&*device, plan, parts.splits, parts.fit.steps)?;
    load_parameters(&mut trainer, &checkpoint)?;
    Ok((run, trainer))
}
