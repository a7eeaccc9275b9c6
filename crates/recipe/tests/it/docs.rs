//! The tables of docs/recipes.md match the JSON Schema: keys, types, defaults and ranges.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::properties::{Property, choices, properties};

/// Section and kinds of each table with a column `key`, in the order of the page. The kinds of `optimizer` are columns, and
/// those of `schedule` are cells.
const TABLES: &[(&str, &[&str])] = &[
    ("", &[""]),
    ("data", &["digits", "fashion-mnist", "mnist", "cifar-10", "isic-2017", "image-folder", "image-csv"]),
    ("data", &["isic-2017", "image-folder", "image-csv"]),
    ("data", &["image-folder", "image-csv"]),
    ("data.augment", &[""]),
    ("data", &["csv"]),
    ("model", &["mlp"]),
    ("model", &["residual-mlp"]),
    ("model", &["resnet"]),
    ("optimizer", &["sgd", "adam", "adamw"]),
    ("schedule", &["constant", "step", "cosine", "one-cycle"]),
    ("transfer", &[""]),
    ("train", &[""]),
];

/// Type, default and range of a key in the page; `None` if the table has no such column.
#[derive(Debug, Clone)]
struct Documented {
    kind_of_value: Option<String>,
    default: String,
    range: Option<String>,
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/recipes.md");
    std::fs::read_to_string(path).unwrap()
}

/// Rows of the tables of the page, cell by cell; the first row of each table is its header.
fn tables(page: &str) -> Vec<Vec<Vec<String>>> {
    let mut tables = vec![Vec::new()];
    for line in page.lines() {
        match line.strip_prefix("| ").or_else(|| line.strip_prefix("|")) {
            Some(row) if row.starts_with("--") => {}
            Some(row) => {
                let cells = row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned());
                tables.last_mut().unwrap().push(cells.collect());
            }
            None if !tables.last().unwrap().is_empty() => tables.push(Vec::new()),
            None => {}
        }
    }
    tables.retain(|table: &Vec<Vec<String>>| !table.is_empty());
    tables
}

/// Returns every documented key by section, kind and name.
fn documented() -> BTreeMap<(String, String, String), Documented> {
    let tables = tables(&page());
    let tables: Vec<_> = tables.iter().filter(|table| table[0].iter().any(|cell| cell == "key")).collect();
    assert_eq!(tables.len(), TABLES.len(), "tables with keys");
    let mut all = BTreeMap::new();
    for (table, (section, kinds)) in tables.into_iter().zip(TABLES) {
        let header = &table[0];
        let mut kind_in_cell = String::new();
        for row in &table[1..] {
            let cell = |name: &str| header.iter().position(|head| head == name).map(|i| row[i].clone());
            if let Some(kind) = cell("`kind`").filter(|kind| !kind.is_empty()) {
                kind_in_cell = unquote(&kind).to_owned();
            }
            let key = cell("key").unwrap();
            let key = unquote(&key).trim_start_matches("[data.").trim_end_matches(']').to_owned();
            let meaning = cell("meaning").unwrap();
            for kind in *kinds {
                let column = cell(&format!("`\"{kind}\"`"));
                let other_cell = !kind_in_cell.is_empty() && kind_in_cell != *kind;
                if column.as_deref() == Some("–") || other_cell || excludes(&meaning, kind) {
                    continue;
                }
                let entry = Documented {
                    kind_of_value: cell("type"),
                    default: cell("default").or(column).unwrap(),
                    range: cell("range"),
                };
                let place = (section.to_string(), kind.to_string(), key.clone());
                assert!(all.insert(place.clone(), entry).is_none(), "{place:?} is documented twice");
            }
        }
    }
    all
}

/// Whether the meaning of a key restricts it to other kinds: `"image-csv"` only, or not for `"isic-2017"`.
fn excludes(meaning: &str, kind: &str) -> bool {
    let quoted = format!("`\"{kind}\"`");
    let only = meaning.split_once(" only: ").is_some_and(|(kinds, _)| !kinds.contains(&quoted));
    let not = meaning.split_once("Not for ").is_some_and(|(_, kinds)| kinds.contains(&quoted));
    only || not
}

fn unquote(cell: &str) -> &str {
    cell.trim_matches('`').trim_matches('"')
}

#[test]
fn page_documents_every_key_and_no_others() {
    let documented: Vec<_> = documented().into_keys().collect();
    let mut known: Vec<_> = properties()
        .into_iter()
        .map(|property| (property.section.to_owned(), property.kind.to_owned(), property.key.to_owned()))
        .collect();
    known.sort();
    let missing: Vec<_> = known.iter().filter(|key| !documented.contains(key)).collect();
    let unknown: Vec<_> = documented.iter().filter(|key| !known.contains(key)).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
}

#[test]
fn page_documents_every_type_default_and_range() {
    let documented = documented();
    let page = page();
    for property in properties() {
        let place = (property.section.to_owned(), property.kind.to_owned(), property.key.to_owned());
        let entry = &documented[&place];
        if let Some(found) = &entry.kind_of_value {
            assert!(is_type(found, property.schema, &page), "{place:?}: type {found}, {}", property.schema);
        }
        check_default(&property, &entry.default);
        if let Some(range) = &entry.range {
            check_range(&property, range);
        }
    }
}

#[test]
fn page_lists_every_kind_of_data() {
    let tables = tables(&page());
    let kinds = tables.iter().find(|table| table[0] == ["`kind`", "data"]).unwrap();
    let listed: Vec<&str> = kinds[1..].iter().map(|row| unquote(&row[0])).collect();
    let variants = wgrad_recipe::json_schema()["properties"]["data"]["oneOf"].as_array().unwrap();
    let known: Vec<&str> =
        variants.iter().map(|variant| variant["properties"]["kind"]["const"].as_str().unwrap()).collect();
    assert_eq!(listed, known);
}

/// Whether a documented type matches the schema.
fn is_type(documented: &str, schema: &Value, page: &str) -> bool {
    let is = |schema: &Value, name: &str| schema["type"] == name;
    let items = |name: &str| is(schema, "array") && is(&schema["items"], name);
    let choices = choices(schema);
    match documented {
        // The choices are listed in the text below the tables.
        "string" => {
            is(schema, "string")
                || (!choices.is_empty() && choices.iter().all(|c| page.contains(&format!("`\"{c}\"`"))))
        }
        "integer" => is(schema, "integer"),
        "float" => is(schema, "number"),
        "bool" => is(schema, "boolean"),
        "one character" => is(schema, "string") && schema["maxLength"] == 1,
        "table" | "table of pattern = factor" => is(schema, "object"),
        "list of strings" | "list of patterns" => items("string"),
        "list of integers" => items("integer"),
        "list of floats" => items("number"),
        "list of 2 floats" => items("number") && schema["maxItems"] == 2,
        quoted if quoted.starts_with('`') => {
            let mut listed: Vec<&str> = quoted.split(", ").map(unquote).collect();
            let mut known = choices;
            listed.sort_unstable();
            known.sort_unstable();
            listed == known
        }
        _ => false,
    }
}

/// A default in code is a value; every other text stands for an absent key.
fn check_default(property: &Property, documented: &str) {
    let known = &property.schema["default"];
    let inner = documented.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    let place = || format!("{} of {:?}: default {documented}, {known}", property.path(), property.kind);
    match (documented, inner) {
        ("required", _) => assert!(property.required, "{}", place()),
        ("empty", _) => assert_eq!(known, "", "{}", place()),
        ("no changes", _) => assert!(known.is_object(), "{}", place()),
        (_, Some(code)) if !code.contains('`') => {
            let value: toml::Table = toml::from_str(&format!("value = {code}")).unwrap();
            assert_eq!(&serde_json::to_value(&value["value"]).unwrap(), known, "{}", place());
        }
        _ => assert!(known.is_null() && !property.required, "{}", place()),
    }
}

/// Bounds of a number: minimum, exclusive minimum, maximum, exclusive maximum.
type Bounds = [Option<f64>; 4];

fn check_range(property: &Property, documented: &str) {
    let schema = property.schema;
    let place = format!("{} of {:?}: range {documented}, {schema}", property.path(), property.kind);
    match documented {
        "not empty" => assert_eq!(schema["minLength"], 1, "{place}"),
        "2 or more" => assert!(schema["minItems"] == 2 && schema["uniqueItems"] == true, "{place}"),
        "1, 3" => assert_eq!(schema["enum"], serde_json::json!([1, 3]), "{place}"),
        // A rule between two keys.
        rule if rule.starts_with("6n + 2") => {}
        _ => {
            let numbers = if schema["type"] == "array" { &schema["items"] } else { schema };
            let known = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"]
                .map(|key| numbers[key].as_f64());
            let found = bounds(documented);
            assert_eq!(found, known, "{place}");
            if let Some((_, most)) = documented.split_once(", at most ") {
                assert_eq!(number(most.trim_end_matches(" values")), schema["maxItems"].as_f64(), "{place}");
            }
        }
    }
}

/// Reads a range such as `1 to 2³²−1`, `(0, 1]`, `> 0` or `each [0, 1)`; other texts have no bounds.
fn bounds(text: &str) -> Bounds {
    let text = text.trim_start_matches("each ");
    if let Some(least) = text.strip_prefix("≥ ") {
        return [number(least), None, None, None];
    }
    if let Some(above) = text.strip_prefix("> ") {
        return [None, number(above.split(',').next().unwrap()), None, None];
    }
    let end = text.find([')', ']']);
    if let (Some(open), Some(end)) = (text.chars().next().filter(|c| "([".contains(*c)), end) {
        let (low, high) = text[1..end].split_once(", ").unwrap();
        let (low, high) = (number(low), number(high));
        let (least, above) = if open == '[' { (low, None) } else { (None, low) };
        let (most, below) = if text[end..].starts_with(']') { (high, None) } else { (None, high) };
        return [least, above, most, below];
    }
    match text.split_once(" to ") {
        Some((low, high)) => [number(low), None, number(high.split(", ").next().unwrap()), None],
        None => [None; 4],
    }
}

/// Reads a number such as `10,000`, `2²⁰` or `2³²−1`.
fn number(text: &str) -> Option<f64> {
    let (power, less) =
        text.split_once('−').map_or((text, 0.0), |(power, less)| (power, less.parse().unwrap()));
    let digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
    let exponent: String = power
        .chars()
        .filter_map(|c| digits.chars().position(|digit| digit == c))
        .map(|digit| digit.to_string())
        .collect();
    let base: String = power.chars().filter(|c| !digits.contains(*c) && *c != ',').collect();
    let base: f64 = base.parse().ok()?;
    Some(if exponent.is_empty() { base } else { base.powi(exponent.parse().unwrap()) } - less)
}
