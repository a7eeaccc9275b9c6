//! Peak compute rate of a device, stored or measured, and the fraction of the peak that a training run reached.

use anyhow::Result;
use serde_json::{Value, json};
use wgrad_bench::ceiling;
use wgrad_program::{Device, DeviceInfo};
use wgrad_run::Flops;
use wgrad_train::{load_ceiling, save_ceiling};

use crate::terminal::{self, say};

/// Returns the peak rate of a device in FLOP/s, and the workload that reached the peak. If no rate is stored, measures
/// for about a second. Returns `None` if the rate of the device cannot be measured.
fn stored_or_measured(device: &dyn Device) -> Result<Option<(f64, String)>> {
    if let Some(known) = load_ceiling(device.info()) {
        return Ok(Some(known));
    }
    measure(device)
}

/// Returns the peak rate of a device and the workload that reached it. If a training run with `rate` exceeded both the
/// stored and the measured peak, `rate` becomes the peak.
fn peak_of_at_least(rate: f64, device: &dyn Device) -> Result<Option<(f64, String)>> {
    let Some(known) = stored_or_measured(device)? else { return Ok(None) };
    if known.0 >= rate {
        return Ok(Some(known));
    }
    let again = measure(device)?.filter(|again| again.0 >= rate);
    Ok(Some(again.unwrap_or_else(|| {
        let this = (rate, "this training".to_owned());
        keep(device.info(), this.0, &this.1);
        this
    })))
}

/// Measures and stores the peak rate of a device. Returns the rate in FLOP/s and the workload that reached it.
fn measure(device: &dyn Device) -> Result<Option<(f64, String)>> {
    let Some(measured) = ceiling(device)? else { return Ok(None) };
    keep(device.info(), measured.flops_per_second, &measured.by);
    Ok(Some((measured.flops_per_second, measured.by)))
}

/// Stores the rate that the workload `by` reached, if it exceeds the stored rate. Prints a warning if the file cannot
/// be written.
pub fn keep(info: &DeviceInfo, flops_per_second: f64, by: &str) {
    if let Err(error) = save_ceiling(info, flops_per_second, by) {
        say(&format!("warning: the peak rate of this device cannot be stored: {error}"));
    }
}

/// Compute rate of a training run, and the peak rate of the device for comparison.
pub struct Sustained {
    /// Rate of the training steps in FLOP/s.
    pub rate: f64,
    /// Peak rate in FLOP/s, and the workload that reached the peak. `None` if the peak cannot be measured, and with
    /// several replicas, which may use several devices or share one device.
    pub ceiling: Option<(f64, String)>,
}

impl Sustained {
    /// Compares a rate with the peak of a device. Measures the peak if none is stored, or if the rate exceeds the
    /// stored peak. Failed measurements are printed as warnings because the training run itself succeeded.
    pub fn new(rate: f64, device: Option<&dyn Device>) -> Self {
        let ceiling = device.and_then(|device| match peak_of_at_least(rate, device) {
            Ok(ceiling) => ceiling,
            Err(error) => {
                say(&format!("warning: the peak rate of this device cannot be measured: {error}"));
                None
            }
        });
        Self { rate, ceiling }
    }

    /// Returns the model FLOPs utilisation: the rate as a fraction of the peak. `None` if the peak is unknown.
    pub fn mfu(&self) -> Option<f64> {
        self.ceiling.as_ref().map(|(ceiling, _)| self.rate / ceiling)
    }

    /// Returns a readable description of the rate.
    pub fn text(&self) -> String {
        let rate = format!("{}FLOP/s", terminal::count(self.rate));
        match &self.ceiling {
            None => rate,
            Some((ceiling, by)) => {
                let percent = 100.0 * self.rate / ceiling;
                format!("{rate}, {percent:.1}% of the peak of {}FLOP/s ({by})", terminal::count(*ceiling))
            }
        }
    }

    /// Returns the rate as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "flops_per_second": self.rate,
            "ceiling_flops_per_second": self.ceiling.as_ref().map(|(ceiling, _)| ceiling),
            "ceiling_by": self.ceiling.as_ref().map(|(_, by)| by),
            "mfu": self.mfu(),
        })
    }
}

/// Describes FLOPs: `1.2 TFLOP of training (33% forward, 66% backward, 1% update), 4.1e-9 petaflop/s-days; 0.1 TFLOP of
/// evaluation`.
pub fn describe_flops(flops: &Flops) -> String {
    let percent = |part: f64| 100.0 * part / flops.training().max(1.0);
    format!(
        "{}FLOP of training ({:.0}% forward, {:.0}% backward, {:.0}% update), {:.2e} petaflop/s-days; {}FLOP of evaluation",
        terminal::count(flops.training()),
        percent(flops.forward),
        percent(flops.backward),
        percent(flops.update),
        flops.petaflop_s_days(),
        terminal::count(flops.evaluation),
    )
}
