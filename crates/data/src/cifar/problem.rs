//! Faults of the files of CIFAR-10.

/// Fault of a file of CIFAR-10.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CifarProblem {
    /// A length other than that of the records.
    #[error("expected {expected} bytes, found {}; remove the folder and get the data again",
        if *.found > *.expected { "more".to_owned() } else { .found.to_string() })]
    Length {
        /// Records × 3,073 bytes.
        expected: usize,
        /// Bytes in the file; at most one more than expected is counted.
        found: usize,
    },
    /// A label without a class.
    #[error("record {record} has label {label}, expected 0 to 9")]
    Label {
        /// Index of the record, from 0.
        record: usize,
        /// Label.
        label: u8,
    },
    /// A file of class names without ten names.
    #[error("expected 10 class names, one per line, found {found}")]
    Names {
        /// Number of names.
        found: usize,
    },
}
