//! `wgrad scale`: the report on compute scaling.

mod hardware;
mod own;
mod sweep;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use wgrad_program::DeviceKind;
use wgrad_studies::scaling::history::{self, History, LocalMachine, LocalRun};
use wgrad_studies::scaling::laws::Laws;
use wgrad_studies::scaling::sweep::{builtin, read};
use wgrad_studies::scaling::{FORMAT, RESAMPLES, SEED, ScalingStudy};
use wgrad_train::{DeviceChoice, devices};

use crate::cli::{self, ScalePart};
use crate::commands::bench;
use crate::commands::common::{INTERRUPTED, interruption};
use crate::commands::scale::sweep::{SweepResults, Worker};
use crate::failure::Usage;
use crate::terminal::{self, command_line, say};

/// Largest number of unusable rows that are printed.
const LISTED: usize = 20;

/// Computes the requested parts and writes the report.
pub fn run(args: &cli::Scale) -> Result<ExitCode> {
    let (start, stop) = (Instant::now(), interruption()?);
    check(args)?;
    let wants = |part: ScalePart| args.wants(part);
    let sweep = match &args.sweep {
        Some(path) => read(path)?,
        None => builtin(args.quick)?,
    };
    let workers = workers(&args.devices)?;
    let history = if wants(ScalePart::History) { Some(history(args)?) } else { None };
    let own = own::runs(&args.runs)?;
    ScalingStudy::make_directory(&args.out)?;
    let mut scale = empty_report(args.quick, history, own);
    if wants(ScalePart::Hardware) {
        let (hardware, rates) = hardware::measure(args.quick, &workers, &stop)?;
        scale.machine.devices = rates;
        scale.hardware = Some(hardware);
    }
    if wants(ScalePart::Laws) && !stop.load(Ordering::SeqCst) {
        let SweepResults { trials, predictions, unpredicted, missing, interrupted, sweep } =
            sweep::run(&sweep, &workers, &args.out, &stop)?;
        scale.laws = Some(Laws::fit(&trials, &predictions, RESAMPLES, SEED));
        (scale.trials, scale.unpredicted, scale.missing) = (trials, unpredicted, missing);
        (scale.interrupted, scale.sweep) = (interrupted, Some(sweep));
    }
    if !args.only.is_empty() {
        keep_other_parts(&mut scale, args);
    }
    scale.times = scale.history.as_ref().map_or_else(Vec::new, |history| scale.machine.times(history));
    scale.interrupted |= stop.load(Ordering::SeqCst);
    scale.seconds = start.elapsed().as_secs_f64();
    let page = scale.write(&args.out)?;
    for sentence in sentences(&scale) {
        say(&sentence);
    }
    say(&format!("Report after {:.0} s, with scale.json and trials.csv in the same folder:", scale.seconds));
    match args.json {
        true => terminal::result(&serde_json::to_string(&scale)?)?,
        false => terminal::result(&page.display().to_string())?,
    }
    Ok(if scale.interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

impl cli::Scale {
    /// Whether a part of the report was requested.
    fn wants(&self, part: ScalePart) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// Returns an error for invalid combinations of arguments, before anything is measured.
fn check(args: &cli::Scale) -> Result<(), Usage> {
    if args.sweep.is_some() && !args.wants(ScalePart::Laws) {
        return Err(Usage("--sweep requires the part `laws`, but --only excludes it".into()));
    }
    if args.data.is_some() && !args.wants(ScalePart::History) {
        return Err(Usage("--data requires the part `history`, but --only excludes it".into()));
    }
    Ok(())
}

/// Returns a report without measurements.
fn empty_report(quick: bool, history: Option<History>, runs: Vec<LocalRun>) -> ScalingStudy {
    ScalingStudy {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        command: command_line(),
        date: wgrad_stdx::date::timestamp(SystemTime::now()),
        seconds: 0.0,
        quick,
        interrupted: false,
        carried_over_from: None,
        history,
        machine: LocalMachine { devices: Vec::new(), runs },
        times: Vec::new(),
        hardware: None,
        sweep: None,
        missing: Vec::new(),
        unpredicted: Vec::new(),
        trials: Vec::new(),
        laws: None,
    }
}

/// Completes the report with parts of an existing report in the output folder. Copies only parts that were not
/// requested this time.
fn keep_other_parts(scale: &mut ScalingStudy, args: &cli::Scale) {
    match ScalingStudy::read(&args.out) {
        Some(before) => scale.fill_missing_from(before),
        None if args.out.join("scale.json").exists() => {
            say("warning: the existing scale.json has another format version; its parts are not kept.");
        }
        None => {}
    }
}

/// Reads the systems of `--data` and prints unusable rows. Without `--data`, returns the built-in systems.
fn history(args: &cli::Scale) -> Result<History> {
    let Some(path) = &args.data else {
        return Ok(History::new(&history::builtin_table()?, RESAMPLES, SEED)?);
    };
    let bytes = std::fs::read(path)
        .map_err(|error| Usage(format!("--data: cannot read {}: {error}", path.display())))?;
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.display().to_string());
    let table = history::parse(&bytes, &name)?;
    let history = History::new(&table, RESAMPLES, SEED)?;
    for left in history.left_out.iter().take(LISTED) {
        say(&format!("{name}:{}: {}: {}", left.line, left.name, left.reason));
    }
    if history.left_out.len() > LISTED {
        let more = history.left_out.len() - LISTED;
        say(&format!("… and {more} more unusable rows; the report and scale.json list all of them by line."));
    }
    Ok(history)
}

/// Returns the conclusions of the report.
fn sentences(scale: &ScalingStudy) -> Vec<String> {
    let history = scale.history.iter().flat_map(History::sentences);
    let laws = scale.laws.iter().flat_map(|laws| std::iter::once(laws.headline()).chain(laws.sentences()));
    history.chain(laws).collect()
}

/// Returns the requested devices without duplicates; by default the CPU and every hardware GPU.
fn workers(requested: &[DeviceChoice]) -> Result<Vec<Worker>> {
    let worker = |name: String, choice| Worker { name, choice };
    if requested.is_empty() {
        let adapters = devices().into_iter().filter(|info| info.kind == DeviceKind::Gpu).enumerate();
        let hardware = adapters.filter(|(_, info)| info.class != "software");
        let gpus = hardware.map(|(i, _)| worker(format!("gpu:{i}"), DeviceChoice::Adapter(i)));
        return Ok(std::iter::once(worker("cpu".into(), DeviceChoice::Cpu)).chain(gpus).collect());
    }
    bench::device_names(requested)?
        .into_iter()
        .map(|name| Ok(worker(name.clone(), bench::parse_device(&name)?)))
        .collect()
}
