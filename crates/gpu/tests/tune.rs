//! Tuning: a table of variants, and the search for one.

mod common;

use std::sync::Arc;

use common::{each_adapter, open, poisoned};
use wgrad_gpu::{Class, GemmVariant, Options, Target, Tuned, Tuner, plain_product, product_key, wgsl};
use wgrad_program::Kernel;

const SMALL: GemmVariant = GemmVariant::Direct { rows: 4, columns: 4 };

fn tuned(size: (usize, usize, usize), variant: GemmVariant) -> Option<Arc<Tuned>> {
    let mut table = Tuned::default();
    table.insert(product_key(&plain_product(size.0, size.1, size.2)).expect("a product"), variant);
    Some(Arc::new(table))
}

#[test]
fn a_tuned_variant_is_used_for_its_product_alone() {
    let target = Target { tuned: tuned((64, 32, 16), SMALL), ..Target::portable(Class::Discrete) };
    assert_eq!(wgsl(&plain_product(64, 32, 16), &target).choice, "direct 4×4");
    let (tuned_not, plain) = (wgsl(&plain_product(64, 32, 17), &target), Target::portable(Class::Discrete));
    assert_eq!(tuned_not, wgsl(&plain_product(64, 32, 17), &plain));
    assert_ne!(tuned_not.choice, "direct 4×4");
}

/// As after a change of driver, or by a hand-written table.
#[test]
fn a_tuned_variant_that_does_not_fit_is_not_used() {
    let subgroup = GemmVariant::Subgroup { rows: 8, columns: 2 };
    let target = Target { tuned: tuned((64, 32, 16), subgroup), ..Target::portable(Class::Discrete) };
    let plain = Target::portable(Class::Discrete);
    assert_eq!(wgsl(&plain_product(64, 32, 16), &target), wgsl(&plain_product(64, 32, 16), &plain));
}

#[test]
fn products_are_told_apart_by_what_they_compute_and_not_by_name_or_place() {
    let key = |dispatch| product_key(&dispatch).expect("a product");
    let product = || plain_product(8, 9, 10);
    let mut moved = product();
    moved.name = "another".into();
    moved.operands[0].tensor.offset = 256;
    assert_eq!(key(product()), key(moved));
    let mut transposed = product();
    let Kernel::Gemm(gemm) = &mut transposed.kernel else { unreachable!("a product") };
    gemm.a_layout.strides = vec![1, 8];
    let mut halves = product();
    halves.operands[1].tensor.dtype = wgrad_graph::DType::F16;
    let keys = [key(product()), key(transposed), key(halves), key(plain_product(8, 10, 9))];
    let distinct: std::collections::HashSet<u64> = keys.into_iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn names_of_variants_are_read_back() {
    for variant in GemmVariant::ALL {
        assert_eq!(variant.to_string().parse(), Ok(variant));
    }
    assert!("direct 3×3".parse::<GemmVariant>().is_err());
}

#[test]
fn every_variant_is_timed_and_the_winner_is_then_chosen() {
    // Once is enough: that variants are right on every adapter is tested elsewhere, and drivers take long to compile them.
    each_adapter("tuning", |index| {
        if index > 0 {
            return;
        }
        let tuner = Tuner::open(index).expect("the adapter opens");
        let product = plain_product(33, 18, 12);
        let outcome = tuner.tune(&product).expect("it runs").expect("a product");
        let fitting = GemmVariant::ALL.into_iter().filter(|v| v.fits(tuner.device().target()));
        assert_eq!(
            outcome.timings.iter().map(|t| t.variant).collect::<Vec<_>>(),
            fitting.collect::<Vec<_>>()
        );
        for timing in &outcome.timings {
            let seconds = timing.seconds.as_ref().unwrap_or_else(|why| panic!("{}: {why}", timing.variant));
            assert!(*seconds > 0.0);
        }
        let winner = outcome.winner.expect("a winner");
        let device = open(index, Options { tuned: tuned((33, 18, 12), winner), ..poisoned() });
        assert_eq!(wgsl(&product, device.target()).choice, winner.to_string());
    });
}
