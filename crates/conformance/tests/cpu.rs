//! Every operation on the CPU backend, in f32 and in f64.

mod common;

use wgrad_conformance::{Options, Subject, check_device};
use wgrad_cpu::{CpuDevice, Options as CpuOptions, Precision};

fn check(precision: Precision, samples: u64) {
    let device = Box::new(CpuDevice::with_options(CpuOptions { precision, poison: true }));
    let subject = Subject { name: format!("cpu {precision:?}"), device, products_only: false };
    let options = Options { samples, ..Options::default() };
    common::expect_clean(&check_device(&subject, &options, &mut |_| ()));
}

#[test]
fn every_operation_on_the_cpu_in_f32() {
    check(Precision::F32, 24);
}

#[test]
fn every_operation_on_the_cpu_in_f64() {
    check(Precision::F64, 4);
}
