//! Timing of workloads: a warm-up, then repeats of a few queued runs each.

use std::time::{Duration, Instant};

use wgrad_stdx::stats::quantile;

use crate::error::BenchError;
use crate::loaded::LoadedWorkload;

/// Minimum number of repeats, even if they exceed the time budget.
const MIN_REPEATS: usize = 5;
/// Maximum number of repeats.
const MAX_REPEATS: usize = 400;
/// Minimum duration of a repeat, so that clock resolution and the round trip to the device are negligible.
const MIN_REPEAT_TIME: Duration = Duration::from_millis(2);
/// Maximum number of runs per repeat. Every device keeps the scalar outputs of at least this many runs.
const MAX_RUNS: u32 = 64;
/// Number of runs after which the state is reset.
const RUNS_BEFORE_RESET: u32 = 256;

/// Measured times of a case.
pub(crate) struct Times {
    /// Seconds per run, one value for each repeat, in ascending order.
    pub sorted: Vec<f64>,
    /// Number of runs per repeat.
    pub runs: u32,
    /// Median seconds that the host took to queue a run.
    pub queue: f64,
}

/// Times runs of a workload for about `budget`, after a warm-up.
///
/// If `synchronous` is true, each repeat is a single run. Otherwise, a repeat can consist of several queued runs.
pub(crate) fn time_runs(
    loaded: &mut LoadedWorkload<'_>,
    budget: Duration,
    synchronous: bool,
) -> Result<Times, BenchError> {
    loaded.reset()?;
    loaded.step(true)?;
    let begin = Instant::now();
    loaded.step(true)?;
    let one = begin.elapsed();
    let runs = match synchronous {
        true => 1,
        false => (MIN_REPEAT_TIME.as_secs_f64() / one.as_secs_f64().max(1e-9))
            .ceil()
            .clamp(1.0, f64::from(MAX_RUNS)) as u32,
    };
    let (mut queue, mut since_reset) = (Vec::new(), 2);
    let sorted = time_repeats(budget, || {
        if since_reset + runs > RUNS_BEFORE_RESET {
            loaded.reset()?;
            loaded.step(true)?;
            since_reset = 1;
        }
        since_reset += runs;
        let begin = Instant::now();
        for _ in 0..runs {
            loaded.run()?;
        }
        let queued = begin.elapsed();
        loaded.wait()?;
        let done = begin.elapsed();
        queue.push(queued.as_secs_f64() / f64::from(runs));
        Ok(done.as_secs_f64() / f64::from(runs))
    })?;
    queue.sort_by(f64::total_cmp);
    Ok(Times { sorted, runs, queue: quantile(&queue, 0.5) })
}

/// Calls `repeat` for about `budget`. Returns the seconds that the calls returned, in ascending order.
pub(crate) fn time_repeats(
    budget: Duration,
    mut repeat: impl FnMut() -> Result<f64, BenchError>,
) -> Result<Vec<f64>, BenchError> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < MIN_REPEATS || (begin.elapsed() < budget && times.len() < MAX_REPEATS) {
        times.push(repeat()?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimum_number_of_repeats_ignores_the_budget() {
        let mut count = 0;
        let times = time_repeats(Duration::ZERO, || {
            count += 1;
            Ok(f64::from(10 - count))
        });
        assert_eq!(times.unwrap(), [5.0, 6.0, 7.0, 8.0, 9.0]);
    }
}
