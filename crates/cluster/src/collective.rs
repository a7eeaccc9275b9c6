//! Predicted time of collectives from a latency per hop and a time per byte (Thakur, Rabenseifner & Gropp 2005).

use super::machine::Machine;
use serde::{Deserialize, Serialize};

/// All-reduce algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Ring through all devices (Patarasuk & Yuan 2009).
    Ring,
    /// Two trees over the nodes, each for half of the bytes, with a chain of devices within each node (Sanders et al.
    /// 2009; NCCL 2.4).
    Tree,
    /// Reduce-scatter within nodes, all-reduce between nodes, all-gather within nodes.
    Hierarchical,
    /// The fastest of the other algorithms, chosen for each message.
    Fastest,
}

impl Algorithm {
    /// Returns the name in lower case, as in `cluster.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Tree => "tree",
            Self::Hierarchical => "hierarchical",
            Self::Fastest => "fastest",
        }
    }
}

/// Devices of a machine that take part in a collective.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// Machine that contains the devices.
    pub machine: &'a Machine,
    /// Number of devices in the group.
    pub devices: u64,
}

impl Group<'_> {
    /// Returns the seconds of an all-reduce of `bytes` bytes; 0 for one device.
    ///
    /// Let n be the number of devices, b the number of nodes, d the number of devices per node, α_within and
    /// α_between the latencies, B_within and B_between the bandwidths, and B = min(B_within, B_between):
    /// - ring: 2((n−b)α_within + (b−1)α_between) + 2(n−1)/n · bytes / B;
    /// - tree: 2((d−1)α_within + ⌈log₂ b⌉α_between) + 2 · bytes / B;
    /// - hierarchical: 2((d−1)α_within + (d−1)/d · bytes / B_within) + 2((b−1)α_between + (b−1)/b · bytes / B_between).
    ///
    /// With a single node, B is B_within; with one device per node, B is B_between.
    pub fn all_reduce(self, algorithm: Algorithm, bytes: f64) -> f64 {
        match algorithm {
            Algorithm::Ring | Algorithm::Hierarchical => 2.0 * self.half(algorithm, bytes),
            Algorithm::Tree => self.tree(bytes),
            Algorithm::Fastest => {
                let all = [Algorithm::Ring, Algorithm::Tree, Algorithm::Hierarchical];
                all.map(|algorithm| self.all_reduce(algorithm, bytes))
                    .into_iter()
                    .fold(f64::INFINITY, f64::min)
            }
        }
    }

    /// Returns the seconds of a reduce-scatter or an all-gather: half the time of an all-reduce.
    ///
    /// For [`Algorithm::Tree`], returns half the time of an all-reduce with the ring.
    pub fn scatter_or_gather(self, algorithm: Algorithm, bytes: f64) -> f64 {
        match algorithm {
            Algorithm::Ring | Algorithm::Tree => self.half(Algorithm::Ring, bytes),
            Algorithm::Hierarchical => self.half(algorithm, bytes),
            Algorithm::Fastest => {
                self.half(Algorithm::Ring, bytes).min(self.half(Algorithm::Hierarchical, bytes))
            }
        }
    }

    /// Returns the number of nodes, the number of devices per node, and the bandwidth of the slowest link of a ring in
    /// bytes per second.
    fn shape(self) -> (f64, f64, f64) {
        let (nodes, per_node) = self.machine.nodes(self.devices);
        let (within, between) = (self.machine.within.bytes_per_second, self.machine.between.bytes_per_second);
        let rate = match (nodes, per_node) {
            (1, _) => within,
            (_, 1) => between,
            _ => within.min(between),
        };
        (nodes as f64, per_node as f64, rate)
    }

    /// Returns half of the time of an all-reduce with the ring or the hierarchical algorithm.
    fn half(self, algorithm: Algorithm, bytes: f64) -> f64 {
        if self.devices < 2 {
            return 0.0;
        }
        let (n, (nodes, per_node, rate)) = (self.devices as f64, self.shape());
        let (within, between) = (self.machine.within, self.machine.between);
        if algorithm == Algorithm::Ring {
            let hops = (n - nodes) * within.latency + (nodes - 1.0) * between.latency;
            return hops + (n - 1.0) / n * bytes / rate;
        }
        let ring = |n: f64, hop: f64, rate: f64| (n - 1.0) * hop + (n - 1.0) / n * bytes / rate;
        ring(per_node, within.latency, within.bytes_per_second)
            + ring(nodes, between.latency, between.bytes_per_second)
    }

    fn tree(self, bytes: f64) -> f64 {
        if self.devices < 2 {
            return 0.0;
        }
        let (nodes, per_node, rate) = self.shape();
        let (within, between) = (self.machine.within, self.machine.between);
        2.0 * ((per_node - 1.0) * within.latency + nodes.log2().ceil() * between.latency + bytes / rate)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::machine::Link;
    use super::*;
    use std::collections::BTreeMap;

    /// Returns a machine with four devices per node: 1 µs and 10 GB/s within a node, 10 µs and 1 GB/s between nodes.
    pub fn machine() -> Machine {
        Machine {
            name: "synthetic".into(),
            description: String::new(),
            devices: 4,
            within: Link { latency: 1e-6, bytes_per_second: 10e9 },
            between: Link { latency: 10e-6, bytes_per_second: 1e9 },
            flops: 1e12,
            flops_of: BTreeMap::new(),
            memory: Some(16e9),
            memory_bytes_per_second: Some(100e9),
            source: String::new(),
        }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
    }

    #[test]
    fn all_reduce_times_match_hand_computation() {
        let machine = machine();
        let group = |devices| Group { machine: &machine, devices };
        // Four devices of a node: 2 · 3 hops of 1 µs, and 2 · 3/4 · 10 MB at 10 GB/s = 1.5 ms.
        close(group(4).all_reduce(Algorithm::Ring, 10e6), 6e-6 + 1.5e-3);
        close(group(4).all_reduce(Algorithm::Hierarchical, 10e6), 6e-6 + 1.5e-3);
        close(group(4).all_reduce(Algorithm::Tree, 10e6), 6e-6 + 2e-3);
        // Eight devices in two nodes. Ring: twice 6 hops within and one between nodes, and 2 · 7/8 · 10 MB at 1 GB/s.
        close(group(8).all_reduce(Algorithm::Ring, 10e6), 2.0 * (6e-6 + 10e-6) + 17.5e-3);
        // Tree: twice 3 hops within nodes and one level, and twice 10 MB at 1 GB/s.
        close(group(8).all_reduce(Algorithm::Tree, 10e6), 2.0 * (3e-6 + 10e-6) + 20e-3);
        // Hierarchical: the time of four devices, plus two nodes that exchange 2 · 1/2 · 10 MB at 1 GB/s.
        close(group(8).all_reduce(Algorithm::Hierarchical, 10e6), 6e-6 + 1.5e-3 + 20e-6 + 10e-3);
        close(group(8).all_reduce(Algorithm::Fastest, 10e6), 6e-6 + 1.5e-3 + 20e-6 + 10e-3);
        // For a small message on many devices, the tree is fastest, because it has the fewest hops.
        let small = group(1024).all_reduce(Algorithm::Fastest, 4.0);
        close(small, group(1024).all_reduce(Algorithm::Tree, 4.0));
        close(group(8).scatter_or_gather(Algorithm::Ring, 10e6), 16e-6 + 8.75e-3);
        for algorithm in [Algorithm::Ring, Algorithm::Tree, Algorithm::Hierarchical, Algorithm::Fastest] {
            close(group(1).all_reduce(algorithm, 10e6), 0.0);
            close(group(1).scatter_or_gather(algorithm, 10e6), 0.0);
        }
    }

    #[test]
    fn a_faster_link_never_takes_longer() {
        for algorithm in [Algorithm::Ring, Algorithm::Tree, Algorithm::Hierarchical, Algorithm::Fastest] {
            let mut last = f64::INFINITY;
            for rate in [1e6, 1e7, 1e8, 1e9, 1e10, 1e11] {
                let mut machine = machine();
                machine.between.bytes_per_second = rate;
                let seconds = Group { machine: &machine, devices: 64 }.all_reduce(algorithm, 25e6);
                assert!(seconds <= last, "{algorithm:?} at {rate}");
                last = seconds;
            }
        }
    }
}
