//! What the system tells of the process and the machine. What it does not tell is `None`.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
pub fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos())
}

/// Largest resident memory of this process so far, in bytes, where Linux tells.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// What the processors did so far, in ticks, where Linux tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// By all processes.
    busy: u64,
    /// By this process and the children that it has waited for.
    own: u64,
    /// Busy or idle.
    total: u64,
}

impl Processor {
    /// As it is now.
    pub fn now() -> Option<Self> {
        let all = std::fs::read_to_string("/proc/stat").ok()?;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&all, &own)
    }

    fn parse(all: &str, own: &str) -> Option<Self> {
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
        let ticks: Vec<u64> =
            all.lines().next()?.split_whitespace().skip(1).take(8).map_while(|n| n.parse().ok()).collect();
        let total: u64 = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
        // After the name, which may hold spaces: utime, stime, cutime and cstime.
        let fields: Vec<&str> = own.rsplit(')').next()?.split_whitespace().collect();
        let own = fields.get(11..15)?.iter().map_while(|field| field.parse::<u64>().ok()).sum();
        Some(Self { busy: total - idle, own, total })
    }

    /// Part of all processors' time that others took since `before`.
    pub fn foreign_since(&self, before: &Self) -> Option<f64> {
        let total = self.total.checked_sub(before.total).filter(|total| *total > 0)?;
        let busy = self.busy.saturating_sub(before.busy);
        let own = self.own.saturating_sub(before.own);
        Some(busy.saturating_sub(own) as f64 / total as f64)
    }
}

/// A meter of power: of the processor, or of a card.
pub(crate) struct Power {
    source: Source,
}

enum Source {
    /// Microjoules so far of each package, and where the counter wraps.
    Energy(Vec<(PathBuf, Option<u64>)>),
    /// Microwatts now.
    Watts(PathBuf),
}

/// A reading to measure from.
pub(crate) struct Reading {
    at: Instant,
    energy: Vec<u64>,
}

impl Power {
    /// The meter of the processor's packages (RAPL), where it may be read.
    pub fn of_processor() -> Option<Self> {
        let zones = std::fs::read_dir("/sys/class/powercap").ok()?;
        let packages: Vec<(PathBuf, Option<u64>)> = zones
            .filter_map(|zone| Some(zone.ok()?.path()))
            .filter(|zone| is_package(zone) && number(&zone.join("energy_uj")).is_some())
            .map(|zone| (zone.join("energy_uj"), number(&zone.join("max_energy_range_uj"))))
            .collect();
        (!packages.is_empty()).then_some(Self { source: Source::Energy(packages) })
    }

    /// The meter of the only card that has one. Of several nothing says which adapter is which.
    pub fn of_only_card() -> Option<Self> {
        let cards = std::fs::read_dir("/sys/class/drm").ok()?;
        let sensors = cards.filter_map(|card| std::fs::read_dir(card.ok()?.path().join("device/hwmon")).ok());
        let mut meters: Vec<PathBuf> = sensors
            .flatten()
            .filter_map(|sensor| Some(sensor.ok()?.path().join("power1_average")))
            .filter(|meter| number(meter).is_some())
            .filter_map(|meter| meter.canonicalize().ok())
            .collect();
        meters.sort();
        meters.dedup();
        match meters.as_slice() {
            [only] => Some(Self { source: Source::Watts(only.clone()) }),
            _ => None,
        }
    }

    /// Begins to measure.
    pub fn read(&self) -> Reading {
        let energy = match &self.source {
            Source::Energy(packages) => packages.iter().map(|(path, _)| number(path).unwrap_or(0)).collect(),
            Source::Watts(_) => Vec::new(),
        };
        Reading { at: Instant::now(), energy }
    }

    /// Mean watts since a reading; of a card, what it says now, which it averages itself.
    pub fn since(&self, before: &Reading) -> Option<f64> {
        match &self.source {
            Source::Watts(path) => Some(number(path)? as f64 / 1e6),
            Source::Energy(packages) => {
                let mut joules = 0.0;
                for ((path, wraps), before) in packages.iter().zip(&before.energy) {
                    let now = number(path)?;
                    let used = now.checked_sub(*before).or_else(|| (now + (*wraps)?).checked_sub(*before))?;
                    joules += used as f64 / 1e6;
                }
                let seconds = before.at.elapsed().as_secs_f64();
                (seconds > 0.0).then(|| joules / seconds)
            }
        }
    }
}

/// `intel-rapl:0`, but not its part `intel-rapl:0:0`. AMD's processors have the same names.
fn is_package(zone: &Path) -> bool {
    let name = zone.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("intel-rapl:").is_some_and(|rest| !rest.contains(':'))
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_others_is_what_is_busy_and_not_ours() {
        let own = |ticks: u64| format!("7 (a name) with) S 1 2 3 4 5 6 7 8 9 10 {ticks} 5 2 1 20 0");
        let before = Processor::parse("cpu 100 0 50 800 50 0 0 0 0 0\ncpu0 1", &own(10)).unwrap();
        let after = Processor::parse("cpu 180 0 70 890 60 0 0 0 0 0\ncpu0 1", &own(60)).unwrap();
        assert_eq!(after.foreign_since(&before), Some((100.0 - 50.0) / 200.0));
        assert_eq!(before.foreign_since(&before), None, "no time has passed");
    }

    #[test]
    fn packages_are_told_from_their_parts() {
        assert!(is_package(Path::new("/sys/class/powercap/intel-rapl:0")));
        assert!(!is_package(Path::new("/sys/class/powercap/intel-rapl:0:1")));
        assert!(!is_package(Path::new("/sys/class/powercap/intel-rapl-mmio:0")));
    }
}
