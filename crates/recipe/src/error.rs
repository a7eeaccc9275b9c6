//! Recipe errors, with the place, the key and the most similar known name.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use wgrad_stdx::{ErrorKind, InternalError};

/// Place of an error in a recipe or in a `--set` assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Name of the file, built-in recipe or assignment.
    pub origin: String,
    /// Line and column in characters, both from 1; `None` for an assignment.
    pub position: Option<(u32, u32)>,
}

impl Location {
    /// Converts a span of bytes in a text to line and column.
    pub fn in_text(origin: &str, text: &str, span: Option<Range<usize>>) -> Self {
        let position = span.map(|span| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            (line as u32, column as u32)
        });
        Self { origin: origin.to_owned(), position }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.origin),
            None => f.write_str(&self.origin),
        }
    }
}

/// Suggestion in an error about an unknown name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Known name that is most similar to the unknown name.
    Nearest(String),
    /// All known names, if none is similar.
    OneOf(Vec<String>),
}

impl Hint {
    /// Returns the name in `known` that is most similar to `found`, or all names if none is similar.
    pub fn new<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(found, &known) {
            Some(name) => Self::Nearest(name.to_owned()),
            None => Self::OneOf(known.into_iter().map(str::to_owned).collect()),
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(name) => write!(f, "did you mean `{name}`?"),
            Self::OneOf(known) if known.is_empty() => write!(f, "no names are known"),
            Self::OneOf(known) => write!(f, "known: {}", known.join(", ")),
        }
    }
}

/// Returns the name in `known` that is most similar to `found`, or `None` if none is similar enough to be a typing
/// error. The measure is the Jaro–Winkler similarity.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    let scored = known.iter().map(|name| (strsim::jaro_winkler(&found, name), *name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Error in loading, parsing or changing a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// No recipe has this name.
    #[error("unknown recipe `{name}`, {hint} (the path of a recipe file ends in .toml)")]
    UnknownRecipe {
        /// Name that was requested.
        name: String,
        /// Most similar built-in recipe, or all built-in recipes.
        hint: Hint,
    },
    /// The text is not valid TOML.
    #[error("{at}: {message}")]
    Syntax {
        /// Place of the error.
        at: Location,
        /// Message of the TOML parser.
        message: String,
    },
    /// The recipe has a newer format than this crate reads.
    #[error("{at}: this version of wgrad reads formats up to {known}, found format {found}; update wgrad")]
    NewerFormat {
        /// Place of the error.
        at: Location,
        /// Format version of the recipe.
        found: i64,
        /// Newest format version that this crate reads.
        known: u64,
    },
    /// A key that does not exist in its section, or that the kind of the section does not have.
    #[error("{at}: unknown key `{key}`, {hint}")]
    UnknownKey {
        /// Place of the error.
        at: Location,
        /// Key with its section, such as `train.batch`.
        key: String,
        /// Most similar key with its section, or all keys of the section.
        hint: Hint,
    },
    /// A value that is not one of the choices of its key, such as an unknown kind or activation.
    #[error("{at}: `{key}` is `{found}`, {hint}")]
    UnknownValue {
        /// Place of the error.
        at: Location,
        /// Key with its section, such as `train.batch`.
        key: String,
        /// Unknown value.
        found: String,
        /// Most similar choice, or all choices.
        hint: Hint,
    },
    /// A value of the wrong type.
    #[error("{at}: `{key}`: {message}")]
    WrongType {
        /// Place of the error.
        at: Location,
        /// Key with its section, such as `train.batch`.
        key: String,
        /// Expected type and actual value.
        message: String,
    },
    /// A required key is absent.
    #[error("{at}: `{key}` is missing")]
    MissingKey {
        /// Place of the section that lacks the key.
        at: Location,
        /// Key with its section, such as `train.batch`.
        key: String,
    },
    /// A value out of range.
    #[error("{at}: `{key}` {message}")]
    Invalid {
        /// Place of the error.
        at: Location,
        /// Key with its section, such as `train.batch`.
        key: String,
        /// Allowed range and actual value.
        message: String,
    },
    /// A `--set` argument that is not an assignment to a key.
    #[error("--set {text}: expected `section.key=value`, such as `train.batch=128`")]
    Assignment {
        /// Text of the argument.
        text: String,
    },
    /// A value that TOML cannot represent.
    #[error("the recipe cannot be written as TOML: {0}")]
    Encode(String),
    /// An internal error: a broken invariant of wgrad.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

impl RecipeError {
    /// Returns the kind of the error: `Internal` for an internal error, `Usage` otherwise.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Internal(_) => ErrorKind::Internal,
            _ => ErrorKind::Usage,
        }
    }

    /// Returns the key and the place of an error about a key, or `None` for other errors.
    pub(super) fn key_and_location(&mut self) -> Option<(&str, &mut Location)> {
        match self {
            Self::UnknownKey { at, key, .. }
            | Self::UnknownValue { at, key, .. }
            | Self::WrongType { at, key, .. }
            | Self::MissingKey { at, key }
            | Self::Invalid { at, key, .. } => Some((key, at)),
            Self::NewerFormat { at, .. } => Some((super::keys::FORMAT_KEY, at)),
            _ => None,
        }
    }
}
