//! Helpers that several commands share: recipes, devices, trained runs, Ctrl-C.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wgrad_program::{Device, DeviceInfo, DeviceKind};
use wgrad_recipe::Recipe;
use wgrad_run::{Checkpoint, Run};
use wgrad_train::{
    DeviceChoice, Plan, TrainError, Trainer, Tuning, load_parameters, load_tuning, open, run_recipe, setup,
};

use crate::terminal;

/// Parent directory of runs without `--out`.
pub const RUNS: &str = "runs";

/// Exit code of a process that was interrupted by Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Returns a flag that Ctrl-C sets. A second Ctrl-C ends the process at once.
///
/// # Errors
/// Returns an error if the signal handler cannot be installed.
pub fn interruption() -> Result<Arc<AtomicBool>> {
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

/// Loads the recipe of a command line and applies the `--set` assignments.
pub fn load_recipe(args: &crate::cli::Recipe) -> Result<Recipe> {
    let mut recipe = wgrad_recipe::load(&args.recipe)?;
    recipe.set_all(&args.set)?;
    Ok(recipe)
}

/// Opens a device and prints its description. See [`announce_device`].
pub fn open_device(choice: DeviceChoice) -> Result<Box<dyn Device>> {
    announce_device(choice, open(choice)?)
}

/// Prints the description of an opened device and the size of its tuning table. Explains a fallback to the CPU.
pub fn announce_device(choice: DeviceChoice, device: Box<dyn Device>) -> Result<Box<dyn Device>> {
    let info = device.info();
    let why = match (choice, info.kind) {
        (DeviceChoice::Auto, DeviceKind::Cpu) => ", because no GPU was found",
        _ => "",
    };
    terminal::say(&format!("Device: {}{why}.", describe(info)));
    announce_tuning(info);
    Ok(device)
}

/// Prints the size of the tuning table of a device, or why the table is ignored. Returns the number of entries that
/// are used; 0 without a table.
pub fn announce_tuning(info: &DeviceInfo) -> usize {
    let table = match load_tuning(info) {
        Tuning::None => return 0,
        Tuning::Used(table) => table,
        Tuning::Ignored(why) => {
            let again = "`wgrad tune` replaces it";
            terminal::say(&format!("warning: the tuning table is ignored: {why}; {again}"));
            return 0;
        }
    };
    terminal::say(&format!("Tuning table: {} matrix products.", table.len()));
    table.len()
}

/// Describes a device in one line: kind, name, API and driver.
pub fn describe(info: &DeviceInfo) -> String {
    match info.kind {
        DeviceKind::Cpu => format!("CPU, {}", info.name),
        DeviceKind::Gpu => format!("GPU, {} ({}, {})", info.name, info.backend, info.driver),
    }
}

/// Describes a device as JSON.
pub fn device_json(info: &DeviceInfo) -> Value {
    json!({ "kind": device_kind(info), "name": info.name, "backend": info.backend })
}

/// Returns `cpu` or `gpu`.
pub fn device_kind(info: &DeviceInfo) -> &'static str {
    match info.kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
    }
}

/// Loads the model of a run onto a device, with the parameters of the run's last checkpoint.
pub fn load_run(run: &Path, choice: DeviceChoice) -> Result<(Run, Trainer)> {
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
