//! Known driver bugs that cannot be worked around at a reasonable cost.
//!
//! Each bug is an entry of a table, with a reason, so that the checks contain no code for a specific driver. Expected
//! failures are counted and printed in reports.

use crate::report::Check;

/// A known failure of a check, caused by a driver bug.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    /// Name of the operation.
    pub subject: &'static str,
    /// Check that fails.
    pub check: Check,
    /// Text that the names of the affected devices contain.
    pub device: &'static str,
    /// Cause of the failure, and why it is harmless.
    pub reason: &'static str,
}

/// All known failures.
pub static EXPECTATIONS: &[Expectation] = &[Expectation {
    subject: "variance",
    check: Check::NotANumber,
    device: "llvmpipe",
    reason: "Mesa folds x − x to 0 even for NaN, which hides a NaN in the variance of a single element, but not of several",
}];

/// Returns the expectation that covers a failure of `check` for operation `subject` on `device`, or `None`.
pub(crate) fn find_expectation(subject: &str, check: Check, device: &str) -> Option<&'static Expectation> {
    EXPECTATIONS.iter().find(|e| e.subject == subject && e.check == check && device.contains(e.device))
}
