//! Checks every operation on the CPU backend, in f32 and f64.

mod common;

use wgrad_conformance::{Options, TestDevice, check_device};
use wgrad_cpu::Precision;

fn check(precision: Precision, samples: u64) {
    let options = Options { samples, ..Options::default() };
    common::expect_clean(&check_device(&TestDevice::cpu(precision), &options, &mut |_| ()));
}

#[test]
fn every_operation_on_the_cpu_in_f32() {
    check(Precision::F32, 100);
}

#[test]
fn every_operation_on_the_cpu_in_f64() {
    check(Precision::F64, 10);
}
