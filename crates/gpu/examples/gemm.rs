//! Times every variant of the matrix product: `cargo run --release -p wgrad-gpu --example gemm -- [ADAPTER] [SIZE…]`.

#[allow(dead_code)]
#[path = "../tests/common/plan.rs"]
mod plan;

use std::time::Instant;

use wgrad_gpu::{GemmVariant, GpuDevice, Options, adapters};
use wgrad_graph::{DType, Layout, States};
use wgrad_program::{Access, Data, Device, Gemm, Instr, Kernel, Program};

use plan::{Body, Plan};

fn program(size: usize) -> Program {
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &[size]);
    let [a, b] = [0, 1].map(|_| plan.scratch(DType::F32, &[size, size]));
    let c = plan.output("c", DType::F32, &[size, size]);
    let shape = [size, size];
    for factor in [&a, &b] {
        let mut body = Body::over(&shape, &[]);
        let value = body.load(0, Layout::strided(&shape, vec![0, 1], 0));
        body.store(value, 1, Layout::contiguous(&shape));
        plan.dispatch("fill", body.build(), &[(&x, Access::Read), (factor, Access::Write)]);
    }
    let mut body = Body::over(&shape, &[]);
    let value = body.push(Instr::Product);
    body.store(value, 2, Layout::contiguous(&shape));
    let layout = Layout::contiguous(&shape);
    let [m, n, k] = [size, size, size].map(|size| vec![size]);
    let (a_layout, b_layout) = (layout.clone(), layout);
    let gemm = Gemm { batch: Vec::new(), m, n, k, a: 0, a_layout, b: 1, b_layout, epilogue: body.kernel };
    let operands = [(&a, Access::Read), (&b, Access::Read), (&c, Access::Write)];
    plan.dispatch("product", Kernel::Gemm(gemm), &operands);
    plan.program
}

#[allow(clippy::print_stdout)]
fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let index = args.next().unwrap_or(0);
    let mut sizes: Vec<usize> = args.collect();
    if sizes.is_empty() {
        sizes = vec![256, 512];
    }
    let Some(adapter) = adapters().get(index) else {
        println!("no adapter {index}");
        return;
    };
    println!("{} ({}, {})", adapter.info.name, adapter.info.backend, adapter.info.driver);
    for size in sizes {
        let (program, x) = (program(size), vec![0.5f32; size]);
        for gemm in GemmVariant::ALL.into_iter().map(Some).chain([None]) {
            let result = time(index, gemm, &program, &x);
            match result {
                Ok((compile, seconds)) => {
                    let gflops = 2.0 * (size as f64).powi(3) / seconds / 1e9;
                    println!(
                        "{size}³ {gemm:?}: {gflops:.1} GFLOP/s, {:.2} ms; first run {compile:.2} s",
                        seconds * 1e3
                    );
                }
                Err(error) => println!("{size}³ {gemm:?}: {error}"),
            }
        }
    }
}

/// Seconds until the first run is done, and of a run.
fn time(
    index: usize,
    gemm: Option<GemmVariant>,
    program: &Program,
    x: &[f32],
) -> Result<(f64, f64), wgrad_program::DeviceError> {
    let device = GpuDevice::with_options(index, Options { gemm, ..Options::default() })?;
    let mut session = device.session(&States::new())?;
    let start = Instant::now();
    let id = session.load(program)?;
    session.run(id, &[Data::F32(x)])?;
    session.wait()?;
    let compile = start.elapsed().as_secs_f64();
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 1.0 {
        let start = Instant::now();
        session.run(id, &[Data::F32(x)])?;
        session.wait()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok((compile, best))
}
