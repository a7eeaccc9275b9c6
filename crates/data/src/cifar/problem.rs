//! Problems in the files of CIFAR-10.

/// Problem in a file of CIFAR-10.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CifarProblem {
    /// A file whose length differs from the expected number of records.
    #[error("expected {expected} bytes, found {}; remove the folder and get the data again",
        if *.found > *.expected { "more".to_owned() } else { .found.to_string() })]
    Length {
        /// Expected length: number of records × 3,073 bytes.
        expected: usize,
        /// Bytes in the file, or `expected` + 1 if the file is longer.
        found: usize,
    },
    /// A label that is not a class index.
    #[error("record {record} has label {label}, expected 0 to 9")]
    Label {
        /// Index of the record, from 0.
        record: usize,
        /// Label in the file.
        label: u8,
    },
    /// A file of class names that does not contain ten names.
    #[error("expected 10 class names, one per line, found {found}")]
    Names {
        /// Number of names in the file.
        found: usize,
    },
}
