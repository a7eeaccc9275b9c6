//! Why there is no history.

use super::table::cut;
use std::fmt;

/// Why a table cannot be read, or gives no history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Nothing is in the file.
    #[error("{source_name} is empty")]
    Empty {
        /// The file.
        source_name: String,
    },
    /// There is a header, and nothing below it.
    #[error("{source_name} has no rows, only a header")]
    NoRows {
        /// The file.
        source_name: String,
    },
    /// A column that is needed is not there.
    #[error(
        "{source_name} has no column {column:?}{}; its columns ({}): {}",
        Hint(nearest.as_deref(), *separator),
        found.len(),
        cut(&found.join(", "))
    )]
    Column {
        /// The file.
        source_name: String,
        /// What is missing.
        column: &'static str,
        /// A column of a similar name, if there is one.
        nearest: Option<String>,
        /// What seems to separate the columns in place of the comma, if something does.
        separator: Option<char>,
        /// The columns that are there, in their order.
        found: Vec<String>,
    },
    /// A column that is needed is there more than once.
    #[error("{source_name} has the column {column:?} twice")]
    Twice {
        /// The file.
        source_name: String,
        /// The column.
        column: String,
    },
    /// The name of a column is not UTF-8.
    #[error("the header of {source_name} is not UTF-8: {}", cut(name))]
    Header {
        /// The file.
        source_name: String,
        /// The name, with escapes.
        name: String,
    },
    /// A quote has no end, so that the rest of the file would be one field.
    #[error("{source_name}, line {line}: a quote that begins here never ends")]
    Quote {
        /// The file.
        source_name: String,
        /// The line, from 1.
        line: u64,
    },
    /// The file cannot be read on.
    #[error("{source_name}, line {line}: {reason}")]
    Read {
        /// The file.
        source_name: String,
        /// The line, from 1.
        line: u64,
        /// What the parser says.
        reason: String,
    },
    /// No system of the table has training compute.
    #[error(
        "no system of {source_name} has training compute that can be used; left out: {left_out}, line {line} first: {reason}"
    )]
    NoSystems {
        /// The file.
        source_name: String,
        /// How much was left out.
        left_out: usize,
        /// The line of the first of these.
        line: u64,
        /// Why that was left out.
        reason: String,
    },
    /// Too few resamples for the ends of an interval.
    #[error("{resamples} resamples are too few for an interval, which takes at least {least}")]
    Resamples {
        /// How many were asked for.
        resamples: usize,
        /// How many there have to be.
        least: usize,
    },
}

/// What may be meant: another separator explains more than a similar name.
struct Hint<'a>(Option<&'a str>, Option<char>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(_, Some('\t')) => f.write_str(" (is it separated by tabs? Commas are needed)"),
            Self(_, Some(separator)) => write!(f, " (is it separated by `{separator}`? Commas are needed)"),
            Self(Some(name), None) => write!(f, " (the nearest is {:?})", cut(name)),
            Self(None, None) => Ok(()),
        }
    }
}
