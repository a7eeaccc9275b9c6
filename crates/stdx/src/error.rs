//! Kinds of errors, and the error for states that cannot occur.

/// Area that an error belongs to; the command line maps each kind to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Wrong arguments, a bad recipe, shapes that do not match.
    Usage,
    /// Data that is missing or malformed.
    Data,
    /// A device that is missing, fails, or runs out of memory.
    Device,
    /// A result that is not finite or cannot be computed.
    Numeric,
    /// A run directory, a checkpoint or another file that cannot be read or written.
    Storage,
    /// Another replica that failed, left or disagrees.
    Replica,
    /// A broken invariant of wgrad itself.
    Internal,
}

/// A broken invariant: a fault in wgrad, not in what the user did. Made by [`never!`](crate::never).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "internal error: {invariant} ({file}:{line}). This is a fault in wgrad; please report it with the command you ran"
)]
pub struct InternalError {
    invariant: String,
    file: &'static str,
    line: u32,
}

impl InternalError {
    /// An internal error at a line of the source. Use [`never!`](crate::never), which fills in the place.
    pub fn new(invariant: String, file: &'static str, line: u32) -> Self {
        Self { invariant, file, line }
    }
}

/// Makes an [`InternalError`] that names a broken invariant, formatted as by `format!`.
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
