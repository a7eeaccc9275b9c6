//! Changes a recipe by `--set section.key=value`. The result is parsed and checked like a file.

use super::Recipe;
use super::error::{Hint, Location, RecipeError};
use super::keys::{SECTIONS, keys, kinds};
use super::parse::{self, key_hint};
use super::schema::{json_schema, kind_of, property, variants};
use toml::{Table, Value};

/// Applies the assignments to the recipe as a TOML table, and parses the result.
pub(super) fn set_all(recipe: &Recipe, assignments: &[impl AsRef<str>]) -> Result<Recipe, RecipeError> {
    let encode = |error: toml::ser::Error| RecipeError::Encode(error.to_string());
    let mut table = Table::try_from(recipe).map_err(encode)?;
    for assignment in assignments {
        apply(&mut table, assignment.as_ref())?;
    }
    let text = toml::to_string(&table).map_err(encode)?;
    parse::parse(&text, "--set").map_err(|error| relocate(error, assignments))
}

fn apply(recipe: &mut Table, assignment: &str) -> Result<(), RecipeError> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(RecipeError::Assignment { text: assignment.to_owned() });
    };
    let (key, value) = (key.trim(), parse_value(value.trim()));
    let (section, name) = match key.split_once('.') {
        None if !SECTIONS.contains(&key) => {
            assign(recipe, key, value);
            return Ok(());
        }
        None => return Err(RecipeError::Assignment { text: assignment.to_owned() }),
        Some(path) => path,
    };
    let Some(Value::Table(table)) = recipe.get_mut(section) else {
        let at = Location { origin: format!("--set {assignment}"), position: None };
        let hint = match key_hint(None, section, "") {
            Hint::Nearest(nearest) if SECTIONS.contains(&nearest.as_str()) => {
                Hint::Nearest(format!("{nearest}.{name}"))
            }
            _ => Hint::OneOf(SECTIONS.iter().map(|section| format!("{section}.…")).collect()),
        };
        return Err(RecipeError::UnknownKey { at, key: key.to_owned(), hint });
    };
    if let ("kind", Some(Value::String(kind))) = (name, &value)
        && kinds(section).contains(&kind.as_str())
    {
        change_kind(section, table, kind);
    }
    match name.split_once('.') {
        // A table within the section. The parser checks its keys.
        Some((outer, name)) => {
            let inner = table.entry(outer).or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => assign(inner, name, value),
                _ => return Err(RecipeError::Assignment { text: assignment.to_owned() }),
            }
        }
        None => assign(table, name, value),
    }
    Ok(())
}

fn assign(table: &mut Table, key: &str, value: Option<Value>) {
    match value {
        Some(value) => table.insert(key.to_owned(), value),
        None => table.remove(key),
    };
}

/// Removes the keys that the new kind does not have, and the keys with the default value of the old kind.
fn change_kind(section: &str, table: &mut Table, kind: &str) {
    let old = table.get("kind").and_then(Value::as_str).unwrap_or_default();
    let defaults = defaults(section, old);
    table.retain(|key, value| keys(section, kind).contains(&key) && defaults.get(key) != Some(value));
}

/// Returns the default values of the keys of a kind.
fn defaults(section: &str, kind: &str) -> Table {
    let variants = variants(property(json_schema(), section)).into_iter().flatten();
    let variant = variants.into_iter().find(|variant| kind_of(variant) == Some(kind));
    let properties = variant.and_then(|variant| variant["properties"].as_object());
    let values = properties
        .into_iter()
        .flatten()
        .filter_map(|(key, schema)| Some((key.clone(), Value::try_from(schema.get("default")?).ok()?)));
    values.collect()
}

/// Parses a value as TOML, or as a string if it is not valid TOML. Returns `None` for an empty value, which restores
/// the default.
fn parse_value(text: &str) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    // No key accepts a date, but a path or a name can look like a date.
    let value = value.filter(|value| !value.is_datetime());
    Some(value.unwrap_or_else(|| Value::String(text.to_owned())))
}

/// Replaces line and column of an error with the assignment that caused the error.
fn relocate(mut error: RecipeError, assignments: &[impl AsRef<str>]) -> RecipeError {
    if let Some((key, at)) = error.key_and_location() {
        let assigns = |text: &&str| text.split_once('=').is_some_and(|(assigned, _)| assigned.trim() == key);
        let texts = assignments.iter().map(AsRef::as_ref);
        let all = || texts.clone().collect::<Vec<_>>().join(" --set ");
        let culprit = texts.clone().rev().find(assigns).map_or_else(all, str::to_owned);
        *at = Location { origin: format!("--set {culprit}"), position: None };
    }
    error
}
