//! Predicts step time, efficiency and memory of a workload on a machine, for one to thousands of devices.

use super::analytic::{self, AnalyticEstimate};
use super::collective::{Algorithm, Group};
use super::machine::Machine;
use super::timeline::{self, Timeline, Transfer};
use super::workloads::Workload;
use serde::{Deserialize, Serialize};

/// Quantity held constant while the number of devices grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// The number of samples per device is constant.
    Weak,
    /// The number of samples per step is constant.
    Strong,
}

/// Parallelization scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Data parallelism: each device stores and updates the whole model.
    Data,
    /// ZeRO stage 1: optimizer state and update are sharded over the devices (Rajbhandari et al. 2020).
    Zero1,
}

/// Options of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Size of a gradient bucket in bytes.
    pub bucket_bytes: f64,
    /// Algorithm that reduces each gradient bucket.
    pub algorithm: Algorithm,
    /// Largest number of devices to predict.
    pub devices: u64,
}

impl Default for Options {
    /// Returns options with buckets of 25 MB, the fastest algorithm, and up to 4096 devices.
    fn default() -> Self {
        Self { bucket_bytes: 25e6, algorithm: Algorithm::Fastest, devices: 4096 }
    }
}

/// Predicted training step on a given number of devices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Number of devices.
    pub devices: u64,
    /// Largest number of samples that any device processes per step.
    pub batch: u64,
    /// Duration of a step in seconds.
    pub step: f64,
    /// Seconds of the forward and backward passes.
    pub passes: f64,
    /// Seconds of the optimizer update.
    pub update: f64,
    /// Seconds spent communicating gradients and parameters.
    pub communication: f64,
    /// Seconds of communication that are not overlapped with computation.
    pub exposed: f64,
    /// Speed-up over one device, divided by the number of devices.
    pub efficiency: f64,
    /// Samples per second.
    pub samples_per_second: f64,
    /// Memory required on each device, in bytes.
    pub memory: f64,
}

/// Predicted training steps for a growing number of devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Quantity that is constant along the curve.
    pub scaling: Scaling,
    /// Parallelization scheme.
    pub scheme: Scheme,
    /// Points for 1, 2, 4 … devices.
    pub points: Vec<Point>,
    /// Smallest number of devices with an efficiency below 90%; `None` if no point of the curve is below 90%.
    pub below_90: Option<u64>,
    /// Smallest number of devices for which exposed communication takes longer than computation; `None` if there is
    /// none.
    pub dominated_from: Option<u64>,
}

/// Predicted time of an all-reduce of all gradients at once, with each algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reduction {
    /// Number of devices.
    pub devices: u64,
    /// Seconds of the ring algorithm.
    pub ring: f64,
    /// Seconds of the tree algorithm.
    pub tree: f64,
    /// Seconds of the hierarchical algorithm: within nodes, then between them.
    pub hierarchical: f64,
}

/// Timeline of the buckets of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Number of devices.
    pub devices: u64,
    /// Start of the backward pass, in seconds since the beginning of the step.
    pub begin: f64,
    /// End of the backward pass, in seconds since the beginning of the step.
    pub computed: f64,
    /// Reductions of the buckets, in order.
    pub buckets: Vec<Transfer>,
}

/// Prediction for a workload on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Name of the workload.
    #[serde(rename = "work")]
    pub workload: String,
    /// Name of the machine.
    pub machine: String,
    /// One curve for each combination of scaling and scheme.
    pub curves: Vec<Curve>,
    /// Times to all-reduce all gradients, by the number of devices.
    pub reductions: Vec<Reduction>,
    /// Timeline of the buckets in weak scaling with data parallelism.
    pub schedule: Schedule,
    /// Analytic estimate of pipeline and tensor parallelism; `None` if the model is not a transformer.
    #[serde(rename = "on_paper")]
    pub analytic: Option<AnalyticEstimate>,
}

/// Largest number of devices for which the timeline of buckets is shown.
const TIMELINE_DEVICES: u64 = 64;

impl Prediction {
    /// Predicts the training of a workload on a machine.
    pub fn of(workload: &Workload, machine: &Machine, options: &Options) -> Self {
        let counts: Vec<u64> = powers_of_two(options.devices);
        let curve = |scaling, scheme| curve(workload, machine, options, scaling, scheme, &counts);
        let bytes = workload.gradient_bytes();
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
        let devices = counts.iter().copied().rfind(|&n| n <= TIMELINE_DEVICES).unwrap_or(1);
        let shown = step(workload, machine, options, (devices, workload.batch), Scheme::Data);
        let begin = shown.begin;
        Self {
            workload: workload.name.clone(),
            machine: machine.name.clone(),
            curves: vec![
                curve(Scaling::Weak, Scheme::Data),
                curve(Scaling::Weak, Scheme::Zero1),
                curve(Scaling::Strong, Scheme::Data),
                curve(Scaling::Strong, Scheme::Zero1),
            ],
            reductions: reductions.collect(),
            schedule: Schedule {
                devices,
                begin,
                computed: shown.line.backward_end,
                buckets: shown.line.buckets,
            },
            analytic: workload.transformer.map(|shape| analytic::estimate(workload, shape, machine)),
        }
    }

    /// Returns the curve for the given scaling and scheme, or `None` if there is no such curve.
    pub fn curve(&self, scaling: Scaling, scheme: Scheme) -> Option<&Curve> {
        self.curves.iter().find(|curve| (curve.scaling, curve.scheme) == (scaling, scheme))
    }
}

/// Returns the powers of two up to and including `most`.
fn powers_of_two(most: u64) -> Vec<u64> {
    std::iter::successors(Some(1u64), |n| n.checked_mul(2)).take_while(|&n| n <= most.max(1)).collect()
}

/// Predicts a training step for each number of devices in `counts`.
fn curve(
    workload: &Workload,
    machine: &Machine,
    options: &Options,
    scaling: Scaling,
    scheme: Scheme,
    counts: &[u64],
) -> Curve {
    let samples = |devices: u64| match scaling {
        Scaling::Weak => (devices * workload.batch, workload.batch),
        Scaling::Strong => (workload.global_batch, workload.global_batch.div_ceil(devices)),
    };
    let rate = |devices: u64, step: f64| samples(devices).0 as f64 / step;
    let one_device = step(workload, machine, options, (1, samples(1).1), scheme).seconds();
    // Strong scaling stops where a device would have no sample.
    let counts = counts.iter().copied().filter(|&n| scaling == Scaling::Weak || n <= workload.global_batch);
    let points = counts.map(|devices| {
        let batch = samples(devices).1;
        let step = step(workload, machine, options, (devices, batch), scheme);
        let samples_per_second = rate(devices, step.seconds());
        Point {
            devices,
            batch,
            step: step.seconds(),
            passes: step.line.backward_end,
            update: step.update,
            communication: step.line.busy() + step.gather,
            exposed: step.line.exposed() + step.gather,
            efficiency: samples_per_second / rate(1, one_device) / devices as f64,
            samples_per_second,
            memory: memory(workload, devices, batch, scheme),
        }
    });
    let points: Vec<Point> = points.collect();
    let first_devices =
        |is: fn(&Point) -> bool| points.iter().find(|point| is(point)).map(|point| point.devices);
    Curve {
        scaling,
        scheme,
        below_90: first_devices(|point| point.efficiency < 0.9),
        dominated_from: first_devices(|point| point.exposed > point.passes + point.update),
        points,
    }
}

/// Predicted parts of a step, in seconds.
pub(super) struct Step {
    /// Start of the last backward pass.
    begin: f64,
    line: Timeline,
    update: f64,
    /// Seconds of the all-gather of the updated parameters.
    gather: f64,
}

impl Step {
    pub(super) fn seconds(&self) -> f64 {
        self.line.end + self.update + self.gather
    }
}

/// Predicts a step on `devices` devices. `batch` is the number of samples of the device with the most samples.
///
/// A device processes at most `workload.batch` samples at once; more samples are split into micro-batches. Gradients
/// are sent during the last backward pass.
pub(super) fn step(
    workload: &Workload,
    machine: &Machine,
    options: &Options,
    (devices, batch): (u64, u64),
    scheme: Scheme,
) -> Step {
    let (compute, group) = (workload.compute(machine), Group { machine, devices });
    let micro_batches = batch.div_ceil(workload.batch.max(1)).max(1) as f64;
    let micro_batch = compute.fixed + batch as f64 / micro_batches * compute.sample;
    let backward = (1.0 - compute.forward) * micro_batch;
    let begin = micro_batches * micro_batch - backward;
    let buckets = timeline::buckets(&workload.layers, options.bucket_bytes);
    let line = timeline::timeline(&buckets, begin, backward, |bytes| match scheme {
        Scheme::Data => group.all_reduce(options.algorithm, bytes),
        Scheme::Zero1 => group.scatter_or_gather(options.algorithm, bytes),
    });
    let (update, gather) = match scheme {
        Scheme::Data => (compute.update, 0.0),
        Scheme::Zero1 => {
            let weights = workload.parameters as f64 * workload.bytes.weight;
            let gather = group.scatter_or_gather(options.algorithm, weights);
            (compute.update / devices as f64, gather)
        }
    };
    Step { begin, line, update, gather }
}

/// Returns the memory required on a device, in bytes.
///
/// This is the sum of weights, gradients, optimizer state (sharded with ZeRO-1), and activations of a micro-batch.
fn memory(workload: &Workload, devices: u64, batch: u64, scheme: Scheme) -> f64 {
    let shards = if scheme == Scheme::Zero1 { devices as f64 } else { 1.0 };
    let bytes = workload.bytes;
    let model = workload.parameters as f64 * (bytes.weight + bytes.gradient + bytes.state / shards);
    model + batch.min(workload.batch) as f64 * workload.activation_bytes
}

#[cfg(test)]
mod tests {
    use super::super::collective::tests::machine;
    use super::super::workloads::{Compute, Layer, ParameterBytes, builtin};
    use super::*;

    /// Returns a workload of two layers. A sample takes 10 ms, of which the forward pass takes 4 ms; the update takes
    /// 1 ms.
    fn workload() -> Workload {
        let layer = |bytes: f64| Layer { name: String::new(), share: 0.5, bytes };
        Workload {
            name: "synthetic".into(),
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
        assert!(
            (found - expected).abs() < 1e-9 * expected.abs().max(1e-3),
            "expected {expected}, found {found}"
        );
    }

    #[test]
    fn step_matches_hand_computation() {
        let prediction = Prediction::of(&workload(), &machine(), &options());
        let weak = prediction.curve(Scaling::Weak, Scheme::Data).unwrap();
        // Eight devices in two nodes: 8 MB take 32 µs + 14 ms, and 4 MB take 32 µs + 7 ms. The backward pass lasts
        // from 8 to 20 ms. The first bucket is full at 14 ms and reduced at 28.032 ms; the second is reduced at
        // 35.064 ms.
        let point = weak.points[3];
        assert_eq!((point.devices, point.batch), (8, 2));
        close(point.passes, 20e-3);
        close(point.communication, 21.064e-3);
        close(point.exposed, 15.064e-3);
        close(point.step, 36.064e-3);
        close(point.efficiency, 21.0 / 36.064);
        close(point.samples_per_second, 16.0 / 36.064e-3);
        close(point.memory, 3e6 * 16.0 + 2e6);
        // ZeRO-1: the reduce-scatter takes half the time of the all-reduce, and the update an eighth. The all-gather
        // of 12 MB of weights then takes 16 µs + 10.5 ms.
        let zero = prediction.curve(Scaling::Weak, Scheme::Zero1).unwrap().points[3];
        close(zero.step, 20e-3 + (3.516e-3 + 0.0f64).max(24.532e-3 - 20e-3 + 0.0) + 0.125e-3 + 10.516e-3);
        close(zero.memory, 3e6 * (8.0 + 1.0) + 2e6);
        // Strong scaling: one device has 16 samples in eight micro-batches.
        let strong = prediction.curve(Scaling::Strong, Scheme::Data).unwrap();
        close(strong.points[0].step, 161e-3);
        assert_eq!((strong.points[4].devices, strong.points[4].batch), (16, 1));
        assert_eq!(prediction.schedule.devices, 16);
    }

    #[test]
    fn one_device_and_an_infinitely_fast_network_have_full_efficiency() {
        let mut fast = machine();
        for link in [&mut fast.within, &mut fast.between] {
            *link = super::super::Link { latency: 0.0, bytes_per_second: f64::INFINITY };
        }
        for name in super::super::workloads::NAMES {
            let workload = builtin(name).unwrap();
            for curve in Prediction::of(&workload, &machine(), &Options::default()).curves {
                close(curve.points[0].efficiency, 1.0);
                assert_eq!(curve.points[0].exposed, 0.0);
                // If the update takes long, sharding the update can make two devices more than twice as fast as one.
                let at_most = if curve.scheme == Scheme::Data { 1.0 + 1e-9 } else { 2.0 };
                assert!(curve.points.iter().all(|point| point.efficiency <= at_most), "{name}");
            }
            let limit = Prediction::of(&workload, &fast, &Options::default());
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
        let workload = builtin("vgg16").unwrap();
        let mut last = 0.0;
        for rate in [1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12] {
            let mut machine = machine();
            machine.between.bytes_per_second = rate;
            let prediction = Prediction::of(&workload, &machine, &Options::default());
            let point = prediction.curve(Scaling::Weak, Scheme::Data).unwrap().points[9];
            assert!(point.efficiency >= last, "{rate}: {point:?}");
            last = point.efficiency;
        }
        assert!(last > 0.9);
    }

    #[test]
    fn curve_reports_the_device_count_where_communication_dominates() {
        let mut slow = machine();
        slow.between.bytes_per_second = 1e8;
        let prediction = Prediction::of(&workload(), &slow, &options());
        let weak = prediction.curve(Scaling::Weak, Scheme::Data).unwrap();
        // An all-reduce of 12 MB takes 1.8 ms within a node and 210 ms between nodes.
        assert_eq!((weak.below_90, weak.dominated_from), (Some(8), Some(8)));
        let fast = Prediction::of(&workload(), &machine(), &Options { devices: 4, ..options() });
        assert_eq!(fast.curve(Scaling::Weak, Scheme::Data).unwrap().dominated_from, None);
    }
}
