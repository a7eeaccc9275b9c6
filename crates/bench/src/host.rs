//! Memory, CPU time and power as reported by the operating system. Unknown values are `None`.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Returns the current time in nanoseconds since 1970.
pub fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos())
}

/// Returns the peak resident memory of this process in bytes. Known on Linux only.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// CPU time of the machine and of this process so far, in ticks. Known on Linux only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    /// Ticks used by all processes.
    busy: u64,
    /// Ticks used by this process and by child processes that it has waited for.
    own: u64,
    /// Ticks elapsed on all processors, busy or idle.
    total: u64,
}

impl CpuTime {
    /// Reads the CPU time used so far. Returns `None` if it is unknown.
    pub fn now() -> Option<Self> {
        let all = std::fs::read_to_string("/proc/stat").ok()?;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&all, &own)
    }

    fn parse(all: &str, own: &str) -> Option<Self> {
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
        let ticks: Vec<u64> =
            all.lines().next()?.split_whitespace().skip(1).take(8).map_while(|n| n.parse().ok()).collect();
        let total: u64 = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
        // The process name may contain spaces, so fields are counted after it: utime, stime, cutime and cstime.
        let fields: Vec<&str> = own.rsplit(')').next()?.split_whitespace().collect();
        let own = fields.get(11..15)?.iter().map_while(|field| field.parse::<u64>().ok()).sum();
        Some(Self { busy: total - idle, own, total })
    }

    /// Returns the fraction of the CPU time of all processors that other processes have used since `before`.
    pub fn foreign_fraction_since(&self, before: &Self) -> Option<f64> {
        let total = self.total.checked_sub(before.total).filter(|total| *total > 0)?;
        let busy = self.busy.saturating_sub(before.busy);
        let own = self.own.saturating_sub(before.own);
        Some(busy.saturating_sub(own) as f64 / total as f64)
    }
}

/// Power meter of the processor or of a graphics card.
pub(crate) struct PowerMeter {
    source: PowerSource,
}

enum PowerSource {
    /// Energy counters of the processor packages in microjoules. Each has the maximum after which the counter wraps to
    /// 0, if known.
    Energy(Vec<(PathBuf, Option<u64>)>),
    /// Sensor of the current power in microwatts.
    Watts(PathBuf),
}

/// Time and energy counters at the start of a power measurement.
pub(crate) struct PowerSample {
    at: Instant,
    energy: Vec<u64>,
}

impl PowerMeter {
    /// Returns the meter of the processor packages (RAPL), if the energy counters are readable.
    pub fn for_cpu() -> Option<Self> {
        let zones = std::fs::read_dir("/sys/class/powercap").ok()?;
        let packages: Vec<(PathBuf, Option<u64>)> = zones
            .filter_map(|zone| Some(zone.ok()?.path()))
            .filter(|zone| is_package(zone) && read_integer(&zone.join("energy_uj")).is_some())
            .map(|zone| (zone.join("energy_uj"), read_integer(&zone.join("max_energy_range_uj"))))
            .collect();
        (!packages.is_empty()).then_some(Self { source: PowerSource::Energy(packages) })
    }

    /// Returns the meter of the graphics card if exactly one card has a meter.
    ///
    /// With several cards, it is not known which of them is the adapter of the device.
    pub fn for_single_gpu() -> Option<Self> {
        let cards = std::fs::read_dir("/sys/class/drm").ok()?;
        let sensors = cards.filter_map(|card| std::fs::read_dir(card.ok()?.path().join("device/hwmon")).ok());
        let mut meters: Vec<PathBuf> = sensors
            .flatten()
            .filter_map(|sensor| Some(sensor.ok()?.path().join("power1_average")))
            .filter(|meter| read_integer(meter).is_some())
            .filter_map(|meter| meter.canonicalize().ok())
            .collect();
        meters.sort();
        meters.dedup();
        match meters.as_slice() {
            [only] => Some(Self { source: PowerSource::Watts(only.clone()) }),
            _ => None,
        }
    }

    /// Reads the time and the energy counters at the start of a power measurement.
    pub fn start(&self) -> PowerSample {
        let energy = match &self.source {
            PowerSource::Energy(packages) => {
                packages.iter().map(|(path, _)| read_integer(path).unwrap_or(0)).collect()
            }
            PowerSource::Watts(_) => Vec::new(),
        };
        PowerSample { at: Instant::now(), energy }
    }

    /// Returns the mean power in watts since `start`.
    ///
    /// For a graphics card, returns the current sensor value, which the driver averages over a short time. Returns
    /// `None` if the meter cannot be read.
    pub fn watts_since(&self, start: &PowerSample) -> Option<f64> {
        match &self.source {
            PowerSource::Watts(path) => Some(read_integer(path)? as f64 / 1e6),
            PowerSource::Energy(packages) => {
                let mut joules = 0.0;
                for ((path, wraps), before) in packages.iter().zip(&start.energy) {
                    let now = read_integer(path)?;
                    let used = now.checked_sub(*before).or_else(|| (now + (*wraps)?).checked_sub(*before))?;
                    joules += used as f64 / 1e6;
                }
                let seconds = start.at.elapsed().as_secs_f64();
                (seconds > 0.0).then(|| joules / seconds)
            }
        }
    }
}

/// Returns whether a RAPL zone is an entire package, such as `intel-rapl:0`. Returns false for a part of a package,
/// such as `intel-rapl:0:0`.
///
/// AMD processors use the same names.
fn is_package(zone: &Path) -> bool {
    let name = zone.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("intel-rapl:").is_some_and(|rest| !rest.contains(':'))
}

fn read_integer(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_time_is_busy_time_of_other_processes() {
        let own = |ticks: u64| format!("7 (a name) with) S 1 2 3 4 5 6 7 8 9 10 {ticks} 5 2 1 20 0");
        let before = CpuTime::parse("cpu 100 0 50 800 50 0 0 0 0 0\ncpu0 1", &own(10)).unwrap();
        let after = CpuTime::parse("cpu 180 0 70 890 60 0 0 0 0 0\ncpu0 1", &own(60)).unwrap();
        assert_eq!(after.foreign_fraction_since(&before), Some((100.0 - 50.0) / 200.0));
        assert_eq!(before.foreign_fraction_since(&before), None, "expected None, because no time has passed");
    }

    #[test]
    fn packages_are_distinguished_from_their_parts() {
        assert!(is_package(Path::new("/sys/class/powercap/intel-rapl:0")));
        assert!(!is_package(Path::new("/sys/class/powercap/intel-rapl:0:1")));
        assert!(!is_package(Path::new("/sys/class/powercap/intel-rapl-mmio:0")));
    }
}
