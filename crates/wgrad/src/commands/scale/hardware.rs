//! Measures the throughput of this machine's devices by batch size, width and number of replicas.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use wgrad_bench::{Budget, Case, CpuTime, NamedDevice, selected};
use wgrad_cluster::{Options, Prediction, builtin_machines, builtin_workload};
use wgrad_comm::Worker as Link;
use wgrad_program::Device;
use wgrad_recipe::Recipe;
use wgrad_stdx::stats::median;
use wgrad_studies::scaling::Hardware;
use wgrad_studies::scaling::hardware::ReplicaMeasurement;
use wgrad_studies::scaling::history::DeviceRate;
use wgrad_train::{
    DeviceChoice, Plan, ProcessGroup, ProcessGroupOptions, RankConfig, Trainer, load_ceiling, open,
    open_for_replica, setup,
};

use crate::commands::bench;
use crate::commands::common::announce_tuning;
use crate::commands::replicas::on_group;
use crate::commands::scale::sweep::Worker;
use crate::terminal::say;

/// Recipe that replicas train, and a batch size that is large enough to divide among the replicas.
const RECIPE: (&str, u64) = ("digits", 1024);
/// Numbers of replicas to measure.
const REPLICAS: [usize; 3] = [1, 2, 4];
/// Number of warm-up steps and of timed steps of the replicas.
const STEPS: (usize, usize) = (5, 40);
/// Longest time that a replica waits for the others.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Largest number of devices in the predictions.
const DEVICES: u64 = 4096;
/// Name of the predicted workload.
const WORK: &str = "resnet50";
/// Largest perceptron width in the short report; wider perceptrons take too long.
const WIDEST: u64 = 1024;

/// Measures each device in turn, then replicas, until `stop` is set. Also returns the training rate of each device.
pub fn measure(quick: bool, workers: &[Worker], stop: &AtomicBool) -> Result<(Hardware, Vec<DeviceRate>)> {
    let (start, before) = (Instant::now(), CpuTime::now());
    let opened = workers.iter().map(|worker| Ok((worker.name.clone(), open(worker.choice)?)));
    let opened = opened.collect::<Result<Vec<(String, Box<dyn Device>)>>>()?;
    let cases: Vec<Case> =
        selected(false, None)?.into_iter().filter(|case| is_selected(case, quick)).collect();
    let subjects: Vec<NamedDevice<'_>> =
        opened.iter().map(|(name, device)| NamedDevice { name: name.clone(), device: &**device }).collect();
    let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
    say(&format!("hardware: {} measurements on {}.", cases.len(), names.join(", ")));
    let results = bench::measure_cases(&cases, &subjects, budget(quick), &|| !stop.load(Ordering::SeqCst))?;
    let report = |(name, device): &(String, Box<dyn Device>)| {
        bench::empty_report(name, device.info(), announce_tuning(device.info()) as u64)
    };
    let reports = opened.iter().map(report).collect();
    let bench = bench::conclude(quick, (start, before), &opened, reports, results);
    let work = builtin_workload(WORK).ok_or_else(|| anyhow!("the built-in workload {WORK} is missing"))?;
    let machines = builtin_machines();
    let options = Options { devices: DEVICES, ..Options::default() };
    let predictions = machines.iter().map(|machine| Prediction::of(&work, machine, &options)).collect();
    let hardware =
        Hardware { bench, replicas: measure_replicas(workers, stop)?, predictions, machines, work };
    let known = |name: &str| {
        let (_, device) = opened.iter().find(|(other, _)| other == name)?;
        Some(load_ceiling(device.info())?.0)
    };
    let rates = hardware.rates(known);
    Ok((hardware, rates))
}

/// Whether a benchmark case is measured. The selected cases are matrix products, sweeps over batch and width, and a
/// residual network. If `quick` is set, only the matrix products that determine the peak rate are selected, and sweeps
/// over width end at [`WIDEST`].
fn is_selected(case: &Case, quick: bool) -> bool {
    let product = case.name.starts_with("matmul-") && (case.sets_ceiling || !quick);
    let swept = !case.sweeps.is_empty()
        && (!quick || case.sweeps.iter().all(|point| point.axis != "width" || point.at <= WIDEST));
    product || swept || case.name == "resnet20"
}

fn budget(quick: bool) -> Budget {
    let ms = Duration::from_millis;
    match quick {
        true => Budget { kernel: ms(120), step: ms(400), max_case: ms(4000), deadline: None },
        false => Budget { kernel: ms(600), step: ms(3000), max_case: ms(30_000), deadline: None },
    }
}

/// Measures 1, 2 and 4 replicas on the CPU, and on GPUs if available.
fn measure_replicas(workers: &[Worker], stop: &AtomicBool) -> Result<Vec<ReplicaMeasurement>> {
    let is_cpu = |worker: &&Worker| worker.choice == DeviceChoice::Cpu;
    let cpu = workers.iter().find(is_cpu).map(|worker| ("cpu", worker.choice));
    let gpu = workers.iter().find(|worker| !is_cpu(worker)).map(|worker| {
        // With several GPUs, replicas spread over all of them.
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
            let point = on_group(count, TIMEOUT, lead, follow)?;
            all.extend(point.map(|point| ReplicaMeasurement { device: device.into(), ..point }));
        }
    }
    Ok(all)
}

/// Runs and times the steps of one replica. `local` is the index of the replica in this process.
fn steps(recipe: &Recipe, choice: DeviceChoice, local: usize, link: Link) -> Result<ReplicaMeasurement> {
    let (rank, ranks) = (link.rank(), link.size());
    let device = open_for_replica(choice, local)?;
    let parts = setup(recipe)?;
    let mut config = parts.config;
    config.replica = Some(RankConfig { rank, size: ranks, shard: false });
    let batch = config.batch as u64;
    let plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits)?;
    let mut trainer = Trainer::new(&*device, plan, parts.splits, parts.fit.steps)?;
    trainer.join(ProcessGroup::new(
        link,
        ProcessGroupOptions { check_every: 0, ..ProcessGroupOptions::default() },
    ))?;
    trainer.broadcast_state()?;
    let mut seconds = Vec::new();
    let mut exposed = 0.0;
    for step in 0..STEPS.0 + STEPS.1 {
        let before = trainer.comm_stats().unwrap_or_default();
        trainer.step()?;
        // Read and drop the records, which would accumulate otherwise.
        trainer.records(false)?;
        let after = trainer.comm_stats().unwrap_or_default();
        if step >= STEPS.0 {
            seconds.push(after.total - before.total);
            exposed += after.exposed - before.exposed;
        }
    }
    let step = median(seconds);
    let flops = trainer.step_flops()?.training();
    if let Some(link) = trainer.leave() {
        link.close();
    }
    Ok(ReplicaMeasurement {
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
