//! Description of an operation for tests, benchmarks and documentation: samples, tolerance, order of gradients, errors.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Graph, TensorType, Var};

use crate::sample::{BuildFn, Sample};

/// Description of an operation, primitive or composed.
pub struct OpInfo {
    /// Unique name; in most cases the name of the method.
    pub name: &'static str,
    /// Description in one or two sentences.
    pub doc: &'static str,
    /// Draws a random sample at which the operation is defined and, if it has a gradient, smooth.
    pub sample: fn(&mut Stream) -> Sample,
    /// Maximum error of f32 results, relative to the largest magnitude of the exact result, or to 1 if that is larger.
    pub tolerance: f64,
    /// Number of times the operation can be differentiated.
    pub gradient_order: GradientOrder,
    /// Returns invalid uses of the operation, with the error message that each use must produce.
    pub error_inputs: fn() -> Vec<ErrorInput>,
}

/// Number of times an operation can be differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GradientOrder {
    /// Zero times: the gradient of each differentiable input is zero by definition.
    Zero,
    /// Once.
    First,
    /// Any number of times.
    Any,
}

/// Invalid use of an operation. Recording it must produce an error.
pub struct ErrorInput {
    /// Types of the inputs.
    pub inputs: Vec<TensorType>,
    /// Part of the expected message.
    pub message: &'static str,
    /// Records the operation on the inputs.
    pub build: BuildFn,
}

/// Operations of one kind, in the order in which they are documented.
pub struct Family {
    /// Name of the family, e.g. `reductions`.
    pub name: &'static str,
    /// Operations of the family.
    pub ops: &'static [OpInfo],
}

impl ErrorInput {
    /// Creates an invalid use whose error must contain `message`.
    pub fn new(
        inputs: Vec<TensorType>,
        message: &'static str,
        build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g> + 'static,
    ) -> Self {
        Self { inputs, message, build: Box::new(build) }
    }
}

impl std::fmt::Debug for OpInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
