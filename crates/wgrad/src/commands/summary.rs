//! `wgrad summary`: parameters, FLOPs, memory and kernels of a recipe.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use wgrad_program::{Cost, Kernel};
use wgrad_train::{Plan, Recomputation, setup};

use crate::cli::Summary;
use crate::commands::common::{load_recipe, open_device};
use crate::commands::network::Network;
use crate::terminal;

/// Prints the plan of a recipe for a device, without allocating device memory.
pub fn run(args: &Summary) -> Result<ExitCode> {
    if let Some(network) = Network::named(&args.recipe.recipe) {
        return network.summarize(args.json);
    }
    let recipe = load_recipe(&args.recipe)?;
    let parts = setup(&recipe)?;
    let device = open_device(args.device)?;
    let limits = &device.info().limits;
    let mut plan = Plan::new(parts.model, &parts.splits, parts.config, limits)?;
    let recomputation = plan.recomputation()?;
    let kernels = kernels(&plan);
    if args.json {
        terminal::result(&to_json(&recipe.name, &plan, recomputation, &kernels)?.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&plan, recomputation, &kernels)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the kernels of a step: name, number of dispatches and total cost.
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

fn to_json(
    recipe: &str,
    plan: &Plan,
    recomputation: Option<Recomputation>,
    kernels: &[(String, u64, Cost)],
) -> Result<Value> {
    let kernel = |(name, count, cost): &(String, u64, Cost)| json!({ "name": name, "count": count, "flops": cost.flops, "bytes": cost.read + cost.written });
    let layer = |spec: &wgrad_nn::ParamSpec| json!({ "name": spec.name, "shape": spec.shape.to_vec() });
    let scratch = plan.scratch();
    let recomputation = recomputation.map(|r| {
        json!({
            "slab_bytes": r.with.slab_bytes,
            "slab_bytes_without": r.without.slab_bytes,
            "flops_per_step": r.flops_with,
            "flops_per_step_without": r.flops_without,
        })
    });
    Ok(json!({
        "recipe": recipe,
        "parameters": plan.params.count(),
        "trained_parameters": plan.params.trained(),
        "flops_per_step": plan.flops_per_step(),
        "flops_per_step_by": plan.step_flops()?,
        "peak_bytes": plan.peak_bytes(),
        "slab_bytes": scratch.slab_bytes,
        "live_bytes": scratch.live_bytes,
        "slab_ratio": scratch.ratio(),
        "recompute": recomputation,
        "dispatches_per_step": plan.dispatches_per_step(),
        "kernels": kernels.iter().map(kernel).collect::<Vec<_>>(),
        "layers": plan.params.specs().iter().map(layer).collect::<Vec<_>>(),
    }))
}

fn print(plan: &Plan, recomputation: Option<Recomputation>, kernels: &[(String, u64, Cost)]) -> Result<()> {
    let mut layers = vec![["parameter", "shape", "elements"].map(str::to_owned).to_vec()];
    layers.extend(
        plan.params
            .specs()
            .iter()
            .map(|spec| vec![spec.name.clone(), spec.shape.to_string(), spec.shape.numel().to_string()]),
    );
    terminal::result(&terminal::table(&layers, true))?;
    terminal::result(&format!("\n{}", terminal::table(&kernel_rows(kernels), true)))?;
    let totals = [total_rows(plan)?, recomputation_rows(recomputation)].concat();
    terminal::result(&format!("\n{}", terminal::table(&totals, false)))?;
    if recomputation.is_some_and(|r| r.is_noop()) {
        let reason = "no value of this model is stored only for the backward pass";
        terminal::result(&format!("\ntrain.recompute has no effect: {reason}"))?;
    }
    Ok(())
}

fn kernel_rows(kernels: &[(String, u64, Cost)]) -> Vec<Vec<String>> {
    let header = ["kernel of a step", "count", "FLOP", "read", "written", "FLOP/byte"];
    let row = |(name, count, cost): &(String, u64, Cost)| {
        let bytes = (cost.read + cost.written).max(1);
        vec![
            name.clone(),
            count.to_string(),
            terminal::count(cost.flops as f64),
            terminal::bytes(cost.read),
            terminal::bytes(cost.written),
            format!("{:.1}", cost.flops as f64 / bytes as f64),
        ]
    };
    std::iter::once(header.map(str::to_owned).to_vec()).chain(kernels.iter().map(row)).collect()
}

/// Returns the totals of a step: parameters, FLOPs and memory.
fn total_rows(plan: &Plan) -> Result<Vec<Vec<String>>> {
    let state: usize = plan.states.groups().iter().map(|group| group.bytes()).sum();
    let (scratch, flops) = (plan.scratch(), plan.step_flops()?);
    let by_phase = [flops.forward, flops.backward, flops.update].map(terminal::count).join(", ");
    let rest = plan.peak_bytes() - state - scratch.slab_bytes;
    let bytes = |bytes: usize| terminal::bytes(bytes as u64);
    let rows = [
        ("parameters", plan.params.count().to_string()),
        ("  trained", plan.params.trained().to_string()),
        ("FLOP a step", terminal::count(plan.flops_per_step() as f64)),
        ("  forward, backward, update", by_phase),
        ("dispatches a step", plan.dispatches_per_step().to_string()),
        ("memory, peak", bytes(plan.peak_bytes())),
        ("  state and data", bytes(state)),
        ("  intermediates", bytes(scratch.slab_bytes)),
        ("  inputs, outputs, gradients", bytes(rest)),
        ("largest live set of intermediates", bytes(scratch.live_bytes)),
        ("  intermediates / live set", format!("{:.3}", scratch.ratio())),
    ];
    Ok(rows.map(|(name, value)| vec![name.to_owned(), value]).to_vec())
}

/// Returns table rows with the memory and FLOPs of a step with recomputation, in percent of those without
/// recomputation. Empty if recomputation is disabled.
fn recomputation_rows(recomputation: Option<Recomputation>) -> Vec<Vec<String>> {
    let Some(r) = recomputation else { return Vec::new() };
    let percent = |with: f64, without: f64| format!("{:.0}%", 100.0 * with / without.max(1.0));
    let memory = percent(r.with.slab_bytes as f64, r.without.slab_bytes as f64);
    let work = percent(r.flops_with as f64, r.flops_without as f64);
    vec![
        vec!["recomputation: memory of a step".into(), format!("{memory} of the memory without it")],
        vec!["recomputation: FLOP of a step".into(), format!("{work} of the FLOP without it")],
    ]
}
