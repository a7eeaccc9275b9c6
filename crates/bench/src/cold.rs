//! Cold start: the first training step in a new process.

use std::time::Instant;

use crate::results::ColdStart;
use wgrad_program::{Device, DeviceError};

use crate::error::BenchError;
use crate::host::{now_ns, peak_rss_bytes};
use crate::loaded::LoadedWorkload;
use crate::workloads::workload;

/// Opens a device, runs one training step on it and returns the duration of each phase.
///
/// `started_ns` is the time at which the parent started this process, in nanoseconds since 1970.
///
/// # Errors
/// Returns [`BenchError::NoWorkload`] if the workload does not exist, and [`BenchError::Device`] if the device cannot
/// be opened or fails.
pub fn cold_start(
    name: &str,
    started_ns: u128,
    open: impl FnOnce() -> Result<Box<dyn Device>, DeviceError>,
) -> Result<ColdStart, BenchError> {
    let process_ms = now_ns().saturating_sub(started_ns) as f64 / 1e6;
    let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let begin = Instant::now();
    let device = open()?;
    let device_ms = ms(begin);
    let begin = Instant::now();
    let workload = workload(name)?;
    let recording_ms = ms(begin);
    let mut loaded = LoadedWorkload::new(&*device, &workload)?;
    let plan_ms = recording_ms + loaded.plan_time.as_secs_f64() * 1e3;
    let load_ms = loaded.load_time.as_secs_f64() * 1e3;
    let begin = Instant::now();
    loaded.step(true)?;
    Ok(ColdStart {
        workload: name.to_owned(),
        process_ms,
        device_ms,
        plan_ms,
        load_ms,
        first_step_ms: ms(begin),
        total_ms: now_ns().saturating_sub(started_ns) as f64 / 1e6,
        peak_rss_bytes: peak_rss_bytes(),
    })
}
