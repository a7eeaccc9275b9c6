//! Kinds of errors, and the error that reports a broken invariant.

/// Category of an error, with an exit code each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Invalid arguments, an invalid recipe, or shapes that do not match.
    Usage,
    /// Missing or malformed data.
    Data,
    /// A device is missing, has failed, or is out of memory.
    Device,
    /// A result is not finite or cannot be computed.
    Numeric,
    /// A run directory, a checkpoint or another file cannot be read or written.
    Storage,
    /// Another replica has failed, has disconnected, or has different results.
    Replica,
    /// An invariant of wgrad is broken, which is a bug in wgrad.
    Internal,
}

impl ErrorKind {
    /// Returns the exit code of a process that fails with this kind of error.
    ///
    /// It is here and not in the command line, because a replica that fails ends the processes of the other replicas with
    /// the same code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Data => 3,
            Self::Device => 4,
            Self::Numeric => 5,
            Self::Storage => 6,
            Self::Replica => 7,
            Self::Internal => 1,
        }
    }
}

/// Broken invariant: a bug in wgrad, not a mistake of the user. Created by [`never!`](crate::never).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "internal error: {invariant} ({file}:{line}). This is a bug in wgrad; please report it with the command you ran"
)]
pub struct InternalError {
    invariant: String,
    file: &'static str,
    line: u32,
}

impl InternalError {
    /// Creates an internal error for a line of a source file.
    ///
    /// Use [`never!`](crate::never) instead, which fills in the file and line of the call.
    pub fn new(invariant: String, file: &'static str, line: u32) -> Self {
        Self { invariant, file, line }
    }
}

/// Creates an [`InternalError`] that describes a broken invariant. Takes the arguments of `format!`.
///
/// ```
/// use wgrad_stdx::{InternalError, never};
///
/// fn first(sizes: &[usize]) -> Result<usize, InternalError> {
///     sizes.first().copied().ok_or_else(|| never!("a planned tensor has {} dimensions", sizes.len()))
/// }
/// assert!(first(&[]).unwrap_err().to_string().starts_with("internal error: a planned tensor has 0 dimensions"));
/// ```
#[macro_export]
macro_rules! never {
    ($($invariant:tt)+) => {
        $crate::InternalError::new(::std::format!($($invariant)+), ::std::file!(), ::std::line!())
    };
}
