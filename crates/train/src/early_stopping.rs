//! Early stopping: ends a training whose evaluated loss no longer falls.

/// Best evaluated loss so far, and the evaluations since.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct EarlyStopping {
    /// Lowest loss of an evaluation.
    pub best: Option<f64>,
    /// Evaluations since the best one.
    pub since_best: u64,
}

impl EarlyStopping {
    /// Records the loss of an evaluation.
    pub fn record(&mut self, loss: f64) {
        let improved = self.best.is_none_or(|best| loss < best);
        self.since_best = if improved { 0 } else { self.since_best + 1 };
        self.best = if improved { Some(loss) } else { self.best };
    }

    /// Whether the loss has not improved for `patience` evaluations.
    pub fn is_exhausted(&self, patience: Option<u64>) -> bool {
        patience.is_some_and(|patience| self.since_best >= patience)
    }
}
