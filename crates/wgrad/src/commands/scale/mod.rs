//! `wgrad scale`: the discussion of compute scaling, reproduced.

mod hardware;
mod own;
mod sweep;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use wgrad_program::DeviceKind;
use wgrad_studies::scaling::history::{self, History, LocalMachine};
use wgrad_studies::scaling::laws::Laws;
use wgrad_studies::scaling::sweep::{builtin, read};
use wgrad_studies::scaling::{FORMAT, RESAMPLES, SEED, ScalingStudy};
use wgrad_train::{DeviceChoice, devices};

use crate::cli::{self, ScalePart};
use crate::commands::scale::sweep::{Made, Worker};
use crate::commands::{INTERRUPTED, bench, interruption};
use crate::failure::Usage;
use crate::terminal::{self, say};

/// So many rows of a table that cannot be used are said.
const LISTED: usize = 20;

/// Makes the parts that were asked for, and writes the report.
pub fn run(args: &cli::Scale) -> Result<ExitCode> {
    let (start, stop) = (Instant::now(), interruption()?);
    let wants = |part: ScalePart| args.only.is_empty() || args.only.contains(&part);
    if args.sweep.is_some() && !wants(ScalePart::Laws) {
        return Err(Usage("--sweep is for the part laws, which --only leaves out".into()).into());
    }
    if args.data.is_some() && !wants(ScalePart::History) {
        return Err(Usage("--data is for the part history, which --only leaves out".into()).into());
    }
    // What can be wrong with the arguments is found before anything is measured.
    let sweep = match &args.sweep {
        Some(path) => read(path)?,
        None => builtin(args.quick)?,
    };
    let workers = workers(&args.devices)?;
    let history = if wants(ScalePart::History) { Some(history(args)?) } else { None };
    let runs = own::runs(&args.runs)?;
    ScalingStudy::make_directory(&args.out)?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut scale = ScalingStudy {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        command: format!("wgrad {}", words.join(" ")),
        date: wgrad_stdx::date::timestamp(SystemTime::now()),
        seconds: 0.0,
        quick: args.quick,
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
    };
    if wants(ScalePart::Hardware) {
        let (hardware, rates) = hardware::measure(args.quick, &workers, &stop)?;
        scale.machine.devices = rates;
        scale.hardware = Some(hardware);
    }
    if wants(ScalePart::Laws) && !stop.load(Ordering::SeqCst) {
        let Made { trials, predictions, unpredicted, missing, interrupted, sweep } =
            sweep::run(&sweep, &workers, &args.out, &stop)?;
        scale.laws = Some(Laws::fit(&trials, &predictions, RESAMPLES, SEED));
        (scale.trials, scale.unpredicted, scale.missing) = (trials, unpredicted, missing);
        (scale.interrupted, scale.sweep) = (interrupted, Some(sweep));
    }
    if !args.only.is_empty() {
        match ScalingStudy::read(&args.out) {
            Some(before) => scale.fill_missing_from(before),
            None if args.out.join("scale.json").exists() => {
                say("warning: scale.json there is of another version; its parts are not kept.");
            }
            None => {}
        }
    }
    scale.times = scale.history.as_ref().map_or_else(Vec::new, |history| scale.machine.times(history));
    scale.interrupted |= stop.load(Ordering::SeqCst);
    scale.seconds = start.elapsed().as_secs_f64();
    let page = scale.write(&args.out)?;
    for sentence in sentences(&scale) {
        say(&sentence);
    }
    say(&format!("The report, with scale.json and trials.csv beside it, after {:.0} s:", scale.seconds));
    match args.json {
        true => terminal::result(&serde_json::to_string(&scale)?)?,
        false => terminal::result(&page.display().to_string())?,
    }
    Ok(if scale.interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The systems of the file, of which is said what cannot be used; or wgrad's own.
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
        say(&format!("… and {more} more that cannot be used; the report and scale.json list all, by line."));
    }
    Ok(history)
}

/// What it comes to.
fn sentences(scale: &ScalingStudy) -> Vec<String> {
    let history = scale.history.iter().flat_map(History::sentences);
    let laws = scale.laws.iter().flat_map(|laws| std::iter::once(laws.headline()).chain(laws.sentences()));
    history.chain(laws).collect()
}

/// Who trains: the devices that were asked for, each once; else the CPU and every GPU that is none in software.
fn workers(asked: &[DeviceChoice]) -> Result<Vec<Worker>> {
    let worker = |name: String, choice| Worker { name, choice };
    if asked.is_empty() {
        let adapters = devices().into_iter().filter(|info| info.kind == DeviceKind::Gpu).enumerate();
        let hardware = adapters.filter(|(_, info)| info.class != "software");
        let gpus = hardware.map(|(i, _)| worker(format!("gpu:{i}"), DeviceChoice::Adapter(i)));
        return Ok(std::iter::once(worker("cpu".into(), DeviceChoice::Cpu)).chain(gpus).collect());
    }
    bench::names(asked)?.into_iter().map(|name| Ok(worker(name.clone(), bench::choice(&name)?))).collect()
}
