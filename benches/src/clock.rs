//! Timing of training steps: warm-up, synchronized steps, pipelined steps, CPU time and peak memory.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};
use wgrad_bench::{now_ns, peak_rss_bytes, quantile};

/// Time budget of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Seconds for which synchronized steps are timed after the warm-up.
    pub seconds: f64,
    /// Duration of the warm-up in seconds.
    pub warmup: f64,
    /// Maximum number of steps in the warm-up, and maximum number of steps in the measurement. Each has at least 5
    /// steps.
    pub max_steps: usize,
    /// Whether to measure only the time from the start of the process to the end of the first step.
    pub cold: bool,
}

/// Returns the start time of the process in nanoseconds since 1970.
///
/// This is `BENCH_T0_NS` if a parent process has set it, otherwise the current time.
pub fn start_ns() -> u128 {
    std::env::var("BENCH_T0_NS").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now_ns)
}

/// Times calls of `step` and returns the results as JSON: milliseconds, GFLOP/s, losses and memory in MiB.
///
/// `t0` is the start of the process in nanoseconds since 1970, and `flops` is the number of floating-point operations
/// of a step. `step(true)` must wait for the device and return the loss. `step(false)` can return before the step is
/// complete.
///
/// # Errors
/// Returns the first error of `step`.
pub fn measure(
    budget: Budget,
    t0: u128,
    flops: f64,
    mut step: impl FnMut(bool) -> Result<Option<f32>>,
) -> Result<Map<String, Value>> {
    let mut results = Map::new();
    let elapsed_ms = |t0: u128| now_ns().saturating_sub(t0) as f64 / 1e6;
    results.insert("model_built_ms".into(), json!(elapsed_ms(t0)));
    let mut losses = vec![step(true)?];
    results.insert("cold_ms".into(), json!(elapsed_ms(t0)));
    results.insert("rss_after_first_mb".into(), json!(peak_rss_mb()));
    if !budget.cold {
        time_steps(budget, flops, &mut step, &mut losses, &mut results)?;
    }
    for (name, index) in
        [("loss_0", 0), ("loss_1", 1), ("loss_4", 4), ("loss_20", 20), ("loss_last", losses.len() - 1)]
    {
        results.insert(name.into(), json!(losses.get(index).copied().flatten()));
    }
    results.insert("peak_rss_mb".into(), json!(peak_rss_mb()));
    Ok(results)
}

fn time_steps(
    budget: Budget,
    flops: f64,
    step: &mut impl FnMut(bool) -> Result<Option<f32>>,
    losses: &mut Vec<Option<f32>>,
    results: &mut Map<String, Value>,
) -> Result<()> {
    let mut timed = |seconds: f64, losses: &mut Vec<Option<f32>>| -> Result<Vec<f64>> {
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < 5
            || (start.elapsed() < Duration::from_secs_f64(seconds) && times.len() < budget.max_steps)
        {
            let begin = Instant::now();
            losses.push(step(true)?);
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    };
    let warm_start = Instant::now();
    let warm = timed(budget.warmup, losses)?;
    results.insert("warm_s".into(), json!(warm_start.elapsed().as_secs_f64()));
    results.insert("warm_steps".into(), json!(warm.len() + 1));
    results.insert("first_steps_ms".into(), json!(&warm[..4]));
    let cpu = cpu_seconds();
    let mut times = timed(budget.seconds, losses)?;
    results.insert("cpu_ms".into(), json!((cpu_seconds() - cpu) * 1e3 / times.len() as f64));
    times.sort_by(f64::total_cmp);
    let median = quantile(&times, 0.5);
    let group = ((budget.seconds / 6.0 * 1e3 / median) as usize).clamp(3, 200);
    let mut pipelined = f64::INFINITY;
    for _ in 0..2 {
        let start = Instant::now();
        for i in 1..=group {
            step(i == group)?;
        }
        pipelined = pipelined.min(start.elapsed().as_secs_f64() * 1e3 / group as f64);
    }
    for (name, value) in [
        ("median_ms", median),
        ("min_ms", quantile(&times, 0.0)),
        ("p90_ms", quantile(&times, 0.9)),
        ("pipelined_ms", pipelined),
        ("gflops_median", flops / median / 1e6),
        ("gflops_best", flops / quantile(&times, 0.0).min(pipelined) / 1e6),
    ] {
        results.insert(name.into(), json!(value));
    }
    results.insert("steps".into(), json!(times.len()));
    Ok(())
}

/// Returns the peak resident memory of this process in MiB; 0 if unknown.
fn peak_rss_mb() -> f64 {
    peak_rss_bytes().unwrap_or(0) as f64 / f64::from(1 << 20)
}

/// Returns the CPU time of this process in seconds, with a resolution of 10 ms; 0 if unknown.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
