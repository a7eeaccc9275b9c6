//! Errors of failed attempts to fetch a file.

/// Failed attempt to fetch a file from one source.
#[derive(Debug)]
pub struct FetchAttempt {
    /// URL of the file, or its path in the mirror.
    pub source: String,
    /// Reason for the failure.
    pub problem: FetchProblem,
}

/// Reason why an attempt to fetch a file failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FetchProblem {
    /// The server answered with an error status.
    #[error("the server answered {}{}", .0, status_name(*.0))]
    Status(u16),
    /// The connection failed, a timeout expired, or the response was malformed.
    #[error("{0}")]
    Transport(String),
    /// The connection ended early. The received bytes are kept, so that the next run resumes the download.
    #[error("the connection ended after {received} of {} bytes; run the command again to resume the download",
        .expected.map_or("an unknown number of".to_owned(), |n| n.to_string()))]
    Cut {
        /// Number of bytes on disk.
        received: u64,
        /// Size of the file in bytes, if known.
        expected: Option<u64>,
    },
    /// The server did not resume at this byte, which was requested. The partial file was deleted.
    #[error("the server could not resume at byte {0}; the partial file was deleted")]
    Range(u64),
    /// The content does not have its pinned size.
    #[error("{content} has {found} bytes, expected {expected}; the partial file was deleted")]
    Size {
        /// Measured content: the file or its unpacked content.
        content: &'static str,
        /// Pinned size in bytes.
        expected: u64,
        /// Actual size in bytes.
        found: u64,
    },
    /// The content is longer than its pinned size.
    #[error("{content} is longer than the expected {expected} bytes; the partial file was deleted")]
    TooLong {
        /// Measured content: the file or its unpacked content.
        content: &'static str,
        /// Pinned size in bytes, or the maximum compressed size of the pinned content.
        expected: u64,
    },
    /// The content does not have its pinned hash.
    #[error("the {algorithm} of {content} is {actual}, expected {expected}; the partial file was deleted")]
    Hash {
        /// Name of the hash algorithm: `SHA-256` or `MD5`.
        algorithm: &'static str,
        /// Hashed content: the file or its unpacked content.
        content: &'static str,
        /// Pinned hash.
        expected: String,
        /// Actual hash.
        actual: String,
    },
    /// The content is not a complete gzip file.
    #[error("the content is not a complete gzip file ({0}); the partial file was deleted")]
    Gzip(String),
    /// The mirror does not contain the file.
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
