//! What a device can do at best: known from before, or measured now.

use anyhow::Result;
use serde_json::{Value, json};
use wgrad_bench::ceiling;
use wgrad_program::{Device, DeviceInfo};
use wgrad_run::Flops;
use wgrad_train::{kept_ceiling, raise_ceiling};

use crate::terminal::{self, say};

/// The best rate known of a device in FLOP/s, and what reached it. Measures it where none is known, which takes about a second.
fn known_or_measured(device: &dyn Device) -> Result<Option<(f64, String)>> {
    if let Some(known) = kept_ceiling(device.info()) {
        return Ok(Some(known));
    }
    measured(device)
}

/// The best rate known of a device, which is not below one that it just had.
fn above(rate: f64, device: &dyn Device) -> Result<Option<(f64, String)>> {
    let Some(known) = known_or_measured(device)? else { return Ok(None) };
    if known.0 >= rate {
        return Ok(Some(known));
    }
    let again = measured(device)?.filter(|again| again.0 >= rate);
    Ok(Some(again.unwrap_or_else(|| {
        let this = (rate, "this training".to_owned());
        keep(device.info(), this.0, &this.1);
        this
    })))
}

fn measured(device: &dyn Device) -> Result<Option<(f64, String)>> {
    let Some(measured) = ceiling(device)? else { return Ok(None) };
    keep(device.info(), measured.flops_per_second, &measured.by);
    Ok(Some((measured.flops_per_second, measured.by)))
}

/// Keeps a rate for later, if it is the best so far.
pub fn keep(info: &DeviceInfo, flops_per_second: f64, by: &str) {
    if let Err(error) = raise_ceiling(info, flops_per_second, by) {
        say(&format!("warning: the ceiling of this device could not be kept: {error}"));
    }
}

/// How fast a training was, and how near to its device's ceiling.
pub struct Sustained {
    /// FLOP/s of its steps.
    pub rate: f64,
    /// The ceiling in FLOP/s and what reached it. None for several replicas, which may be on several devices or share one.
    pub ceiling: Option<(f64, String)>,
}

impl Sustained {
    /// A rate beside the ceiling of a device, which is measured where none is known, and again where the rate is above it. What
    /// goes wrong then is said, and no failure of what was trained.
    pub fn of(rate: f64, device: Option<&dyn Device>) -> Self {
        let ceiling = device.and_then(|device| match above(rate, device) {
            Ok(ceiling) => ceiling,
            Err(error) => {
                say(&format!("warning: the ceiling of this device could not be measured: {error}"));
                None
            }
        });
        Self { rate, ceiling }
    }

    /// Model FLOPs utilisation: the share of the ceiling.
    pub fn mfu(&self) -> Option<f64> {
        self.ceiling.as_ref().map(|(ceiling, _)| self.rate / ceiling)
    }

    /// For people.
    pub fn words(&self) -> String {
        let rate = format!("{}FLOP/s", terminal::count(self.rate));
        match &self.ceiling {
            None => rate,
            Some((ceiling, by)) => {
                let share = 100.0 * self.rate / ceiling;
                format!("{rate}, {share:.1}% of the {}FLOP/s of {by}", terminal::count(*ceiling))
            }
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "flops_per_second": self.rate,
            "ceiling_flops_per_second": self.ceiling.as_ref().map(|(ceiling, _)| ceiling),
            "ceiling_by": self.ceiling.as_ref().map(|(_, by)| by),
            "mfu": self.mfu(),
        })
    }
}

/// `1.2 TFLOP of training (33% forward, 66% backward, 1% update), 4.1e-9 petaflop/s-days; 0.1 TFLOP of evaluation`.
pub fn compute_words(flops: &Flops) -> String {
    let share = |part: f64| 100.0 * part / flops.training().max(1.0);
    format!(
        "{}FLOP of training ({:.0}% forward, {:.0}% backward, {:.0}% update), {:.2e} petaflop/s-days; {}FLOP of evaluation",
        terminal::count(flops.training()),
        share(flops.forward),
        share(flops.backward),
        share(flops.update),
        flops.petaflop_s_days(),
        terminal::count(flops.evaluation),
    )
}
