//! What is trained: the work of a sample, and in which order a backward pass finishes which gradients.

mod cnn;
mod transformer;

pub use transformer::Transformer;

use super::machine::Machine;
use serde::{Deserialize, Serialize};

/// A model in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Floating-point operations of a sample, forward and backward; a multiply-add counts as two.
    pub flops: f64,
    /// Number of parameters.
    pub parameters: u64,
    /// What a parameter takes.
    pub bytes: ParameterBytes,
    /// Bytes that a sample's forward pass leaves for its backward pass; a rough count.
    pub activation_bytes: f64,
    /// Samples of a device at once: in weak scaling, and at most in strong scaling.
    pub batch: u64,
    /// Samples of a step on all devices, in strong scaling.
    pub global_batch: u64,
    /// Layers in the order in which the backward pass finishes them.
    pub layers: Vec<Layer>,
    /// Its shape, if it is a transformer: for what can be said on paper of cutting it up.
    pub transformer: Option<Transformer>,
    /// How long it takes, where that was measured and does not follow from FLOPs.
    pub measured: Option<Compute>,
}

/// Bytes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ParameterBytes {
    /// Itself, as the passes use it.
    pub weight: f64,
    /// Its gradient, as it travels.
    pub gradient: f64,
    /// What the optimizer keeps: moments, and a copy in full precision if there is one.
    pub state: f64,
}

/// A layer of a backward pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its share of the backward pass's time.
    pub share: f64,
    /// Bytes of its gradients.
    pub bytes: f64,
}

/// How long a device computes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Compute {
    /// Seconds of the passes whatever the batch.
    pub fixed: f64,
    /// Seconds of the passes for each sample.
    pub sample: f64,
    /// The forward pass's share of both.
    pub forward: f64,
    /// Seconds of the optimizer's update.
    pub update: f64,
}

/// Share of the forward pass: the backward pass computes two products for each one of it.
const FORWARD: f64 = 1.0 / 3.0;

impl Work {
    /// Bytes of all gradients.
    pub fn gradient_bytes(&self) -> f64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// How long a device of a machine computes: as measured, or by FLOPs and, for the update, by memory traffic.
    pub fn compute(&self, machine: &Machine) -> Compute {
        if let Some(measured) = self.measured {
            return measured;
        }
        let ParameterBytes { weight, gradient, state } = self.bytes;
        // The update reads gradient, weight and state and writes the last two.
        let traffic = self.parameters as f64 * (gradient + 2.0 * weight + 2.0 * state);
        Compute {
            fixed: 0.0,
            sample: self.flops / machine.flops_for(&self.name),
            forward: FORWARD,
            update: machine.memory_bytes_per_second.map_or(0.0, |rate| traffic / rate),
        }
    }
}

/// Names of the works that are built in.
pub const NAMES: [&str; 4] = ["resnet50", "resnet101", "vgg16", "transformer-1.3b"];

/// The built-in work of this name.
pub fn builtin(name: &str) -> Option<Work> {
    match name {
        "resnet50" => Some(cnn::resnet("resnet50", [3, 4, 6, 3])),
        "resnet101" => Some(cnn::resnet("resnet101", [3, 4, 23, 3])),
        "vgg16" => Some(cnn::vgg16()),
        "transformer-1.3b" => Some(transformer::gpt3_xl()),
        _ => None,
    }
}

/// Layers from their multiply-adds and parameters, given in the order of the forward pass.
fn backwards(forward: &[(String, f64, u64)], bytes: f64) -> Vec<Layer> {
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
    fn flops_and_parameters_are_those_of_a_hand_count() {
        // Parameters as torchvision counts them; multiply-adds of the convolutions and of what is fully connected.
        for (name, parameters, macs) in [
            ("resnet50", 25_557_032.0, 4.089e9),
            ("resnet101", 44_549_160.0, 7.801e9),
            ("vgg16", 138_357_544.0, 15.47e9),
            // By hand in `transformer.rs`.
            ("transformer-1.3b", 1.3157e9, 1.8582e13 / 6.0),
        ] {
            let work = builtin(name).unwrap();
            close(work.parameters as f64, parameters);
            close(work.flops, 6.0 * macs);
            close(work.gradient_bytes(), parameters * work.bytes.gradient);
            let shares: f64 = work.layers.iter().map(|layer| layer.share).sum();
            assert!((shares - 1.0).abs() < 1e-9, "{name}: {shares}");
        }
        assert!(NAMES.iter().all(|name| builtin(name).is_some_and(|work| work.name == *name)));
        assert_eq!(builtin("resnet34"), None);
    }

    #[test]
    fn vgg_finishes_most_bytes_in_little_time() {
        let work = builtin("vgg16").unwrap();
        let dense = &work.layers[..3];
        assert!(dense.iter().all(|layer| layer.name.starts_with("fc")));
        let bytes: f64 = dense.iter().map(|layer| layer.bytes).sum();
        // 102.8, 16.8 and 4.1 of 138.4 million.
        close(bytes / work.gradient_bytes(), 123.64 / 138.36);
        assert!(dense.iter().map(|layer| layer.share).sum::<f64>() < 0.01);
    }

    #[test]
    fn computing_takes_what_flops_and_memory_say() {
        let machine = Machine::named("pascal-25gbe", &[]).unwrap();
        let compute = builtin("resnet50").unwrap().compute(&machine);
        close(compute.sample, 1.0 / 219.0);
        // 25.56 million parameters of 20 bytes at 732 GB/s.
        close(compute.update, 25.557e6 * 20.0 / 732e9);
    }
}
