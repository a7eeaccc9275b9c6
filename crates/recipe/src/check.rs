//! Checks a TOML document against the JSON Schema: keys, types, choices and ranges.

use std::fmt::Display;

use serde_json::Value as Schema;
use toml::{Table, Value};

use super::keys::{FORMAT_KEY, SECTIONS, TOP, keys};
use super::schema::{default_kind, is_required, json_schema, kind_of, property, variants};

/// Problem with a key of a TOML document.
#[derive(Debug)]
pub(super) struct Problem {
    /// Path of the key, with an index for an element of a list: `optimizer.betas[1]`.
    pub path: String,
    pub fault: Fault,
}

/// Kind of problem.
#[derive(Debug)]
pub(super) enum Fault {
    /// A key that the section does not have for its kind. The section is `None` at the top level.
    UnknownKey { section: Option<String>, kind: String },
    /// A value that is not one of the choices.
    UnknownValue { found: String, choices: Vec<String> },
    /// A value of the wrong type. The text names the expected type and the value.
    WrongType(String),
    /// A required key that is absent.
    Missing,
    /// A value that breaks a rule. The text contains the rule and the value.
    Invalid(String),
}

impl Problem {
    fn new(path: impl Into<String>, fault: Fault) -> Self {
        Self { path: path.into(), fault }
    }

    /// Creates a problem for the value `found`, which breaks `rule`.
    pub(super) fn invalid(path: impl Into<String>, rule: impl Display, found: impl Display) -> Self {
        Self::new(path, Fault::Invalid(format!("{rule}, found {found}")))
    }

    /// Creates a problem for a value that breaks a rule. `message` contains the rule and the value.
    pub(super) fn broken(path: impl Into<String>, message: String) -> Self {
        Self::new(path, Fault::Invalid(message))
    }

    fn wrong_type(path: &str, expected: impl Display, found: impl Display) -> Self {
        Self::new(path, Fault::WrongType(format!("expected {expected}, found {found}")))
    }
}

/// Checks a document.
///
/// # Errors
/// Returns the first problem in the document.
pub(super) fn check(document: &Table) -> Result<(), Problem> {
    let root = json_schema();
    let known = |key: &str| TOP.contains(&key) || SECTIONS.contains(&key) || key == FORMAT_KEY;
    if let Some(key) = document.keys().find(|key| !known(key)) {
        return Err(Problem::new(key, Fault::UnknownKey { section: None, kind: String::new() }));
    }
    for key in TOP.iter().chain(SECTIONS).chain(&[FORMAT_KEY]) {
        let schema = property(root, key);
        match document.get(*key) {
            Some(value) => check_value(value, schema, key)?,
            None if !is_required(root, key) => {}
            None if variants(schema).is_some() => {
                return Err(Problem::new(format!("{key}.kind"), Fault::Missing));
            }
            None => return Err(Problem::new(*key, Fault::Missing)),
        }
    }
    Ok(())
}

fn check_value(value: &Value, schema: &Schema, path: &str) -> Result<(), Problem> {
    if let Some(variants) = variants(schema) {
        return check_section(value, schema, variants, path);
    }
    let choices = choices(schema);
    if !choices.is_empty() {
        return check_choice(value, choices, path);
    }
    match schema["type"].as_str() {
        Some("object") => check_table(value, schema, path),
        Some("array") => check_list(value, schema, path),
        Some("integer") => check_integer(value, schema, path),
        Some("number") => check_number(value, schema, path),
        Some("boolean") => match value {
            Value::Boolean(_) => Ok(()),
            other => Err(Problem::wrong_type(path, "true or false", describe(other))),
        },
        _ => check_string(value, schema, path),
    }
}

/// Checks a section whose `kind` determines the other keys.
fn check_section(value: &Value, schema: &Schema, variants: &[Schema], path: &str) -> Result<(), Problem> {
    let table = as_table(value, path, "a section")?;
    let key = format!("{path}.kind");
    let kind = match table.get("kind") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(Problem::wrong_type(&key, "a string", describe(other))),
        None => default_kind(schema).ok_or_else(|| Problem::new(&key, Fault::Missing))?,
    };
    match variants.iter().find(|variant| kind_of(variant) == Some(kind)) {
        Some(variant) => check_keys(table, variant, path, kind),
        None => {
            let choices = variants.iter().filter_map(kind_of).map(str::to_owned).collect();
            Err(Problem::new(key, Fault::UnknownValue { found: kind.to_owned(), choices }))
        }
    }
}

fn check_table(value: &Value, schema: &Schema, path: &str) -> Result<(), Problem> {
    if schema.get("properties").is_some() {
        return check_keys(as_table(value, path, "a section")?, schema, path, "");
    }
    // The keys of this table are arbitrary, so only the types of the values are checked. `rules` checks their range.
    let values = &schema["additionalProperties"]["type"];
    for (key, value) in as_table(value, path, "a table")? {
        check_value(value, &serde_json::json!({ "type": values }), &format!("{path}.{key}"))?;
    }
    Ok(())
}

/// Checks the keys of a section or of a table within a section.
fn check_keys(table: &Table, schema: &Schema, section: &str, kind: &str) -> Result<(), Problem> {
    let known = keys(section, kind);
    let is_kind = |key: &str| key == "kind" && !kind.is_empty();
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str()) && !is_kind(key)) {
        let fault = Fault::UnknownKey { section: Some(section.to_owned()), kind: kind.to_owned() };
        return Err(Problem::new(format!("{section}.{key}"), fault));
    }
    for key in known {
        let path = format!("{section}.{key}");
        match table.get(*key) {
            Some(value) => check_value(value, property(schema, key), &path)?,
            None if is_required(schema, key) => return Err(Problem::new(path, Fault::Missing)),
            None => {}
        }
    }
    Ok(())
}

fn as_table<'v>(value: &'v Value, path: &str, expected: &str) -> Result<&'v Table, Problem> {
    value.as_table().ok_or_else(|| Problem::wrong_type(path, expected, describe(value)))
}

/// Returns the strings that a schema allows; empty if the schema does not list any.
fn choices(schema: &Schema) -> Vec<String> {
    let constant = schema["const"].as_str().map(str::to_owned);
    let listed =
        schema["enum"].as_array().into_iter().flatten().filter_map(Schema::as_str).map(str::to_owned);
    let variants = schema["oneOf"].as_array().into_iter().flatten().flat_map(choices);
    constant.into_iter().chain(listed).chain(variants).collect()
}

fn check_choice(value: &Value, choices: Vec<String>, path: &str) -> Result<(), Problem> {
    match value {
        Value::String(found) if choices.contains(found) => Ok(()),
        Value::String(found) => {
            Err(Problem::new(path, Fault::UnknownValue { found: found.clone(), choices }))
        }
        other => Err(Problem::wrong_type(path, "a string", describe(other))),
    }
}

fn check_string(value: &Value, schema: &Schema, path: &str) -> Result<(), Problem> {
    let (least, most) = (schema["minLength"].as_u64(), schema["maxLength"].as_u64());
    let one = (least, most) == (Some(1), Some(1));
    let expected = if one { "a character" } else { "a string" };
    let Value::String(text) = value else {
        return Err(Problem::wrong_type(path, expected, describe(value)));
    };
    if one && text.chars().count() != 1 {
        return Err(Problem::wrong_type(path, expected, describe(value)));
    }
    if least == Some(1) && text.is_empty() {
        return Err(Problem::new(path, Fault::Invalid("must not be empty".to_owned())));
    }
    Ok(())
}

fn check_list(value: &Value, schema: &Schema, path: &str) -> Result<(), Problem> {
    let (least, most) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
    let exact = least.filter(|_| least == most);
    let expected = exact.map_or_else(|| "a list".to_owned(), |count| format!("a list of {count} numbers"));
    let Value::Array(elements) = value else {
        return Err(Problem::wrong_type(path, expected, describe(value)));
    };
    let count = elements.len() as u64;
    if exact.is_some_and(|exact| exact != count) {
        return Err(Problem::wrong_type(path, expected, format!("a list of length {count}")));
    }
    for (i, element) in elements.iter().enumerate() {
        check_value(element, &schema["items"], &format!("{path}[{i}]"))?;
    }
    if let Some(most) = most.filter(|most| count > *most) {
        return Err(Problem::invalid(path, format!("must have at most {most} elements"), count));
    }
    if let Some(least) = least.filter(|least| count < *least) {
        return Err(Problem::invalid(path, format!("must have {least} or more different elements"), count));
    }
    let repeated = (1..elements.len()).find(|&i| elements[..i].contains(&elements[i]));
    match repeated {
        Some(i) if schema["uniqueItems"] == true => {
            let found = format!("{} twice", describe(&elements[i]));
            Err(Problem::invalid(path, "must have different elements", found))
        }
        _ => Ok(()),
    }
}

fn check_integer(value: &Value, schema: &Schema, path: &str) -> Result<(), Problem> {
    let Value::Integer(found) = *value else {
        return Err(Problem::wrong_type(path, "an integer, 0 or more", describe(value)));
    };
    if found < 0 {
        return Err(Problem::wrong_type(path, "an integer, 0 or more", describe(value)));
    }
    if let Some(allowed) = schema["enum"].as_array() {
        if allowed.iter().any(|number| number.as_i64() == Some(found)) {
            return Ok(());
        }
        let allowed: Vec<String> = allowed.iter().map(Schema::to_string).collect();
        return Err(Problem::invalid(path, format!("must be {}", allowed.join(" or ")), found));
    }
    let (least, most) = (schema["minimum"].as_i64().unwrap_or(0), schema["maximum"].as_i64());
    let rule = match most {
        Some(i64::MAX) => "must be at most 2^63 - 1".to_owned(),
        Some(most) => format!("must be {least} to {most}"),
        None => format!("must be at least {least}"),
    };
    match found >= least && most.is_none_or(|most| found <= most) {
        true => Ok(()),
        false => Err(Problem::invalid(path, rule, found)),
    }
}

fn check_number(value: &Value, schema: &Schema, path: &str) -> Result<(), Problem> {
    let found = match *value {
        Value::Float(number) => number,
        Value::Integer(number) => number as f64,
        ref other => return Err(Problem::wrong_type(path, "a number", describe(other))),
    };
    let bound = |key: &str| schema[key].as_f64();
    let (least, above) = (bound("minimum"), bound("exclusiveMinimum"));
    let (most, below) = (bound("maximum"), bound("exclusiveMaximum"));
    let good = found.is_finite()
        && least.is_none_or(|least| found >= least)
        && above.is_none_or(|above| found > above)
        && most.is_none_or(|most| found <= most)
        && below.is_none_or(|below| found < below);
    if good {
        return Ok(());
    }
    let low =
        least.map(|least| format!("{least} or more")).or(above.map(|above| format!("greater than {above}")));
    let rule = match (low, least, above, most, below) {
        (_, Some(least), _, Some(most), _) => format!("must be {least} to {most}"),
        (_, Some(least), _, _, Some(below)) => format!("must be at least {least} and less than {below}"),
        (_, _, Some(above), Some(most), _) => format!("must be more than {above} and at most {most}"),
        (_, _, Some(above), _, Some(below)) => format!("must be more than {above} and less than {below}"),
        (Some(low), Some(_), ..) => format!("must be a finite number, {low}"),
        (Some(low), ..) => format!("must be a finite number {low}"),
        _ => "must be a finite number".to_owned(),
    };
    Err(Problem::invalid(path, rule, found))
}

/// Describes a value in an error message: `string "x"`, `integer 3`, "a list".
fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("string {text:?}"),
        Value::Integer(number) => format!("integer {number}"),
        Value::Float(number) => format!("number {number:?}"),
        Value::Boolean(value) => format!("boolean {value}"),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}
