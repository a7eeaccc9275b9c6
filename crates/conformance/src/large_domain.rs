//! Checks of domains that need more than 65,535 workgroups, the limit of one dimension of a dispatch.
//!
//! A backend that does not split such a domain leaves the last elements unwritten. All values are small integers or
//! halves of integers, so every result is exact in f32.

use wgrad_cpu::reference::Array;
use wgrad_graph::{DType, Graph, States, TensorType, Var};
use wgrad_ops::{TensorOps, iota};
use wgrad_program::{DeviceKind, HostData};

use crate::harness::Harness;
use crate::report::{Comparison, Failure};

/// Number of rows. With one workgroup per row, the number of workgroups exceeds 65,535.
const ROWS: usize = 65_536 + 4_465;
/// Number of rows of 1,009 elements. Together they have more elements than 65,535 workgroups of 256 invocations.
const LONG_ROWS: usize = 16_645;

/// A computation over a large domain, and a function that returns the expected result at each index.
pub struct LargeDomain {
    /// Name of the computation in reports.
    pub name: &'static str,
    input: &'static [usize],
    build: for<'g> fn(&'g Graph, Var<'g>) -> Var<'g>,
    expected: fn(usize) -> f32,
}

/// Period of the input's elements: element i is `i % PERIOD`.
const PERIOD: usize = 61;

fn input(i: usize) -> f32 {
    (i % PERIOD) as f32
}

/// Computations that [`large_domain`] checks.
pub static LARGE: &[LargeDomain] = &[
    LargeDomain {
        name: "elements",
        input: &[1],
        build: |graph, x| iota(graph, [LONG_ROWS, 1009], 1).cast(DType::F32) * 0.5 + x,
        expected: |i| (i % 1009) as f32 * 0.5,
    },
    LargeDomain {
        name: "short rows",
        input: &[ROWS, 3],
        build: |_, x| x.sum(&[1]),
        expected: |i| (3 * i..3 * i + 3).map(input).sum(),
    },
    LargeDomain {
        name: "rows of a softmax-like kernel",
        input: &[ROWS, 70],
        build: |_, x| (x - x.max_keep(&[1])).sum(&[1]),
        expected: |i| {
            let row = || (70 * i..70 * i + 70).map(input);
            row().sum::<f32>() - 70.0 * row().fold(f32::MIN, f32::max)
        },
    },
    LargeDomain {
        name: "one long column",
        input: &[ROWS, 2],
        build: |_, x| x.sum(&[0]),
        expected: |i| (0..ROWS).map(|row| f64::from(input(2 * row + i))).sum::<f64>() as f32,
    },
    LargeDomain {
        name: "batch of products",
        input: &[ROWS, 1, 2],
        build: |_, x| x.matmul(x.t()),
        expected: |i| input(2 * i).powi(2) + input(2 * i + 1).powi(2),
    },
    LargeDomain {
        name: "tall product",
        input: &[ROWS, 2],
        build: |graph, x| x.matmul(iota(graph, [2, 3], 1).cast(DType::F32)),
        expected: |i| (input(2 * (i / 3)) + input(2 * (i / 3) + 1)) * (i % 3) as f32,
    },
];

/// Checks that every element of the result is exact.
pub fn large_domain(harness: &Harness<'_>, large: &LargeDomain) -> Comparison {
    let graph = wgrad_ops::graph(States::new());
    let x = graph.input("x", TensorType::f32(large.input));
    graph.output("y", (large.build)(&graph, x));
    graph.finish()?;
    let n = x.shape().numel();
    let values = (0..n).map(|i| f64::from(input(i))).collect();
    let found = harness.load(&graph, true)?.run(&[Array::float(x.ty(), values)])?;
    let Some(HostData::F32(found)) = found.first() else {
        return Err(Failure::Violation("the device returned u32 values, expected f32".into()));
    };
    match (0..found.len()).find(|&i| found[i] != (large.expected)(i)) {
        Some(i) => {
            let (found, expected) = (f64::from(found[i]), f64::from((large.expected)(i)));
            Err(Failure::Differs { what: format!("y[{i}]"), found, expected, error_ratio: f64::INFINITY })
        }
        None => Ok(0.0),
    }
}

/// Whether the device can bind the largest tensors of these checks.
pub fn fits(harness: &Harness<'_>) -> bool {
    let limits = harness.device.info().limits;
    let bytes = (LONG_ROWS * 1009 * 4) as u64;
    harness.device.info().kind == DeviceKind::Cpu || limits.operand_bytes.min(limits.buffer_bytes) >= bytes
}
