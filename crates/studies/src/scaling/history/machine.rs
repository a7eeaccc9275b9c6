//! Training time of each system on the devices of this machine, and the runs of this machine.

use super::History;
use super::date::Date;
use serde::{Deserialize, Serialize};

/// Rates of the devices of this machine, and runs that were trained on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LocalMachine {
    /// Devices with their training rates.
    pub devices: Vec<DeviceRate>,
    /// Finished training runs.
    #[serde(rename = "own")]
    pub runs: Vec<LocalRun>,
}

/// Training rate of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Name of the device.
    pub device: String,
    /// Name of the benchmark in which a training step was measured.
    pub measured_on: String,
    /// Floating-point operations per second during that step.
    #[serde(with = "wgrad_stdx::float")]
    pub sustained_flops: f64,
    /// Highest floating-point operations per second ever measured on the device.
    #[serde(with = "wgrad_stdx::float")]
    pub ceiling_flops: f64,
}

/// Training run that was done on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalRun {
    /// Name of the recipe.
    pub name: String,
    /// Day on which the run finished.
    pub date: Date,
    /// Total floating-point operations of the run.
    #[serde(with = "wgrad_stdx::float")]
    pub flops: f64,
    /// Number of trainable parameters.
    pub parameters: u64,
}

impl LocalRun {
    /// Returns the operations if their number is finite and positive, otherwise `None`. A run that is read from a file
    /// may contain any number.
    pub fn usable_flops(&self) -> Option<f64> {
        (self.flops.is_finite() && self.flops > 0.0).then_some(self.flops)
    }
}

/// Time that a device would take to train a system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainingTime {
    /// Id of the system, [`super::System::id`].
    pub system: usize,
    /// Index of the device in [`LocalMachine::devices`].
    pub device: usize,
    /// Training time in seconds at the sustained rate of the device.
    pub seconds: f64,
}

impl LocalMachine {
    /// Returns the training time of every system with training compute on every device with a positive rate, ordered by
    /// system and then by device. The time assumes that the device has enough memory and sustains its measured rate.
    pub fn times(&self, history: &History) -> Vec<TrainingTime> {
        let usable = |rate: &f64| rate.is_finite() && *rate > 0.0;
        let time = |system: usize, flops: f64| {
            let rates = self.devices.iter().map(|device| device.sustained_flops).enumerate();
            rates.filter(move |(_, rate)| usable(rate)).map(move |(device, rate)| TrainingTime {
                system,
                device,
                seconds: flops / rate,
            })
        };
        let with_compute = history.systems.iter().filter_map(|system| Some((system.id, system.flops?)));
        with_compute.flat_map(|(system, flops)| time(system, flops)).collect()
    }
}
