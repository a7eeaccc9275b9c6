//! Times the convolution layers of ResNet-20 and ResNet-50: forward, input gradient and weight gradient.
//!
//! Compares the rate of each pass with the rate of a square matrix product in the same process. Prints a table, then
//! one line of JSON.
//!
//!     convs cpu|gpu|gpu:N [--secs S] [--only resnet20|resnet50] [--gemm N]

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use wgrad::prelude::*;
use wgrad_bench::cases::conv::{ConvPass, LAYERS, Layer};
use wgrad_bench::{LoadedWorkload, Workload, workload};

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, options @ ..] = arguments.as_slice() else {
        bail!("usage: convs cpu|gpu|gpu:N [--secs S] [--only resnet20|resnet50] [--gemm N]");
    };
    let (mut seconds, mut only, mut side) = (1.0, None, 1024);
    for pair in options.chunks(2) {
        match pair {
            [option, value] if option == "--secs" => seconds = value.parse().context("--secs")?,
            [option, value] if option == "--only" => only = Some(value.as_str()),
            [option, value] if option == "--gemm" => side = value.parse().context("--gemm")?,
            _ => bail!("unknown option or missing value: {}", pair[0]),
        }
    }
    let device = open(device.parse().map_err(anyhow::Error::msg)?)?;
    let gemm = matmul_rate(&*device, side, seconds)?;
    println!("{}: matrix product {side}×{side} {gemm:.1} GFLOP/s\n", device.info().name);
    println!("| layer | forward | input gradient | weight gradient |\n|---|---|---|---|");
    let mut rows = Vec::new();
    for layer in LAYERS.into_iter().filter(|layer| only.is_none_or(|only| only == layer.network)) {
        let Layer { network, images, inputs, outputs, side, kernel, stride } = layer;
        let mut cells = Vec::new();
        for pass in ConvPass::ALL {
            let (ms, rate) = time_pass(&*device, layer, pass, seconds)?;
            let percent = 100.0 * rate / gemm;
            cells.push(format!("{ms:.2} ms, {rate:.1} GFLOP/s, {percent:.0}%"));
            let sizes = [images, inputs, outputs, side, kernel, stride];
            rows.push(
                json!({ "network": network, "sizes": sizes, "part": pass.name(), "ms": ms, "gflops": rate }),
            );
        }
        let stride_text = if stride == 1 { String::new() } else { format!(" stride {stride}") };
        let name =
            format!("{network}: {images}×{inputs}×{side}² → {outputs}, {kernel}×{kernel}{stride_text}");
        println!("| {name} | {} |", cells.join(" | "));
    }
    let device = &device.info().name;
    println!("\n{}", json!({ "device": device, "gemm": side, "gemm_gflops": gemm, "layers": rows }));
    Ok(())
}

/// Times one pass of a layer for about `seconds`. Returns the median milliseconds and the GFLOP/s. Every pass has as
/// many FLOPs as the forward convolution.
fn time_pass(device: &dyn Device, layer: Layer, pass: ConvPass, seconds: f64) -> Result<(f64, f64)> {
    time_workload(device, &layer.workload(pass)?, layer.flops(), seconds)
}

/// Returns the GFLOP/s of the product of two matrices `[side, side]`.
fn matmul_rate(device: &dyn Device, side: usize, seconds: f64) -> Result<f64> {
    let workload = workload(&format!("matmul-{side}"))?;
    Ok(time_workload(device, &workload, 2.0 * (side as f64).powi(3), seconds)?.1)
}

/// Times a workload for about `seconds`. Returns the median milliseconds of a run, and the GFLOP/s at this time for
/// `flops` FLOPs per run.
fn time_workload(device: &dyn Device, workload: &Workload, flops: f64, seconds: f64) -> Result<(f64, f64)> {
    let mut loaded = LoadedWorkload::new(device, workload)?;
    let mut run = || -> Result<f64> {
        let start = Instant::now();
        loaded.step(true)?;
        Ok(start.elapsed().as_secs_f64())
    };
    for _ in 0..2 {
        run()?;
    }
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || begin.elapsed().as_secs_f64() < seconds {
        times.push(run()?);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    Ok((1e3 * median, flops / median / 1e9))
}
