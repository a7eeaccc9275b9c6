//! Error messages for users, and exit codes. Exit codes are defined only here.

use std::process::ExitCode;

use wgrad_bench::BenchError;
use wgrad_bench::results::{BenchFileError, CompareError};
use wgrad_cluster::MachineError;
use wgrad_comm::CommError;
use wgrad_data::DataError;
use wgrad_graph::GraphError;
use wgrad_program::DeviceError;
use wgrad_recipe::RecipeError;
use wgrad_report::OutputError;
use wgrad_run::{CheckpointError, RunDirError};
use wgrad_stdx::ErrorKind;
use wgrad_studies::scaling::history::HistoryError;
use wgrad_studies::scaling::sweep::SweepError;
use wgrad_train::TrainError;

/// Prints an error and returns its exit code: 2 usage or recipe, 3 data, 4 device, 5 numeric, 6 checkpoint or run
/// directory, 7 other replicas, 1 anything else. A failure of another replica keeps that replica's code.
///
/// A closed stdout, as with `head`, is not a failure.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let is_broken_pipe = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    // Most messages include their cause already.
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    crate::terminal::error(&message);
    ExitCode::from(code(error))
}

/// Returns the exit code of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    let known = error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<TrainError>() {
            return Some(match error {
                TrainError::Comm(CommError::Aborted { code, .. }) => *code,
                _ => exit_code(error.kind()),
            });
        }
        match cause.downcast_ref::<BenchError>() {
            Some(BenchError::NoCase { .. } | BenchError::NoWorkload { .. } | BenchError::Graph(_)) => {
                return Some(2);
            }
            Some(BenchError::Device(_)) => return Some(4),
            _ => {}
        }
        let is = |yes: bool, code: u8| yes.then_some(code);
        is(cause.is::<RecipeError>() || cause.is::<Usage>(), 2)
            .or_else(|| is(cause.is::<BenchFileError>() || cause.is::<CompareError>(), 2))
            .or_else(|| is(cause.is::<OutputError>() || cause.is::<MachineError>(), 2))
            .or_else(|| is(cause.is::<SweepError>(), 2))
            .or_else(|| is(cause.is::<DataError>() || cause.is::<HistoryError>(), 3))
            .or_else(|| Some(exit_code(cause.downcast_ref::<GraphError>()?.kind())))
            .or_else(|| Some(exit_code(cause.downcast_ref::<DeviceError>()?.kind())))
            .or_else(|| match cause.downcast_ref::<CommError>()? {
                CommError::Aborted { code, .. } => Some(*code),
                error => Some(exit_code(error.kind())),
            })
            .or_else(|| is(cause.is::<CheckpointError>() || cause.is::<RunDirError>(), 6))
    });
    known.unwrap_or(1)
}

/// Returns the exit code of a kind of errors.
fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Internal => 1,
        ErrorKind::Usage => 2,
        ErrorKind::Data => 3,
        ErrorKind::Device => 4,
        ErrorKind::Numeric => 5,
        ErrorKind::Storage => 6,
        ErrorKind::Replica => 7,
    }
}

/// Wrong use of a command that the argument parser cannot detect.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
