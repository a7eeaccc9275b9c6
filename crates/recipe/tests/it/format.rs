//! Tests of the format version of a recipe.

use wgrad_recipe::{FORMAT, Recipe, RecipeError, builtin_names, load};
use wgrad_stdx::ErrorKind;

const TEXT: &str = "name = 'a'\ndata.kind = 'digits'\nmodel.kind = 'mlp'\n";

#[test]
fn to_toml_writes_the_current_format() {
    for name in builtin_names() {
        let recipe = load(name).unwrap();
        let text = recipe.to_toml().unwrap();
        assert!(text.starts_with(&format!("format = {FORMAT}\n")), "{text}");
        assert_eq!(Recipe::parse(&text, "again").unwrap(), recipe);
    }
}

#[test]
fn older_and_current_formats_are_read() {
    let expected = Recipe::parse(TEXT, "a.toml").unwrap();
    for format in 1..=FORMAT {
        assert_eq!(Recipe::parse(&format!("format = {format}\n{TEXT}"), "a.toml").unwrap(), expected);
    }
}

#[test]
fn newer_format_is_refused_with_both_versions() {
    // A newer format may have other keys.
    let text = format!("format = 3\nnew = 1\n{TEXT}");
    let error = Recipe::parse(&text, "recipe.toml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "recipe.toml:1:1: this version of wgrad reads formats up to 2, found format 3; update wgrad"
    );
    assert!(matches!(error, RecipeError::NewerFormat { found: 3, known: FORMAT, .. }));
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn malformed_format_is_refused() {
    for (value, message) in [("0", "must be 1 to 2, found 0"), ("'2'", "expected an integer")] {
        let error = Recipe::parse(&format!("{TEXT}format = {value}"), "a.toml").unwrap_err().to_string();
        assert!(error.starts_with("a.toml:4:") && error.contains(message), "{error}");
    }
}
