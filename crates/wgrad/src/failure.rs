//! Error messages for users, and exit codes. Exit codes are those of [`ErrorKind`].

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
use wgrad_studies::depth::StudyError;
use wgrad_studies::run::ReportError;
use wgrad_studies::scaling::history::HistoryError;
use wgrad_studies::scaling::sweep::SweepError;
use wgrad_train::TrainError;
use wgrad_weights::WeightsError;

/// Prints an error and returns its exit code: 2 usage or recipe, 3 data, 4 device, 5 numeric, 6 checkpoint or run
/// directory, 7 other replicas, 1 any other error. If another replica failed, the exit code of that replica is
/// returned.
///
/// A closed stdout, for example in `wgrad … | head`, is not a failure.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let is_broken_pipe = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    // Most messages already include their cause.
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    crate::terminal::error(&message);
    ExitCode::from(code(error))
}

/// Returns the exit code of the first cause with a known type, or 1.
pub fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(known_code).unwrap_or(1)
}

fn known_code(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    // If another replica failed, the exit code of that replica is returned.
    let comm = match cause.downcast_ref() {
        Some(TrainError::Comm(error)) => Some(error),
        _ => cause.downcast_ref::<CommError>(),
    };
    if let Some(CommError::Aborted { code, .. }) = comm {
        return Some(*code);
    }
    macro_rules! kind_of {
        ($($error:ty),* $(,)?) => {
            None$(.or_else(|| cause.downcast_ref::<$error>().map(<$error>::kind)))*
        };
    }
    let kind: Option<ErrorKind> = kind_of!(
        TrainError,
        CommError,
        RecipeError,
        DataError,
        GraphError,
        DeviceError,
        BenchError,
        BenchFileError,
        CompareError,
        OutputError,
        MachineError,
        SweepError,
        HistoryError,
        CheckpointError,
        RunDirError,
        ReportError,
        StudyError,
        WeightsError,
        Usage,
    );
    kind.map(ErrorKind::exit_code)
}

/// Usage error that the argument parser cannot detect. Holds the message.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Usage {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}
