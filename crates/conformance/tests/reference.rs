//! Runs the checks that need no device: lint of the operation table, shapes, f64 gradients and shaders.

mod common;

use wgrad_conformance::{Options, check_reference};

#[test]
fn every_operation_passes_the_reference_checks() {
    let options = Options { samples: 100, ..Options::default() };
    common::expect_clean(&check_reference(&options, &mut |_| ()));
}
