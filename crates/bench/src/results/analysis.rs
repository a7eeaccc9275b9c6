//! Values derived from the measured times: ceilings, roofline fractions, crossovers between devices, and noise.

use super::{Bench, Ceilings, Crossover, Group, Measurement, MemoryRate, RunCost, Timing};
use wgrad_stdx::stats::median;

/// Maximum fraction of the CPU time that other processes can use without a warning.
const MAX_FOREIGN_CPU: f64 = 0.05;
/// Maximum median spread of the cases, relative to their median times, without a warning.
const MAX_SPREAD: f64 = 0.25;

impl Bench {
    /// Computes all values derived from the times: ceilings, roofline fractions, crossovers and the noise warning.
    pub fn analyze(&mut self) {
        for report in &mut self.devices {
            let name = report.device.as_str();
            let of_device = || self.results.iter().filter(|result| result.device == name);
            report.ceilings = Ceilings::from_results(of_device());
        }
        for result in &mut self.results {
            let ceilings = self.devices.iter().find(|report| report.device == result.device);
            if let (Some(report), Some(cost), Some(time)) = (ceilings, &result.cost, &mut result.time) {
                let is_ceiling = result.group == Group::Ceiling;
                time.roofline_share =
                    report.ceilings.roofline_fraction(cost, time.ms).filter(|_| !is_ceiling);
            }
        }
        self.crossovers = crossovers(self);
        let spreads = self.results.iter().filter_map(|result| result.time.as_ref()).map(spread);
        let median = median(spreads.filter(|spread| spread.is_finite()));
        self.noise.spread = median.is_finite().then_some(median);
        self.noise.warning = self.warning();
    }

    fn warning(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if let Some(share) = self.noise.foreign_cpu_share.filter(|share| *share > MAX_FOREIGN_CPU) {
            reasons.push(format!("other processes used {:.0}% of the CPU time", 100.0 * share));
        }
        if let Some(spread) = self.noise.spread.filter(|spread| *spread > MAX_SPREAD) {
            reasons.push(format!(
                "the median spread of the cases, from the 10th to the 90th percentile, is {:.0}% of their time",
                100.0 * spread
            ));
        }
        (!reasons.is_empty()).then(|| format!("The measurement was disturbed: {}.", reasons.join(", and ")))
    }
}

fn spread(time: &Timing) -> f64 {
    (time.p90_ms - time.p10_ms) / time.ms
}

impl Ceilings {
    /// Returns the values in the order of the tables.
    ///
    /// The order is: compute rate and multiply-add rate in GFLOP/s; memory bandwidth and bandwidth of the smallest
    /// working set in GB/s; launch time and round-trip time in microseconds; upload rate and readback rate in GB/s.
    pub fn to_array(&self) -> [Option<f64>; 8] {
        [
            self.compute_gflops,
            self.fma_gflops,
            self.bandwidth_gbytes_per_s,
            self.bandwidth_at(0),
            self.launch_us,
            self.round_trip_us,
            self.upload_gbytes_per_s,
            self.readback_gbytes_per_s,
        ]
    }

    /// Computes the ceilings from the measurements of one device.
    pub fn from_results<'m>(results: impl Iterator<Item = &'m Measurement> + Clone) -> Self {
        let timed = || results.clone().filter_map(|result| Some((result, result.time.as_ref()?)));
        let with_prefix = |name: &'static str| {
            timed()
                .filter(move |(result, _)| result.group == Group::Ceiling && result.case.starts_with(name))
                .map(|(result, time)| (result.cost, time))
        };
        let rates = |name: &'static str| -> Vec<MemoryRate> {
            let rate = |(cost, time): (Option<RunCost>, &Timing)| {
                Some(MemoryRate { bytes: cost?.footprint, gbytes_per_s: time.gbytes_per_s })
            };
            let mut rates: Vec<MemoryRate> = with_prefix(name).filter_map(rate).collect();
            rates.sort_by_key(|rate| rate.bytes);
            rates
        };
        let (copy, read) = (rates("copy-"), rates("read-"));
        let largest = [copy.last(), read.last()].into_iter().flatten().map(|rate| rate.gbytes_per_s);
        let best = timed()
            .filter(|(result, _)| matches!(result.group, Group::Ceiling | Group::Gemm | Group::Conv))
            .filter(|(_, time)| time.gflops > 0.0)
            .max_by(|(_, a), (_, b)| a.gflops.total_cmp(&b.gflops));
        let us_per_dispatch = |name: &'static str| {
            let (cost, time) = with_prefix(name).next()?;
            Some(1e3 * time.ms / cost?.dispatches.max(1) as f64)
        };
        let rate = |name: &'static str| with_prefix(name).map(|(_, time)| time.gbytes_per_s).next();
        Self {
            bandwidth_gbytes_per_s: largest.max_by(f64::total_cmp),
            copy,
            read,
            fma_gflops: with_prefix("fma-").map(|(_, time)| time.gflops).next(),
            compute_gflops: best.map(|(_, time)| time.gflops),
            compute_by: best.map(|(result, _)| result.case.clone()),
            launch_us: us_per_dispatch("launch-"),
            round_trip_us: us_per_dispatch("round-trip"),
            upload_gbytes_per_s: rate("upload-"),
            readback_gbytes_per_s: rate("readback-"),
        }
    }

    /// Returns the bandwidth in GB/s for a working set of `footprint` bytes.
    ///
    /// This is the highest rate of copying or reading a working set of at least that size. Data that fit into a cache
    /// are therefore compared with the rate of that cache. If no measured working set is large enough, returns the
    /// memory bandwidth.
    pub fn bandwidth_at(&self, footprint: u64) -> Option<f64> {
        let all = self.copy.iter().chain(&self.read);
        let large_enough = all.filter(|rate| rate.bytes >= footprint).map(|rate| rate.gbytes_per_s);
        large_enough.max_by(f64::total_cmp).or(self.bandwidth_gbytes_per_s)
    }

    /// Returns the minimum time of a run according to the roofline model, in milliseconds.
    ///
    /// This is the larger of the time of the FLOPs at the peak compute rate and the time of the memory traffic at the
    /// bandwidth. Returns `None` if a required ceiling is unknown.
    pub fn roofline_ms(&self, cost: &RunCost) -> Option<f64> {
        // 1 GFLOP/s is a million operations per millisecond.
        let at = |amount: u64, rate: Option<f64>| match (amount, rate) {
            (0, _) => Some(0.0),
            (amount, Some(rate)) if rate > 0.0 => Some(amount as f64 / rate / 1e6),
            _ => None,
        };
        Some(at(cost.flops, self.compute_gflops)?.max(at(cost.bytes, self.bandwidth_at(cost.footprint))?))
    }

    /// Returns the fraction of the roofline reached by a run of `ms` milliseconds.
    fn roofline_fraction(&self, cost: &RunCost, ms: f64) -> Option<f64> {
        Some(self.roofline_ms(cost)? / ms).filter(|fraction| fraction.is_finite())
    }
}

/// Finds the crossover of each GPU with the CPU in each sweep.
fn crossovers(bench: &Bench) -> Vec<Crossover> {
    let mut axes: Vec<&str> = Vec::new();
    for point in bench.results.iter().flat_map(|result| &result.sweeps) {
        if !axes.contains(&point.axis.as_str()) {
            axes.push(&point.axis);
        }
    }
    let cpu = bench.devices.iter().find(|report| report.kind == "cpu");
    let gpus = || bench.devices.iter().filter(|report| report.kind == "gpu");
    let pairs = axes.iter().flat_map(|axis| gpus().filter_map(move |gpu| Some((*axis, gpu, cpu?))));
    pairs.filter_map(|(axis, gpu, cpu)| crossover(bench, axis, &gpu.device, &cpu.device)).collect()
}

/// Returns the samples per second at each value of a sweep, as (value, rate) pairs sorted by value.
pub(super) fn throughput(bench: &Bench, axis: &str, device: &str) -> Vec<(u64, f64)> {
    let at = |result: &Measurement| {
        let point = result.sweeps.iter().find(|point| point.axis == axis)?;
        Some((point.at, result.time.as_ref()?.samples_per_s?))
    };
    let mut points: Vec<(u64, f64)> = bench.results_of(device).filter_map(at).collect();
    points.sort_by_key(|point| point.0);
    points
}

/// Finds the smallest value of a sweep from which on `device` is always faster than `other`.
///
/// Returns `None` if there are fewer than two values at which both devices were timed.
fn crossover(bench: &Bench, axis: &str, device: &str, other: &str) -> Option<Crossover> {
    let other_rates = throughput(bench, axis, other);
    let rate = |at: u64| other_rates.iter().find(|point| point.0 == at).map(|point| point.1);
    let faster: Vec<(u64, bool)> = throughput(bench, axis, device)
        .into_iter()
        .filter_map(|(at, own_rate)| Some((at, own_rate > rate(at)?)))
        .collect();
    let (first, last) = (faster.first()?.0, faster.last()?.0);
    if faster.len() < 2 {
        return None;
    }
    let last_slower = faster.iter().rposition(|(_, faster)| !faster);
    let at = faster.get(last_slower.map_or(0, |index| index + 1)).map(|point| point.0);
    Some(Crossover {
        axis: axis.into(),
        device: device.into(),
        other: other.into(),
        at,
        range: (first, last),
    })
}
