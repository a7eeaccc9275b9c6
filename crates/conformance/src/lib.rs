//! Conformance checks of every operation on every device.
//!
//! The checks are driven by the operation table of `wgrad-ops`. An operation that is added to this table is checked on
//! every device without additional code. Results are compared with the f64 reference of `wgrad-cpu`, which shares no
//! code with any device. Gradients are compared with central differences of the reference. [`suite`] runs all checks
//! and returns a [`Report`]. Each kind of check is a function in its own file. [`faults`] plants known bugs, which the
//! same functions must detect.

mod definition;
pub mod device;
mod expectations;
pub mod faults;
pub mod gradient;
mod harness;
pub mod large_domain;
pub mod lint;
pub mod random;
mod report;
pub mod shader;
pub mod shape;
pub mod step;
mod suite;
mod test_device;
mod trial;

pub use expectations::{EXPECTATIONS, Expectation};
pub use harness::{Harness, Planner};
pub use report::{Check, Comparison, DeviceSummary, Failure, Outcome, Report};
pub use suite::{Options, Progress, REFERENCE, check_device, check_reference, suite};
pub use test_device::{Scope, TestDevice};
pub use trial::Trial;
