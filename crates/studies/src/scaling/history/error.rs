//! Errors of reading a table of systems.

use super::table::truncated;
use std::fmt;
use wgrad_stdx::ErrorKind;

/// Reason why a table cannot be read or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The file is empty.
    #[error("{source_name} is empty")]
    Empty {
        /// Name of the table.
        source_name: String,
    },
    /// The file has a header and no rows.
    #[error("{source_name} has a header but no rows")]
    NoRows {
        /// Name of the table.
        source_name: String,
    },
    /// A required column is missing.
    #[error(
        "{source_name} has no column {column:?}{}; its {} columns are {}",
        Hint(nearest.as_deref(), *separator),
        found.len(),
        truncated(&found.join(", "))
    )]
    Column {
        /// Name of the table.
        source_name: String,
        /// Name of the missing column.
        column: &'static str,
        /// Column with the most similar name, if any is similar.
        nearest: Option<String>,
        /// Separator that the file seems to use instead of commas.
        separator: Option<char>,
        /// Columns of the file, in order.
        found: Vec<String>,
    },
    /// A column occurs more than once.
    #[error("{source_name} has the column {column:?} more than once")]
    Twice {
        /// Name of the table.
        source_name: String,
        /// Name of the column that occurs more than once.
        column: String,
    },
    /// The name of a column is not UTF-8.
    #[error("the header of {source_name} is not UTF-8: {}", truncated(name))]
    Header {
        /// Name of the table.
        source_name: String,
        /// Name of the column with its invalid bytes escaped.
        name: String,
    },
    /// A quoted field is not closed, so that it would extend to the end of the file.
    #[error("{source_name}, line {line}: the quoted field that begins on this line is not closed")]
    Quote {
        /// Name of the table.
        source_name: String,
        /// Line number in the file, from 1.
        line: u64,
    },
    /// The CSV reader reports an error.
    #[error("{source_name}, line {line}: {reason}")]
    Read {
        /// Name of the table.
        source_name: String,
        /// Line number in the file, from 1.
        line: u64,
        /// Error of the CSV reader.
        reason: String,
    },
    /// No system of the table has usable training compute.
    #[error(
        "{source_name} has no system with usable training compute; entries left out: {left_out}, the first on line {line}: {reason}"
    )]
    NoSystems {
        /// Name of the table.
        source_name: String,
        /// Number of entries that were left out.
        left_out: usize,
        /// Line number of the first entry that was left out.
        line: u64,
        /// Reason why the first entry was left out.
        reason: String,
    },
    /// There are too few resamples for an interval.
    #[error("{resamples} resamples are too few for an interval; at least {least} are required")]
    Resamples {
        /// Requested number of bootstrap resamples.
        resamples: usize,
        /// Minimum number of bootstrap resamples.
        least: usize,
    },
}

impl HistoryError {
    /// Returns the kind of the error, from which the command line derives its exit code.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }
}

/// Hint about a missing column: the separator of the file if it is not a comma, else the most similar name.
struct Hint<'a>(Option<&'a str>, Option<char>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(_, Some('\t')) => {
                f.write_str(" (the columns seem to be separated by tabs; commas are required)")
            }
            Self(_, Some(separator)) => {
                write!(f, " (the columns seem to be separated by `{separator}`; commas are required)")
            }
            Self(Some(name), None) => write!(f, " (the most similar column is {:?})", truncated(name)),
            Self(None, None) => Ok(()),
        }
    }
}
