//! Known driver bugs that cannot be worked around at a reasonable cost.
//!
//! They are data with a reason and are counted and printed, so that no check needs to know a driver's name.

use crate::report::Check;

/// A known failure.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    /// Name of the operation.
    pub subject: &'static str,
    /// The check that fails.
    pub check: Check,
    /// Part of the device's name.
    pub device: &'static str,
    /// Cause of the failure, and why it is harmless.
    pub reason: &'static str,
}

/// All known failures.
pub static EXPECTATIONS: &[Expectation] = &[Expectation {
    subject: "variance",
    check: Check::NotANumber,
    device: "llvmpipe",
    reason: "Mesa folds x − x to 0 even for NaN, and the variance of a single element is that; a NaN among several comes out",
}];

/// Returns the expectation that covers a failure.
pub(crate) fn find_expectation(subject: &str, check: Check, device: &str) -> Option<&'static Expectation> {
    EXPECTATIONS.iter().find(|e| e.subject == subject && e.check == check && device.contains(e.device))
}
