//! What drivers get wrong and cannot be worked around at a sensible price: data with a reason, counted and printed, so that no
//! check needs to know a driver's name.

use crate::report::Check;

/// A failure that is known.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    /// Name of the operation.
    pub subject: &'static str,
    /// The check that fails.
    pub check: Check,
    /// Part of the device's name.
    pub device: &'static str,
    /// Why, and why it does no harm.
    pub reason: &'static str,
}

/// All of them.
pub static EXPECTATIONS: &[Expectation] = &[Expectation {
    subject: "variance",
    check: Check::NotANumber,
    device: "llvmpipe",
    reason: "Mesa folds x − x to 0 even for NaN, and the variance of a single element is that; a NaN among several comes out",
}];

/// The expectation that covers a failure.
pub(crate) fn covering(subject: &str, check: Check, device: &str) -> Option<&'static Expectation> {
    EXPECTATIONS.iter().find(|e| e.subject == subject && e.check == check && device.contains(e.device))
}
