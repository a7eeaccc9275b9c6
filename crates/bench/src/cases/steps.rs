//! Cases for training steps, including sweeps over batch size and network width.

use crate::results::{Group, SweepPoint};
use wgrad_graph::GraphError;

use crate::cases::Case;
use crate::workload::{Recorder, Workload};
use crate::workloads::{mlp, mlp_big, resnet20};

const BATCHES: [usize; 6] = [1, 4, 16, 64, 256, 1024];
const WIDTHS: [usize; 6] = [64, 128, 256, 512, 1024, 2048];
/// Batch size of the workload `mlp`.
const BATCH: usize = 256;
/// Width of the hidden layers of the workload `mlp`.
const WIDTH: usize = 512;

pub(super) fn cases() -> Vec<Case> {
    let point = |axis: &str, at: usize| SweepPoint { axis: axis.into(), at: at as u64 };
    let mlp_case = |name: String, width: usize, batch: usize| {
        let mut sweeps = Vec::new();
        if width == WIDTH {
            sweeps.push(point("batch", batch));
        }
        if batch == BATCH {
            sweeps.push(point("width", width));
        }
        Case { sweeps, ..step(name, batch, move || mlp(width, batch)) }
    };
    let mut all = Vec::new();
    for batch in BATCHES.into_iter().filter(|&batch| batch < BATCH) {
        all.push(mlp_case(format!("mlp-batch-{batch}"), WIDTH, batch).quick_if(batch == 16));
    }
    for width in WIDTHS.into_iter().filter(|&width| width < WIDTH) {
        all.push(mlp_case(format!("mlp-width-{width}"), width, BATCH));
    }
    all.push(mlp_case("mlp".into(), WIDTH, BATCH).quick());
    for batch in BATCHES.into_iter().filter(|&batch| batch > BATCH) {
        all.push(mlp_case(format!("mlp-batch-{batch}"), WIDTH, batch));
    }
    for width in WIDTHS.into_iter().filter(|&width| width > WIDTH) {
        all.push(mlp_case(format!("mlp-width-{width}"), width, BATCH));
    }
    all.push(step("mlp-big".into(), 512, mlp_big));
    // `resnet20` is `None` only for an unsupported depth, and 20 layers are supported.
    all.push(step("resnet20".into(), 64, || {
        resnet20().unwrap_or_else(|| Recorder::new().record(|_| Ok(())))
    }));
    all
}

fn step(name: String, batch: usize, build: impl Fn() -> Result<Workload, GraphError> + 'static) -> Case {
    Case { samples: Some(batch as u64), ..Case::new(Group::Step, name, build) }
}
