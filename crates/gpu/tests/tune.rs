//! Tests of the tuning table and of the search for the fastest variant.

mod common;

use std::sync::Arc;

use common::{each_adapter, open, poisoned};
use wgrad_gpu::{Class, GemmVariant, Options, Target, Tuner, TuningTable, gemm_key, plain_gemm, wgsl};
use wgrad_program::Kernel;

const SMALL: GemmVariant = GemmVariant::Direct { rows: 4, columns: 4 };

fn tuned(size: (usize, usize, usize), variant: GemmVariant) -> Option<Arc<TuningTable>> {
    let mut table = TuningTable::default();
    table.insert(
        gemm_key(&plain_gemm(size.0, size.1, size.2)).expect("the dispatch should be a GEMM"),
        variant,
    );
    Some(Arc::new(table))
}

#[test]
fn a_tuned_variant_applies_only_to_its_gemm() {
    let target = Target { tuned: tuned((64, 32, 16), SMALL), ..Target::portable(Class::Discrete) };
    assert_eq!(wgsl(&plain_gemm(64, 32, 16), &target).choice, "direct 4×4");
    let (untuned, plain) = (wgsl(&plain_gemm(64, 32, 17), &target), Target::portable(Class::Discrete));
    assert_eq!(untuned, wgsl(&plain_gemm(64, 32, 17), &plain));
    assert_ne!(untuned.choice, "direct 4×4");
}

/// A table can contain such a variant after a driver update, or if it was written by hand.
#[test]
fn a_tuned_variant_that_does_not_fit_is_not_used() {
    let subgroup = GemmVariant::Subgroup { rows: 8, columns: 2 };
    let target = Target { tuned: tuned((64, 32, 16), subgroup), ..Target::portable(Class::Discrete) };
    let plain = Target::portable(Class::Discrete);
    assert_eq!(wgsl(&plain_gemm(64, 32, 16), &target), wgsl(&plain_gemm(64, 32, 16), &plain));
}

#[test]
fn gemm_keys_depend_on_the_computation_but_not_on_name_or_offset() {
    let key = |dispatch| gemm_key(&dispatch).expect("the dispatch should be a GEMM");
    let product = || plain_gemm(8, 9, 10);
    let mut moved = product();
    moved.name = "another".into();
    moved.operands[0].tensor.offset = 256;
    assert_eq!(key(product()), key(moved));
    let mut transposed = product();
    let Kernel::Gemm(gemm) = &mut transposed.kernel else { unreachable!("`plain_gemm` returns a GEMM") };
    gemm.a_layout.strides = vec![1, 8];
    let mut halves = product();
    halves.operands[1].tensor.dtype = wgrad_graph::DType::F16;
    let keys = [key(product()), key(transposed), key(halves), key(plain_gemm(8, 10, 9))];
    let distinct: std::collections::HashSet<u64> = keys.into_iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn names_of_variants_parse_to_the_variants() {
    for variant in GemmVariant::ALL {
        assert_eq!(variant.to_string().parse(), Ok(variant));
    }
    assert!("direct 3×3".parse::<GemmVariant>().is_err());
}

#[test]
fn the_tuner_times_every_variant_and_its_winner_is_used() {
    // One adapter is enough: other tests check the variants on every adapter, and drivers take long to compile them.
    each_adapter("tuning", |index| {
        if index > 0 {
            return;
        }
        let tuner = Tuner::open(index).expect("the adapter should open");
        let product = plain_gemm(33, 18, 12);
        let outcome =
            tuner.tune(&product).expect("the run should succeed").expect("the dispatch should be a GEMM");
        let fitting = GemmVariant::ALL.into_iter().filter(|v| v.fits(tuner.device().target()));
        assert_eq!(
            outcome.timings.iter().map(|t| t.variant).collect::<Vec<_>>(),
            fitting.collect::<Vec<_>>()
        );
        for timing in &outcome.timings {
            let seconds = timing.seconds.as_ref().unwrap_or_else(|why| panic!("{}: {why}", timing.variant));
            assert!(*seconds > 0.0);
        }
        let winner = outcome.winner.expect("a variant should win");
        let device = open(index, Options { tuned: tuned((33, 18, 12), winner), ..poisoned() });
        assert_eq!(wgsl(&product, device.target()).choice, winner.to_string());
    });
}
