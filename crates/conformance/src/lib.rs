//! Conformance checks of every operation on every device.
//!
//! Checks are driven by the operation table of `wgrad-ops`: an operation that is added to the table is checked here on
//! every device, without additional code. Results are compared with the f64 reference of `wgrad-cpu`, which shares no
//! code with any device. Gradients are compared with central differences of the reference. [`suite`] runs all checks
//! and returns a [`Report`]. Each kind of check is a function in its own file. [`faults`] plants known bugs, which the
//! same functions must detect.

mod definition;
pub mod device;
mod expectations;
pub mod faults;
pub mod gradient;
pub mod large_domain;
pub mod lint;
pub mod random;
mod report;
mod harness;
pub mod shader;
pub mod shape;
pub mod step;
mod test_device;
mod suite;
mod trial;

pub use expectations::{EXPECTATIONS, Expectation};
pub use report::{Check, Failure, Outcome, Report, DeviceSummary, Comparison};
pub use harness::{Planner, Harness};
pub use test_device::{Scope, TestDevice};
pub use suite::{Options, Progress, REFERENCE, check_device, check_reference, suite};
pub use trial::Trial;
