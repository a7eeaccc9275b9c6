//! Planted faults: known bugs that a given check must detect. Planted faults test the checks.
//!
//! There are two kinds of faults. The first kind is an operation with a bug, which is checked as if it were in the
//! operation table (`operations`, `images`). The second kind is a bug that is planted in a correct program before the
//! program is loaded on a device (`programs`). The same checks must pass without the fault.

mod edit;
mod images;
mod operations;
mod programs;

use wgrad_program::Device;
use wgrad_stdx::ErrorKind;

use crate::report::{Check, Comparison, Failure};

/// Runs a check on a device. The second argument is whether the fault is planted.
type Run = Box<dyn Fn(&dyn Device, bool) -> Comparison>;

/// A known bug, with the check that must detect it.
pub struct Fault {
    /// Description of the bug.
    pub name: &'static str,
    /// Check that must detect the bug.
    pub check: Check,
    /// Runs the check on a device, with or without the bug.
    run: Run,
}

/// Error of a check that does not detect a planted fault, or fails without the fault.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UndetectedFault {
    /// The check passes although the fault is planted.
    #[error("the check `{check}` does not detect the planted fault `{name}`")]
    Missed {
        /// Name of the fault.
        name: &'static str,
        /// Check that passed.
        check: Check,
    },
    /// The check fails although no fault is planted.
    #[error("the check `{check}` fails even if the fault `{name}` is not planted: {failure}")]
    Baseline {
        /// Name of the fault.
        name: &'static str,
        /// Check that failed.
        check: Check,
        /// Failure of the check.
        failure: Box<Failure>,
    },
}

impl UndetectedFault {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

impl Fault {
    fn new(
        name: &'static str,
        check: Check,
        run: impl Fn(&dyn Device, bool) -> Comparison + 'static,
    ) -> Self {
        Self { name, check, run: Box::new(run) }
    }

    /// Plants the fault and returns the failure of its check. `device` need not fill its memory with NaN.
    ///
    /// # Errors
    /// Returns an error if the check passes with the fault or fails without it.
    pub fn detect(&self, device: &dyn Device) -> Result<Failure, UndetectedFault> {
        let (name, check) = (self.name, self.check);
        if let Err(failure) = (self.run)(device, false) {
            return Err(UndetectedFault::Baseline { name, check, failure: failure.into() });
        }
        match (self.run)(device, true) {
            Err(failure) => Ok(failure),
            Ok(_) => Err(UndetectedFault::Missed { name, check }),
        }
    }
}

/// Returns all faults.
pub fn faults() -> Vec<Fault> {
    let mut all = operations::faults();
    all.extend(images::faults());
    all.extend(programs::faults());
    all
}
