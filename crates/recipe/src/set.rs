//! `--set section.key=value`: changes of a recipe from the command line, read and checked as a file would be.

use super::Recipe;
use super::error::{Hint, Location, RecipeError};
use super::parse::{self, SECTIONS, key_hint, keys, kinds};
use toml::{Table, Value};

/// What [`Recipe::set_all`] does: the recipe as a table, changed, written and parsed again.
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
    let (key, value) = (key.trim(), read(value.trim()));
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
        // A table inside of the section. What should not be there is found out when all of it is parsed.
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

/// Drops what the new kind does not know, and what was only the old kind's default.
fn change_kind(section: &str, table: &mut Table, kind: &str) {
    let old = table.get("kind").and_then(Value::as_str).unwrap_or_default();
    let defaults = defaults(section, old);
    table.retain(|key, value| keys(section, kind).contains(&key) && defaults.get(key) != Some(value));
}

/// The keys of a kind that says nothing else; empty where the kind has a key without a default.
fn defaults(section: &str, kind: &str) -> Table {
    let mut minimal = Table::from_iter([("name".to_owned(), Value::from("defaults"))]);
    for (name, kind) in [("data", "digits"), ("model", "mlp"), (section, kind)] {
        minimal.insert(
            name.to_owned(),
            Value::Table(Table::from_iter([("kind".to_owned(), Value::from(kind))])),
        );
    }
    let resolved = toml::to_string(&minimal).ok().and_then(|text| parse::parse(&text, "defaults").ok());
    match resolved
        .and_then(|recipe| Table::try_from(&recipe).ok())
        .and_then(|mut table| table.remove(section))
    {
        Some(Value::Table(table)) => table,
        _ => Table::new(),
    }
}

/// A value as TOML, or as the string it is written as. `None`: empty, the key's default.
fn read(text: &str) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    // No key is a date, but a path or a name may look like one.
    let value = value.filter(|value| !value.is_datetime());
    Some(value.unwrap_or_else(|| Value::String(text.to_owned())))
}

/// Puts the assignment that caused an error in place of a line of a text that nobody has seen.
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
