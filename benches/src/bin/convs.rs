//! Convolutions of the layers of ResNet-20 and ResNet-50: forward, input gradient and weight gradient, beside the rate that
//! a square matrix product reaches in the same run. Prints a table, then one JSON line.
//!
//!     convs cpu|gpu|gpu:N [--secs S] [--only resnet20|resnet50] [--gemm N]

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use wgrad::graph::philox::Stream;
use wgrad::graph::{EntryId, GroupId};
use wgrad::ops::Conv;
use wgrad::prelude::*;

/// Network, images, channels in and out, side, kernel, stride.
type Layer = (&'static str, [usize; 6]);

/// One layer of each kind; ResNet-20 with 64 images of 32×32, ResNet-50 with 8 of 224×224.
const LAYERS: [Layer; 14] = [
    ("resnet20", [64, 3, 16, 32, 3, 1]),
    ("resnet20", [64, 16, 16, 32, 3, 1]),
    ("resnet20", [64, 16, 32, 32, 3, 2]),
    ("resnet20", [64, 32, 32, 16, 3, 1]),
    ("resnet20", [64, 32, 64, 16, 3, 2]),
    ("resnet20", [64, 64, 64, 8, 3, 1]),
    ("resnet50", [8, 3, 64, 224, 7, 2]),
    ("resnet50", [8, 64, 64, 56, 3, 1]),
    ("resnet50", [8, 64, 256, 56, 1, 1]),
    ("resnet50", [8, 128, 128, 56, 3, 2]),
    ("resnet50", [8, 256, 512, 56, 1, 2]),
    ("resnet50", [8, 256, 256, 14, 3, 1]),
    ("resnet50", [8, 512, 512, 7, 3, 1]),
    ("resnet50", [8, 2048, 512, 7, 1, 1]),
];

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
    for (network, sizes) in LAYERS.into_iter().filter(|(network, _)| only.is_none_or(|only| only == *network))
    {
        let [n, inputs, outputs, image, kernel, stride] = sizes;
        let mut cells = Vec::new();
        for part in ["forward", "input gradient", "weight gradient"] {
            let (ms, rate) = layer(&*device, sizes, part, seconds)?;
            let share = 100.0 * rate / gemm;
            cells.push(format!("{ms:.2} ms, {rate:.1} GFLOP/s, {share:.0}%"));
            rows.push(json!({ "network": network, "sizes": sizes, "part": part, "ms": ms, "gflops": rate }));
        }
        let step = if stride == 1 { String::new() } else { format!(" stride {stride}") };
        let what = format!("{network}: {n}×{inputs}×{image}² → {outputs}, {kernel}×{kernel}{step}");
        println!("| {what} | {} |", cells.join(" | "));
    }
    let device = &device.info().name;
    println!("\n{}", json!({ "device": device, "gemm": side, "gemm_gflops": gemm, "layers": rows }));
    Ok(())
}

/// Milliseconds and GFLOP/s of one part of a layer. The FLOPs are those of the forward convolution, whatever a kernel does
/// beside them, and tensors lie with their channels last, as inside of a network.
fn layer(device: &dyn Device, sizes: [usize; 6], part: &str, seconds: f64) -> Result<(f64, f64)> {
    let [n, inputs, outputs, image, kernel, stride] = sizes;
    let conv = Conv::default().stride(stride).padding(kernel / 2);
    let [out, _] = conv.output([image, image], [kernel, kernel]).context("a layer whose kernel fits")?;
    let mut states = States::new();
    let mut tensor = |name: &str, shape: [usize; 4]| {
        let group = states.group(name, DType::F32);
        (group, states.entry(group, name, shape))
    };
    let x = tensor("x", [n, image, image, inputs]);
    let weight = tensor("weight", [outputs, inputs, kernel, kernel]);
    let y = tensor("y", [n, out, out, outputs]);
    let result = match part {
        "forward" => tensor("result", [n, out, out, outputs]),
        "input gradient" => tensor("result", [n, image, image, inputs]),
        _ => tensor("result", [outputs, inputs, kernel, kernel]),
    };
    let graph = graph(states);
    let channels_first = |entry: EntryId| graph.entry(entry).permute(&[0, 3, 1, 2]);
    let (images, kernels) = (channels_first(x.1), graph.entry(weight.1));
    let forward = images.conv2d(kernels, conv);
    let value = match part {
        "forward" => forward.permute(&[0, 2, 3, 1]),
        "input gradient" => {
            let gradient = grad_with(forward, channels_first(y.1), &[images])?;
            gradient[0].permute(&[0, 2, 3, 1])
        }
        _ => grad_with(forward, channels_first(y.1), &[kernels])?[0],
    };
    graph.update_entry(result.1, value);
    let flops = 2.0 * (n * out * out * outputs * inputs * kernel * kernel) as f64;
    timed(device, &graph, &[x.0, weight.0, y.0], flops, seconds)
}

/// GFLOP/s of a square product.
fn product(device: &dyn Device, side: usize, seconds: f64) -> Result<f64> {
    let mut states = States::new();
    let mut matrix = |name: &str| {
        let group = states.group(name, DType::F32);
        (group, states.entry(group, name, [side, side]))
    };
    let (a, b, c) = (matrix("a"), matrix("b"), matrix("c"));
    let graph = graph(states);
    graph.update_entry(c.1, graph.entry(a.1).matmul(graph.entry(b.1)));
    Ok(timed(device, &graph, &[a.0, b.0], 2.0 * (side as f64).powi(3), seconds)?.1)
}

/// Median milliseconds of a run, and GFLOP/s at it, with random numbers in some groups.
fn timed(
    device: &dyn Device,
    graph: &Graph,
    random: &[GroupId],
    flops: f64,
    seconds: f64,
) -> Result<(f64, f64)> {
    let options = Options::within(&device.info().limits);
    let program = compile(graph, options)?;
    let mut session = device.session(graph.states())?;
    let id = session.load(&program)?;
    let mut stream = Stream::new(1, 0);
    for &group in random {
        let len = graph.states().get(group).len();
        let values: Vec<f32> = (0..len).map(|_| 2.0 * stream.uniform() - 1.0).collect();
        session.write_group(group, Data::F32(&values))?;
    }
    let mut run = || -> Result<f64> {
        let start = Instant::now();
        session.run(id, &[])?;
        session.wait()?;
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
