//! Machines of a cluster: devices per node, links within and between nodes, and rates of a device.

use super::toml::MachineError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wgrad_recipe::Hint;

/// Link with a latency and a bandwidth (Hockney 1994).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Latency of a message in seconds.
    pub latency: f64,
    /// Bandwidth in one direction, in bytes per second.
    pub bytes_per_second: f64,
}

/// Cluster of identical nodes: devices per node, links, and device rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name passed to `--machine`.
    pub name: String,
    /// One-line description of nodes and network.
    pub description: String,
    /// Number of devices per node.
    pub devices: u64,
    /// Link between two devices of a node. Its bandwidth is the bandwidth of one device.
    pub within: Link,
    /// Link between two nodes. Its bandwidth is the total bandwidth of a node.
    pub between: Link,
    /// FLOP/s that a device reaches in training, measured over entire steps; not the peak of the data sheet.
    pub flops: f64,
    /// FLOP/s of a device by workload name, for workloads whose rate differs from `flops`.
    pub flops_of: BTreeMap<String, f64>,
    /// Memory of a device in bytes, if known.
    pub memory: Option<f64>,
    /// Memory bandwidth of a device in bytes per second. If unknown, the optimizer update is predicted to take no time.
    pub memory_bytes_per_second: Option<f64>,
    /// Publications and data sheets from which the values are taken.
    pub source: String,
}

/// Fraction of the bandwidth of an Ethernet link available to the payload.
///
/// A TCP segment of 1460 bytes takes 1538 bytes with headers, checksum, preamble and gap (IEEE 802.3, RFC 9293). The
/// factor applies to every built-in Ethernet link.
pub const ETHERNET_PAYLOAD: f64 = 1460.0 / 1538.0;

/// Latency of a hop of NCCL's ring over NVLink, in seconds.
///
/// The latencies of NVLink, PCI Express and network hops come from NCCL's own performance model, protocol `Simple`
/// (`src/graph/tuning.cc`, `hwLat`, 2019 and later).
const NVLINK_HOP: f64 = 3.4e-6;
/// Latency of a hop over PCI Express, in seconds.
const PCI_HOP: f64 = 5.7e-6;
/// Latency of a hop over a network, in seconds.
const NETWORK_HOP: f64 = 14.0e-6;

/// Latency of a message over the TCP stack of the operating system, in seconds.
///
/// Sum of two passes through the stack (15 µs each), two through a network card (2.5 µs each) and one switch (10 µs).
/// Values are the lower ends of the ranges in Rumble et al., "It's Time for Low Latency", HotOS 2011, table 1.
const TCP_HOP: f64 = 2.0 * 15e-6 + 2.0 * 2.5e-6 + 10e-6;

/// Returns an Ethernet link of `gbits` Gbit/s with a latency of `latency` seconds.
fn ethernet(gbits: f64, latency: f64) -> Link {
    Link { latency, bytes_per_second: ETHERNET_PAYLOAD * gbits * 1e9 / 8.0 }
}

/// Returns a PCI Express 3.0 link with 16 lanes of 8 GT/s, where 128 of 130 bits are payload.
fn pci() -> Link {
    Link { latency: PCI_HOP, bytes_per_second: 16.0 * 8e9 / 8.0 * 128.0 / 130.0 }
}

/// Converts pairs of workload name and images per second to FLOP/s by workload name.
fn image_rates(rates: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let rate = |&(name, rate): &(&str, f64)| {
        let workload = super::workloads::builtin(name)?;
        Some((name.to_owned(), rate * workload.flops))
    };
    rates.iter().filter_map(rate).collect()
}

/// Returns the FLOP/s of a device that trains ResNet-50 at the given images per second.
fn resnet50_rate(images_per_second: f64) -> f64 {
    image_rates(&[("resnet50", images_per_second)]).values().sum()
}

/// Returns the built-in machines.
pub fn builtin() -> Vec<Machine> {
    let p100 = "Tesla P100 data sheet (2016): 16 GB, 732 GB/s";
    vec![
        a100(
            "nvlink-100gbe",
            "nodes of 8 A100 with NVLink, one port of 100 Gbit/s Ethernet each",
            ethernet(100.0, NETWORK_HOP),
            "100 Gbit/s Ethernet, of which 1460 of 1538 bytes are payload, without the overhead of the system's TCP (RoCE)",
        ),
        a100(
            "nvlink-infiniband",
            "nodes of 8 A100 with NVLink, eight ports of 200 Gbit/s InfiniBand each (DGX A100)",
            Link { latency: NETWORK_HOP, bytes_per_second: 8.0 * 25e9 },
            "DGX A100 data sheet (2020): 8 ConnectX-6 of 200 Gbit/s",
        ),
        Machine {
            name: "pascal-25gbe".into(),
            description: "nodes of 4 P100, 25 Gbit/s Ethernet with RoCE (Horovod 2018)".into(),
            devices: 4,
            within: pci(),
            between: ethernet(25.0, NETWORK_HOP),
            flops: resnet50_rate(219.0),
            flops_of: p100_rates(),
            memory: Some(16e9),
            memory_bytes_per_second: Some(732e9),
            source: format!(
                "{p100}; Sergeev & Del Balso 2018 (arXiv:1802.05799) and Horovod's benchmarks: servers of 4 Pascal GPUs, RoCE \
                 at 25 Gbit/s, of which 1460 of 1538 bytes are payload; PCI Express 3.0 within a node is assumed; hops: \
                 NCCL's own model (tuning.cc, 2019); images/s of one P100, batch 64: TensorFlow benchmarks (2017), \
                 ResNet-50 219, VGG-16 154; ResNet-101 interpolated between ResNet-50 and ResNet-152 (91.8) by FLOPs"
            ),
        },
        Machine {
            name: "big-basin-50gbe".into(),
            description: "nodes of 8 P100 with NVLink, 50 Gbit/s Ethernet (Goyal et al. 2017)".into(),
            devices: 8,
            within: Link { latency: NVLINK_HOP, bytes_per_second: 80e9 },
            between: ethernet(50.0, NETWORK_HOP),
            flops: resnet50_rate(195.0),
            flops_of: image_rates(&[("vgg16", 144.0)]),
            memory: Some(16e9),
            memory_bytes_per_second: Some(732e9),
            source: format!(
                "{p100}, NVLink 160 GB/s in both directions together; Goyal et al. 2017 (arXiv:1706.02677), section 4: Big Basin, 50 \
                 Gbit/s Ethernet, of which 1460 of 1538 bytes are payload; hops: NCCL's own model (tuning.cc, 2019); images/s of \
                 one P100, batch 32: TensorFlow benchmarks (2017), ResNet-50 195, VGG-16 144"
            ),
        },
        consumer("consumer-10gbe", "nodes with one RTX 3090, 10 Gbit/s Ethernet", 10.0),
        consumer("consumer-1gbe", "nodes with one RTX 3090, 1 Gbit/s Ethernet", 1.0),
    ]
}

/// Returns a machine with nodes of eight A100 GPUs.
fn a100(name: &str, description: &str, between: Link, network: &str) -> Machine {
    Machine {
        name: name.into(),
        description: description.into(),
        devices: 8,
        within: Link { latency: NVLINK_HOP, bytes_per_second: 300e9 },
        between,
        flops: resnet50_rate(938.0),
        // The published 137 TFLOP/s include a recomputed forward pass: 96 FLOPs where training without recomputation
        // has 72.
        flops_of: BTreeMap::from([("transformer-1.3b".to_owned(), 137e12 * 72.0 / 96.0)]),
        memory: Some(80e9),
        memory_bytes_per_second: Some(2039e9),
        source: format!(
            "NVIDIA A100 data sheet (2021): 80 GB, 2039 GB/s, NVLink 600 GB/s in both directions together; {network}; hops: NCCL's own \
             model (tuning.cc, 2019); ResNet-50: 938 images/s in TF32 (NVIDIA DeepLearningExamples, PyTorch ResNet50 v1.5, \
             2021); transformer: 137 TFLOP/s of which a quarter is recomputation (Narayanan et al. 2021, arXiv:2104.04473, \
             table 1, 1.7 B)"
        ),
    }
}

/// Returns a machine with one RTX 3090 per node and Ethernet.
fn consumer(name: &str, description: &str, gbits: f64) -> Machine {
    Machine {
        name: name.into(),
        description: description.into(),
        devices: 1,
        within: pci(),
        between: ethernet(gbits, TCP_HOP),
        flops: resnet50_rate(561.0),
        flops_of: BTreeMap::new(),
        memory: Some(24e9),
        memory_bytes_per_second: Some(936e9),
        source: format!(
            "GeForce RTX 3090 data sheet (2020): 24 GB, 936 GB/s; {gbits} Gbit/s Ethernet, of which 1460 of 1538 bytes are \
             payload; a message: Rumble et al., HotOS 2011, table 1; ResNet-50: 561 images/s (Puget Systems, RTX3090 \
             TensorFlow performance, 2020)"
        ),
    }
}

/// Returns the FLOP/s of one P100 at a batch size of 64, by workload name.
///
/// No value is published for ResNet-101. Its rate is interpolated between ResNet-50 and ResNet-152, linearly in the
/// logarithm of the FLOPs per image.
fn p100_rates() -> BTreeMap<String, f64> {
    let mut rates = image_rates(&[("resnet50", 219.0), ("vgg16", 154.0)]);
    // ResNet-152 has 11.51 billion multiply-adds in the forward pass (He et al. 2016, with the stride in the 3×3
    // convolutions).
    let (deep_flops, middle) = (6.0 * 11.51e9, super::workloads::builtin("resnet101"));
    if let (Some(&shallow), Some(middle), Some(first)) =
        (rates.get("resnet50"), middle, super::workloads::builtin("resnet50"))
    {
        let position = (middle.flops / first.flops).ln() / (deep_flops / first.flops).ln();
        rates.insert(middle.name, shallow + position * (91.8 * deep_flops - shallow));
    }
    rates
}

impl Machine {
    /// Returns the machine with the given name. Searches `others` first, then the built-in machines.
    ///
    /// # Errors
    /// Returns [`MachineError::Unknown`] with the nearest name if no machine has the name.
    pub fn named(name: &str, others: &[Self]) -> Result<Self, MachineError> {
        let all: Vec<Self> = others.iter().cloned().chain(builtin()).collect();
        let found = all.iter().find(|machine| machine.name == name).cloned();
        found.ok_or_else(|| MachineError::Unknown {
            name: name.to_owned(),
            hint: Hint::new(name, all.iter().map(|machine| machine.name.as_str()).chain(["all"])),
        })
    }

    /// Distributes `devices` devices over nodes. Returns the number of nodes and the largest number of devices used on
    /// a node.
    pub fn nodes(&self, devices: u64) -> (u64, u64) {
        let nodes = devices.div_ceil(self.devices.max(1)).max(1);
        (nodes, devices.div_ceil(nodes))
    }

    /// Returns the FLOP/s of a device for the workload with the given name.
    pub fn flops_for(&self, workload: &str) -> f64 {
        self.flops_of.get(workload).copied().unwrap_or(self.flops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_sources_and_positive_values() {
        let all = builtin();
        assert_eq!(all.len(), 6);
        for machine in &all {
            assert!(machine.source.len() > 60 && machine.source.contains("20"), "{}", machine.name);
            for value in [
                machine.within.latency,
                machine.within.bytes_per_second,
                machine.between.latency,
                machine.between.bytes_per_second,
                machine.flops,
                machine.memory.unwrap(),
                machine.memory_bytes_per_second.unwrap(),
            ] {
                assert!(value > 0.0 && value.is_finite(), "{}", machine.name);
            }
        }
    }

    #[test]
    fn rates_follow_from_images_per_second() {
        let pascal = Machine::named("pascal-25gbe", &[]).unwrap();
        // 219 images of 6 · 4.089 GFLOP, and 154 of 6 · 15.47.
        assert!((pascal.flops / 5.373e12 - 1.0).abs() < 0.01, "{}", pascal.flops);
        assert!((pascal.flops_for("vgg16") / 14.29e12 - 1.0).abs() < 0.01);
        let middle = pascal.flops_for("resnet101");
        assert!(middle > pascal.flops && middle < 91.8 * 6.0 * 11.51e9, "{middle}");
    }

    #[test]
    fn devices_fill_nodes() {
        let machine = Machine { devices: 8, ..builtin().remove(0) };
        for (devices, expected) in [(1, (1, 1)), (8, (1, 8)), (9, (2, 5)), (64, (8, 8))] {
            assert_eq!(machine.nodes(devices), expected);
        }
    }

    #[test]
    fn unknown_machine_is_an_error_with_the_nearest_name() {
        let error = Machine::named("nvlink-100gb", &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean `nvlink-100gbe`"), "{error}");
    }
}
