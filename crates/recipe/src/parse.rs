//! From TOML text to a recipe, with the place of every mistake.
//!
//! serde alone would do it in one line, but inside enums tagged by `kind` it loses the place and the key. So sections
//! are taken apart here: keys are checked against the struct's own, then the struct is read from the spanned values.

use super::data::Augment;
use super::error::{Hint, Location, RecipeError, nearest};
use super::network::Transfer;
use super::schema::{Data, Kinded, Model, Optimizer, Schedule, Train, keys_of};
use super::{Recipe, validate};
use serde::Deserialize;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

/// The keys outside of all sections.
const TOP: &[&str] = &["name", "description"];
/// The sections.
pub(super) const SECTIONS: &[&str] = &["data", "model", "optimizer", "schedule", "transfer", "train"];
/// Tables inside of sections.
const NESTED: &[&str] = &["data.augment"];

/// The keys that a section has under a kind; empty if either is unknown. `transfer` and `train` have no kinds.
pub(super) fn keys(section: &str, kind: &str) -> &'static [&'static str] {
    match section {
        "data" => Data::keys(kind),
        "model" => Model::keys(kind),
        "optimizer" => Optimizer::keys(kind),
        "schedule" => Schedule::keys(kind),
        "transfer" => keys_of::<Transfer>(),
        "train" => keys_of::<Train>(),
        "data.augment" => keys_of::<Augment>(),
        _ => &[],
    }
}

/// The kinds of a section; empty for `transfer` and `train`.
pub(super) fn kinds(section: &str) -> &'static [&'static str] {
    match section {
        "data" => Data::KINDS,
        "model" => Model::KINDS,
        "optimizer" => Optimizer::KINDS,
        "schedule" => Schedule::KINDS,
        _ => &[],
    }
}

/// What [`Recipe::parse`] does.
pub(super) fn parse(text: &str, origin: &str) -> Result<Recipe, RecipeError> {
    let mut source = Source { text, origin, places: Vec::new() };
    let document = DeTable::parse(text).map_err(|error| RecipeError::Syntax {
        at: source.at(error.span()),
        message: error.message().to_owned(),
    })?;
    let mut root = document.into_inner();
    source.places = places(&root);

    for key in root.keys() {
        if !TOP.contains(&key.get_ref().as_ref()) && !SECTIONS.contains(&key.get_ref().as_ref()) {
            return Err(source.unknown_key(key.span(), None, key.get_ref(), ""));
        }
    }
    let recipe = Recipe {
        name: source.top(&mut root, "name")?.ok_or_else(|| source.missing("name"))?,
        description: source.top(&mut root, "description")?.unwrap_or_default(),
        data: source.kinded(&mut root, "data", None)?,
        model: source.kinded(&mut root, "model", None)?,
        optimizer: source.kinded(&mut root, "optimizer", Some("adamw"))?,
        schedule: source.kinded(&mut root, "schedule", Some("constant"))?,
        transfer: source.plain(&mut root, "transfer")?,
        train: source.plain(&mut root, "train")?,
    };
    validate::check(&recipe).map_err(|problem| RecipeError::Invalid {
        at: source.at(source.place(&problem.key)),
        key: problem.key,
        message: problem.message,
    })?;
    Ok(recipe)
}

/// Where each key stands: its path, its own span, and the span of its value.
type Places = Vec<(String, Range<usize>, Range<usize>)>;

fn places(root: &DeTable<'_>) -> Places {
    fn walk(table: &DeTable<'_>, prefix: &str, places: &mut Places) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            if let Some(inner) = value.get_ref().as_table() {
                walk(inner, &format!("{path}."), places);
            }
            places.push((path, key.span(), value.span()));
        }
    }
    let mut places = Vec::new();
    walk(root, "", &mut places);
    places
}

struct Source<'a> {
    text: &'a str,
    origin: &'a str,
    places: Places,
}

impl Source<'_> {
    fn at(&self, span: Option<Range<usize>>) -> Location {
        Location::in_text(self.origin, self.text, span)
    }

    /// Where a key is, or else the table that it would be in.
    fn place(&self, key: &str) -> Option<Range<usize>> {
        let found = self.places.iter().find(|(path, ..)| path == key).map(|(_, key, _)| key.clone());
        found.or_else(|| key.rsplit_once('.').and_then(|(table, _)| self.place(table)))
    }

    fn missing(&self, key: &str) -> RecipeError {
        RecipeError::MissingKey { at: self.at(self.place(key)), key: key.to_owned() }
    }

    /// An unknown key, with the nearest of its section or the section where such a key is at home.
    fn unknown_key(&self, span: Range<usize>, section: Option<&str>, key: &str, kind: &str) -> RecipeError {
        let at = self.at(Some(span));
        let path = section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}"));
        RecipeError::UnknownKey { at, key: path, hint: key_hint(section, key, kind) }
    }

    fn top(&self, root: &mut DeTable<'_>, key: &str) -> Result<Option<String>, RecipeError> {
        let Some(value) = root.remove(key) else { return Ok(None) };
        let read = String::deserialize(ValueDeserializer::from(value));
        read.map(Some).map_err(|error| self.explain("", &error))
    }

    /// Takes a section out of the document as a table; an absent one is empty.
    fn section<'i>(&self, root: &mut DeTable<'i>, name: &str) -> Result<Spanned<DeTable<'i>>, RecipeError> {
        let Some(value) = root.remove(name) else { return Ok(Spanned::new(0..0, DeTable::new())) };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Ok(Spanned::new(span, table)),
            other => Err(RecipeError::WrongType {
                at: self.at(Some(span)),
                key: name.to_owned(),
                message: format!("expected a section, found {}", article(other.type_str())),
            }),
        }
    }

    fn check_keys(&self, name: &str, kind: &str, table: &DeTable<'_>) -> Result<(), RecipeError> {
        let known = keys(name, kind);
        if let Some(key) = table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) {
            return Err(self.unknown_key(key.span(), Some(name), key.get_ref(), kind));
        }
        for (key, value) in table {
            let path = format!("{name}.{}", key.get_ref());
            if let (true, Some(inner)) = (NESTED.contains(&path.as_str()), value.get_ref().as_table()) {
                self.check_keys(&path, "", inner)?;
            }
        }
        Ok(())
    }

    /// A section without kinds.
    fn plain<T: for<'de> Deserialize<'de>>(
        &self,
        root: &mut DeTable<'_>,
        name: &str,
    ) -> Result<T, RecipeError> {
        let table = self.section(root, name)?;
        self.check_keys(name, "", table.get_ref())?;
        T::deserialize(deserializer(table)).map_err(|error| self.explain(name, &error))
    }

    fn kinded<T: Kinded>(
        &self,
        root: &mut DeTable<'_>,
        name: &str,
        default_kind: Option<&str>,
    ) -> Result<T, RecipeError> {
        let mut table = self.section(root, name)?;
        let kind = match (table.get_mut().remove("kind"), default_kind) {
            (Some(kind), _) => String::deserialize(ValueDeserializer::from(kind))
                .map_err(|error| self.explain(name, &error))?,
            (None, Some(kind)) => kind.to_owned(),
            (None, None) => return Err(self.missing(&format!("{name}.kind"))),
        };
        if !T::KINDS.contains(&kind.as_str()) {
            let key = format!("{name}.kind");
            let hint = Hint::new(&kind, T::KINDS.iter().copied());
            return Err(RecipeError::UnknownValue { at: self.at(self.place(&key)), key, found: kind, hint });
        }
        self.check_keys(name, &kind, table.get_ref())?;
        T::read(&kind, deserializer(table)).map_err(|error| self.explain(name, &error))
    }

    /// Turns serde's message into the recipe's words. Its wording is stable and tested below by the tests of each error.
    fn explain(&self, section: &str, error: &Error) -> RecipeError {
        let span = error.span();
        let message = error.message();
        let inside = |value: &Range<usize>| {
            span.as_ref().is_some_and(|s| value.start <= s.start && s.end <= value.end)
        };
        // The innermost key whose value holds the place of the error.
        let found =
            self.places.iter().filter(|(.., value)| inside(value)).min_by_key(|(.., value)| value.len());
        let key = found.map_or_else(|| section.to_owned(), |(path, ..)| path.clone());

        let mut quoted = message.split('`').skip(1).step_by(2);
        if message.starts_with("missing field") {
            return self.missing(&format!("{section}.{}", quoted.next().unwrap_or_default()));
        }
        let at = self.at(span.clone());
        if message.starts_with("unknown variant") {
            let found = quoted.next().unwrap_or_default().to_owned();
            let hint = Hint::new(&found, quoted);
            return RecipeError::UnknownValue { at, key, found, hint };
        }
        RecipeError::WrongType { at, key, message: in_words(message) }
    }
}

/// The nearest key of the same section, else the section that has this very key, else the section's keys.
pub(super) fn key_hint(section: Option<&str>, key: &str, kind: &str) -> Hint {
    let with_kind = |section: &str| if kinds(section).is_empty() { &[][..] } else { &["kind"][..] };
    let mut known: Vec<String> = Vec::new();
    match section {
        Some(section) => {
            let names = with_kind(section).iter().chain(keys(section, kind));
            known.extend(names.map(|name| format!("{section}.{name}")));
        }
        None => known.extend(TOP.iter().chain(SECTIONS).map(|name| name.to_string())),
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

fn deserializer(table: Spanned<DeTable<'_>>) -> ValueDeserializer<'_> {
    let span = table.span();
    ValueDeserializer::from(Spanned::new(span, DeValue::Table(table.into_inner())))
}

/// "invalid type: string "x", expected usize" as "expected a whole number, found string "x"".
fn in_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let found = found.split_once(": ").map_or(found, |(_, found)| found);
    let found = found.strip_prefix("length ").map_or_else(|| found.to_owned(), |n| format!("{n} of them"));
    let found = match found.trim_start_matches("invalid ") {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        other => other.replace("length ", "a list of ").replace("floating point", "number").replace('`', ""),
    };
    let expected = match expected {
        "usize" | "u64" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "an array of length 2" => "a list of 2 numbers",
        "path string" => "a path",
        "struct Augment" => "a section",
        other => other,
    };
    format!("expected {expected}, found {found}")
}

fn article(kind: &str) -> String {
    let an = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if an { "an" } else { "a" })
}
