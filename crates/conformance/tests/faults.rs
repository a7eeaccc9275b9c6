//! Checks that every planted fault is detected by its check.

mod common;

use wgrad_conformance::faults::faults;
use wgrad_cpu::{CpuDevice, Options, Precision};

#[test]
fn every_planted_fault_is_detected() {
    let device = CpuDevice::with_options(Options { precision: Precision::F32, poison: true });
    let mut undetected = Vec::new();
    for fault in faults() {
        match fault.detect(&device) {
            Ok(failure) => eprintln!("{:>15} detects {}: {failure}", fault.check.name(), fault.name),
            Err(error) => undetected.push(error.to_string()),
        }
    }
    assert!(undetected.is_empty(), "{}", undetected.join("\n"));
}
