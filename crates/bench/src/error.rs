//! What can go wrong.

use wgrad_cpu::reference::ReferenceError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;
use wgrad_stdx::ErrorKind;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A case is recorded wrongly.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The judge cannot evaluate a case.
    #[error("the reference cannot judge this: {0}")]
    Reference(#[from] ReferenceError),
    /// A case that something is worked out from has no time.
    #[error("{case} could not be timed: {reason}")]
    Untimed {
        /// The case.
        case: String,
        /// Why.
        reason: String,
    },
    /// No case has such a name.
    #[error("no case has a name that contains `{only}`{}", hint(.near))]
    NoCase {
        /// What was asked for.
        only: String,
        /// Names like it, best first.
        near: Vec<String>,
    },
    /// No workload has this name.
    #[error("unknown workload {name}; there are {}, matmul-N", crate::WORKLOADS.join(", "))]
    NoWorkload {
        /// What was asked for.
        name: String,
    },
}

impl BenchError {
    /// Kind of the error, which decides the exit code of the command line.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Graph(_) | Self::NoCase { .. } | Self::NoWorkload { .. } => ErrorKind::Usage,
            Self::Device(_) => ErrorKind::Device,
            Self::Reference(_) | Self::Untimed { .. } => ErrorKind::Internal,
        }
    }
}

fn hint(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; did you mean `{}`?", names.join("`, `")),
    }
}
