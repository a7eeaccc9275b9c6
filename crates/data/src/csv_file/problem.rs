//! Problems in CSV files.

/// Problem in a CSV file. Line numbers and column numbers start at 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CsvProblem {
    /// A file without data lines.
    #[error(": no data lines; expected at least one")]
    Empty,
    /// A file with only one column.
    #[error(
        ": found only one column, expected features and a label; check whether `{delimiter}` is the delimiter"
    )]
    OneColumn {
        /// Delimiter that was used to split the line.
        delimiter: char,
    },
    /// A line whose number of columns differs from that of the first line.
    #[error(":{line}: {found} columns, expected {expected} as in the first line")]
    Width {
        /// Line number.
        line: u64,
        /// Number of columns in the first line.
        expected: usize,
        /// Number of columns in this line.
        found: usize,
    },
    /// A cell that is not a finite number.
    #[error(":{line}: column {column}: `{text}` is not a finite number")]
    Number {
        /// Line number.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
        /// Text of the cell.
        text: String,
    },
    /// An empty class label.
    #[error(":{line}: column {column}: the label is empty")]
    EmptyLabel {
        /// Line number.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
    },
    /// A fractional number as a class label.
    #[error(
        ":{line}: column {column}: `{text}` is not an integer class; to predict numbers, set `task = \"regression\"`"
    )]
    FractionalLabel {
        /// Line number.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
        /// Text of the cell.
        text: String,
    },
    /// A label column that contains both integers and text.
    #[error(
        ":{line}: column {column}: the label `{text}` is text, but other labels are integers; if line {line} is a \
         header, set `header = true`; if text labels are classes too, set `header = false`"
    )]
    MixedLabels {
        /// Line number.
        line: u64,
        /// Number of the column, and its name if there is a header.
        column: String,
        /// Text of the cell.
        text: String,
    },
    /// No column has the requested label name.
    #[error(": the label column `{label}` does not exist; the columns are {columns}")]
    NoLabel {
        /// Requested name of the label column.
        label: String,
        /// Names of all columns, separated by commas.
        columns: String,
    },
    /// Several columns have the requested label name. Column numbers start at 1.
    #[error(
        ": the columns {first} and {second} are both called `{label}`; rename the one that is not the label"
    )]
    DuplicateLabel {
        /// Requested name of the label column.
        label: String,
        /// Number of the first column with this name.
        first: usize,
        /// Number of the second column with this name.
        second: usize,
    },
    /// A quoted cell without a closing quote.
    #[error(":{line}: the quote that opens in this line is not closed before the end of the file")]
    UnclosedQuote {
        /// Line number of the opening quote.
        line: u64,
    },
    /// A label column was requested by name, but the file has no header.
    #[error(
        ": the label column `{label}` needs a header, but `header = false`; remove `label` to use the last column"
    )]
    NoHeader {
        /// Requested name of the label column.
        label: String,
    },
    /// A read error, or text that is not UTF-8.
    #[error(": {0}")]
    Read(String),
}
