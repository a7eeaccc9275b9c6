//! Whole training steps, and the sweeps over batch and width.

use crate::results::{Group, SweepPoint};
use wgrad_graph::GraphError;

use crate::cases::Case;
use crate::work::{Recorder, Work};
use crate::workload::{mlp, mlp_big, resnet20};

const BATCHES: [usize; 6] = [1, 4, 16, 64, 256, 1024];
const WIDTHS: [usize; 6] = [64, 128, 256, 512, 1024, 2048];
/// `mlp`'s own.
const BATCH: usize = 256;
const WIDTH: usize = 512;

pub(super) fn cases() -> Vec<Case> {
    let point = |axis: &str, at: usize| SweepPoint { axis: axis.into(), at: at as u64 };
    let perceptron = |name: String, width: usize, batch: usize| {
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
        all.push(perceptron(format!("mlp-batch-{batch}"), WIDTH, batch).quick_if(batch == 16));
    }
    for width in WIDTHS.into_iter().filter(|&width| width < WIDTH) {
        all.push(perceptron(format!("mlp-width-{width}"), width, BATCH));
    }
    all.push(perceptron("mlp".into(), WIDTH, BATCH).quick());
    for batch in BATCHES.into_iter().filter(|&batch| batch > BATCH) {
        all.push(perceptron(format!("mlp-batch-{batch}"), WIDTH, batch));
    }
    for width in WIDTHS.into_iter().filter(|&width| width > WIDTH) {
        all.push(perceptron(format!("mlp-width-{width}"), width, BATCH));
    }
    all.push(step("mlp-big".into(), 512, mlp_big));
    // A network of 20 layers is one that there is.
    all.push(step("resnet20".into(), 64, || {
        resnet20().unwrap_or_else(|| Recorder::new().record(|_| Ok(())))
    }));
    all
}

fn step(name: String, batch: usize, build: impl Fn() -> Result<Work, GraphError> + 'static) -> Case {
    Case { samples: Some(batch as u64), ..Case::new(Group::Step, name, build) }
}
