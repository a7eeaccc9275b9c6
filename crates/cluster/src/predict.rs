//! From work and machine to step time, efficiency and memory, for one device and for thousands.

use super::collective::{Algorithm, Group};
use super::machine::Machine;
use super::paper::{self, OnPaper};
use super::timeline::{self, Timeline, Travel};
use super::works::Work;
use serde::{Deserialize, Serialize};

/// What stays the same while devices are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// Samples of a device.
    Weak,
    /// Samples of a step.
    Strong,
}

/// What devices share out besides samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Nothing: each holds and updates the whole model.
    Data,
    /// The optimizer's state: each updates a share (ZeRO stage 1, Rajbhandari et al. 2020).
    Zero1,
}

/// How a cluster trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Bytes of a bucket.
    pub bucket_bytes: f64,
    /// How gradients are added up.
    pub algorithm: Algorithm,
    /// Up to how many devices.
    pub devices: u64,
}

impl Default for Options {
    /// Buckets of 25 MB, the fastest algorithm, up to 4096 devices.
    fn default() -> Self {
        Self { bucket_bytes: 25e6, algorithm: Algorithm::Fastest, devices: 4096 }
    }
}

/// A step on some number of devices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Number of devices.
    pub devices: u64,
    /// Samples of the device with most.
    pub batch: u64,
    /// Seconds of a step.
    pub step: f64,
    /// Seconds of it that the passes take.
    pub passes: f64,
    /// Seconds of it that the optimizer takes.
    pub update: f64,
    /// Seconds in which gradients and parameters travel.
    pub communication: f64,
    /// Seconds of it that no computing hides.
    pub exposed: f64,
    /// Speed-up over one device, over the number of devices.
    pub efficiency: f64,
    /// Samples a second.
    pub samples_per_second: f64,
    /// Bytes of memory of a device.
    pub memory: f64,
}

/// Steps as devices are added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What stays the same.
    pub scaling: Scaling,
    /// What devices share out.
    pub scheme: Scheme,
    /// Points for 1, 2, 4 … devices.
    pub points: Vec<Point>,
    /// The first number of devices of which the efficiency is under 90%.
    pub below_90: Option<u64>,
    /// The first number of devices that wait for each other for longer than they compute.
    pub dominated_from: Option<u64>,
}

/// All-reduces of all gradients at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reduction {
    /// Number of devices.
    pub devices: u64,
    /// Seconds around a ring.
    pub ring: f64,
    /// Seconds through trees.
    pub tree: f64,
    /// Seconds within boxes and then between them.
    pub hierarchical: f64,
}

/// The buckets of a step on some number of devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Number of devices.
    pub devices: u64,
    /// When the backward pass begins.
    pub begin: f64,
    /// When it ends.
    pub computed: f64,
    /// Its buckets.
    pub buckets: Vec<Travel>,
}

/// A work on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Name of the work.
    pub work: String,
    /// Name of the machine.
    pub machine: String,
    /// Each scaling with each scheme.
    pub curves: Vec<Curve>,
    /// All-reduces of all gradients.
    pub reductions: Vec<Reduction>,
    /// When buckets travel in weak scaling.
    pub schedule: Schedule,
    /// Cutting the model itself up.
    pub on_paper: Option<OnPaper>,
}

/// Devices in the schedule of buckets that is shown, if there are as many.
const SHOWN: u64 = 64;

impl Prediction {
    /// Predicts a work on a machine.
    pub fn of(work: &Work, machine: &Machine, options: &Options) -> Self {
        let counts: Vec<u64> = powers(options.devices);
        let curve = |scaling, scheme| curve(work, machine, options, scaling, scheme, &counts);
        let bytes = work.gradient_bytes();
        let reductions = counts.iter().map(|&devices| {
            let group = Group { machine, devices };
            let seconds = |algorithm| group.all_reduce(algorithm, bytes);
            Reduction {
                devices,
                ring: seconds(Algorithm::Ring),
                tree: seconds(Algorithm::Tree),
                hierarchical: seconds(Algorithm::Hierarchical),
            }
        });
        let devices = counts.iter().copied().rfind(|&n| n <= SHOWN).unwrap_or(1);
        let shown = step(work, machine, options, (devices, work.batch), Scheme::Data);
        let begin = shown.begin;
        Self {
            work: work.name.clone(),
            machine: machine.name.clone(),
            curves: vec![
                curve(Scaling::Weak, Scheme::Data),
                curve(Scaling::Weak, Scheme::Zero1),
                curve(Scaling::Strong, Scheme::Data),
                curve(Scaling::Strong, Scheme::Zero1),
            ],
            reductions: reductions.collect(),
            schedule: Schedule { devices, begin, computed: shown.line.computed, buckets: shown.line.buckets },
            on_paper: work.transformer.map(|shape| paper::of(work, shape, machine)),
        }
    }

    /// The curve of a scaling and a scheme.
    pub fn curve(&self, scaling: Scaling, scheme: Scheme) -> Option<&Curve> {
        self.curves.iter().find(|curve| (curve.scaling, curve.scheme) == (scaling, scheme))
    }
}

/// 1, 2, 4 … up to `most`.
fn powers(most: u64) -> Vec<u64> {
    std::iter::successors(Some(1u64), |n| n.checked_mul(2)).take_while(|&n| n <= most.max(1)).collect()
}

fn curve(
    work: &Work,
    machine: &Machine,
    options: &Options,
    scaling: Scaling,
    scheme: Scheme,
    counts: &[u64],
) -> Curve {
    let samples = |devices: u64| match scaling {
        Scaling::Weak => (devices * work.batch, work.batch),
        Scaling::Strong => (work.global_batch, work.global_batch.div_ceil(devices)),
    };
    let rate = |devices: u64, step: f64| samples(devices).0 as f64 / step;
    let alone = step(work, machine, options, (1, samples(1).1), scheme).seconds();
    // A device without a sample has nothing to do.
    let counts = counts.iter().copied().filter(|&n| scaling == Scaling::Weak || n <= work.global_batch);
    let points = counts.map(|devices| {
        let batch = samples(devices).1;
        let step = step(work, machine, options, (devices, batch), scheme);
        let samples_per_second = rate(devices, step.seconds());
        Point {
            devices,
            batch,
            step: step.seconds(),
            passes: step.line.computed,
            update: step.update,
            communication: step.line.busy() + step.gather,
            exposed: step.line.exposed() + step.gather,
            efficiency: samples_per_second / rate(1, alone) / devices as f64,
            samples_per_second,
            memory: memory(work, devices, batch, scheme),
        }
    });
    let points: Vec<Point> = points.collect();
    let first = |is: fn(&Point) -> bool| points.iter().find(|point| is(point)).map(|point| point.devices);
    Curve {
        scaling,
        scheme,
        below_90: first(|point| point.efficiency < 0.9),
        dominated_from: first(|point| point.exposed > point.passes + point.update),
        points,
    }
}

/// A step's parts.
pub(super) struct Step {
    /// When the last backward pass begins.
    begin: f64,
    line: Timeline,
    update: f64,
    /// Seconds in which updated parameters travel.
    gather: f64,
}

impl Step {
    pub(super) fn seconds(&self) -> f64 {
        self.line.reduced + self.update + self.gather
    }
}

/// A step of `devices` devices, the slowest of which has `batch` samples; those that do not fit at once come one micro-batch
/// after the other, and gradients travel during the last.
pub(super) fn step(
    work: &Work,
    machine: &Machine,
    options: &Options,
    (devices, batch): (u64, u64),
    scheme: Scheme,
) -> Step {
    let (compute, group) = (work.compute(machine), Group { machine, devices });
    let rounds = batch.div_ceil(work.batch.max(1)).max(1) as f64;
    let round = compute.fixed + batch as f64 / rounds * compute.sample;
    let backward = (1.0 - compute.forward) * round;
    let begin = rounds * round - backward;
    let buckets = timeline::buckets(&work.layers, options.bucket_bytes);
    let line = timeline::timeline(&buckets, begin, backward, |bytes| match scheme {
        Scheme::Data => group.all_reduce(options.algorithm, bytes),
        Scheme::Zero1 => group.scatter_or_gather(options.algorithm, bytes),
    });
    let (update, gather) = match scheme {
        Scheme::Data => (compute.update, 0.0),
        Scheme::Zero1 => {
            let weights = work.parameters as f64 * work.bytes.weight;
            let gather = group.scatter_or_gather(options.algorithm, weights);
            (compute.update / devices as f64, gather)
        }
    };
    Step { begin, line, update, gather }
}

/// Weights, gradients and the optimizer's state or a share of it, and what a micro-batch leaves for its backward pass.
fn memory(work: &Work, devices: u64, batch: u64, scheme: Scheme) -> f64 {
    let shared = if scheme == Scheme::Zero1 { devices as f64 } else { 1.0 };
    let bytes = work.bytes;
    let model = work.parameters as f64 * (bytes.weight + bytes.gradient + bytes.state / shared);
    model + batch.min(work.batch) as f64 * work.activation_bytes
}

#[cfg(test)]
mod tests {
    use super::super::collective::tests::machine;
    use super::super::works::{Compute, Layer, ParameterBytes, builtin};
    use super::*;

    /// Two layers; a sample takes 10 ms, of which 4 forward; the update 1 ms.
    fn work() -> Work {
        let layer = |bytes: f64| Layer { name: String::new(), share: 0.5, bytes };
        Work {
            name: "made-up".into(),
            description: String::new(),
            flops: 1e9,
            parameters: 3_000_000,
            bytes: ParameterBytes { weight: 4.0, gradient: 4.0, state: 8.0 },
            activation_bytes: 1e6,
            batch: 2,
            global_batch: 16,
            layers: vec![layer(8e6), layer(4e6)],
            transformer: None,
            measured: Some(Compute { fixed: 0.0, sample: 10e-3, forward: 0.4, update: 1e-3 }),
        }
    }

    fn options() -> Options {
        Options { bucket_bytes: 1e6, algorithm: Algorithm::Ring, devices: 16 }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9 * expected.abs().max(1e-3), "{found} for {expected}");
    }

    #[test]
    fn a_step_is_that_of_a_hand_count() {
        let prediction = Prediction::of(&work(), &machine(), &options());
        let weak = prediction.curve(Scaling::Weak, Scheme::Data).unwrap();
        // Eight devices in two boxes: 8 MB take 32 µs and 14 ms, 4 MB 32 µs and 7 ms. Backward lasts from 8 to 20 ms; the first
        // bucket is ready at 14 and back at 28.032, the second at 35.064.
        let point = weak.points[3];
        assert_eq!((point.devices, point.batch), (8, 2));
        close(point.passes, 20e-3);
        close(point.communication, 21.064e-3);
        close(point.exposed, 15.064e-3);
        close(point.step, 36.064e-3);
        close(point.efficiency, 21.0 / 36.064);
        close(point.samples_per_second, 16.0 / 36.064e-3);
        close(point.memory, 3e6 * 16.0 + 2e6);
        // ZeRO-1: half of that each way, then an eighth of the update, then 12 MB of weights: 16 µs and 10.5 ms.
        let zero = prediction.curve(Scaling::Weak, Scheme::Zero1).unwrap().points[3];
        close(zero.step, 20e-3 + (3.516e-3 + 0.0f64).max(24.532e-3 - 20e-3 + 0.0) + 0.125e-3 + 10.516e-3);
        close(zero.memory, 3e6 * (8.0 + 1.0) + 2e6);
        // Strong: one device has 16 samples in eight micro-batches.
        let strong = prediction.curve(Scaling::Strong, Scheme::Data).unwrap();
        close(strong.points[0].step, 161e-3);
        assert_eq!((strong.points[4].devices, strong.points[4].batch), (16, 1));
        assert_eq!(prediction.schedule.devices, 16);
    }

    #[test]
    fn one_device_is_fully_efficient_and_an_infinitely_fast_network_leaves_computing_only() {
        let mut fast = machine();
        for link in [&mut fast.within, &mut fast.between] {
            *link = super::super::Link { latency: 0.0, bytes_per_second: f64::INFINITY };
        }
        for name in super::super::works::NAMES {
            let work = builtin(name).unwrap();
            for curve in Prediction::of(&work, &machine(), &Options::default()).curves {
                close(curve.points[0].efficiency, 1.0);
                assert_eq!(curve.points[0].exposed, 0.0);
                // Shares of an update that takes long may make more of two devices than twice one.
                let at_most = if curve.scheme == Scheme::Data { 1.0 + 1e-9 } else { 2.0 };
                assert!(curve.points.iter().all(|point| point.efficiency <= at_most), "{name}");
            }
            let limit = Prediction::of(&work, &fast, &Options::default());
            let points = &limit.curve(Scaling::Weak, Scheme::Data).unwrap().points;
            assert_eq!(points.len(), 13);
            for point in points {
                assert_eq!(point.exposed, 0.0);
                close(point.step, points[0].step);
            }
        }
    }

    #[test]
    fn a_faster_link_never_makes_a_step_longer() {
        let work = builtin("vgg16").unwrap();
        let mut last = 0.0;
        for rate in [1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12] {
            let mut machine = machine();
            machine.between.bytes_per_second = rate;
            let prediction = Prediction::of(&work, &machine, &Options::default());
            let point = prediction.curve(Scaling::Weak, Scheme::Data).unwrap().points[9];
            assert!(point.efficiency >= last, "{rate}: {point:?}");
            last = point.efficiency;
        }
        assert!(last > 0.9);
    }

    #[test]
    fn where_communication_dominates_is_said() {
        let mut slow = machine();
        slow.between.bytes_per_second = 1e8;
        let prediction = Prediction::of(&work(), &slow, &options());
        let weak = prediction.curve(Scaling::Weak, Scheme::Data).unwrap();
        // In a box 12 MB take 1.8 ms; between boxes 210.
        assert_eq!((weak.below_90, weak.dominated_from), (Some(8), Some(8)));
        let fast = Prediction::of(&work(), &machine(), &Options { devices: 4, ..options() });
        assert_eq!(fast.curve(Scaling::Weak, Scheme::Data).unwrap().dominated_from, None);
    }
}
