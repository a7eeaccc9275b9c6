//! Built-in recipes. Loads recipes by name or path.

use super::error::{Hint, RecipeError};
use super::{Recipe, parse};
use std::fs;
use std::path::Path;

const BUILTIN: &[(&str, &str)] = &[
    ("digits", include_str!("../recipes/digits.toml")),
    ("digits-mlp", include_str!("../recipes/digits-mlp.toml")),
    ("fashion-mlp", include_str!("../recipes/fashion-mlp.toml")),
    ("fashion-resnet", include_str!("../recipes/fashion-resnet.toml")),
    ("cifar-resnet20", include_str!("../recipes/cifar-resnet20.toml")),
    ("skin-scratch", include_str!("../recipes/skin-scratch.toml")),
    ("skin-transfer", include_str!("../recipes/skin-transfer.toml")),
];

/// Returns the names of the built-in recipes.
pub fn builtin_names() -> impl ExactSizeIterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// Returns the TOML text of a built-in recipe, with its comments, or `None` if no recipe has this name.
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Loads a built-in recipe by name, or a recipe file by a path that ends in `.toml`.
///
/// # Errors
/// Returns [`RecipeError::UnknownRecipe`] for an unknown name, [`RecipeError::Read`] if the file cannot be read, and
/// the errors of [`Recipe::parse`].
pub fn load(name_or_path: &str) -> Result<Recipe, RecipeError> {
    if let Some(text) = builtin(name_or_path) {
        return parse::parse(text, &format!("built-in recipe `{name_or_path}`"));
    }
    let path = Path::new(name_or_path);
    if path.extension().is_none_or(|extension| extension != "toml") {
        let hint = Hint::new(name_or_path, builtin_names());
        return Err(RecipeError::UnknownRecipe { name: name_or_path.to_owned(), hint });
    }
    let text =
        fs::read_to_string(path).map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
    parse::parse(&text, name_or_path)
}
