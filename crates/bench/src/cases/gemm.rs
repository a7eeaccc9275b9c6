//! Cases for matrix products.

use crate::results::Group;
use wgrad_graph::GraphError;
use wgrad_ops::TensorOps;

use crate::cases::Case;
use crate::workload::{Recorder, Workload};

pub(crate) fn cases() -> Vec<Case> {
    let squares = |n: usize| {
        let case = Case::new(Group::Gemm, format!("matmul-{n}"), move || square(n)).quick_if(n <= 512);
        // Large products determine the peak compute rate.
        Case { sets_ceiling: matches!(n, 512 | 1024), ..case }
    };
    let mut all: Vec<Case> = [128, 256, 512, 1024].into_iter().map(squares).collect();
    for (letters, transposed) in [("nt", [false, true]), ("tn", [true, false]), ("tt", [true, true])] {
        let build = move || product(&[], [512; 3], transposed);
        all.push(Case::new(Group::Gemm, format!("gemm-{letters}-512"), build));
    }
    for [m, n, k] in [[16, 4096, 1024], [4096, 16, 1024], [64, 64, 8192], [1, 4096, 4096]] {
        let build = move || product(&[], [m, n, k], [false; 2]);
        all.push(Case::new(Group::Gemm, format!("gemm-{m}x{n}x{k}"), build).quick_if(m == 16));
    }
    for (batch, n) in [(64, 64), (16, 256)] {
        let build = move || product(&[batch], [n; 3], [false; 2]);
        all.push(Case::new(Group::Gemm, format!("gemm-batch{batch}-{n}"), build).quick_if(n == 64));
    }
    all.extend([2048, 4096].map(squares));
    all
}

/// Matrix product `[n, n] · [n, n]`.
pub(crate) fn square(n: usize) -> Result<Workload, GraphError> {
    product(&[], [n; 3], [false; 2])
}

/// Matrix product `[batch…, m, k] · [batch…, k, n]`. A transposed factor is stored with its last two dimensions
/// swapped.
fn product(
    batch: &[usize],
    [m, n, k]: [usize; 3],
    [a_transposed, b_transposed]: [bool; 2],
) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let shape = |rows: usize, columns: usize, transposed: bool| {
        let matrix = if transposed { [columns, rows] } else { [rows, columns] };
        [batch, &matrix].concat()
    };
    let a = recorder.floats("a", shape(m, k, a_transposed));
    let b = recorder.floats("b", shape(k, n, b_transposed));
    recorder.record(|graph| {
        let (a, b) = (graph.entry(a), graph.entry(b));
        let a = if a_transposed { a.t() } else { a };
        let b = if b_transposed { b.t() } else { b };
        graph.output("product", a.matmul(b));
        Ok(())
    })
}
