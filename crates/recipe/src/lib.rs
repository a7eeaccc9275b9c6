//! Recipes: a training run as one TOML file.
//!
//! The struct [`Recipe`] and the types of its fields define the schema of a recipe. Some of these types are defined in
//! [`wgrad_nn`] and [`wgrad_data`]. [`json_schema`] derives the JSON Schema from the types, and the parser checks
//! keys, types, ranges and choices against the JSON Schema.
//!
//! This crate does not build models or load data; `wgrad_train` does.

mod builtin;
mod check;
mod error;
mod keys;
mod model;
mod parse;
mod rules;
mod schema;
mod set;
mod train;
mod transfer;

pub use builtin::{builtin, builtin_names, load};
pub use error::{Hint, Location, RecipeError};
pub use model::{Family, Model, ResNetModel};
pub use schema::{FORMAT, json_schema};
pub use train::{Precision, Train};
pub use transfer::Transfer;
pub use wgrad_data::{
    Augment, CsvData, Data, ImageCsvData, ImageFolderData, Images, IsicData, Normalize, PixelData, Task,
};
pub use wgrad_nn::{
    Activation, Adam, AdamW, ConstantSchedule, CosineSchedule, ImageNorm, MlpConfig, Norm, OneCycleSchedule,
    Optimizer, ResidualMlpConfig, Schedule, Sgd, Shortcut, Stem, StepSchedule,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A training run: data, model, optimizer and duration.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "wgrad recipe", description = "A training run: data, model, optimizer and duration.")]
pub struct Recipe {
    /// Name of the run directory: 1 to 100 letters, digits, `-`, `_` or `.`, not beginning with `.`.
    #[schemars(extend("pattern" = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$"))]
    pub name: String,
    /// One-line description for readers of the recipe.
    #[serde(default)]
    pub description: String,
    /// Training, validation and test data.
    pub data: Data,
    /// Network. The data determines the input and output widths.
    pub model: Model,
    /// Optimizer. Absent: AdamW with default settings.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Learning-rate schedule over the steps of the run, with `optimizer.lr` as its peak. Absent: constant.
    #[serde(default)]
    pub schedule: Schedule,
    /// Initial weights and trainable parameters. Absent: random weights, and all parameters are trained.
    #[serde(default)]
    pub transfer: Transfer,
    /// Duration, batch sizes, evaluation and checkpoints.
    #[serde(default)]
    pub train: Train,
}

impl Recipe {
    /// Parses a recipe from TOML. `origin` names the recipe in errors, such as a path or "built-in recipe `digits`".
    ///
    /// # Errors
    /// Returns an error with line and column for invalid TOML, a newer format, an unknown key or kind, a wrong type, a
    /// missing key or a value out of range.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        parse::parse(text, origin)
    }

    /// Returns the recipe as TOML with its format version and all defaults. The text parses to an equal recipe.
    ///
    /// # Errors
    /// Returns [`RecipeError::Encode`] if a path is not UTF-8 or a number exceeds the integers of TOML.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        let text = toml::to_string(self).map_err(|error| RecipeError::Encode(error.to_string()))?;
        Ok(format!("format = {FORMAT}\n{text}"))
    }

    /// Changes one key, given as `section.key=value`. See [`Recipe::set_all`].
    ///
    /// # Errors
    /// Returns the errors of [`Recipe::set_all`].
    pub fn set(&mut self, assignment: &str) -> Result<(), RecipeError> {
        self.set_all(&[assignment])
    }

    /// Changes several keys, as `--set` does. On an error the recipe is not changed.
    ///
    /// A value is parsed as TOML (`128`, `1e-3`, `[64, 64]`, `true`); a value that is not valid TOML is a string. An
    /// empty value restores the default of the key. If a key is assigned more than once, the last assignment is used.
    ///
    /// If `kind` is changed, the other keys of the section keep their values, unless the new kind does not have the
    /// key or the value is the default of the old kind.
    ///
    /// # Errors
    /// Returns [`RecipeError::Assignment`] for text that is not an assignment to a key, and otherwise the errors of
    /// [`Recipe::parse`], with the assignment instead of line and column.
    pub fn set_all(&mut self, assignments: &[impl AsRef<str>]) -> Result<(), RecipeError> {
        *self = set::set_all(self, assignments)?;
        Ok(())
    }

    /// Checks the values of a recipe that was built or changed in code. [`Recipe::parse`] performs the same checks.
    ///
    /// # Errors
    /// Returns [`RecipeError::Invalid`] with the key, its range and its value.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let mut error = match parse::parse(&self.to_toml()?, "") {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if let Some((_, at)) = error.key_and_location() {
            *at = Location { origin: format!("recipe `{}`", self.name), position: None };
        }
        Err(error)
    }
}
