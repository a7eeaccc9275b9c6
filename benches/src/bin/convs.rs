//! Convolutions of the layers of ResNet-20 and ResNet-50: forward, input gradient and weight gradient, beside the rate that
//! a square matrix product reaches in the same run. Prints a table, then one JSON line.
//!
//!     convs cpu|gpu|gpu:N [--secs S] [--only resnet20|resnet50] [--gemm N]

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use wgrad::prelude::*;
use wgrad_bench::cases::conv::{LAYERS, Layer, Part};
use wgrad_bench::{Loaded, Work, workload};

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
            _ => bail!("unknown option {}", pair[0]),
        }
    }
    let device = open(device.parse().map_err(anyhow::Error::msg)?)?;
    let gemm = product(&*device, side, seconds)?;
    println!("{}: product of {side}×{side} matrices {gemm:.1} GFLOP/s\n", device.info().name);
    println!("| layer | forward | input gradient | weight gradient |\n|---|---|---|---|");
    let mut rows = Vec::new();
    for kind in LAYERS.into_iter().filter(|kind| only.is_none_or(|only| only == kind.network)) {
        let Layer { network, images, inputs, outputs, side, kernel, stride } = kind;
        let mut cells = Vec::new();
        for part in Part::ALL {
            let (ms, rate) = layer(&*device, kind, part, seconds)?;
            let share = 100.0 * rate / gemm;
            cells.push(format!("{ms:.2} ms, {rate:.1} GFLOP/s, {share:.0}%"));
            let sizes = [images, inputs, outputs, side, kernel, stride];
            rows.push(
                json!({ "network": network, "sizes": sizes, "part": part.name(), "ms": ms, "gflops": rate }),
            );
        }
        let step = if stride == 1 { String::new() } else { format!(" stride {stride}") };
        let what = format!("{network}: {images}×{inputs}×{side}² → {outputs}, {kernel}×{kernel}{step}");
        println!("| {what} | {} |", cells.join(" | "));
    }
    let device = &device.info().name;
    println!("\n{}", json!({ "device": device, "gemm": side, "gemm_gflops": gemm, "layers": rows }));
    Ok(())
}

/// Milliseconds and GFLOP/s of one part of a layer. The FLOPs are those of the forward convolution, whatever a kernel does
/// beside them.
fn layer(device: &dyn Device, layer: Layer, part: Part, seconds: f64) -> Result<(f64, f64)> {
    timed(device, &layer.work(part)?, layer.flops(), seconds)
}

/// GFLOP/s of a square product.
fn product(device: &dyn Device, side: usize, seconds: f64) -> Result<f64> {
    let work = workload(&format!("matmul-{side}"))?;
    Ok(timed(device, &work, 2.0 * (side as f64).powi(3), seconds)?.1)
}

/// Median milliseconds of a run, and GFLOP/s at it.
fn timed(device: &dyn Device, work: &Work, flops: f64, seconds: f64) -> Result<(f64, f64)> {
    let mut loaded = Loaded::new(device, work)?;
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
