//! `wgrad recipe list`, `show` and `schema`: the built-in recipes, and the JSON Schema of recipes.

use std::process::ExitCode;

use anyhow::Result;
use wgrad_recipe::{Hint, builtin, builtin_names, json_schema, load};

use crate::cli::{RecipeCommand, RecipeFile};
use crate::failure::Usage;
use crate::terminal;

/// Lists or prints built-in recipes, or prints the JSON Schema.
pub fn run(args: &RecipeFile) -> Result<ExitCode> {
    match &args.command {
        RecipeCommand::List => list()?,
        RecipeCommand::Show { name } => show(name)?,
        RecipeCommand::Schema => terminal::result(&serde_json::to_string_pretty(json_schema())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list() -> Result<()> {
    let mut rows = vec![["name", "description"].map(str::to_owned).to_vec()];
    for name in builtin_names() {
        rows.push(vec![name.to_owned(), load(name)?.description]);
    }
    terminal::result(&terminal::table(&rows, false))?;
    Ok(())
}

fn show(name: &str) -> Result<()> {
    let unknown = || Usage(format!("unknown recipe `{name}`, {}", Hint::new(name, builtin_names())));
    let text = builtin(name).ok_or_else(unknown)?;
    terminal::result(text.trim_end())?;
    Ok(())
}
