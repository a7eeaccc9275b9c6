//! All-reduces under the clock.

use std::time::Duration;

use anyhow::Result;
use wgrad_cluster::{Fit, Sample, fit};
use wgrad_comm::{Done, Job, Worker};

use crate::commands::replicas::on_team;
use crate::failure::Usage;

/// Bytes of the all-reduces, from 4 KB to 32 MB.
const SIZES: [usize; 8] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 32 << 20];
/// Bytes that all repeats of a size move, within these numbers of repeats.
const MOVED: usize = 64 << 20;
const REPEATS: (usize, usize) = (5, 60);
/// Repeats before those that count.
const WARM: usize = 2;
/// How long a replica waits for the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// The link between all replicas, of which this process has `replicas`; and what `steps` measures, which all replicas call at
/// once, so that those that share a machine slow each other down as they do in training. It is told whether it is the first
/// one, and its number within its process. None where another process speaks for them.
pub fn measure<T>(
    replicas: usize,
    steps: impl Fn(bool, usize) -> Result<T> + Sync,
) -> Result<Option<(Fit, T)>> {
    let lead = |mut worker: Worker| {
        let devices = worker.size() as u64;
        if devices < 2 {
            return Err(Usage("--measure-link: one replica has no link; ask for 2 or more".into()).into());
        }
        let samples = times(&mut worker)?;
        let why =
            || Usage("--measure-link: longer messages did not take longer; no link explains that".into());
        let found = fit(devices, &samples).ok_or_else(why)?;
        worker.barrier()?;
        let measured = steps(true, 0)?;
        worker.close();
        Ok(Some((found, measured)))
    };
    let follow = |local, mut worker: Worker| {
        times(&mut worker)?;
        worker.barrier()?;
        steps(false, local)?;
        worker.close();
        Ok(())
    };
    on_team(replicas, PATIENCE, lead, follow)
}

/// Medians, as this replica sees them.
fn times(worker: &mut Worker) -> Result<Vec<Sample>> {
    SIZES
        .iter()
        .map(|&bytes| Ok(Sample { bytes: bytes as f64, seconds: median_of(worker, bytes)? }))
        .collect()
}

fn median_of(worker: &mut Worker, bytes: usize) -> Result<f64> {
    let repeats = (MOVED / bytes).clamp(REPEATS.0, REPEATS.1);
    let mut values = vec![0.0f32; bytes / 4];
    let mut seconds = Vec::with_capacity(repeats);
    for repeat in 0..WARM + repeats {
        // All begin together, so that none waits for another inside of what is timed.
        worker.barrier()?;
        let ticket = worker.submit(Job::AllReduce(values))?;
        let Done { values: back, started, ended, .. } = worker.wait(ticket)?;
        values = back;
        if repeat >= WARM {
            seconds.push((ended - started).as_secs_f64());
        }
    }
    Ok(wgrad_stdx::stats::median(seconds))
}
