//! Throughput of this machine's devices, by batch, width and number of replicas.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use wgrad_bench::{Budget, Case, CpuTime, NamedDevice, selected};
use wgrad_cluster::{Options, Prediction, builtin_machines, builtin_workload};
use wgrad_comm::Worker as Link;
use wgrad_program::Device;
use wgrad_recipe::Recipe;
use wgrad_studies::scaling::Hardware;
use wgrad_studies::scaling::hardware::Replicas;
use wgrad_studies::scaling::history::Rate;
use wgrad_train::{
    DeviceChoice, Part, Plan, Team, TeamOptions, Trainer, kept_ceiling, open, open_for, setup,
};

use crate::commands::bench;
use crate::commands::cluster::median;
use crate::commands::common::announce_tuning;
use crate::commands::replicas::on_group;
use crate::commands::scale::sweep::Worker;
use crate::terminal::say;

/// What replicas train, and at which batch: large enough for there to be something to share.
const RECIPE: (&str, u64) = ("digits", 1024);
/// Numbers of replicas.
const REPLICAS: [usize; 3] = [1, 2, 4];
/// Steps of replicas before those that count, and those that do.
const STEPS: (usize, usize) = (5, 40);
/// How long a replica waits for the others.
const PATIENCE: Duration = Duration::from_secs(60);
/// Up to how many devices a cluster is predicted.
const DEVICES: u64 = 4096;
/// What is predicted.
const WORK: &str = "resnet50";
/// Perceptrons wider than this take too long for the short report.
const WIDEST: u64 = 1024;

/// Measures devices one after the other, then replicas, until it is told to stop. Gives how fast each device trains, too.
pub fn measure(quick: bool, workers: &[Worker], stop: &AtomicBool) -> Result<(Hardware, Vec<Rate>)> {
    let (start, before) = (Instant::now(), CpuTime::now());
    let opened = workers.iter().map(|worker| Ok((worker.name.clone(), open(worker.choice)?)));
    let opened = opened.collect::<Result<Vec<(String, Box<dyn Device>)>>>()?;
    let cases: Vec<Case> = selected(false, None)?.into_iter().filter(|case| wanted(case, quick)).collect();
    let subjects: Vec<NamedDevice<'_>> =
        opened.iter().map(|(name, device)| NamedDevice { name: name.clone(), device: &**device }).collect();
    let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
    say(&format!("hardware: {} measurements on {}.", cases.len(), names.join(", ")));
    let results = bench::measured(&cases, &subjects, effort(quick), &|| !stop.load(Ordering::SeqCst))?;
    let report = |(name, device): &(String, Box<dyn Device>)| {
        bench::report(name, device.info(), announce_tuning(device.info()) as u64)
    };
    let reports = opened.iter().map(report).collect();
    let bench = bench::concluded(quick, (start, before), &opened, reports, results);
    let work = builtin_workload(WORK).ok_or_else(|| anyhow!("there is no work {WORK}"))?;
    let machines = builtin_machines();
    let options = Options { devices: DEVICES, ..Options::default() };
    let predictions = machines.iter().map(|machine| Prediction::of(&work, machine, &options)).collect();
    let hardware = Hardware { bench, replicas: replicas(workers, stop)?, predictions, machines, work };
    let known = |name: &str| {
        let (_, device) = opened.iter().find(|(other, _)| other == name)?;
        Some(kept_ceiling(device.info())?.0)
    };
    let rates = hardware.rates(known);
    Ok((hardware, rates))
}

/// Products from 512 rows up, since they bound the rest; sweeps over batch and width; a residual network.
fn wanted(case: &Case, quick: bool) -> bool {
    let product = case.name.starts_with("matmul-") && (case.sets_ceiling || !quick);
    let swept = !case.sweeps.is_empty()
        && (!quick || case.sweeps.iter().all(|point| point.axis != "width" || point.at <= WIDEST));
    product || swept || case.name == "resnet20"
}

fn effort(quick: bool) -> Budget {
    let ms = Duration::from_millis;
    match quick {
        true => Budget { kernel: ms(120), step: ms(400), max_case: ms(4000), deadline: None },
        false => Budget { kernel: ms(600), step: ms(3000), max_case: ms(30_000), deadline: None },
    }
}

/// Steps by 1, 2 and 4 replicas on the CPU, and on GPUs where there are any.
fn replicas(workers: &[Worker], stop: &AtomicBool) -> Result<Vec<Replicas>> {
    let is_cpu = |worker: &&Worker| worker.choice == DeviceChoice::Cpu;
    let cpu = workers.iter().find(is_cpu).map(|worker| ("cpu", worker.choice));
    let gpu = workers.iter().find(|worker| !is_cpu(worker)).map(|worker| {
        // Replicas spread over all adapters, unless only one is to be used.
        let several = workers.iter().filter(|worker| !is_cpu(worker)).count() > 1;
        ("gpu", if several { DeviceChoice::Gpu } else { worker.choice })
    });
    let (name, batch) = RECIPE;
    let mut recipe = wgrad_recipe::load(name)?;
    recipe.set_all(&[format!("train.batch={batch}")])?;
    let mut all = Vec::new();
    for (device, choice) in cpu.into_iter().chain(gpu) {
        for count in REPLICAS.into_iter().filter(|_| !stop.load(Ordering::SeqCst)) {
            let lead = |link: Link| steps(&recipe, choice, 0, link).map(Some);
            let follow = |local: usize, link: Link| steps(&recipe, choice, local, link).map(drop);
            let point = on_group(count, PATIENCE, lead, follow)?;
            all.extend(point.map(|point| Replicas { device: device.into(), ..point }));
        }
    }
    Ok(all)
}

/// The steps of one replica.
fn steps(recipe: &Recipe, choice: DeviceChoice, local: usize, link: Link) -> Result<Replicas> {
    let (rank, ranks) = (link.rank(), link.size());
    let device = open_for(choice, local)?;
    let parts = setup(recipe)?;
    let mut config = parts.config;
    config.part = Some(Part { rank, ranks, shard: false });
    let batch = config.batch as u64;
    let plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits)?;
    let mut trainer = Trainer::new(&*device, plan, parts.splits, parts.fit.steps)?;
    trainer.join(Team::new(link, TeamOptions { check_every: 0, ..TeamOptions::default() }))?;
    trainer.share_state()?;
    let mut seconds = Vec::new();
    let mut exposed = 0.0;
    for step in 0..STEPS.0 + STEPS.1 {
        let before = trainer.traffic().unwrap_or_default();
        trainer.step()?;
        // What is told of it is of no use.
        trainer.records(false)?;
        let after = trainer.traffic().unwrap_or_default();
        if step >= STEPS.0 {
            seconds.push(after.total - before.total);
            exposed += after.exposed - before.exposed;
        }
    }
    let step = median(&mut seconds);
    let flops = trainer.step_flops().training();
    if let Some(link) = trainer.leave() {
        link.close();
    }
    Ok(Replicas {
        device: String::new(),
        recipe: recipe.name.clone(),
        batch,
        replicas: ranks as u64,
        step_seconds: step,
        exposed_seconds: exposed / STEPS.1 as f64,
        samples_per_second: batch as f64 / step,
        flops_per_second: flops / step,
    })
}
