//! Random loop kernels compared with plain loops in f64.

mod common;

use common::build::assert_close;
use common::naive;
use common::random::Generator;
use wgrad_cpu::Precision;

fn agree(seeds: std::ops::Range<u64>, total: usize) {
    for seed in seeds {
        let case = Generator::new(seed).case(total);
        let (expected, state) = naive::run(&case);
        for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::F64, 2e-7)] {
            let (found, found_state) = case.run(precision);
            for (found, expected) in found_state.iter().zip(&state) {
                let what = format!("seed {seed}, {precision:?}, state of {:?}", case.program.dispatches[0]);
                assert_close(found, expected, tolerance, &what);
            }
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let half = case.program.outputs[i].tensor.dtype == wgrad_graph::DType::F16;
                let tolerance = if half { tolerance + 1e-3 } else { tolerance };
                let what =
                    format!("seed {seed}, {precision:?}, output {i} of {:?}", case.program.dispatches[0]);
                assert_close(found, expected, tolerance, &what);
            }
        }
    }
}

#[test]
fn small_random_kernels_agree_with_plain_loops() {
    agree(0..1500, 300);
}

#[test]
fn large_random_kernels_agree_with_plain_loops() {
    agree(10_000..10_060, 40_000);
}

/// Kernels with few rows and very many columns, or many rows and few columns. The columns are divided into chunks, and
/// the results of the chunks are merged.
#[test]
fn huge_random_kernels_agree_with_plain_loops() {
    agree(20_000..20_030, 200_000);
}
