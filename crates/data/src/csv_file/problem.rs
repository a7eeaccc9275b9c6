//! Faults of CSV files.

/// Fault of a CSV file. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CsvProblem {
    /// No data lines.
    #[error(": no data lines")]
    Empty,
    /// Only one column.
    #[error(": only one column, expected features and a label; is `{delimiter}` the delimiter?")]
    OneColumn {
        /// Delimiter.
        delimiter: char,
    },
    /// A line with another number of columns than the first.
    #[error(":{line}: {found} columns, expected {expected} as in the first line")]
    Width {
        /// Line.
        line: u64,
        /// Columns of the first line.
        expected: usize,
        /// Columns of this line.
        found: usize,
    },
    /// A cell that is not a finite number.
    #[error(":{line}: column {column}: `{text}` is not a finite number")]
    Number {
        /// Line.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
        /// Text of the cell.
        text: String,
    },
    /// An empty class label.
    #[error(":{line}: column {column}: the label is empty")]
    EmptyLabel {
        /// Line.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
    },
    /// A fractional number as a class label.
    #[error(
        ":{line}: column {column}: `{text}` is a fraction, not a class; for numbers set `task = \"regression\"`"
    )]
    FractionalLabel {
        /// Line.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
        /// Text of the cell.
        text: String,
    },
    /// Integers and text in the label column.
    #[error(
        ":{line}: column {column}: the label `{text}` is text, but other labels are integers; if line {line} is a \
         header, set `header = true`; if text labels are classes too, set `header = false`"
    )]
    MixedLabels {
        /// Line.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
        /// Text of the cell.
        text: String,
    },
    /// No column with the name of the label.
    #[error(": no column `{label}`, known: {columns}")]
    NoLabel {
        /// Requested label.
        label: String,
        /// Column names, separated by commas.
        columns: String,
    },
    /// A label name for a file without a header.
    #[error(": the label column `{label}` needs a header, but `header = false`; use `label = \"last\"`")]
    NoHeader {
        /// Requested label.
        label: String,
    },
    /// Invalid UTF-8, or a read error.
    #[error(": {0}")]
    Read(String),
}
