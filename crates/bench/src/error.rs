//! Errors that occur while measuring.

use wgrad_cpu::reference::ReferenceError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;
use wgrad_stdx::ErrorKind;

/// Error while selecting or measuring benchmark cases.
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
    /// A case required for a ceiling was not timed, because its result is wrong or the device failed.
    #[error("case `{case}` was not timed: {reason}")]
    Untimed {
        /// Name of the case.
        case: String,
        /// Reason why the case was not timed.
        reason: String,
    },
    /// No case matches the given name.
    #[error("no case has a name that contains `{only}`{}", hint(.near))]
    NoCase {
        /// Value of `--only`: part of the name of a case, or the name of a group.
        only: String,
        /// Names of similar cases, most similar first.
        near: Vec<String>,
    },
    /// No workload has the given name.
    #[error("unknown workload `{name}`; available: {}, matmul-N", crate::WORKLOADS.join(", "))]
    NoWorkload {
        /// Name that was looked up.
        name: String,
    },
}

impl BenchError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Graph(_) | Self::NoCase { .. } | Self::NoWorkload { .. } => ErrorKind::Usage,
            Self::Device(_) => ErrorKind::Device,
            Self::Untimed { .. } => ErrorKind::Numeric,
            // Every case is built in, so the reference must be able to evaluate it.
            Self::Reference(_) => ErrorKind::Internal,
        }
    }
}

fn hint(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; did you mean `{}`?", names.join("`, `")),
    }
}
