//! `wgrad tune`: times the GEMM variants of a recipe or of given sizes.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wgrad_gpu::{GpuDevice, Tuner, TuningResult, TuningTable, gemm_key, plain_gemm};
use wgrad_program::{Device, Dispatch, Kernel, Limits};
use wgrad_train::{Plan, Tuning, adapter_index, load_tuning, remove_tuning, save_tuning, setup};

use crate::cli::{Product, Recipe, Tune};
use crate::commands::common::{describe, device_json, load_recipe};
use crate::failure::Usage;
use crate::terminal;

/// Times every kernel variant for each matrix product, and adds the fastest variants to the tuning table of the device.
pub fn run(args: &Tune) -> Result<ExitCode> {
    let index = adapter_index(args.device)?;
    let index = index.ok_or_else(|| Usage("only GPUs can be tuned; use --device gpu or gpu:N".into()))?;
    if args.clear {
        let was =
            remove_tuning(GpuDevice::open(index)?.info()).context("the tuning table cannot be removed")?;
        terminal::say(if was { "The tuning table was removed." } else { "There was no tuning table." });
        if args.json {
            terminal::result(&json!({ "cleared": was }).to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let tuner = Tuner::open(index)?;
    let info = tuner.device().info();
    terminal::say(&format!("Device: {}.", describe(info)));
    let products = products(args, &info.limits)?;
    let mut table = match load_tuning(info) {
        Tuning::Used(table) => table,
        Tuning::None => TuningTable::default(),
        Tuning::Ignored(why) => {
            terminal::say(&format!("warning: the old tuning table is replaced: {why}"));
            TuningTable::default()
        }
    };
    let mut rows = Vec::new();
    for (i, product) in products.iter().enumerate() {
        if terminal::is_interactive() {
            terminal::status(&format!("{} of {}: {}", i + 1, products.len(), product.name));
        }
        let outcome = tuner.tune(product).with_context(|| format!("`{}` cannot be timed", product.name))?;
        let Some(outcome) = outcome else { continue };
        if let Some(winner) = outcome.winner {
            table.insert(outcome.key, winner);
        }
        rows.push((product, outcome));
    }
    if terminal::is_interactive() {
        terminal::status("");
    }
    let path = save_tuning(info, &table).context("the tuning table cannot be written")?;
    if args.json {
        let products: Vec<Value> =
            rows.iter().map(|(product, outcome)| product_json(product, outcome)).collect();
        let all = json!({ "device": device_json(info), "products": products, "table": path });
        terminal::result(&all.to_string())?;
    } else {
        print(&rows)?;
    }
    terminal::say(&format!(
        "{1} now has {0} matrix products, which later runs on this device use. Sums may be computed in another order, so \
         results may differ in their last bits.",
        table.len(),
        path.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Returns the distinct matrix products of a recipe's programs, or the matrix products of `--shapes`.
fn products(args: &Tune, limits: &Limits) -> Result<Vec<Dispatch>> {
    let Some(name) = &args.recipe else {
        let product = |size: &Product| {
            let product = plain_gemm(size.m, size.n, size.k);
            let largest = product.operands.iter().map(|o| o.tensor.bytes() as u64).max().unwrap_or(0);
            if largest > limits.operand_bytes {
                let (name, most) = (&product.name, limits.operand_bytes);
                return Err(Usage(format!(
                    "{name} has a matrix of {largest} bytes; the device can bind at most {most}"
                ))
                .into());
            }
            Ok(product)
        };
        return args.shapes.iter().map(product).collect();
    };
    let parts = setup(&load_recipe(&Recipe { recipe: name.clone(), set: args.set.clone() })?)?;
    let plan = Plan::new(parts.model, &parts.splits, parts.config, limits)?;
    let programs = plan.step_programs().into_iter().map(|(program, _)| program);
    let programs = programs.chain(plan.evaluations.iter().map(|(_, program)| program));
    let mut seen = HashSet::new();
    let all = programs.flat_map(|program| &program.dispatches);
    Ok(all.filter(|dispatch| gemm_key(dispatch).is_some_and(|key| seen.insert(key))).cloned().collect())
}

/// Returns the batch size, m, n and k of a matrix product; zeros for other kernels.
fn sizes(product: &Dispatch) -> [usize; 4] {
    match &product.kernel {
        Kernel::Gemm(gemm) => [gemm.products(), gemm.rows(), gemm.columns(), gemm.depth()],
        Kernel::Loop(_) => [0; 4],
    }
}

fn print(rows: &[(&Dispatch, TuningResult)]) -> std::io::Result<()> {
    let mut lines =
        vec![["product", "m×n×k", "default", "ms", "fastest", "ms", "GFLOP/s"].map(str::to_owned).to_vec()];
    let mut failed = Vec::new();
    for (product, outcome) in rows {
        let [batch, m, n, k] = sizes(product);
        let ms = |seconds: Option<f64>| seconds.map_or("-".into(), |s| format!("{:.3}", s * 1e3));
        let (usual, winner) = (outcome.seconds(outcome.by_shape), outcome.winner);
        let fastest = winner.and_then(|variant| outcome.seconds(variant));
        let rate =
            fastest.map_or("-".into(), |s| format!("{:.1}", 2.0 * (batch * m * n * k) as f64 / s / 1e9));
        let batched = if batch == 1 { String::new() } else { format!("{batch}×") };
        lines.push(vec![
            product.name.clone(),
            format!("{batched}{m}×{n}×{k}"),
            outcome.by_shape.to_string(),
            ms(usual),
            winner.map_or("none ran".into(), |variant| variant.to_string()),
            ms(fastest),
            rate,
        ]);
        let out = outcome.timings.iter().filter_map(|t| Some((t.variant, t.seconds.as_ref().err()?)));
        failed.extend(out.map(|(variant, why)| format!("{}: {variant} is not used: {why}", product.name)));
    }
    terminal::result(&terminal::table(&lines, false))?;
    failed.iter().for_each(|line| terminal::say(line));
    Ok(())
}

fn product_json(product: &Dispatch, outcome: &TuningResult) -> Value {
    let [batch, m, n, k] = sizes(product);
    let timing = |t: &wgrad_gpu::VariantTiming| match &t.seconds {
        Ok(seconds) => json!({ "variant": t.variant.to_string(), "ms": seconds * 1e3 }),
        Err(why) => json!({ "variant": t.variant.to_string(), "error": why }),
    };
    json!({
        "name": product.name,
        "batch": batch,
        "m": m,
        "n": n,
        "k": k,
        "by_shape": outcome.by_shape.to_string(),
        "winner": outcome.winner.map(|variant| variant.to_string()),
        "variants": outcome.timings.iter().map(timing).collect::<Vec<_>>(),
    })
}
