//! Parses TOML text to a recipe. Errors contain line and column.
//!
//! The text is parsed twice: once for the values, which are checked against the schema, and once for the spans of the
//! values, since serde loses the spans inside of enums tagged by `kind`.

use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};
use wgrad_stdx::never;

use super::check::{self, Fault, Problem};
use super::error::{Hint, Location, RecipeError, nearest};
use super::keys::{FORMAT_KEY, NESTED, SECTIONS, TOP, keys, kinds};
use super::schema::{FORMAT, default_kind, json_schema, property};
use super::{Recipe, rules};

/// Parses and checks a recipe. `origin` names the text in errors.
pub(super) fn parse(text: &str, origin: &str) -> Result<Recipe, RecipeError> {
    let syntax = |span, message: &str| RecipeError::Syntax {
        at: Location::in_text(origin, text, span),
        message: message.to_owned(),
    };
    let spanned = DeTable::parse(text).map_err(|error| syntax(error.span(), error.message()))?;
    let source = Source { text, origin, spans: spans(spanned.get_ref()) };
    let mut document: Table = toml::from_str(text).map_err(|error| syntax(error.span(), error.message()))?;

    source.check_format(&document)?;
    check::check(&document).map_err(|problem| source.locate(problem))?;
    document.remove(FORMAT_KEY);
    add_default_kinds(&mut document);
    let recipe = Recipe::deserialize(Value::Table(document))
        .map_err(|error| never!("a checked recipe cannot be deserialised: {error}"))?;
    rules::check(&recipe).map_err(|problem| source.locate(problem))?;
    Ok(recipe)
}

fn add_default_kinds(document: &mut Table) {
    for section in SECTIONS {
        if let Some(kind) = default_kind(property(json_schema(), section))
            && let Some(Value::Table(table)) = document.get_mut(*section)
        {
            table.entry("kind").or_insert_with(|| kind.into());
        }
    }
}

/// Byte ranges of a key and of its value in the text.
struct Spans {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

/// Returns the spans of all keys and of the elements of all lists.
fn spans(root: &DeTable<'_>) -> Vec<Spans> {
    fn of_table(table: &DeTable<'_>, prefix: &str, spans: &mut Vec<Spans>) {
        for (key, value) in table {
            of_value(value, key.span(), format!("{prefix}{}", key.get_ref()), spans);
        }
    }
    fn of_value(value: &Spanned<DeValue<'_>>, key: Range<usize>, path: String, spans: &mut Vec<Spans>) {
        match value.get_ref() {
            DeValue::Table(table) => of_table(table, &format!("{path}."), spans),
            DeValue::Array(elements) => {
                for (i, element) in elements.iter().enumerate() {
                    of_value(element, key.clone(), format!("{path}[{i}]"), spans);
                }
            }
            _ => {}
        }
        spans.push(Spans { path, key, value: value.span() });
    }
    let mut spans = Vec::new();
    of_table(root, "", &mut spans);
    spans
}

/// Text of a recipe with the spans of its keys.
struct Source<'a> {
    text: &'a str,
    origin: &'a str,
    spans: Vec<Spans>,
}

impl Source<'_> {
    fn at(&self, span: Option<Range<usize>>) -> Location {
        Location::in_text(self.origin, self.text, span)
    }

    fn spans(&self, path: &str) -> Option<&Spans> {
        self.spans.iter().find(|spans| spans.path == path)
    }

    /// Returns the span of a key. If the key is absent, returns the span of the innermost existing table on its path.
    fn key_span(&self, path: &str) -> Option<Range<usize>> {
        let found = self.spans(path).map(|spans| spans.key.clone());
        found.or_else(|| path.rsplit_once('.').and_then(|(table, _)| self.key_span(table)))
    }

    /// Returns an error if the format is newer than [`FORMAT`].
    fn check_format(&self, document: &Table) -> Result<(), RecipeError> {
        match document.get(FORMAT_KEY) {
            Some(&Value::Integer(found)) if found > FORMAT as i64 => {
                let at = self.at(self.key_span(FORMAT_KEY));
                Err(RecipeError::NewerFormat { at, found, known: FORMAT })
            }
            _ => Ok(()),
        }
    }

    /// Adds line, column and the most similar known name to a problem.
    fn locate(&self, problem: Problem) -> RecipeError {
        let Problem { path, fault } = problem;
        let at_key = self.at(self.key_span(&path));
        let at_value = || match self.spans(&path) {
            Some(spans) => self.at(Some(spans.value.clone())),
            None => at_key.clone(),
        };
        let key = path.split('[').next().unwrap_or(&path).to_owned();
        match fault {
            Fault::UnknownKey { section, kind } => {
                let name = path.rsplit('.').next().unwrap_or(&path);
                let hint = key_hint(section.as_deref(), name, &kind);
                RecipeError::UnknownKey { at: at_key, key: path, hint }
            }
            Fault::UnknownValue { found, choices } => {
                let at = if key.ends_with(".kind") { at_key } else { at_value() };
                let hint = Hint::new(&found, choices.iter().map(String::as_str));
                RecipeError::UnknownValue { at, key, found, hint }
            }
            Fault::WrongType(message) => RecipeError::WrongType { at: at_value(), key, message },
            Fault::Missing => RecipeError::MissingKey { at: at_key, key },
            Fault::Invalid(message) => RecipeError::Invalid { at: at_key, key, message },
        }
    }
}

/// Suggests a known key for an unknown key: the most similar key of the same section, otherwise the same key in
/// another section, otherwise all keys of the section.
pub(super) fn key_hint(section: Option<&str>, key: &str, kind: &str) -> Hint {
    let with_kind = |section: &str| if kinds(section).is_empty() { &[][..] } else { &["kind"][..] };
    let mut known: Vec<String> = Vec::new();
    match section {
        Some(section) => {
            let names = with_kind(section).iter().chain(keys(section, kind));
            known.extend(names.map(|name| format!("{section}.{name}")));
        }
        None => known.extend(TOP.iter().chain(SECTIONS).chain(&[FORMAT_KEY]).map(|name| name.to_string())),
    }
    let short: Vec<&str> = known.iter().map(|path| path.rsplit('.').next().unwrap_or(path)).collect();
    if let Some(name) = nearest(key, &short) {
        return Hint::Nearest(section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}")));
    }
    let elsewhere = SECTIONS.iter().chain(NESTED).find(|other| {
        Some(**other) != section
            && (keys(other, "").contains(&key)
                || kinds(other).iter().any(|kind| keys(other, kind).contains(&key)))
    });
    match elsewhere {
        Some(other) => Hint::Nearest(format!("{other}.{key}")),
        None => Hint::OneOf(known),
    }
}
