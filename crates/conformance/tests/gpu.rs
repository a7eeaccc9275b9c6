//! Every operation on every adapter, and every variant of the kernels that have some.

mod common;

use wgrad_conformance::{Options, Scope, Subject, check_device};
use wgrad_gpu::{Adapter, adapters};

/// The adapter of this number. Where there is none at all, that is said, or a failure if `WGRAD_REQUIRE_GPU` is set.
fn adapter(index: usize, test: &str) -> Option<&'static Adapter> {
    if adapters().is_empty() {
        let required = std::env::var_os("WGRAD_REQUIRE_GPU").is_some_and(|value| value == "1");
        assert!(!required, "there is no adapter, and WGRAD_REQUIRE_GPU is set");
        if index == 0 {
            common::skip(&format!("{test}: no adapter"));
        }
    }
    adapters().get(index)
}

fn as_chosen(index: usize) {
    if let Some(adapter) = adapter(index, "every operation on an adapter") {
        let subject = Subject::adapter(adapter).expect("an adapter that is listed opens");
        let options = Options { samples: 2, ..Options::default() };
        common::expect_clean(&check_device(&subject, &options, &mut |_| ()));
    }
}

fn variants(index: usize, scope: Scope) {
    if let Some(adapter) = adapter(index, "every variant of a kernel on an adapter") {
        let options = Options { samples: 1, ..Options::default() };
        let mut report = wgrad_conformance::Report::default();
        let subjects = Subject::variants(adapter).expect("an adapter that is listed opens");
        for subject in subjects.iter().filter(|subject| subject.scope == scope) {
            report.extend(check_device(subject, &options, &mut |_| ()));
        }
        common::expect_clean(&report);
    }
}

#[test]
fn every_operation_on_adapter_0() {
    as_chosen(0);
}

#[test]
fn every_operation_on_adapter_1() {
    as_chosen(1);
}

#[test]
fn every_operation_on_adapter_2() {
    as_chosen(2);
}

#[test]
fn every_operation_on_further_adapters() {
    (3..adapters().len()).for_each(as_chosen);
}

#[test]
fn every_variant_of_a_product_on_adapter_0() {
    variants(0, Scope::Products);
}

#[test]
fn every_variant_of_a_product_on_adapter_1() {
    variants(1, Scope::Products);
}

#[test]
fn every_variant_of_a_product_on_further_adapters() {
    (2..adapters().len()).for_each(|index| variants(index, Scope::Products));
}

#[test]
fn every_variant_of_a_reduction_on_adapter_0() {
    variants(0, Scope::Reductions);
}

#[test]
fn every_variant_of_a_reduction_on_adapter_1() {
    variants(1, Scope::Reductions);
}

#[test]
fn every_variant_of_a_reduction_on_further_adapters() {
    (2..adapters().len()).for_each(|index| variants(index, Scope::Reductions));
}
