//! Learning-rate schedules.

use std::f64::consts::PI;

/// Learning rate as a function of the step. Steps count from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Constant peak rate.
    Constant,
    /// Peak rate, multiplied by `gamma` every `every` steps.
    Step {
        /// Steps between drops; 0 means never.
        every: u64,
        /// Factor of a drop.
        gamma: f64,
    },
    /// Half a cosine from the peak rate down to `min` (Loshchilov and Hutter 2017).
    Cosine {
        /// Rate at the end.
        min: f64,
    },
    /// Half a cosine from 1/25 of the peak rate up to it, then half a cosine down to `min` (Smith and Topin 2018).
    OneCycle {
        /// Steps up to the peak; by default 30% of the run.
        rise: Option<u64>,
        /// Rate at the end.
        min: f64,
    },
}

impl Schedule {
    /// Returns the rate at a step of a run of `total` steps: linear warm-up over the first `warmup` steps, then the
    /// schedule over the remaining steps.
    pub fn rate(self, peak: f64, step: u64, warmup: u64, total: u64) -> f64 {
        if step < warmup {
            return peak * (step + 1) as f64 / warmup as f64;
        }
        let done = step - warmup;
        let progress = (done as f64 / total.saturating_sub(warmup).max(1) as f64).min(1.0);
        let cosine =
            |from: f64, to: f64, progress: f64| to + (from - to) * 0.5 * (1.0 + (PI * progress).cos());
        match self {
            Schedule::Constant => peak,
            Schedule::Step { every, gamma } => peak * gamma.powi(done.checked_div(every).unwrap_or(0) as i32),
            Schedule::Cosine { min } => cosine(peak, min, progress),
            Schedule::OneCycle { rise, min } => {
                let top = rise.map_or(0.3, |steps| steps as f64 / total.saturating_sub(warmup).max(1) as f64);
                match progress < top {
                    true => cosine(peak / 25.0, peak, progress / top),
                    false => cosine(peak, min, (progress - top) / (1.0 - top).max(f64::MIN_POSITIVE)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_return_known_rates() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} instead of {b}");
        near(Schedule::Constant.rate(0.1, 5, 0, 10), 0.1);
        near(Schedule::Constant.rate(0.1, 0, 10, 100), 0.01);
        near(Schedule::Constant.rate(0.1, 9, 10, 100), 0.1);
        near(Schedule::Step { every: 10, gamma: 0.5 }.rate(1.0, 25, 0, 100), 0.25);
        near(Schedule::Cosine { min: 0.2 }.rate(1.0, 0, 0, 100), 1.0);
        near(Schedule::Cosine { min: 0.2 }.rate(1.0, 50, 0, 100), 0.6);
        near(Schedule::Cosine { min: 0.2 }.rate(1.0, 110, 10, 110), 0.2);
        let cycle = |rise| Schedule::OneCycle { rise, min: 1e-5 };
        near(cycle(None).rate(1.0, 0, 0, 100), 0.04);
        near(cycle(None).rate(1.0, 30, 0, 100), 1.0);
        near(cycle(Some(50)).rate(1.0, 50, 0, 100), 1.0);
        near(cycle(Some(50)).rate(1.0, 100, 0, 100), 1e-5);
        near(cycle(Some(200)).rate(1.0, 100, 0, 100), 0.52);
    }
}
