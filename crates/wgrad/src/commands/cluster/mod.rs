//! `wgrad cluster`: predicts data-parallel training on many devices.

mod link;
mod measure;
mod print;

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use wgrad_cluster::{
    Algorithm, Cluster, FORMAT, Fit, Link, Machine, Measured, Options, Prediction, WORKLOAD_NAMES, Workload,
    builtin_machines, builtin_workload, published, read_machines,
};
use wgrad_comm::launch_info;
use wgrad_recipe::builtin_names;

use crate::cli::{self, ReduceBy};
use crate::failure::Usage;
use crate::terminal::{self, command_line, say};

/// Name of the machine on which a recipe is measured.
const HERE: &str = "here";

/// Measures recipe and link if requested, then predicts. With several processes, only the first process prints.
pub fn run(args: &cli::Cluster) -> Result<ExitCode> {
    let others = args.machines.as_deref().map(read_machines).transpose()?.unwrap_or_default();
    let known = builtin_workload(&args.work);
    let machines = choose_machines(args, &others, known.is_some())?;
    check(args, known.is_some())?;
    let workload = |print: bool, local: usize| {
        if print {
            Cluster::make_directory(&args.out)?;
        }
        match &known {
            Some(work) => Ok((work.clone(), None)),
            None => measure::work(args, print, local).map(|(work, measured)| (work, Some(measured))),
        }
    };
    let (fit, (mut work, measured)) = match args.measure_link {
        None if launch_info().and_then(|launched| launched.rank).is_some_and(|rank| rank > 0) => {
            return Ok(ExitCode::SUCCESS);
        }
        None => (None, workload(true, 0)?),
        Some(replicas) => match link::measure(replicas, workload)? {
            Some((fit, workload)) => (Some(fit), workload),
            None => return Ok(ExitCode::SUCCESS),
        },
    };
    let link = args.link.or(fit.as_ref().map(|fit| fit.link));
    work.batch = args.batch.unwrap_or(work.batch);
    work.global_batch = args.global_batch.unwrap_or(work.global_batch);
    let machines = match (machines, link) {
        (Machines::Here, Some(link)) => vec![here(&work, measured.as_ref(), link)],
        (Machines::Here, None) => builtin_machines(),
        (Machines::These(machines), None) => machines,
        (Machines::These(machines), Some(link)) => {
            machines.into_iter().map(|machine| Machine { between: link, ..machine }).collect()
        }
    };
    let cluster = predict(args, work, measured, fit, link.is_some(), machines)?;
    let page = cluster.write(&args.out)?;
    print::print(&cluster)?;
    say(&format!("Page, with cluster.json in the same folder: {}", page.display()));
    if args.json {
        terminal::result(&serde_json::to_string(&cluster)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Machines to predict for.
enum Machines {
    /// Machines named by the user, or the built-in machines.
    These(Vec<Machine>),
    /// Machines like this one: no machine was named, and the recipe is measured here. If the link between them is
    /// neither given nor measured, the built-in machines are used instead.
    Here,
}

/// Returns the machines named by `--machine`. If none is named, returns the machines of the file `--machines`. Without
/// that file, returns the built-in machines for a built-in workload, and machines like this one for a recipe. `others`
/// holds the machines of the file.
fn choose_machines(args: &cli::Cluster, others: &[Machine], built_in: bool) -> Result<Machines> {
    if args.machine.iter().any(|name| name == "all") {
        return Ok(Machines::These(others.iter().cloned().chain(builtin_machines()).collect()));
    }
    let named: Result<Vec<Machine>, _> =
        args.machine.iter().map(|name| Machine::named(name, others)).collect();
    let named = named?;
    Ok(match (named.is_empty(), others.is_empty()) {
        (false, _) => Machines::These(named),
        (true, false) => Machines::These(others.to_vec()),
        (true, true) if built_in => Machines::These(builtin_machines()),
        (true, true) => Machines::Here,
    })
}

/// Returns an error for invalid combinations of arguments, before anything is measured.
fn check(args: &cli::Cluster, built_in: bool) -> Result<()> {
    if built_in && !args.set.is_empty() {
        return Err(Usage(format!("--set applies to recipes, and {} is not a recipe", args.work)).into());
    }
    let linked = args.link.is_some() || args.measure_link.is_some();
    if built_in && linked && args.machine.is_empty() && args.machines.is_none() {
        let message = format!(
            "--link and --measure-link need the speed of a device: choose the machine that trains {} with --machine, or give a recipe, whose steps are measured on this machine",
            args.work
        );
        return Err(Usage(message).into());
    }
    let is_recipe = builtin_names().any(|name| name == args.work) || args.work.ends_with(".toml");
    if !built_in && !is_recipe {
        let recipes: Vec<&str> = builtin_names().collect();
        let (works, recipes) = (WORKLOAD_NAMES.join(", "), recipes.join(", "));
        let message = format!(
            "unknown workload `{}`; workloads: {works}; recipes: {recipes}, or the path of a .toml file",
            args.work
        );
        return Err(Usage(message).into());
    }
    Ok(())
}

/// Returns the description of a machine like this one, with one device. `link` connects the machines.
fn here(work: &Workload, measured: Option<&Measured>, link: Link) -> Machine {
    let device = measured.map_or("", |measured| &measured.device);
    let sample = work.measured.map_or(0.0, |compute| compute.sample + compute.fixed / work.batch as f64);
    Machine {
        name: HERE.into(),
        description: "machines like this one, with one device each".into(),
        devices: 1,
        within: link,
        between: link,
        flops: if sample > 0.0 { work.flops / sample } else { 0.0 },
        flops_of: Default::default(),
        memory: None,
        memory_bytes_per_second: None,
        source: format!("measured on {device}; the link as given or measured"),
    }
}

fn predict(
    args: &cli::Cluster,
    work: Workload,
    measured: Option<Measured>,
    link: Option<Fit>,
    linked: bool,
    machines: Vec<Machine>,
) -> Result<Cluster> {
    let algorithm = match args.algorithm {
        Some(ReduceBy::Ring) => Algorithm::Ring,
        Some(ReduceBy::Tree) => Algorithm::Tree,
        Some(ReduceBy::Hierarchical) => Algorithm::Hierarchical,
        Some(ReduceBy::Fastest) => Algorithm::Fastest,
        // Links are fitted with the formula of the ring algorithm.
        None if linked => Algorithm::Ring,
        None => Algorithm::Fastest,
    };
    let options = Options { bucket_bytes: args.bucket_mb * 1e6, algorithm, devices: args.devices };
    Ok(Cluster {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        command: command_line(),
        date: wgrad_stdx::date::timestamp(SystemTime::now()),
        options,
        predictions: machines.iter().map(|machine| Prediction::of(&work, machine, &options)).collect(),
        workload: work,
        measured,
        link,
        machines,
        published: published(options.bucket_bytes)?,
    })
}
