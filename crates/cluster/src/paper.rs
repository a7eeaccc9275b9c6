//! What cutting a transformer itself up would take, on paper: wgrad does not do it.

use super::collective::{Algorithm, Group};
use super::machine::Machine;
use super::works::{Transformer, Work};
use serde::{Deserialize, Serialize};

/// Pipelines and tensor parallelism.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnPaper {
    /// Samples of a step.
    pub batch: u64,
    /// Stages one after the other (GPipe, Huang et al. 2019).
    pub pipeline: Vec<Pipeline>,
    /// Each product shared out (Megatron-LM, Shoeybi et al. 2019).
    pub tensor: Vec<Tensor>,
}

/// A pipeline of as many devices as stages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Stages, p.
    pub stages: u64,
    /// Micro-batches of a step, m.
    pub micro_batches: u64,
    /// Share of the time in which a stage has nothing to do: (p−1)/(m+p−1).
    pub bubble: f64,
    /// Seconds of a step.
    pub step: f64,
    /// Speed-up over one device, over the number of stages.
    pub efficiency: f64,
    /// Bytes of memory of a device.
    pub memory: f64,
}

/// A team whose devices compute a share of each product.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Devices, t.
    pub devices: u64,
    /// Seconds of a step.
    pub step: f64,
    /// Seconds of it that all-reduces of activations take; none can be hidden.
    pub communication: f64,
    /// Speed-up over one device, over the number of devices.
    pub efficiency: f64,
    /// Bytes of memory of a device.
    pub memory: f64,
}

/// Numbers that pass between blocks are f16.
const ACTIVATION: f64 = 2.0;

pub(super) fn of(work: &Work, shape: Transformer, machine: &Machine) -> OnPaper {
    let compute = work.compute(machine);
    let sample_bytes = (shape.tokens * shape.hidden) as f64 * ACTIVATION;
    let state = work.parameters as f64 * (work.bytes.weight + work.bytes.gradient + work.bytes.state);
    let batch = work.batch as f64;
    let alone = compute.fixed + batch * compute.sample + compute.update;
    let stages = [1, 2, 4, 8].into_iter().flat_map(|p| [1, 2, 4, 8].map(|per_stage| (p, p * per_stage)));
    // A micro-batch has a sample at least, and more of them for a longer step.
    let pipeline = stages.map(|(p, m): (u64, u64)| {
        let samples = work.batch.max(m) as f64;
        let (stages, micro) = (p as f64, samples / m as f64);
        let one = (compute.fixed + micro * compute.sample) / stages;
        let link = if p <= machine.devices { machine.within } else { machine.between };
        // Activations go on, gradients come back.
        let hop = if p == 1 { 0.0 } else { link.latency + micro * sample_bytes / link.bytes_per_second };
        let step = (m as f64 + stages - 1.0) * (one + 2.0 * hop) + compute.update / stages;
        let alone = compute.fixed + samples * compute.sample + compute.update;
        Pipeline {
            stages: p,
            micro_batches: m,
            bubble: (stages - 1.0) / (m as f64 + stages - 1.0),
            step,
            efficiency: alone / (stages * step),
            // All micro-batches are under way before the first backward pass; a stage holds its share of each.
            memory: (state + samples * work.activation_bytes) / stages,
        }
    });
    let tensor = [1, 2, 4, 8, 16].map(|devices: u64| {
        let t = devices as f64;
        let reduce = Group { machine, devices }.all_reduce(Algorithm::Fastest, batch * sample_bytes);
        // Two in the forward pass of a block, two in its backward pass.
        let communication = 4.0 * shape.layers as f64 * reduce;
        let step = alone / t + communication;
        let kept = replicated(work, shape, t);
        let memory = state / t + batch * kept;
        Tensor { devices, step, communication, efficiency: alone / (t * step), memory }
    });
    OnPaper { batch: work.batch, pipeline: pipeline.collect(), tensor: tensor.to_vec() }
}

/// Of the 34 bytes that a block keeps for each number, 10 lie between the products and are on every device (Korthikanti et al.
/// 2022, equation 2).
fn replicated(work: &Work, shape: Transformer, t: f64) -> f64 {
    let every = 10.0 * (shape.tokens * shape.hidden * shape.layers) as f64;
    every + (work.activation_bytes - every) / t
}

#[cfg(test)]
mod tests {
    use super::super::collective::tests::machine;
    use super::super::works::{Compute, builtin};
    use super::*;

    #[test]
    fn bubbles_and_all_reduces_are_those_of_a_hand_count() {
        let mut work = builtin("transformer-1.3b").unwrap();
        work.measured = Some(Compute { fixed: 0.0, sample: 0.1, forward: 1.0 / 3.0, update: 0.0 });
        let paper = work.transformer.map(|shape| of(&work, shape, &machine())).unwrap();
        let of =
            |stages, m| *paper.pipeline.iter().find(|p| (p.stages, p.micro_batches) == (stages, m)).unwrap();
        assert!((of(4, 8).bubble - 3.0 / 11.0).abs() < 1e-12);
        // Eight samples in eight micro-batches through four stages of 25 ms, each followed by 2 · (1 µs + 8.39 MB at 10 GB/s).
        let hop = 1e-6 + 2048.0 * 2048.0 * 2.0 / 10e9;
        let expected = 11.0 * (0.025 + 2.0 * hop);
        assert!((of(4, 8).step - expected).abs() < 1e-12, "{:?}", of(4, 8));
        assert!((of(1, 1).efficiency - 1.0).abs() < 1e-12);
        assert!(of(4, 32).efficiency > of(4, 4).efficiency);
        // Four in a box: 96 all-reduces of 67.1 MB, 6 hops of 1 µs and 2 · 3/4 of it at 10 GB/s.
        let four = paper.tensor.iter().find(|tensor| tensor.devices == 4).unwrap();
        let reduce = 6e-6 + 1.5 * 8.0 * 2048.0 * 2048.0 * 2.0 / 10e9;
        assert!((four.communication - 96.0 * reduce).abs() < 1e-9, "{four:?}");
        assert!((four.step - 0.2 - four.communication).abs() < 1e-9);
        assert!(four.memory < paper.tensor[0].memory / 2.0);
    }
}
