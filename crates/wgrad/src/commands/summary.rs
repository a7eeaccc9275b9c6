//! `wgrad summary`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use wgrad_program::{Cost, Kernel};
use wgrad_train::{Plan, setup};

use crate::cli::Summary;
use crate::commands::network::Network;
use crate::commands::{open_device, recipe};
use crate::terminal;

/// Says what a recipe would do on a device, without allocating anything there.
pub fn run(args: &Summary) -> Result<ExitCode> {
    if let Some(network) = Network::named(&args.recipe.recipe) {
        return network.summarize(args.json);
    }
    let recipe = recipe(&args.recipe)?;
    let parts = setup(&recipe)?;
    let device = open_device(args.device)?;
    let plan = Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits)?;
    let kernels = kernels(&plan);
    if args.json {
        terminal::result(&to_json(&recipe.name, &plan, &kernels).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&plan, &kernels)?;
    Ok(ExitCode::SUCCESS)
}

/// Kernels of a step by name: how often, and their work together.
fn kernels(plan: &Plan) -> Vec<(String, u64, Cost)> {
    let mut order: Vec<String> = Vec::new();
    let mut all: BTreeMap<String, (u64, Cost)> = BTreeMap::new();
    for (program, often) in plan.step_programs() {
        for dispatch in &program.dispatches {
            let kind = if matches!(dispatch.kernel, Kernel::Gemm(_)) { "gemm" } else { "loop" };
            let name = format!("{kind}  {}", dispatch.name);
            if !all.contains_key(&name) {
                order.push(name.clone());
            }
            let entry = all.entry(name).or_default();
            entry.0 += often;
            let Cost { flops, read, written } = dispatch.cost;
            entry.1 += Cost { flops: flops * often, read: read * often, written: written * often };
        }
    }
    order
        .into_iter()
        .filter_map(|name| all.get(&name).map(|(count, cost)| (name.clone(), *count, *cost)))
        .collect()
}

fn to_json(recipe: &str, plan: &Plan, kernels: &[(String, u64, Cost)]) -> Value {
    let kernel = |(name, count, cost): &(String, u64, Cost)| json!({ "name": name, "count": count, "flops": cost.flops, "bytes": cost.read + cost.written });
    let layer = |spec: &wgrad_nn::ParamSpec| json!({ "name": spec.name, "shape": spec.shape.to_vec() });
    json!({
        "recipe": recipe,
        "parameters": plan.params.count(),
        "trained_parameters": plan.params.trained(),
        "flops_per_step": plan.flops_per_step(),
        "peak_bytes": plan.peak_bytes(),
        "dispatches_per_step": plan.dispatches_per_step(),
        "kernels": kernels.iter().map(kernel).collect::<Vec<_>>(),
        "layers": plan.params.specs().iter().map(layer).collect::<Vec<_>>(),
    })
}

fn print(plan: &Plan, kernels: &[(String, u64, Cost)]) -> std::io::Result<()> {
    let mut layers = vec![["parameter", "shape", "numbers"].map(str::to_owned).to_vec()];
    layers.extend(
        plan.params
            .specs()
            .iter()
            .map(|spec| vec![spec.name.clone(), spec.shape.to_string(), spec.shape.numel().to_string()]),
    );
    terminal::result(&terminal::table(&layers, true))?;
    let mut rows = vec![
        ["kernel of a step", "times", "FLOP", "read", "written", "FLOP/byte"].map(str::to_owned).to_vec(),
    ];
    rows.extend(kernels.iter().map(|(name, count, cost)| {
        let bytes = (cost.read + cost.written).max(1);
        vec![
            name.clone(),
            count.to_string(),
            terminal::count(cost.flops as f64),
            terminal::bytes(cost.read),
            terminal::bytes(cost.written),
            format!("{:.1}", cost.flops as f64 / bytes as f64),
        ]
    }));
    terminal::result(&format!("\n{}", terminal::table(&rows, true)))?;
    let state: usize = plan.states.groups().iter().map(|g| g.bytes()).sum();
    let totals = vec![
        vec!["parameters".to_owned(), plan.params.count().to_string()],
        vec!["  of them trained".into(), plan.params.trained().to_string()],
        vec!["FLOP a step".into(), terminal::count(plan.flops_per_step() as f64)],
        vec!["dispatches a step".into(), plan.dispatches_per_step().to_string()],
        vec!["memory, peak".into(), terminal::bytes(plan.peak_bytes() as u64)],
        vec!["  of it state and data".into(), terminal::bytes(state as u64)],
        vec!["  of it programs".into(), terminal::bytes((plan.peak_bytes() - state) as u64)],
    ];
    terminal::result(&format!("\n{}", terminal::table(&totals, false)))
}
