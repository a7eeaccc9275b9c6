//! Readbacks of a pass: values that the host reads while the pass still runs.

use wgrad_program::Readback;

/// Action of the host on the values of a readback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Adds the values to a gradient bucket. The field is the index among the gradient readbacks.
    AddToBucket(usize),
    /// Sums the values over all replicas while the pass waits for the sum.
    Sum {
        /// Whether this is the last sum of the pass.
        last: bool,
    },
}

/// Readbacks of a pass in order of completion, each with the action of the host.
#[derive(Debug, Default)]
pub(crate) struct Readbacks {
    pub readbacks: Vec<Readback>,
    pub actions: Vec<Action>,
}

impl Readbacks {
    /// Merges the readbacks of statistics, which are summed during the pass, with the readbacks of gradients.
    pub fn merge(statistics: Vec<Readback>, gradients: &[Readback]) -> Self {
        let count = statistics.len();
        let sums = statistics.into_iter().enumerate();
        let sums = sums.map(|(i, readback)| (readback, Action::Sum { last: i + 1 == count }));
        let gradients = gradients.iter().cloned().enumerate();
        let gradients = gradients.map(|(i, readback)| (readback, Action::AddToBucket(i)));
        // The sort is stable: a sum that other replicas wait for comes before gradients that are ready at the same
        // time.
        let mut all: Vec<(Readback, Action)> = sums.chain(gradients).collect();
        all.sort_by_key(|(readback, _)| readback.after);
        let (readbacks, actions) = all.into_iter().unzip();
        Self { readbacks, actions }
    }

    /// Whether the pass waits for sums.
    pub fn has_sums(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Sum { .. }))
    }
}
