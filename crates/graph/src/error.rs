//! Errors in a graph.

use std::fmt;

use wgrad_stdx::{ErrorKind, InternalError};

/// Description of the shape or type rule that an operation's inputs break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(String);

impl Rule {
    /// Creates a rule from a text that states the rule and how the inputs break it, e.g. "the inner dimensions must
    /// agree; 64 and 128 do not".
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error in a graph. The graph stores its first error; compiling or differentiating the graph returns that error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The inputs of an operation break its shape or type rule.
    #[error("{op}({inputs}): {rule}\n  called at {location}{}", in_layer(.path))]
    Shape {
        /// Name of the operation.
        op: String,
        /// Types of the inputs, e.g. `f32[32, 64], f32[128, 10]`.
        inputs: String,
        /// The rule and how the inputs break it.
        rule: Rule,
        /// File and line of the call that recorded the operation.
        location: String,
        /// Path of the layer, e.g. `body.0.linear`, or empty.
        path: String,
    },
    /// The planner or an operation broke an invariant. This is a bug in wgrad, not in the model code.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// The gradient of an operation is undefined.
    #[error("{op} has no gradient: {reason}")]
    NoGradient {
        /// Name of the operation and the path of its layer, e.g. `name in body.0.linear`.
        op: String,
        /// Reason why the gradient is undefined.
        reason: String,
    },
}

impl GraphError {
    /// Returns the category of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            GraphError::Shape { .. } | GraphError::NoGradient { .. } => ErrorKind::Usage,
            GraphError::Internal(_) => ErrorKind::Internal,
        }
    }
}

fn in_layer(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(", in layer {path}") }
}
