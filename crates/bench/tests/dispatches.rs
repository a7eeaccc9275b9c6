//! Limits on the number of kernels of the named workloads.

use wgrad_bench::workload;
use wgrad_program::{Options, compile};

/// Number of residual blocks of ResNet-20.
const BLOCKS: usize = 9;

/// Returns the number of kernels of a workload if a dispatch can bind at most `operands` operands.
fn dispatches(name: &str, operands: usize) -> usize {
    let workload = workload(name).unwrap();
    compile(&workload.graph, Options { operands, ..Options::default() }).unwrap().dispatches.len()
}

#[test]
fn mlp_step_has_at_most_sixteen_kernels() {
    for operands in [8, 16, 32] {
        let count = dispatches("mlp", operands);
        assert!(count <= 16, "found {count} kernels with {operands} operands");
    }
}

/// Limits the total number of kernels of the forward pass, the backward pass and the update.
///
/// A limit of eight operands per dispatch, as on minimal WebGPU devices, is not tested, because the largest kernels
/// are then split.
#[test]
fn resnet_step_has_at_most_twenty_kernels_per_block_plus_twenty() {
    for operands in [16, 32] {
        let count = dispatches("resnet", operands);
        assert!(count <= 20 * BLOCKS + 20, "found {count} kernels with {operands} operands");
    }
}
