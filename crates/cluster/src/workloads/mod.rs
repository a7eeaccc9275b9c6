//! Workloads: FLOPs, parameters and memory of a model, and the order in which its backward pass finishes gradients.

mod cnn;
mod transformer;

pub use transformer::Transformer;

use super::machine::Machine;
use serde::{Deserialize, Serialize};

/// Model whose training is predicted: compute, memory and gradient sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Name, e.g. `resnet50`.
    pub name: String,
    /// One-line description of the model, the data and the optimizer.
    pub description: String,
    /// Floating-point operations per sample in the forward and backward passes. A multiply-add is two operations.
    pub flops: f64,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of weight, gradient and optimizer state per parameter.
    pub bytes: ParameterBytes,
    /// Approximate bytes of activations stored per sample for the backward pass.
    pub activation_bytes: f64,
    /// Number of samples that a device processes at once: the batch size in weak scaling, the maximum in strong
    /// scaling.
    pub batch: u64,
    /// Number of samples per step over all devices in strong scaling.
    pub global_batch: u64,
    /// Layers in the order in which the backward pass finishes them.
    pub layers: Vec<Layer>,
    /// Shape of the model if it is a transformer, for the analytic estimate.
    pub transformer: Option<Transformer>,
    /// Measured compute time. If `None`, the compute time is derived from `flops`.
    pub measured: Option<Compute>,
}

/// Bytes per parameter of the weights, the gradients and the optimizer state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ParameterBytes {
    /// Bytes of the weight that the forward and backward passes read.
    pub weight: f64,
    /// Bytes of the gradient that is communicated.
    pub gradient: f64,
    /// Bytes of the optimizer state: moments and, in mixed precision, the f32 copy of the weight.
    pub state: f64,
}

/// Layer with its fraction of the backward pass and the size of its gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Name, e.g. `layer1.0.conv1`.
    pub name: String,
    /// Fraction of the time of the backward pass.
    pub share: f64,
    /// Bytes of the gradients of the layer; 0 for a layer without parameters.
    pub bytes: f64,
}

/// Compute time of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Compute {
    /// Seconds of the forward and backward passes that do not depend on the batch size.
    pub fixed: f64,
    /// Additional seconds of the forward and backward passes for each sample.
    pub sample: f64,
    /// Fraction of the combined time of both passes that the forward pass takes.
    pub forward: f64,
    /// Seconds of the optimizer update.
    pub update: f64,
}

/// Fraction of the compute time that the forward pass takes.
///
/// The backward pass computes two matrix products for each matrix product of the forward pass.
const FORWARD: f64 = 1.0 / 3.0;

impl Workload {
    /// Returns the bytes of all gradients.
    pub fn gradient_bytes(&self) -> f64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Returns the compute time on a device of a machine.
    ///
    /// Returns the measured time if there is one. Otherwise, the time of the passes is derived from FLOPs, and the
    /// time of the update from memory traffic.
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

/// Returns the built-in workload with the given name, or `None` if the name is not in [`NAMES`].
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
        assert!((found / expected - 1.0).abs() < 0.01, "expected {expected}, found {found}");
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
        // The fully connected layers have 102.8, 16.8 and 4.1 of 138.4 million parameters.
        close(bytes / workload.gradient_bytes(), 123.64 / 138.36);
        assert!(dense.iter().map(|layer| layer.share).sum::<f64>() < 0.01);
    }

    #[test]
    fn compute_time_follows_from_flops_and_memory_traffic() {
        let machine = Machine::named("pascal-25gbe", &[]).unwrap();
        let compute = builtin("resnet50").unwrap().compute(&machine);
        close(compute.sample, 1.0 / 219.0);
        // The update moves 20 bytes for each of 25.56 million parameters at 732 GB/s.
        close(compute.update, 25.557e6 * 20.0 / 732e9);
    }
}
