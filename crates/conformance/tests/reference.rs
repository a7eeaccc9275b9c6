//! Checks that need no device: the table, shapes, gradients in f64, shaders.

mod common;

use wgrad_conformance::{Options, check_reference};

#[test]
fn every_operation_is_right_in_the_reference() {
    let options = Options { samples: 100, ..Options::default() };
    common::expect_clean(&check_reference(&options, &mut |_| ()));
}
