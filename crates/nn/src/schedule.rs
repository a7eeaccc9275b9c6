//! Learning-rate schedules.

use std::f64::consts::PI;

/// Learning-rate schedule over the steps of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(tag = "kind", rename_all = "kebab-case")
)]
pub enum Schedule {
    /// The peak rate in every step.
    Constant(ConstantSchedule),
    /// The rate is multiplied by a factor after each period of a fixed number of steps.
    Step(StepSchedule),
    /// Half a cosine from the peak down to `min_lr` (Loshchilov and Hutter 2017).
    Cosine(CosineSchedule),
    /// Half a cosine from 1/25 of the peak up to the peak, then half a cosine down to `min_lr` (Smith and Topin 2018).
    OneCycle(OneCycleSchedule),
}

/// Settings of the constant schedule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ConstantSchedule {
    /// Number of steps during which the learning rate rises linearly to its peak.
    pub warmup_steps: u64,
}

/// Settings of the step schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct StepSchedule {
    /// Number of steps during which the learning rate rises linearly to its peak.
    pub warmup_steps: u64,
    /// Number of steps between two reductions, counted from the end of the warm-up.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub step_every: u64,
    /// Factor by which each reduction multiplies the learning rate.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "maximum" = 1)))]
    pub gamma: f64,
}

impl Default for StepSchedule {
    fn default() -> Self {
        Self { warmup_steps: 0, step_every: 1000, gamma: 0.1 }
    }
}

/// Settings of the cosine schedule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct CosineSchedule {
    /// Number of steps during which the learning rate rises linearly to its peak.
    pub warmup_steps: u64,
    /// Learning rate at the end; at most the peak.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub min_lr: f64,
}

/// Settings of the one-cycle schedule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct OneCycleSchedule {
    /// Number of steps up to the peak. If absent, three tenths of the steps of the run.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub warmup_steps: Option<u64>,
    /// Learning rate at the end; at most the peak.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub min_lr: f64,
}

impl Default for Schedule {
    /// Returns a constant schedule without warm-up.
    fn default() -> Self {
        Self::Constant(ConstantSchedule::default())
    }
}

impl Schedule {
    /// Number of steps of the linear warm-up. Returns 0 for one-cycle, because its warm-up is not linear.
    pub fn warmup_steps(self) -> u64 {
        match self {
            Schedule::Constant(ConstantSchedule { warmup_steps })
            | Schedule::Step(StepSchedule { warmup_steps, .. })
            | Schedule::Cosine(CosineSchedule { warmup_steps, .. }) => warmup_steps,
            Schedule::OneCycle(_) => 0,
        }
    }

    /// Returns the learning rate of a step: linear warm-up, then the schedule over the remaining steps.
    ///
    /// `step` counts from 0; `total` is the number of steps of the whole run.
    pub fn rate(self, peak: f64, step: u64, total: u64) -> f64 {
        let warmup = self.warmup_steps();
        if step < warmup {
            return peak * (step + 1) as f64 / warmup as f64;
        }
        let done = step - warmup;
        let progress = (done as f64 / total.saturating_sub(warmup).max(1) as f64).min(1.0);
        let cosine =
            |from: f64, to: f64, progress: f64| to + (from - to) * 0.5 * (1.0 + (PI * progress).cos());
        match self {
            Schedule::Constant(_) => peak,
            Schedule::Step(StepSchedule { step_every, gamma, .. }) => {
                peak * gamma.powi(done.checked_div(step_every).unwrap_or(0) as i32)
            }
            Schedule::Cosine(CosineSchedule { min_lr, .. }) => cosine(peak, min_lr, progress),
            Schedule::OneCycle(OneCycleSchedule { warmup_steps, min_lr }) => {
                let top = warmup_steps
                    .map_or(0.3, |steps| steps as f64 / total.saturating_sub(warmup).max(1) as f64);
                match progress < top {
                    true => cosine(peak / 25.0, peak, progress / top),
                    false => cosine(peak, min_lr, (progress - top) / (1.0 - top).max(f64::MIN_POSITIVE)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_return_the_expected_rates() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} instead of {b}");
        let constant = |warmup_steps| Schedule::Constant(ConstantSchedule { warmup_steps });
        near(constant(0).rate(0.1, 5, 10), 0.1);
        near(constant(10).rate(0.1, 0, 100), 0.01);
        near(constant(10).rate(0.1, 9, 100), 0.1);
        let step = Schedule::Step(StepSchedule { warmup_steps: 0, step_every: 10, gamma: 0.5 });
        near(step.rate(1.0, 25, 100), 0.25);
        let cosine = |warmup_steps| Schedule::Cosine(CosineSchedule { warmup_steps, min_lr: 0.2 });
        near(cosine(0).rate(1.0, 0, 100), 1.0);
        near(cosine(0).rate(1.0, 50, 100), 0.6);
        near(cosine(10).rate(1.0, 110, 110), 0.2);
        let cycle = |warmup_steps| Schedule::OneCycle(OneCycleSchedule { warmup_steps, min_lr: 1e-5 });
        near(cycle(None).rate(1.0, 0, 100), 0.04);
        near(cycle(None).rate(1.0, 30, 100), 1.0);
        near(cycle(Some(50)).rate(1.0, 50, 100), 1.0);
        near(cycle(Some(50)).rate(1.0, 100, 100), 1e-5);
        near(cycle(Some(200)).rate(1.0, 100, 100), 0.52);
    }
}
