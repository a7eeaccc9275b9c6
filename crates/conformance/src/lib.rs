//! The checks that every operation and device gets for free.
//!
//! Everything is driven by the one table of `wgrad-ops`: an operation that is added there is checked here, on every device,
//! without a line of code. The judge is the f64 reference of `wgrad-cpu`, which shares no code with any device; gradients are
//! judged by central differences of it. [`suite`] runs everything and says what it found in a [`Report`]; a check is a
//! function of its own, a file a kind. [`faults`] plants known mistakes, which the same functions have to find.

mod definition;
pub mod device;
mod expectations;
pub mod faults;
pub mod gradient;
pub mod groups;
pub mod lint;
pub mod random;
mod report;
mod rig;
pub mod shader;
pub mod shape;
pub mod step;
mod subject;
mod suite;
mod trial;

pub use expectations::{EXPECTATIONS, Expectation};
pub use report::{Check, Failure, Outcome, Report, Row, Verdict};
pub use rig::{Planner, Rig};
pub use subject::{Scope, Subject};
pub use suite::{Options, Progress, REFERENCE, check_device, check_reference, suite};
pub use trial::Trial;
