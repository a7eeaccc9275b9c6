//! Early stopping: ends a training run whose evaluation loss no longer decreases.

/// Lowest evaluation loss so far, and the number of evaluations since then.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct EarlyStopping {
    /// Lowest evaluation loss; `None` before the first evaluation.
    pub best: Option<f64>,
    /// Number of evaluations since the lowest loss.
    pub since_best: u64,
}

impl EarlyStopping {
    /// Updates the lowest loss and the counter with an evaluation loss.
    pub fn record(&mut self, loss: f64) {
        let improved = self.best.is_none_or(|best| loss < best);
        self.since_best = if improved { 0 } else { self.since_best + 1 };
        self.best = if improved { Some(loss) } else { self.best };
    }

    /// Whether the last `patience` evaluations did not lower the loss. Returns false if `patience` is `None`.
    pub fn is_exhausted(&self, patience: Option<u64>) -> bool {
        patience.is_some_and(|patience| self.since_best >= patience)
    }
}
