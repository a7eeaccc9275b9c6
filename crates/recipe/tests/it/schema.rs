//! Checks that the parser enforces the JSON Schema: types, ranges and choices of every key.

use serde_json::Value;
use wgrad_recipe::{RecipeError, json_schema};

use crate::properties::{Property, choices, properties};

#[test]
fn every_key_and_kind_has_a_description() {
    for property in properties() {
        let description = property.schema["description"].as_str().unwrap_or_default();
        assert!(description.len() > 5, "{}", property.path());
    }
    for section in ["data", "model", "optimizer", "schedule"] {
        for variant in json_schema()["properties"][section]["oneOf"].as_array().unwrap() {
            assert!(variant["description"].is_string(), "{variant}");
            assert_eq!(variant["additionalProperties"], false, "{variant}");
        }
    }
    assert_eq!(json_schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(json_schema()["additionalProperties"], false);
}

#[test]
fn every_key_has_its_default_in_the_schema() {
    let find = |path: &str, kind: &str| {
        let all = properties();
        all.into_iter().find(|property| property.path() == path && property.kind == kind).unwrap()
    };
    assert_eq!(find("optimizer.lr", "sgd").schema["default"], 0.1);
    assert_eq!(find("optimizer.betas", "adamw").schema["default"], serde_json::json!([0.9, 0.999]));
    assert_eq!(find("data.size", "isic-2017").schema["default"], 64);
    assert_eq!(find("data.size", "image-csv").schema["default"], 64);
    assert_eq!(find("model.activation", "residual-mlp").schema["default"], "gelu");
    assert_eq!(find("train.keep_checkpoints", "").schema["default"], 3);
    assert_eq!(find("data.augment.crop", "").schema["default"], 0);
    assert_eq!(find("train.patience", "").schema["default"], Value::Null);
    assert!(find("data.path", "csv").required && !find("data.label", "csv").required);
}

#[test]
fn every_type_is_enforced() {
    for property in properties() {
        let wrong = match property.schema["type"].as_str() {
            Some("integer" | "number" | "boolean" | "array" | "object") => "'text'",
            _ => "3",
        };
        let error = property.parse_with(wrong).unwrap_err();
        assert!(
            matches!(&error, RecipeError::WrongType { key, .. } if *key == property.path()),
            "{} of {:?}: {error}",
            property.path(),
            property.kind
        );
    }
}

#[test]
fn every_choice_is_accepted_and_others_are_refused() {
    for property in properties() {
        let choices = choices(property.schema);
        for choice in &choices {
            // ImageNet's statistics require colour images, and the recipe has grey images.
            if *choice != "imagenet" {
                property.parse_with(&format!("'{choice}'")).unwrap();
            }
        }
        if !choices.is_empty() {
            let error = property.parse_with("'zzz'").unwrap_err();
            assert!(matches!(&error, RecipeError::UnknownValue { found, .. } if found == "zzz"), "{error}");
        }
    }
}

/// Returns values at the bounds of a numeric schema: values that are accepted, and values that are refused.
fn at_bounds(schema: &Value) -> (Vec<String>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    if let Some(allowed) = schema["enum"].as_array() {
        good.extend(allowed.iter().map(Value::to_string));
        bad.push((allowed.iter().filter_map(Value::as_i64).max().unwrap() + 1).to_string());
        return (good, bad);
    }
    if schema["type"] == "integer" {
        if let Some(least) = schema["minimum"].as_i64() {
            good.push(least.to_string());
            bad.extend((least > 0).then(|| (least - 1).to_string()));
        }
        if let Some(most) = schema["maximum"].as_i64() {
            good.push(most.to_string());
            bad.extend(most.checked_add(1).map(|over| over.to_string()));
        }
        return (good, bad);
    }
    let text = |number: f64| format!("{number:?}");
    let bound = |key: &str| schema[key].as_f64();
    good.extend(bound("minimum").map(text));
    bad.extend(bound("minimum").map(|least| text(least - 1e-3)));
    good.extend(bound("exclusiveMinimum").map(|above| text(above + 1e-9)));
    bad.extend(bound("exclusiveMinimum").map(text));
    good.extend(bound("maximum").map(text));
    bad.extend(bound("maximum").map(|most| text(most + 1e-3)));
    good.extend(bound("exclusiveMaximum").map(|below| text(below - 1e-9)));
    bad.extend(bound("exclusiveMaximum").map(text));
    bad.extend(["nan", "inf"].map(str::to_owned));
    (good, bad)
}

#[test]
fn every_numeric_range_is_enforced() {
    let mut ranges = 0;
    for property in properties() {
        let schema = property.schema;
        let (numbers, count) = match schema["type"].as_str() {
            Some("integer" | "number") => (schema, None),
            Some("array") if schema["items"]["type"] != "string" => {
                (&schema["items"], Some(schema["minItems"].as_u64().unwrap_or(1)))
            }
            _ => continue,
        };
        let literal = |number: &String| match count {
            None => number.clone(),
            Some(count) => format!("[{}]", vec![number.as_str(); count as usize].join(", ")),
        };
        let (good, bad) = at_bounds(numbers);
        assert!(!good.is_empty(), "{} has no range", property.path());
        ranges += 1;
        for value in good.iter().map(literal) {
            let result = property.parse_with(&value);
            assert!(result.is_ok(), "{} = {value}: {}", property.path(), result.unwrap_err());
        }
        for value in bad.iter().map(literal) {
            let error = property.parse_with(&value).unwrap_err();
            assert!(
                is_out_of_range(&property, &error),
                "{} = {value} of {:?}: {error}",
                property.path(),
                property.kind
            );
        }
    }
    assert!(ranges > 50, "{ranges}");
}

fn is_out_of_range(property: &Property, error: &RecipeError) -> bool {
    match error {
        RecipeError::Invalid { key, .. } => *key == property.path(),
        RecipeError::NewerFormat { .. } => property.key == "format",
        _ => false,
    }
}
