//! Failed attempts to get a file.

/// Failed attempt to get a file from one source.
#[derive(Debug)]
pub struct FetchAttempt {
    /// URL, or path in the mirror.
    pub source: String,
    /// Reason of the failure.
    pub problem: FetchProblem,
}

/// Reason why an attempt to get a file failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FetchProblem {
    /// An error status of the server.
    #[error("the server answered {}{}", .0, status_name(*.0))]
    Status(u16),
    /// A failed connection, a timeout, or a broken answer.
    #[error("{0}")]
    Transport(String),
    /// A connection that ended early. The received bytes are kept, so that the next run continues there.
    #[error("the connection ended after {received} of {} bytes; run the command again to continue there",
        .expected.map_or("an unknown number of".to_owned(), |n| n.to_string()))]
    Cut {
        /// Bytes on disk.
        received: u64,
        /// Announced bytes.
        expected: Option<u64>,
    },
    /// A server that did not continue at the requested byte; the partial file is deleted.
    #[error("the server could not continue at byte {0}; the partial file was deleted")]
    Range(u64),
    /// Content of another size.
    #[error("{content} has {found} bytes, expected {expected}; the partial file was deleted")]
    Size {
        /// Measured content: the file or its unpacked content.
        content: &'static str,
        /// Pinned size.
        expected: u64,
        /// Actual size.
        found: u64,
    },
    /// Content that is longer than its pinned size.
    #[error("{content} is longer than the expected {expected} bytes; the partial file was deleted")]
    TooLong {
        /// Measured content: the file or its unpacked content.
        content: &'static str,
        /// Pinned size, or the maximum size of a compressed file of the pinned content.
        expected: u64,
    },
    /// Content with another hash.
    #[error("the {algorithm} of {content} is {actual}, expected {expected}; the partial file was deleted")]
    Hash {
        /// `SHA-256` or `MD5`.
        algorithm: &'static str,
        /// Hashed content: the file or its unpacked content.
        content: &'static str,
        /// Pinned hash.
        expected: String,
        /// Actual hash.
        actual: String,
    },
    /// Content that is not a complete gzip file.
    #[error("the content is not a complete gzip file ({0}); the partial file was deleted")]
    Gzip(String),
    /// A mirror without the file.
    #[error("the mirror does not contain the file")]
    NotInMirror,
}

fn status_name(status: u16) -> &'static str {
    match status {
        403 => " (forbidden)",
        404 => " (not found)",
        429 => " (too many requests)",
        500..=599 => " (server error)",
        _ => "",
    }
}
