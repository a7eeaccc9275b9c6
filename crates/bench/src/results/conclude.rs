//! From times to rates: ceilings, shares of the roofline, and where one device overtakes another.

use super::{Bench, Ceilings, Group, Measurement, MemoryRate, Overtake, Timing, WorkDone};
use wgrad_stdx::stats::median;

/// Above this part of the processors' time for other processes, a warning is due.
const FOREIGN: f64 = 0.05;
/// Above this median spread of the cases, a warning is due.
const SPREAD: f64 = 0.25;

impl Bench {
    /// Works out everything that follows from the times: ceilings, shares, overtakes, and whether to warn.
    pub fn conclude(&mut self) {
        for report in &mut self.devices {
            let name = report.device.as_str();
            let of_device = || self.results.iter().filter(|result| result.device == name);
            report.ceilings = Ceilings::of(of_device());
        }
        for result in &mut self.results {
            let ceilings = self.devices.iter().find(|report| report.device == result.device);
            if let (Some(report), Some(work), Some(time)) = (ceilings, &result.work, &mut result.time) {
                let is_work = result.group != Group::Ceiling;
                time.roofline_share = report.ceilings.share(work, time.ms).filter(|_| is_work);
            }
        }
        self.overtakes = overtakes(self);
        let spreads = self.results.iter().filter_map(|result| result.time.as_ref()).map(spread);
        let median = median(spreads.filter(|spread| spread.is_finite()));
        self.noise.spread = median.is_finite().then_some(median);
        self.noise.warning = self.warning();
    }

    fn warning(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if let Some(share) = self.noise.foreign_cpu_share.filter(|share| *share > FOREIGN) {
            reasons.push(format!("other processes took {:.0}% of the processors' time", 100.0 * share));
        }
        if let Some(spread) = self.noise.spread.filter(|spread| *spread > SPREAD) {
            reasons.push(format!(
                "from the 10th to the 90th percentile the median case spreads over {:.0}% of its time",
                100.0 * spread
            ));
        }
        (!reasons.is_empty()).then(|| format!("The machine was noisy: {}.", reasons.join(", and ")))
    }
}

fn spread(time: &Timing) -> f64 {
    (time.p90_ms - time.p10_ms) / time.ms
}

impl Ceilings {
    /// Its figures in the order of a table: compute, multiply-adds, memory, the smallest working set, a dispatch, a round trip,
    /// up, back.
    pub fn figures(&self) -> [Option<f64>; 8] {
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

    /// The ceilings that the measurements of one device show.
    pub fn of<'m>(results: impl Iterator<Item = &'m Measurement> + Clone) -> Self {
        let timed = || results.clone().filter_map(|result| Some((result, result.time.as_ref()?)));
        let named = |name: &'static str| {
            timed()
                .filter(move |(result, _)| result.group == Group::Ceiling && result.case.starts_with(name))
                .map(|(result, time)| (result.work, time))
        };
        let rates = |name: &'static str| -> Vec<MemoryRate> {
            let rate = |(work, time): (Option<WorkDone>, &Timing)| {
                Some(MemoryRate { bytes: work?.footprint, gbytes_per_s: time.gbytes_per_s })
            };
            let mut rates: Vec<MemoryRate> = named(name).filter_map(rate).collect();
            rates.sort_by_key(|rate| rate.bytes);
            rates
        };
        let (copy, read) = (rates("copy-"), rates("read-"));
        let largest = [copy.last(), read.last()].into_iter().flatten().map(|rate| rate.gbytes_per_s);
        let best = timed()
            .filter(|(result, _)| matches!(result.group, Group::Ceiling | Group::Gemm | Group::Conv))
            .filter(|(_, time)| time.gflops > 0.0)
            .max_by(|(_, a), (_, b)| a.gflops.total_cmp(&b.gflops));
        let each = |name: &'static str| {
            let (work, time) = named(name).next()?;
            Some(1e3 * time.ms / work?.dispatches.max(1) as f64)
        };
        let rate = |name: &'static str| named(name).map(|(_, time)| time.gbytes_per_s).next();
        Self {
            bandwidth_gbytes_per_s: largest.max_by(f64::total_cmp),
            copy,
            read,
            fma_gflops: named("fma-").map(|(_, time)| time.gflops).next(),
            compute_gflops: best.map(|(_, time)| time.gflops),
            compute_by: best.map(|(result, _)| result.case.clone()),
            launch_us: each("launch-"),
            round_trip_us: each("round-trip"),
            upload_gbytes_per_s: rate("upload-"),
            readback_gbytes_per_s: rate("readback-"),
        }
    }

    /// GB/s at which a working set of so many bytes can be copied or read: the best rate of one that is not smaller, so that
    /// what fits a cache is held to that cache's rate. For what is larger than all of them, the rate of the largest.
    pub fn bandwidth_at(&self, footprint: u64) -> Option<f64> {
        let all = self.copy.iter().chain(&self.read);
        let not_smaller = all.filter(|rate| rate.bytes >= footprint).map(|rate| rate.gbytes_per_s);
        not_smaller.max_by(f64::total_cmp).or(self.bandwidth_gbytes_per_s)
    }

    /// Milliseconds that the roofline allows: arithmetic at the rate of computing, or traffic at the rate of memory,
    /// whichever takes longer. `None` where a ceiling that it needs is not known.
    pub fn allowed_ms(&self, work: &WorkDone) -> Option<f64> {
        // A GFLOP/s is a million operations a millisecond.
        let at = |amount: u64, rate: Option<f64>| match (amount, rate) {
            (0, _) => Some(0.0),
            (amount, Some(rate)) if rate > 0.0 => Some(amount as f64 / rate / 1e6),
            _ => None,
        };
        Some(at(work.flops, self.compute_gflops)?.max(at(work.bytes, self.bandwidth_at(work.footprint))?))
    }

    fn share(&self, work: &WorkDone, ms: f64) -> Option<f64> {
        Some(self.allowed_ms(work)? / ms).filter(|share| share.is_finite())
    }
}

/// For each sweep, each GPU against the CPU.
fn overtakes(bench: &Bench) -> Vec<Overtake> {
    let mut axes: Vec<&str> = Vec::new();
    for point in bench.results.iter().flat_map(|result| &result.sweeps) {
        if !axes.contains(&point.axis.as_str()) {
            axes.push(&point.axis);
        }
    }
    let cpu = bench.devices.iter().find(|report| report.kind == "cpu");
    let gpus = || bench.devices.iter().filter(|report| report.kind == "gpu");
    let pairs = axes.iter().flat_map(|axis| gpus().filter_map(move |gpu| Some((*axis, gpu, cpu?))));
    pairs.filter_map(|(axis, gpu, cpu)| overtake(bench, axis, &gpu.device, &cpu.device)).collect()
}

/// Examples a second over the values of a sweep, rising.
pub(super) fn throughput(bench: &Bench, axis: &str, device: &str) -> Vec<(u64, f64)> {
    let at = |result: &Measurement| {
        let point = result.sweeps.iter().find(|point| point.axis == axis)?;
        Some((point.at, result.time.as_ref()?.samples_per_s?))
    };
    let mut points: Vec<(u64, f64)> = bench.results_of(device).filter_map(at).collect();
    points.sort_by_key(|point| point.0);
    points
}

/// The first value from which on a device is ahead. Needs two values that both were timed at.
fn overtake(bench: &Bench, axis: &str, device: &str, other: &str) -> Option<Overtake> {
    let theirs = throughput(bench, axis, other);
    let rate = |at: u64| theirs.iter().find(|point| point.0 == at).map(|point| point.1);
    let both: Vec<(u64, bool)> = throughput(bench, axis, device)
        .into_iter()
        .filter_map(|(at, mine)| Some((at, mine > rate(at)?)))
        .collect();
    let (first, last) = (both.first()?.0, both.last()?.0);
    if both.len() < 2 {
        return None;
    }
    let behind = both.iter().rposition(|(_, ahead)| !ahead);
    let at = both.get(behind.map_or(0, |index| index + 1)).map(|point| point.0);
    Some(Overtake { axis: axis.into(), device: device.into(), other: other.into(), at, range: (first, last) })
}
