//! Evaluation of a graph with a single call.

use wgrad_graph::{Graph, GraphError};
use wgrad_stdx::ErrorKind;

use crate::compile::{Options, compile};
use crate::device::{Data, Device, DeviceError, HostData};

/// Error of [`evaluate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The graph contains an error.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device reported an error.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl EvaluateError {
    /// Returns the category of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EvaluateError::Graph(error) => error.kind(),
            EvaluateError::Device(error) => error.kind(),
        }
    }
}

/// Plans, loads and runs a graph once with an all-zero state, and returns its outputs in order of declaration.
///
/// Intended for tests and small computations. To run a graph many times, plan it once with [`compile`] and keep the
/// session.
///
/// # Errors
/// Returns an error if the graph contains an error, if `inputs` do not match the inputs of the graph, or if the device
/// cannot allocate or run the program.
pub fn evaluate(
    device: &dyn Device,
    graph: &Graph,
    inputs: &[Data<'_>],
) -> Result<Vec<HostData>, EvaluateError> {
    let options = Options::within(&device.info().limits);
    let program = compile(graph, options)?;
    let mut session = device.session(graph.states())?;
    let id = session.load(&program)?;
    session.run(id, inputs)?;
    (0..program.outputs.len()).map(|i| Ok(session.output(id, i)?)).collect()
}
