//! What can be wrong with a graph.

use std::fmt;

/// The rule of an operation that its inputs break, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(String);

impl Rule {
    /// A rule and how it was broken, e.g. "the inner dimensions must agree; 64 and 128 do not".
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A mistake in the code that builds a graph. The graph keeps the first one; compiling or differentiating returns it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The inputs of an operation break its rule.
    #[error("{op}({inputs}): {rule}\n  called at {location}{}", in_layer(.path))]
    Shape {
        /// Name of the operation.
        op: String,
        /// Types of its inputs, e.g. `f32[32, 64], f32[128, 10]`.
        inputs: String,
        /// The rule and how it was broken.
        rule: Rule,
        /// File and line of the call.
        location: String,
        /// Path of the layer, e.g. `body.0.linear`, or empty.
        path: String,
    },
    /// The planner is wrong: not a mistake of the model's author.
    #[error("the planner failed: {0}")]
    Planner(&'static str),
    /// A gradient was asked for that does not exist.
    #[error("no gradient of {op}: {reason}")]
    NoGradient {
        /// Name of the operation, with its layer path.
        op: String,
        /// Why there is none.
        reason: String,
    },
}

fn in_layer(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(", in layer {path}") }
}
