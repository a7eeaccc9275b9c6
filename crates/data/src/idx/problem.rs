//! Faults of idx files.

/// Fault of an idx file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IdxProblem {
    /// Images of another size than the model expects.
    #[error("images of {rows}×{columns} pixels, expected {expected} pixels")]
    Width {
        /// Pixels of an example.
        expected: usize,
        /// Rows of an image.
        rows: usize,
        /// Columns of an image.
        columns: usize,
    },
    /// First four bytes other than those of an idx file of unsigned bytes.
    #[error("not an idx file of unsigned bytes: it starts with {found:02x?}, expected [00, 00, 08, rank]")]
    Magic {
        /// First four bytes.
        found: [u8; 4],
    },
    /// Images where labels were expected, or the reverse.
    #[error("an idx file of rank {found}, expected rank {expected} ({})", if *expected == 3 { "images" } else { "labels" })]
    Rank {
        /// 3 for images, 1 for labels.
        expected: usize,
        /// Rank in the header.
        found: usize,
    },
    /// Fewer bytes than the header states.
    #[error("truncated: expected {expected} bytes, found {found}; delete the file and get it again")]
    Truncated {
        /// Bytes of header and data, uncompressed.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// More bytes than the header states.
    #[error("expected {expected} bytes, found more; the header does not match the file")]
    Trailing {
        /// Bytes of header and data, uncompressed.
        expected: u64,
    },
    /// A product of the dimensions that exceeds the address space.
    #[error("the shape {shape:?} in the header is too large")]
    TooLarge {
        /// Dimensions.
        shape: Vec<usize>,
    },
    /// A label without a class.
    #[error("label {label} at position {index}, expected 0 to {}", .classes.saturating_sub(1))]
    Label {
        /// Position in the file.
        index: usize,
        /// Label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
}
