//! What can be wrong with a recipe, and how it is told: where, which key, and the nearest that would have been right.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Where in a recipe, or in which `--set`, something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, the built-in recipe or the assignment.
    pub origin: String,
    /// Line and column in characters, both from 1; `None` for an assignment.
    pub position: Option<(u32, u32)>,
}

impl Location {
    /// The place of a span of bytes in a text.
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

/// What would have been right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The one known name that is close to what was written.
    Nearest(String),
    /// Nothing is close: all known names.
    OneOf(Vec<String>),
}

impl Hint {
    /// The nearest of `known` to `found`, or all of them.
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
            Self::OneOf(known) if known.is_empty() => write!(f, "there is none to choose from"),
            Self::OneOf(known) => write!(f, "known: {}", known.join(", ")),
        }
    }
}

/// The closest of `known` by Jaro and Winkler, if it is close enough to be a slip of the hand.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    let scored = known.iter().map(|name| (strsim::jaro_winkler(&found, name), *name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no recipe of this name.
    #[error("unknown recipe `{name}`, {hint}; or give the path of a .toml file")]
    UnknownRecipe {
        /// What was asked for.
        name: String,
        /// The nearest built-in recipe, or all.
        hint: Hint,
    },
    /// The text is not TOML.
    #[error("{at}: {message}")]
    Syntax {
        /// Where.
        at: Location,
        /// What the TOML parser expected.
        message: String,
    },
    /// A key that the section, or its kind, does not have.
    #[error("{at}: unknown key `{key}`, {hint}")]
    UnknownKey {
        /// Where.
        at: Location,
        /// The key with its section.
        key: String,
        /// The nearest key with its section, or all keys of the section.
        hint: Hint,
    },
    /// A word that is none of a key's choices: a kind, an activation …
    #[error("{at}: `{key}` is `{found}`, {hint}")]
    UnknownValue {
        /// Where.
        at: Location,
        /// The key with its section.
        key: String,
        /// The word.
        found: String,
        /// The nearest choice, or all.
        hint: Hint,
    },
    /// A value of the wrong type.
    #[error("{at}: `{key}`: {message}")]
    WrongType {
        /// Where.
        at: Location,
        /// The key with its section.
        key: String,
        /// What was expected and what was found.
        message: String,
    },
    /// A key without a default is absent.
    #[error("{at}: `{key}` is missing")]
    MissingKey {
        /// The section that lacks it.
        at: Location,
        /// The key with its section.
        key: String,
    },
    /// A value out of range.
    #[error("{at}: `{key}` {message}")]
    Invalid {
        /// Where.
        at: Location,
        /// The key with its section.
        key: String,
        /// The range and the value.
        message: String,
    },
    /// A `--set` that is no assignment.
    #[error("--set {text}: expected `section.key=value`, such as `train.batch=128`")]
    Assignment {
        /// What was given.
        text: String,
    },
    /// A field set by hand that TOML cannot say.
    #[error("the recipe cannot be written as TOML: {0}")]
    Encode(String),
}

impl RecipeError {
    /// Where the error is and about which key, for those that a key has caused.
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
