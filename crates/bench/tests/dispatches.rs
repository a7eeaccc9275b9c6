//! How many kernels the training steps are that other engines are measured with too.

use wgrad_bench::workload;
use wgrad_program::{Options, compile};

/// Residual blocks of ResNet-20.
const BLOCKS: usize = 9;

/// Kernels of a workload's step where a dispatch binds so many operands.
fn dispatches(name: &str, operands: usize) -> usize {
    let work = workload(name).unwrap();
    compile(&work.graph, Options { operands, ..Options::default() }).unwrap().dispatches.len()
}

#[test]
fn a_step_of_the_mlp_is_at_most_sixteen() {
    for operands in [8, 16, 32] {
        let count = dispatches("mlp", operands);
        assert!(count <= 16, "{count} with {operands} operands");
    }
}

/// Forward and backward pass together. Where a dispatch binds fewer operands, as the least WebGPU device does, the largest
/// kernels are cut in two.
#[test]
fn a_step_of_a_resnet_is_at_most_twenty_a_block_and_twenty() {
    for operands in [16, 32] {
        let count = dispatches("resnet", operands);
        assert!(count <= 20 * BLOCKS + 20, "{count} with {operands} operands");
    }
}
