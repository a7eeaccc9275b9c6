//! Errors of recipes, with the place, the key and the nearest known name.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use wgrad_stdx::{ErrorKind, InternalError};

/// Place of an error in a recipe or in a `--set` assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// File, built-in recipe or assignment.
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

/// Known names, in an error about an unknown name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The known name nearest to the unknown one.
    Nearest(String),
    /// All known names, if none is near.
    OneOf(Vec<String>),
}

impl Hint {
    /// Returns the name in `known` nearest to `found`, or all names.
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
            Self::OneOf(known) if known.is_empty() => write!(f, "none is known"),
            Self::OneOf(known) => write!(f, "known: {}", known.join(", ")),
        }
    }
}

/// Returns the nearest of `known` by Jaro–Winkler similarity, if it is near enough to be a typing error.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    let scored = known.iter().map(|name| (strsim::jaro_winkler(&found, name), *name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Error of a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No recipe has this name.
    #[error("unknown recipe `{name}`, {hint}; or give the path of a .toml file")]
    UnknownRecipe {
        /// Requested name.
        name: String,
        /// Nearest built-in recipe, or all.
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
    /// A recipe of a newer format.
    #[error("{at}: format {found} is newer than this wgrad reads (up to {known}); update wgrad")]
    NewerFormat {
        /// Place of the error.
        at: Location,
        /// Format of the recipe.
        found: i64,
        /// Newest known format.
        known: u64,
    },
    /// A key that the section does not have with its kind.
    #[error("{at}: unknown key `{key}`, {hint}")]
    UnknownKey {
        /// Place of the error.
        at: Location,
        /// Key with its section.
        key: String,
        /// Nearest key with its section, or all keys of the section.
        hint: Hint,
    },
    /// A value that is not one of the choices of its key, such as an unknown kind or activation.
    #[error("{at}: `{key}` is `{found}`, {hint}")]
    UnknownValue {
        /// Place of the error.
        at: Location,
        /// Key with its section.
        key: String,
        /// Unknown value.
        found: String,
        /// Nearest choice, or all.
        hint: Hint,
    },
    /// A value of the wrong type.
    #[error("{at}: `{key}`: {message}")]
    WrongType {
        /// Place of the error.
        at: Location,
        /// Key with its section.
        key: String,
        /// Expected type and actual value.
        message: String,
    },
    /// A required key is absent.
    #[error("{at}: `{key}` is missing")]
    MissingKey {
        /// Section without the key.
        at: Location,
        /// Key with its section.
        key: String,
    },
    /// A value out of range.
    #[error("{at}: `{key}` {message}")]
    Invalid {
        /// Place of the error.
        at: Location,
        /// Key with its section.
        key: String,
        /// Range and value.
        message: String,
    },
    /// A `--set` without an assignment.
    #[error("--set {text}: expected `section.key=value`, such as `train.batch=128`")]
    Assignment {
        /// Text of the assignment.
        text: String,
    },
    /// A value that TOML cannot represent.
    #[error("the recipe cannot be written as TOML: {0}")]
    Encode(String),
    /// A broken invariant of wgrad.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

impl RecipeError {
    /// Kind of the error: `Usage`, except for internal errors.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Internal(_) => ErrorKind::Internal,
            _ => ErrorKind::Usage,
        }
    }

    /// Returns the key and the place of an error about a key.
    pub(super) fn key_and_location(&mut self) -> Option<(&str, &mut Location)> {
        match self {
            Self::UnknownKey { at, key, .. }
            | Self::UnknownValue { at, key, .. }
            | Self::WrongType { at, key, .. }
            | Self::MissingKey { at, key }
            | Self::Invalid { at, key, .. } => Some((key, at)),
            _ => None,
        }
    }
}
