//! Gradients looked at, without a step: how large they are layer by layer.

use wgrad_data::LoaderPosition;
use wgrad_program::{Options, compile};

use crate::error::TrainError;
use crate::trainer::Trainer;

impl Trainer {
    /// The Euclidean norm of the loss's gradient for each weight that is a matrix or a kernel, by name in the order in which
    /// the model declares them, on the first batch of the run. Steps, moments and the place in the data stay as they are;
    /// running statistics take the batch in.
    ///
    /// # Errors
    /// Mistakes in the model; what the device reports.
    pub fn gradient_norms(&mut self) -> Result<Vec<(String, f32)>, TrainError> {
        let graph = self.plan.trace_gradient_norms()?;
        let options = Options::within(&self.device().limits);
        let position = self.feed.position();
        self.feed.restore(LoaderPosition::default())?;
        let id = self.rerun(&compile(&graph, options)?, 0)?;
        self.feed.restore(position)?;
        let names = graph.outputs().into_iter().map(|(name, _)| name);
        let norm = |(i, name): (usize, String)| {
            let value = self.session.output(id, i)?.to_f32();
            Ok((name, value.first().copied().unwrap_or(f32::NAN)))
        };
        names.enumerate().map(norm).collect()
    }
}
