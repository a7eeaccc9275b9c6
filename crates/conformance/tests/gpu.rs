//! Checks every operation on every GPU adapter, with default kernels and with every kernel variant.

mod common;

use wgrad_conformance::{Options, Scope, TestDevice, check_device};
use wgrad_gpu::{Adapter, adapters};

/// Returns adapter number `index`, or `None` if the machine has fewer adapters. If there is no adapter at all, the
/// test is reported as skipped, or fails if `WGRAD_REQUIRE_GPU` is 1.
fn adapter(index: usize, test: &str) -> Option<&'static Adapter> {
    if adapters().is_empty() {
        let required = std::env::var_os("WGRAD_REQUIRE_GPU").is_some_and(|value| value == "1");
        assert!(!required, "WGRAD_REQUIRE_GPU is set, but there is no adapter");
        if index == 0 {
            common::skip(&format!("{test}: no adapter"));
        }
    }
    adapters().get(index)
}

fn check_default(index: usize) {
    if let Some(adapter) = adapter(index, "every operation on an adapter") {
        let subject = TestDevice::adapter(adapter).expect("a listed adapter should open");
        let options = Options { samples: 2, ..Options::default() };
        common::expect_clean(&check_device(&subject, &options, &mut |_| ()));
    }
}

fn check_variants(index: usize, scope: Scope) {
    if let Some(adapter) = adapter(index, "every variant of a kernel on an adapter") {
        let options = Options { samples: 1, ..Options::default() };
        let mut report = wgrad_conformance::Report::default();
        let subjects = TestDevice::variants(adapter).expect("a listed adapter should open");
        for subject in subjects.iter().filter(|subject| subject.scope == scope) {
            report.extend(check_device(subject, &options, &mut |_| ()));
        }
        common::expect_clean(&report);
    }
}

#[test]
fn every_operation_on_adapter_0() {
    check_default(0);
}

#[test]
fn every_operation_on_adapter_1() {
    check_default(1);
}

#[test]
fn every_operation_on_adapter_2() {
    check_default(2);
}

#[test]
fn every_operation_on_further_adapters() {
    (3..adapters().len()).for_each(check_default);
}

#[test]
fn every_gemm_variant_on_adapter_0() {
    check_variants(0, Scope::Gemms);
}

#[test]
fn every_gemm_variant_on_adapter_1() {
    check_variants(1, Scope::Gemms);
}

#[test]
fn every_gemm_variant_on_further_adapters() {
    (2..adapters().len()).for_each(|index| check_variants(index, Scope::Gemms));
}

#[test]
fn every_reduction_variant_on_adapter_0() {
    check_variants(0, Scope::Reductions);
}

#[test]
fn every_reduction_variant_on_adapter_1() {
    check_variants(1, Scope::Reductions);
}

#[test]
fn every_reduction_variant_on_further_adapters() {
    (2..adapters().len()).for_each(|index| check_variants(index, Scope::Reductions));
}
