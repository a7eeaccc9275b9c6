//! JSON Schema of recipes, derived from [`Recipe`]. The parser checks types, ranges and choices against it.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Recipe;
use super::keys::{FORMAT_KEY, SECTIONS};

/// Newest version of the recipe format that this crate reads, and the version that it writes.
///
/// Version 1 has no key `format`. Version 2 adds this key; all other keys are the same.
pub const FORMAT: u64 = 2;

/// Returns the JSON Schema (draft 2020-12) of recipes: keys, types, defaults, ranges, choices and descriptions.
pub fn json_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(build);
    &SCHEMA
}

/// Returns the schema of a key of a table, given the schema of the table.
pub(super) fn property<'s>(schema: &'s Value, key: &str) -> &'s Value {
    &schema["properties"][key]
}

/// Returns the schemas of the kinds of a section, or `None` for a schema without kinds.
pub(super) fn variants(schema: &Value) -> Option<&Vec<Value>> {
    let variants = schema["oneOf"].as_array()?;
    variants.iter().all(|variant| kind_of(variant).is_some()).then_some(variants)
}

/// Returns the kind of a variant's schema.
pub(super) fn kind_of(variant: &Value) -> Option<&str> {
    property(variant, "kind")["const"].as_str()
}

/// Returns the kind of a section in which the key `kind` is absent.
pub(super) fn default_kind(schema: &Value) -> Option<&str> {
    schema["default"]["kind"].as_str()
}

/// Whether a table with this schema must have a key.
pub(super) fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key))
}

fn build() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut root = settings.into_generator().into_root_schema_for::<Recipe>().to_value();
    simplify(&mut root);
    for section in SECTIONS {
        let schema = &mut root["properties"][section];
        if variants(schema).is_some() {
            complete_variants(section, schema);
        }
    }
    root["properties"][FORMAT_KEY] = json!({
        "description": "Version of the recipe format. Written to the recipe of a run; other recipes do not need it.",
        "type": "integer",
        "minimum": 1,
        "maximum": FORMAT,
        "default": 1,
    });
    root
}

/// Removes `null`, which TOML does not have, and the formats of Rust's number types.
fn simplify(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("format");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(mut any)) = schema.remove("anyOf") {
        any.retain(|schema| schema["type"] != "null");
        if let Some(Value::Object(only)) = any.pop() {
            only.into_iter().for_each(|(key, value)| {
                schema.entry(key).or_insert(value);
            });
        }
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).into_iter().for_each(simplify);
    }
    if let Some(Value::Array(one_of)) = schema.get_mut("oneOf") {
        one_of.iter_mut().for_each(simplify);
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
}

/// Adds the default of each key of each kind, and makes `kind` optional if the section has a default kind.
fn complete_variants(section: &str, schema: &mut Value) {
    let default = default_kind(schema).map(str::to_owned);
    let Some(Value::Array(variants)) = schema.get_mut("oneOf") else { return };
    for variant in variants {
        let Some(kind) = kind_of(variant).map(str::to_owned) else { continue };
        let defaults = defaults(section, &kind);
        if let Some(properties) = variant["properties"].as_object_mut() {
            for (key, value) in defaults {
                if let Some(Value::Object(property)) = properties.get_mut(&key) {
                    property.entry("default").or_insert(value);
                }
            }
        }
        if default.as_deref() == Some(&kind) {
            variant["properties"]["kind"]["default"] = kind.into();
            if let Some(Value::Array(required)) = variant.get_mut("required") {
                required.retain(|key| key != "kind");
            }
        }
    }
}

/// Returns the default values of the keys of a kind; empty if the kind has required keys.
fn defaults(section: &str, kind: &str) -> Map<String, Value> {
    let mut minimal = json!({ "name": "defaults", "data": { "kind": "digits" }, "model": { "kind": "mlp" } });
    minimal[section] = json!({ "kind": kind });
    let recipe = serde_json::from_value::<Recipe>(minimal).ok();
    let resolved = recipe.and_then(|recipe| serde_json::to_value(recipe).ok());
    match resolved.and_then(|mut recipe| recipe.as_object_mut()?.remove(section)) {
        Some(Value::Object(mut values)) => {
            values.remove("kind");
            values
        }
        _ => Map::new(),
    }
}
