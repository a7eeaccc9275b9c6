//! Planted faults: known mistakes, each of which a named check has to find. The checks themselves are checked by them.
//!
//! A fault is either an operation with a mistake, checked as if it stood in the table (`operations`, `images`), or a mistake put into
//! a correct program on its way to a device (`programs`). The same checks must pass where nothing is planted.

mod edit;
mod images;
mod operations;
mod programs;

use wgrad_program::Device;

use crate::report::{Check, Failure, Verdict};

/// A check, run with the mistake or without it.
type Run = Box<dyn Fn(&dyn Device, bool) -> Verdict>;

/// A known mistake.
pub struct Fault {
    /// What is wrong.
    pub name: &'static str,
    /// The check that has to find it.
    pub check: Check,
    /// Runs that check with the mistake or without it.
    run: Run,
}

/// Why a fault proves a check useless.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Survivor {
    /// The check passes although the fault is there.
    #[error("{check} does not find: {name}")]
    Survived {
        /// The fault.
        name: &'static str,
        /// The check.
        check: Check,
    },
    /// The check fails although nothing is planted.
    #[error("{check} fails without the fault: {name}: {failure}")]
    Baseline {
        /// The fault.
        name: &'static str,
        /// The check.
        check: Check,
        /// What it said.
        failure: Box<Failure>,
    },
}

impl Fault {
    fn new(name: &'static str, check: Check, run: impl Fn(&dyn Device, bool) -> Verdict + 'static) -> Self {
        Self { name, check, run: Box::new(run) }
    }

    /// Plants the fault and gives what the check said, on a device that need not be poisoned.
    ///
    /// # Errors
    /// The check passes with the fault, or fails without.
    pub fn hunt(&self, device: &dyn Device) -> Result<Failure, Survivor> {
        let (name, check) = (self.name, self.check);
        if let Err(failure) = (self.run)(device, false) {
            return Err(Survivor::Baseline { name, check, failure: failure.into() });
        }
        match (self.run)(device, true) {
            Err(failure) => Ok(failure),
            Ok(_) => Err(Survivor::Survived { name, check }),
        }
    }
}

/// Every fault.
pub fn faults() -> Vec<Fault> {
    let mut all = operations::faults();
    all.extend(images::faults());
    all.extend(programs::faults());
    all
}
