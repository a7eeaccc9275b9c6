//! Recipes: a whole training run as one TOML file.
//!
//! This module knows what a recipe may say, not what it means: models, optimizers and data sets are built elsewhere from
//! these structs. A [`Recipe`] that was parsed here has only known keys, right types and values in range.

mod builtin;
mod data;
mod error;
mod network;
mod parse;
mod schema;
mod set;
mod validate;

pub use builtin::{builtin, builtin_names, load};
pub use data::*;
pub use error::{Hint, Location, RecipeError};
pub use network::*;
pub use schema::*;

use serde::Serialize;

/// A training run: which data, which model, how it is optimized and for how long.
///
/// ```
/// use wgrad_recipe::{Model, Recipe};
///
/// let mut recipe = Recipe::parse("name = 'mine'\ndata.kind = 'digits'\nmodel = {kind = 'mlp', hidden = [64]}", "mine.toml")?;
/// recipe.set("train.batch=128")?;
/// assert_eq!(recipe.train.batch, 128);
/// assert!(matches!(&recipe.model, Model::Mlp(mlp) if mlp.hidden == [64]));
///
/// let mistake = recipe.set("train.bacth=128").unwrap_err();
/// assert_eq!(mistake.to_string(), "--set train.bacth=128: unknown key `train.bacth`, did you mean `train.batch`?");
/// # Ok::<(), wgrad_recipe::RecipeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// Names the run directory: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Where the samples come from.
    pub data: Data,
    /// The network. Its input and output widths come from the data.
    pub model: Model,
    /// How parameters change. Absent: AdamW.
    pub optimizer: Optimizer,
    /// How the learning rate changes over the steps. Absent: constant.
    pub schedule: Schedule,
    /// What the parameters start from, and which are trained. Absent: at random, and all.
    pub transfer: Transfer,
    /// How long, in which batches, and what is kept.
    pub train: Train,
}

impl Recipe {
    /// Reads a recipe from TOML. `origin` names it in errors: a file, or "built-in recipe `digits`".
    ///
    /// # Errors
    /// Bad TOML, unknown keys and kinds, wrong types, missing keys and values out of range, each with its line and column.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        parse::parse(text, origin)
    }

    /// The recipe as TOML with every default written out. Parses back to an equal recipe.
    ///
    /// # Errors
    /// [`RecipeError::Encode`] if a path set by hand is not UTF-8, which TOML has to be.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        toml::to_string(self).map_err(|error| RecipeError::Encode(error.to_string()))
    }

    /// Changes one key, as `section.key=value`. See [`Recipe::set_all`].
    ///
    /// # Errors
    /// As [`Recipe::set_all`].
    pub fn set(&mut self, assignment: &str) -> Result<(), RecipeError> {
        self.set_all(&[assignment])
    }

    /// Changes several keys at once, as `--set` does: all of them, or on an error none.
    ///
    /// A value is read as TOML (`128`, `1e-3`, `[64, 64]`, `true`) and taken as a string where it is not. An empty value puts
    /// a key back to its default. A new `kind` keeps what the section said besides defaults, where the new kind knows the
    /// key. Later assignments win.
    ///
    /// # Errors
    /// [`RecipeError::Assignment`] without an `=`; otherwise as [`Recipe::parse`], with the assignment in place of the line.
    pub fn set_all(&mut self, assignments: &[impl AsRef<str>]) -> Result<(), RecipeError> {
        *self = set::set_all(self, assignments)?;
        Ok(())
    }

    /// Checks every value's range. [`Recipe::parse`] has done so; this is for recipes made or changed by hand.
    ///
    /// # Errors
    /// [`RecipeError::Invalid`] with the key, its value and the range.
    pub fn validate(&self) -> Result<(), RecipeError> {
        validate::check(self).map_err(|problem| RecipeError::Invalid {
            at: Location { origin: format!("recipe `{}`", self.name), position: None },
            key: problem.key,
            message: problem.message,
        })
    }
}
