//! Errors of measuring.

use wgrad_cpu::reference::ReferenceError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;

/// Error of measuring cases.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The graph of a case is invalid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A device returned an error.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The reference cannot evaluate a case.
    #[error("the reference cannot evaluate the case: {0}")]
    Reference(#[from] ReferenceError),
    /// A case that is needed for a ceiling was not timed, because its result is wrong or the device failed.
    #[error("{case} was not timed: {reason}")]
    Untimed {
        /// Name of the case.
        case: String,
        /// Reason.
        reason: String,
    },
    /// No case matches a name.
    #[error("no case has a name that contains `{only}`{}", hint(.near))]
    NoCase {
        /// Name given.
        only: String,
        /// Similar names, best first.
        near: Vec<String>,
    },
    /// No workload has a name.
    #[error("unknown workload `{name}`; available: {}, matmul-N", crate::WORKLOADS.join(", "))]
    NoWorkload {
        /// Name given.
        name: String,
    },
}

fn hint(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; did you mean `{}`?", names.join("`, `")),
    }
}
