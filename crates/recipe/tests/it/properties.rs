//! All keys of the JSON Schema, section by section and kind by kind.

use serde_json::Value;
use wgrad_recipe::{Recipe, RecipeError, json_schema};

/// A key of the JSON Schema.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// Section or table, such as `data.augment`; empty at the top level.
    pub section: &'static str,
    /// Kind of the section; empty for a section without kinds.
    pub kind: &'static str,
    pub key: &'static str,
    pub schema: &'static Value,
    pub required: bool,
}

/// Returns all keys except the sections and `kind`.
pub fn properties() -> Vec<Property> {
    let root = json_schema();
    let mut all = of_table("", "", root);
    all.retain(|property| {
        !["data", "model", "optimizer", "schedule", "transfer", "train"].contains(&property.key)
    });
    for section in ["data", "model", "optimizer", "schedule"] {
        for variant in root["properties"][section]["oneOf"].as_array().unwrap() {
            let kind = variant["properties"]["kind"]["const"].as_str().unwrap();
            all.extend(
                of_table(section, kind, variant).into_iter().filter(|property| property.key != "kind"),
            );
        }
    }
    for section in ["transfer", "train"] {
        all.extend(of_table(section, "", &root["properties"][section]));
    }
    let augment = all.iter().find(|property| property.key == "augment").unwrap().schema;
    all.extend(of_table("data.augment", "", augment));
    all
}

fn of_table(section: &'static str, kind: &'static str, table: &'static Value) -> Vec<Property> {
    let required = |key: &str| table["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    let properties = table["properties"].as_object().unwrap().iter();
    properties.map(|(key, schema)| Property { section, kind, key, schema, required: required(key) }).collect()
}

impl Property {
    /// Key with its section.
    pub fn path(&self) -> String {
        match self.section {
            "" => self.key.to_owned(),
            section => format!("{section}.{}", self.key),
        }
    }

    /// Parses a recipe in which this key has the value `value`, given as TOML.
    pub fn parse_with(&self, value: &str) -> Result<Recipe, RecipeError> {
        let mut keys = vec![
            ("name".to_owned(), "'x'".to_owned()),
            ("data.kind".to_owned(), "'digits'".to_owned()),
            ("model.kind".to_owned(), "'mlp'".to_owned()),
        ];
        let mut set = |path: String, value: &str| {
            keys.retain(|(known, _)| *known != path);
            keys.push((path, value.to_owned()));
        };
        if !self.kind.is_empty() {
            set(format!("{}.kind", self.section), &format!("'{}'", self.kind));
        }
        match self.kind {
            "image-folder" | "csv" => set("data.path".into(), "'a'"),
            "image-csv" => {
                ["data.path", "data.labels"].map(|path| set(path.into(), "'a'")).into_iter().collect()
            }
            _ => {}
        }
        set(self.path(), value);
        let lines: Vec<String> = keys.iter().map(|(path, value)| format!("{path} = {value}")).collect();
        Recipe::parse(&lines.join("\n"), "x.toml")
    }
}

/// Returns the strings that a key can have; empty if any string is valid.
pub fn choices(schema: &Value) -> Vec<&str> {
    let variants =
        schema["oneOf"].as_array().into_iter().flatten().filter_map(|choice| choice["const"].as_str());
    variants.chain(schema["const"].as_str()).collect()
}
