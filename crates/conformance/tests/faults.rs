//! Every planted fault is found by the check that claims to find it.

mod common;

use wgrad_conformance::faults::faults;
use wgrad_cpu::{CpuDevice, Options, Precision};

#[test]
fn every_planted_fault_is_found() {
    let device = CpuDevice::with_options(Options { precision: Precision::F32, poison: true });
    let mut survivors = Vec::new();
    for fault in faults() {
        match fault.hunt(&device) {
            Ok(failure) => eprintln!("{:>15} finds {}: {failure}", fault.check.name(), fault.name),
            Err(survivor) => survivors.push(survivor.to_string()),
        }
    }
    assert!(survivors.is_empty(), "{}", survivors.join("\n"));
}
