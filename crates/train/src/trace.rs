//! The objective: from the outputs of a model to a loss and a metric for each example.

use wgrad_graph::{Graph, Var};
use wgrad_ops::TensorOps;

use crate::plan::Task;

/// A batch on the graph.
pub(crate) struct Batch<'g> {
    /// `[batch, features]`.
    pub features: Var<'g>,
    /// u32 `[batch]` classes, or `[batch, width]` values.
    pub targets: Var<'g>,
}

/// Loss, and for classification correctness (0 or 1), of each example: `[batch]`.
pub(crate) struct Objective<'g> {
    pub loss: Var<'g>,
    pub correct: Option<Var<'g>>,
}

impl<'g> Objective<'g> {
    /// `training` says whether labels are smoothed: a test loss is that of the labels as they are.
    pub fn of(graph: &'g Graph, task: Task, outputs: Var<'g>, targets: Var<'g>, training: bool) -> Self {
        graph.scope("objective", || match task {
            Task::Classification { label_smoothing, .. } => {
                let loss = match training && label_smoothing > 0.0 {
                    true => outputs.cross_entropy_smooth(targets, label_smoothing),
                    false => outputs.cross_entropy(targets),
                };
                Objective { loss, correct: Some(outputs.argmax(1).eq(targets)) }
            }
            Task::Regression { .. } => {
                Objective { loss: (outputs - targets).square().mean(&[1]), correct: None }
            }
        })
    }
}
