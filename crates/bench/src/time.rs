//! The clock: warm-up, repeats of a few queued runs each, and what of them is reported.

use std::time::{Duration, Instant};

use wgrad_stdx::stats::quantile;

use crate::error::BenchError;
use crate::loaded::Loaded;

/// Fewest repeats, however slow a run is.
const FEWEST: usize = 5;
/// Most repeats, however fast.
const MOST: usize = 400;
/// A repeat takes at least this long, so that the clock and the round trip to the device do not count.
const REPEAT: Duration = Duration::from_millis(2);
/// Most runs in a repeat. A device keeps the scalars of so many runs and more.
const MOST_RUNS: u32 = 64;
/// The state is put back to where it began after so many runs.
const RUNS_BEFORE_RESET: u32 = 256;

/// What was measured of a case.
pub(crate) struct Times {
    /// Seconds of a run, one for each repeat, rising.
    pub sorted: Vec<f64>,
    /// Runs in a repeat.
    pub runs: u32,
    /// Seconds that the host took to queue a run, the median of the repeats.
    pub queue: f64,
}

/// Times runs of a work for about `budget`, after one that warms up. With `each` a repeat is one run, waited for.
pub(crate) fn runs(loaded: &mut Loaded<'_>, budget: Duration, each: bool) -> Result<Times, BenchError> {
    loaded.reset()?;
    loaded.step(true)?;
    let begin = Instant::now();
    loaded.step(true)?;
    let one = begin.elapsed();
    let runs = match each {
        true => 1,
        false => (REPEAT.as_secs_f64() / one.as_secs_f64().max(1e-9)).ceil().clamp(1.0, f64::from(MOST_RUNS))
            as u32,
    };
    let (mut queue, mut since_reset) = (Vec::new(), 2);
    let sorted = repeats(budget, || {
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

/// Seconds that `repeat` says, again and again for about `budget`, rising.
pub(crate) fn repeats(
    budget: Duration,
    mut repeat: impl FnMut() -> Result<f64, BenchError>,
) -> Result<Vec<f64>, BenchError> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < FEWEST || (begin.elapsed() < budget && times.len() < MOST) {
        times.push(repeat()?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_repeat_is_still_repeated() {
        let mut count = 0;
        let times = repeats(Duration::ZERO, || {
            count += 1;
            Ok(f64::from(10 - count))
        });
        assert_eq!(times.unwrap(), [5.0, 6.0, 7.0, 8.0, 9.0]);
    }
}
