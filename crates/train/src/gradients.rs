//! Norms of gradients, computed without a training step.

use wgrad_data::LoaderPosition;
use wgrad_program::{Options, compile};
use wgrad_stdx::never;

use crate::error::TrainError;
use crate::trainer::Trainer;

impl Trainer {
    /// Returns the Euclidean norm of the loss gradient of each weight with more than one dimension, on the first batch
    /// of the run. The norms are named and in order of declaration.
    ///
    /// The step count, the moments and the position in the data stay unchanged; running statistics are updated with the
    /// batch.
    ///
    /// # Errors
    /// Returns an error if the graph is invalid or cannot be compiled, or if the device or the batch source fails.
    pub fn gradient_norms(&mut self) -> Result<Vec<(String, f32)>, TrainError> {
        let graph = self.plan().trace_gradient_norms()?;
        let program = compile(&graph, Options::within(&self.device().limits))?;
        let position = self.runner.source.position();
        self.runner.source.restore(LoaderPosition::default())?;
        let id = self.run_once(&program, 0)?;
        self.runner.source.restore(position)?;
        let names = graph.outputs().into_iter().map(|(name, _)| name);
        let norm = |(i, name): (usize, String)| {
            let value = self.runner.session.output(id, i)?.to_f32();
            let norm = value.first().ok_or_else(|| never!("the norm of a gradient has no element"))?;
            Ok((name, *norm))
        };
        names.enumerate().map(norm).collect()
    }
}
