//! Options of CSV files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DEFAULT_TEST_FRACTION, refuse};
use crate::csv_file::{CsvOptions, Task};
use crate::error::DataError;

/// Options of a CSV file of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CsvData {
    /// CSV file, plain or gzipped; a relative path is resolved from the working directory.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: PathBuf,
    /// Name of the column to predict, as in the header. Absent: the last column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Prediction task: classification or regression.
    #[serde(default)]
    pub task: Task,
    /// Whether the first line contains the column names. Absent: detected from the first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// ASCII character between two cells. Must not occur in numbers.
    #[serde(default = "comma")]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[^A-Za-z0-9\"\\r\\n.+\\-\\u0080-\\uFFFF]$")))]
    pub delimiter: char,
    /// Fraction of the rows used for testing. For classification, the same fraction is drawn from each class.
    #[serde(default = "default_test_fraction")]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    pub test_fraction: f64,
    /// Seed of the split, independent of `train.seed`, so that runs with different training seeds use the same test
    /// rows.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9_223_372_036_854_775_807_u64)))]
    pub split_seed: u64,
    /// Whether each input column is scaled to mean 0 and standard deviation 1 on the training rows.
    #[serde(default = "yes")]
    pub standardize: bool,
}

impl CsvData {
    /// Creates the specification of a CSV file with default options.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            label: None,
            task: Task::default(),
            header: None,
            delimiter: comma(),
            test_fraction: default_test_fraction(),
            split_seed: 0,
            standardize: yes(),
        }
    }

    pub(super) fn check(&self) -> Result<(), DataError> {
        let delimiter = self.delimiter;
        if !delimiter.is_ascii() || delimiter.is_ascii_alphanumeric() || "\"\r\n.-+".contains(delimiter) {
            let rule = "must be an ASCII character that is not part of a number";
            return refuse("delimiter", format!("{rule}, found {delimiter:?}"));
        }
        Ok(())
    }

    /// Returns the options of the CSV reader.
    pub(crate) fn reader_options(&self) -> CsvOptions {
        CsvOptions {
            label: self.label.clone(),
            task: self.task,
            header: self.header,
            delimiter: u8::try_from(self.delimiter).unwrap_or(b','),
        }
    }
}

fn comma() -> char {
    ','
}

fn default_test_fraction() -> f64 {
    DEFAULT_TEST_FRACTION
}

fn yes() -> bool {
    true
}
