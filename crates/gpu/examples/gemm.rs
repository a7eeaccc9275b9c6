//! Times every GEMM variant: `cargo run --release -p wgrad-gpu --example gemm -- [ADAPTER] [SIZE…]`.

use wgrad_gpu::{Tuner, plain_gemm};
use wgrad_program::{Device, DeviceError};

#[allow(clippy::print_stdout)]
fn main() -> Result<(), DeviceError> {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let tuner = Tuner::open(args.next().unwrap_or(0))?;
    let mut sizes: Vec<usize> = args.collect();
    if sizes.is_empty() {
        sizes = vec![256, 512];
    }
    let info = tuner.device().info();
    println!("{} ({}, {})", info.name, info.backend, info.driver);
    for size in sizes {
        let Some(result) = tuner.tune(&plain_gemm(size, size, size))? else { continue };
        for timing in &result.timings {
            let variant = timing.variant;
            let by_shape = if variant == result.by_shape { ", the choice by shape" } else { "" };
            match &timing.seconds {
                Ok(seconds) => {
                    let gflops = 2.0 * (size as f64).powi(3) / seconds / 1e9;
                    println!("{size}³ {variant}: {gflops:.1} GFLOP/s, {:.2} ms{by_shape}", seconds * 1e3);
                }
                Err(why) => println!("{size}³ {variant}: {why}{by_shape}"),
            }
        }
    }
    Ok(())
}
