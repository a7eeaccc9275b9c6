//! The short way: compute the outputs of a graph once.

use wgrad_graph::{Graph, GraphError};

use crate::compile::{Options, compile};
use crate::device::{Data, Device, DeviceError, HostData};

/// Why a graph could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The graph is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Plans, loads and runs a graph once, with its state all zero, and reads its outputs in order of declaration.
///
/// For tests and small things. What runs many times is better planned once with [`compile`] and kept in a session.
///
/// # Errors
/// A mistake in the graph; what the device reports.
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
