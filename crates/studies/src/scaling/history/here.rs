//! How long the devices of this machine would take for each system of the history, and the user's own runs beside those.

use super::History;
use super::date::Date;
use serde::{Deserialize, Serialize};

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
/// Seconds of a day.
pub const DAY: f64 = 24.0 * HOUR;
/// Seconds of a year of 365.25 days.
pub const YEAR: f64 = 365.25 * DAY;

/// What this machine does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Here {
    /// Its devices.
    pub devices: Vec<Rate>,
    /// Runs that were trained here.
    pub own: Vec<OwnRun>,
}

/// How fast a device trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The device.
    pub device: String,
    /// The training step that it was measured on.
    pub measured_on: String,
    /// Floating-point operations a second of that step.
    #[serde(with = "wgrad_stdx::float")]
    pub sustained_flops: f64,
    /// The most that was measured of the device, a second.
    #[serde(with = "wgrad_stdx::float")]
    pub ceiling_flops: f64,
}

/// A run of the user's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnRun {
    /// What was trained.
    pub name: String,
    /// When.
    pub date: Date,
    /// Floating-point operations of its training.
    #[serde(with = "wgrad_stdx::float")]
    pub flops: f64,
    /// Trained numbers.
    pub parameters: u64,
}

impl OwnRun {
    /// The operations, if they are some: a run that was read from a file may say anything.
    pub fn usable_flops(&self) -> Option<f64> {
        (self.flops.is_finite() && self.flops > 0.0).then_some(self.flops)
    }
}

/// How long a device would take for a system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// [`super::System::id`].
    pub system: usize,
    /// Place among [`Here::devices`].
    pub device: usize,
    /// At the sustained rate.
    pub seconds: f64,
}

impl Here {
    /// Every system that has training compute on every device whose rate is above 0: as if the device had the memory, and
    /// kept the rate that it was measured at. By system, then by device.
    pub fn times(&self, history: &History) -> Vec<Time> {
        let usable = |rate: &f64| rate.is_finite() && *rate > 0.0;
        let time = |system: usize, flops: f64| {
            let rates = self.devices.iter().map(|device| device.sustained_flops).enumerate();
            rates.filter(move |(_, rate)| usable(rate)).map(move |(device, rate)| Time {
                system,
                device,
                seconds: flops / rate,
            })
        };
        let with_compute = history.systems.iter().filter_map(|system| Some((system.id, system.flops?)));
        with_compute.flat_map(|(system, flops)| time(system, flops)).collect()
    }
}

/// A time in words, with two or three digits and a unit that suits: `3.1 µs`, `2.4 h`, `11 days`, `14 thousand years`.
///
/// ```
/// use wgrad_studies::scaling::history::duration;
///
/// assert_eq!([3.1e-6, 8640.0, 950_400.0].map(duration), ["3.1 µs", "2.4 h", "11 days"]);
/// assert_eq!(duration(4.4e14), "14 million years");
/// ```
pub fn duration(seconds: f64) -> String {
    const UNITS: [(f64, &str, &str); 12] = [
        (1e-9, "ns", "ns"),
        (1e-6, "µs", "µs"),
        (1e-3, "ms", "ms"),
        (1.0, "s", "s"),
        (MINUTE, "min", "min"),
        (HOUR, "h", "h"),
        (DAY, "day", "days"),
        (YEAR, "year", "years"),
        (1e3 * YEAR, "thousand years", "thousand years"),
        (1e6 * YEAR, "million years", "million years"),
        (1e9 * YEAR, "billion years", "billion years"),
        (1e12 * YEAR, "trillion years", "trillion years"),
    ];
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    if seconds == 0.0 {
        return "0 s".into();
    }
    // A unit is used from where one of it is not rounded to less: 59.96 s are 1.0 min.
    let fits = |(size, ..): &&(f64, &str, &str)| seconds >= size * 0.9995;
    let (size, one, many) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
    let value = seconds / size;
    let text = match value {
        value if value < 9.95 => format!("{value:.1}"),
        value if value < 99999.5 => format!("{value:.0}"),
        value => format!("{value:.1e}"),
    };
    let unit = if text == "1.0" { one } else { many };
    format!("{text} {unit}")
}
