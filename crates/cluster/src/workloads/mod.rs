//! Workloads: FLOPs, parameters and memory of a model, and the order in which its backward pass finishes gradients.

mod cnn;
mod transformer;

pub use transformer::Transformer;

use super::machine::Machine;
use serde::{Deserialize, Serialize};

/// Model in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Name.
    pub name: String,
    /// Description in one line.
    pub description: String,
    /// Floating-point operations per sample, forward and backward; a multiply-add counts as two.
    pub flops: f64,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes per parameter.
    pub bytes: ParameterBytes,
    /// Bytes of activations per sample that are stored for the backward pass; an approximation.
    pub activation_bytes: f64,
    /// Number of samples per device: fixed in weak scaling, the maximum at once in strong scaling.
    pub batch: u64,
    /// Number of samples per step on all devices, in strong scaling.
    pub global_batch: u64,
    /// Layers in the order in which the backward pass finishes them.
    pub layers: Vec<Layer>,
    /// Shape of a transformer, for the analytic estimate.
    pub transformer: Option<Transformer>,
    /// Compute time, if measured instead of derived from FLOPs.
    pub measured: Option<Compute>,
}

/// Bytes per parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ParameterBytes {
    /// Weight, as used by the passes.
    pub weight: f64,
    /// Gradient, as communicated.
    pub gradient: f64,
    /// Optimizer state: moments, and the full-precision copy of the weight if there is one.
    pub state: f64,
}

/// Layer of a backward pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Name.
    pub name: String,
    /// Fraction of the time of the backward pass.
    pub share: f64,
    /// Bytes of the gradients.
    pub bytes: f64,
}

/// Compute time of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Compute {
    /// Seconds of the passes that do not depend on the batch size.
    pub fixed: f64,
    /// Seconds of the passes per sample.
    pub sample: f64,
    /// Fraction of the forward pass in both.
    pub forward: f64,
    /// Seconds of the optimizer update.
    pub update: f64,
}

/// Fraction of the forward pass: the backward pass computes two matrix products for each one of the forward pass.
const FORWARD: f64 = 1.0 / 3.0;

impl Workload {
    /// Returns the bytes of all gradients.
    pub fn gradient_bytes(&self) -> f64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Returns the compute time on a device of a machine: as measured, or derived from FLOPs and, for the update, from memory
    /// traffic.
    pub fn compute(&self, machine: &Machine) -> Compute {
        if let Some(measured) = self.measured {
            return measured;
        }
        let ParameterBytes { weight, gradient, state } = self.bytes;
        // The update reads gradient, weight and state, and writes weight and state.
        let traffic = self.parameters as f64 * (gradient + 2.0 * weight + 2.0 * state);
        Compute {
            fixed: 0.0,
            sample: self.flops / machine.flops_for(&self.name),
            forward: FORWARD,
            update: machine.memory_bytes_per_second.map_or(0.0, |rate| traffic / rate),
        }
    }
}

/// Names of the built-in workloads.
pub const NAMES: [&str; 4] = ["resnet50", "resnet101", "vgg16", "transformer-1.3b"];

/// Returns the built-in workload with the given name.
pub fn builtin(name: &str) -> Option<Workload> {
    match name {
        "resnet50" => Some(cnn::resnet("resnet50", [3, 4, 6, 3])),
        "resnet101" => Some(cnn::resnet("resnet101", [3, 4, 23, 3])),
        "vgg16" => Some(cnn::vgg16()),
        "transformer-1.3b" => Some(transformer::gpt3_xl()),
        _ => None,
    }
}

/// Returns layers in backward order from names, multiply-adds and parameters in forward order.
fn backward_layers(forward: &[(String, f64, u64)], bytes: f64) -> Vec<Layer> {
    let total: f64 = forward.iter().map(|(_, macs, _)| macs).sum();
    let layer = |(name, macs, parameters): &(String, f64, u64)| Layer {
        name: name.clone(),
        share: macs / total,
        bytes: *parameters as f64 * bytes,
    };
    forward.iter().rev().map(layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.01, "{found} for {expected}");
    }

    #[test]
    fn flops_and_parameters_match_published_counts() {
        // Parameters as in torchvision; multiply-adds of convolutions and fully connected layers.
        for (name, parameters, macs) in [
            ("resnet50", 25_557_032.0, 4.089e9),
            ("resnet101", 44_549_160.0, 7.801e9),
            ("vgg16", 138_357_544.0, 15.47e9),
            // Computed by hand in `transformer.rs`.
            ("transformer-1.3b", 1.3157e9, 1.8582e13 / 6.0),
        ] {
            let workload = builtin(name).unwrap();
            close(workload.parameters as f64, parameters);
            close(workload.flops, 6.0 * macs);
            close(workload.gradient_bytes(), parameters * workload.bytes.gradient);
            let shares: f64 = workload.layers.iter().map(|layer| layer.share).sum();
            assert!((shares - 1.0).abs() < 1e-9, "{name}: {shares}");
        }
        assert!(NAMES.iter().all(|name| builtin(name).is_some_and(|workload| workload.name == *name)));
        assert_eq!(builtin("resnet34"), None);
    }

    #[test]
    fn vgg_finishes_most_gradients_early_in_the_backward_pass() {
        let workload = builtin("vgg16").unwrap();
        let dense = &workload.layers[..3];
        assert!(dense.iter().all(|layer| layer.name.starts_with("fc")));
        let bytes: f64 = dense.iter().map(|layer| layer.bytes).sum();
        // 102.8, 16.8 and 4.1 of 138.4 million.
        close(bytes / workload.gradient_bytes(), 123.64 / 138.36);
        assert!(dense.iter().map(|layer| layer.share).sum::<f64>() < 0.01);
    }

    #[test]
    fn compute_time_follows_from_flops_and_memory_traffic() {
        let machine = Machine::named("pascal-25gbe", &[]).unwrap();
        let compute = builtin("resnet50").unwrap().compute(&machine);
        close(compute.sample, 1.0 / 219.0);
        // 25.56 million parameters of 20 bytes at 732 GB/s.
        close(compute.update, 25.557e6 * 20.0 / 732e9);
    }
}
