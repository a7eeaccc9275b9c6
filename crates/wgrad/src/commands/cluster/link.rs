//! Measures the link between replicas with timed all-reduces.

use std::time::Duration;

use anyhow::Result;
use wgrad_cluster::{Fit, Sample, fit};
use wgrad_comm::{Completion, Job, Worker};

use wgrad_stdx::stats::median;

use crate::commands::replicas::on_group;
use crate::failure::Usage;

/// Sizes of the all-reduces in bytes, from 4 KiB to 32 MiB.
const SIZES: [usize; 8] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 32 << 20];
/// Target for the total bytes of all repetitions of one size.
const MOVED: usize = 64 << 20;
/// Smallest and largest number of repetitions of one size.
const REPEATS: (usize, usize) = (5, 60);
/// Number of warm-up repetitions, which are not timed.
const WARM: usize = 2;
/// Longest time that a replica waits for the others.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Measures the link between all replicas, then calls `steps` on all replicas at the same time. Replicas on one
/// machine therefore slow each other down as in training. This process runs `replicas` replicas. The arguments of
/// `steps` are whether the replica is replica 0, and the index of the replica in its process. Returns the fitted link
/// and the result of `steps` on replica 0, or `None` if replica 0 is in another process.
pub fn measure<T>(
    replicas: usize,
    steps: impl Fn(bool, usize) -> Result<T> + Sync,
) -> Result<Option<(Fit, T)>> {
    let lead = |mut worker: Worker| {
        let devices = worker.size() as u64;
        if devices < 2 {
            return Err(Usage("--measure-link needs at least 2 replicas".into()).into());
        }
        let samples = measure_sizes(&mut worker)?;
        let why = || {
            Usage("--measure-link: long messages took no more time than short ones, so latency and bandwidth cannot be determined; try again on an idle machine".into())
        };
        let found = fit(devices, &samples).ok_or_else(why)?;
        worker.barrier()?;
        let measured = steps(true, 0)?;
        worker.close();
        Ok(Some((found, measured)))
    };
    let follow = |local, mut worker: Worker| {
        measure_sizes(&mut worker)?;
        worker.barrier()?;
        steps(false, local)?;
        worker.close();
        Ok(())
    };
    on_group(replicas, TIMEOUT, lead, follow)
}

/// Times the all-reduces of every size in [`SIZES`] on this replica. Returns the median time of each size.
fn measure_sizes(worker: &mut Worker) -> Result<Vec<Sample>> {
    SIZES
        .iter()
        .map(|&bytes| Ok(Sample { bytes: bytes as f64, seconds: measure_size(worker, bytes)? }))
        .collect()
}

fn measure_size(worker: &mut Worker, bytes: usize) -> Result<f64> {
    let repeats = (MOVED / bytes).clamp(REPEATS.0, REPEATS.1);
    let mut values = vec![0.0f32; bytes / 4];
    let mut seconds = Vec::with_capacity(repeats);
    for repeat in 0..WARM + repeats {
        // All replicas start together, so that the timed part does not include waiting.
        worker.barrier()?;
        let ticket = worker.submit(Job::AllReduce(values))?;
        let Completion { values: back, started, ended, .. } = worker.wait(ticket)?;
        values = back;
        if repeat >= WARM {
            seconds.push((ended - started).as_secs_f64());
        }
    }
    Ok(median(seconds))
}
