//! Analytic estimates of pipeline and tensor parallelism for a transformer. wgrad does not implement either.

use super::collective::{Algorithm, Group};
use super::machine::Machine;
use super::workloads::{Transformer, Workload};
use serde::{Deserialize, Serialize};

/// Analytic estimate of pipeline and tensor parallelism.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalyticEstimate {
    /// Number of samples per step.
    pub batch: u64,
    /// Estimates of pipeline parallelism (GPipe, Huang et al. 2019). Each is for one number of stages and one number
    /// of micro-batches.
    pub pipeline: Vec<Pipeline>,
    /// Estimates of tensor parallelism (Megatron-LM, Shoeybi et al. 2019), one for each number of devices.
    pub tensor: Vec<Tensor>,
}

/// Estimate for a pipeline with one device per stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Number of stages, p.
    pub stages: u64,
    /// Number of micro-batches per step, m.
    pub micro_batches: u64,
    /// Fraction of the step during which a stage is idle: (p−1)/(m+p−1).
    pub bubble: f64,
    /// Duration of a step in seconds.
    pub step: f64,
    /// Speed-up over one device, divided by the number of stages.
    pub efficiency: f64,
    /// Memory required on each device, in bytes.
    pub memory: f64,
}

/// Estimate for tensor parallelism: each device computes a part of each matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Number of devices, t.
    pub devices: u64,
    /// Duration of a step in seconds.
    pub step: f64,
    /// Seconds of the all-reduces of activations, which do not overlap with computation.
    pub communication: f64,
    /// Speed-up over one device, divided by the number of devices.
    pub efficiency: f64,
    /// Memory required on each device, in bytes.
    pub memory: f64,
}

/// Bytes of one f16 element of the activations that devices send to each other.
const ACTIVATION_BYTES: f64 = 2.0;

/// Estimates pipeline and tensor parallelism of a transformer on a machine.
pub(super) fn estimate(workload: &Workload, shape: Transformer, machine: &Machine) -> AnalyticEstimate {
    let compute = workload.compute(machine);
    let sample_bytes = (shape.tokens * shape.hidden) as f64 * ACTIVATION_BYTES;
    let state =
        workload.parameters as f64 * (workload.bytes.weight + workload.bytes.gradient + workload.bytes.state);
    let batch = workload.batch as f64;
    let one_device = compute.fixed + batch * compute.sample + compute.update;
    let stages = [1, 2, 4, 8].into_iter().flat_map(|p| [1, 2, 4, 8].map(|per_stage| (p, p * per_stage)));
    // A micro-batch has at least one sample, so a step has at least as many samples as micro-batches.
    let pipeline = stages.map(|(p, m): (u64, u64)| {
        let samples = workload.batch.max(m) as f64;
        let (stages, micro) = (p as f64, samples / m as f64);
        let one = (compute.fixed + micro * compute.sample) / stages;
        let link = if p <= machine.devices { machine.within } else { machine.between };
        // Activations are sent forward, gradients backward.
        let hop = if p == 1 { 0.0 } else { link.latency + micro * sample_bytes / link.bytes_per_second };
        let step = (m as f64 + stages - 1.0) * (one + 2.0 * hop) + compute.update / stages;
        let one_device = compute.fixed + samples * compute.sample + compute.update;
        Pipeline {
            stages: p,
            micro_batches: m,
            bubble: (stages - 1.0) / (m as f64 + stages - 1.0),
            step,
            efficiency: one_device / (stages * step),
            // All micro-batches are in flight before the first backward pass. Each stage stores its part of every
            // micro-batch.
            memory: (state + samples * workload.activation_bytes) / stages,
        }
    });
    let tensor = [1, 2, 4, 8, 16].map(|devices: u64| {
        let t = devices as f64;
        let reduce = Group { machine, devices }.all_reduce(Algorithm::Fastest, batch * sample_bytes);
        // Two all-reduces in the forward pass of a block, two in its backward pass.
        let communication = 4.0 * shape.layers as f64 * reduce;
        let step = one_device / t + communication;
        let activations = sharded_activation_bytes(workload, shape, t);
        let memory = state / t + batch * activations;
        Tensor { devices, step, communication, efficiency: one_device / (t * step), memory }
    });
    AnalyticEstimate { batch: workload.batch, pipeline: pipeline.collect(), tensor: tensor.to_vec() }
}

/// Returns the bytes of activations per sample on each of `t` tensor-parallel devices.
///
/// A block stores 34 bytes per element of its input. Of these, 10 belong to the layer norms and dropouts between the
/// sharded matrix products and are replicated on every device (Korthikanti et al. 2022, equation 2).
fn sharded_activation_bytes(workload: &Workload, shape: Transformer, t: f64) -> f64 {
    let replicated = 10.0 * (shape.tokens * shape.hidden * shape.layers) as f64;
    replicated + (workload.activation_bytes - replicated) / t
}

#[cfg(test)]
mod tests {
    use super::super::collective::tests::machine;
    use super::super::workloads::{Compute, builtin};
    use super::*;

    #[test]
    fn bubbles_and_all_reduces_match_hand_computation() {
        let mut workload = builtin("transformer-1.3b").unwrap();
        workload.measured = Some(Compute { fixed: 0.0, sample: 0.1, forward: 1.0 / 3.0, update: 0.0 });
        let estimate = workload.transformer.map(|shape| estimate(&workload, shape, &machine())).unwrap();
        let pipeline = |stages, m| {
            *estimate.pipeline.iter().find(|p| (p.stages, p.micro_batches) == (stages, m)).unwrap()
        };
        assert!((pipeline(4, 8).bubble - 3.0 / 11.0).abs() < 1e-12);
        // Eight samples in eight micro-batches, four stages of 25 ms, each followed by 2 · (1 µs + 8.39 MB at 10 GB/s).
        let hop = 1e-6 + 2048.0 * 2048.0 * 2.0 / 10e9;
        let expected = 11.0 * (0.025 + 2.0 * hop);
        assert!((pipeline(4, 8).step - expected).abs() < 1e-12, "{:?}", pipeline(4, 8));
        assert!((pipeline(1, 1).efficiency - 1.0).abs() < 1e-12);
        assert!(pipeline(4, 32).efficiency > pipeline(4, 4).efficiency);
        // Four devices of a node: 96 all-reduces of 67.1 MB. Each has 6 hops of 1 µs and moves 2 · 3/4 of the bytes
        // at 10 GB/s.
        let four = estimate.tensor.iter().find(|tensor| tensor.devices == 4).unwrap();
        let reduce = 6e-6 + 1.5 * 8.0 * 2048.0 * 2048.0 * 2.0 / 10e9;
        assert!((four.communication - 96.0 * reduce).abs() < 1e-9, "{four:?}");
        assert!((four.step - 0.2 - four.communication).abs() < 1e-9);
        assert!(four.memory < estimate.tensor[0].memory / 2.0);
    }
}
