//! Output of `wgrad train --profile`: a timeline and a table of kernels.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wgrad_train::{KernelTime, ProfileOptions, Trainer};

use crate::cli::Train;
use crate::failure::Usage;
use crate::terminal;

/// File name of the timeline in a run directory.
const FILE: &str = "profile.json";
/// Largest number of kernels in the table.
const SHOWN: usize = 12;
/// Largest number of characters of a kernel name in the table.
const WIDTH: usize = 60;

/// Profile that the user requested.
pub struct Request {
    /// Range of steps to profile.
    pub options: ProfileOptions,
    file: Option<PathBuf>,
}

/// Profile that was written.
pub struct Profiled {
    /// Path of the timeline.
    pub path: PathBuf,
    /// Table of the slowest kernels.
    pub table: String,
}

impl Request {
    /// Reads the request from the arguments, and checks before training that the file can be written. Returns `None`
    /// without `--profile`.
    pub fn from_args(args: &Train) -> Result<Option<Self>> {
        let Some(file) = args.profile.clone() else { return Ok(None) };
        if let Some(path) = &file {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| Usage(format!("cannot write {}: {error}", path.display())))?;
        }
        let options = ProfileOptions { steps: args.profile_steps, ..ProfileOptions::default() };
        Ok(Some(Self { options, file }))
    }

    /// Writes the timeline of a finished training run. `run` is the run directory. Returns `None` if the trainer has
    /// no profile.
    pub fn write(self, trainer: &mut Trainer, run: &Path) -> Result<Option<Profiled>> {
        let Some(profiler) = trainer.take_profile() else { return Ok(None) };
        let path = self.file.unwrap_or_else(|| run.join(FILE));
        let device = trainer.device();
        let (name, plan) = (format!("{} ({})", device.name, device.backend), trainer.plan());
        profiler
            .trace(plan, &name)
            .write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let steps = profiler.profiled_steps();
        let Some(clock) = profiler.kernel_clock() else {
            return Ok(Some(Profiled { path, table: "No step was profiled.\n".into() }));
        };
        let (all, clock) = (profiler.kernels(plan), clock.name());
        let total: f64 = all.iter().map(|kernel| kernel.ms).sum();
        let head = format!(
            "Kernels of a step, {total:.3} ms in total (mean of {steps} profiled steps, timed by the {clock}):"
        );
        Ok(Some(Profiled { path, table: format!("{head}\n{}\n", table(&all)) }))
    }
}

fn table(kernels: &[KernelTime]) -> String {
    let head = ["kernel", "share", "ms a step", "dispatches", "GFLOP/s", "GB/s"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let shown = kernels.iter().take(SHOWN);
    rows.extend(shown.map(|kernel| {
        vec![
            shortened(&kernel.name),
            format!("{:.1}%", 100.0 * kernel.fraction),
            format!("{:.3}", kernel.ms),
            format!("{}", kernel.dispatches),
            format!("{:.2}", kernel.gflops),
            format!("{:.2}", kernel.gbytes),
        ]
    }));
    if let Some(rest) = kernels.get(SHOWN..).filter(|rest| !rest.is_empty()) {
        let sum = |of: fn(&KernelTime) -> f64| rest.iter().map(of).sum::<f64>();
        rows.push(vec![
            format!("{} others", rest.len()),
            format!("{:.1}%", 100.0 * sum(|kernel| kernel.fraction)),
            format!("{:.3}", sum(|kernel| kernel.ms)),
            format!("{}", sum(|kernel| kernel.dispatches)),
        ]);
    }
    terminal::table(&rows, true)
}

/// Shortens the name of a kernel. The name of a fused kernel lists all fused operations and may be long.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
