//! Problems in idx files.

/// Problem in an idx file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IdxProblem {
    /// Images whose size does not match the input of the model.
    #[error("the images have {rows}×{columns} pixels, expected {expected} pixels in total")]
    Width {
        /// Number of pixels that the model expects.
        expected: usize,
        /// Number of rows of an image.
        rows: usize,
        /// Number of columns of an image.
        columns: usize,
    },
    /// A header that does not belong to an idx file of unsigned bytes.
    #[error("not an idx file of unsigned bytes: it starts with {found:02x?}, expected [00, 00, 08, rank]")]
    Magic {
        /// First four bytes of the file.
        found: [u8; 4],
    },
    /// An image file where a label file was expected, or the reverse.
    #[error("the idx file has rank {found}, expected rank {expected} ({})",
        if *expected == 3 { "images" } else { "labels" })]
    Rank {
        /// Expected rank: 3 for images, 1 for labels.
        expected: usize,
        /// Rank in the header.
        found: usize,
    },
    /// A file with fewer bytes than its header states.
    #[error(
        "the file is truncated: expected {expected} bytes, found {found}; delete the file and get it again"
    )]
    Truncated {
        /// Expected bytes of header and data, uncompressed.
        expected: u64,
        /// Number of bytes in the file, uncompressed.
        found: u64,
    },
    /// A file with more bytes than its header states.
    #[error(
        "expected {expected} bytes according to the header, found more; delete the file and get it again"
    )]
    Trailing {
        /// Expected bytes of header and data, uncompressed.
        expected: u64,
    },
    /// Dimensions whose product exceeds the address space.
    #[error("the shape {shape:?} in the header is too large")]
    TooLarge {
        /// Dimensions in the header.
        shape: Vec<usize>,
    },
    /// A label that is not a class index.
    #[error("label {index} is {label}, expected 0 to {}", .classes.saturating_sub(1))]
    Label {
        /// Index of the label, from 0.
        index: usize,
        /// Label in the file.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
}
