//! Section `[transfer]` of a recipe: initial weights and trainable parameters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Initial weights and trainable parameters.
///
/// A pattern is a parameter name in which `*` matches any text, for example `layer1.*`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Transfer {
    /// Initial weights: a safetensors or PyTorch file, or a run directory. Absent: random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Recipe that is trained first to obtain the initial weights; ignored if `weights` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<String>,
    /// Changes of the recipe `pretrain`, in the syntax of `--set`.
    pub pretrain_set: Vec<String>,
    /// Patterns of parameters that keep their random initial values, such as the parameters of a new head.
    pub replace: Vec<String>,
    /// Patterns of parameters that are not trained.
    pub freeze: Vec<String>,
    /// Factor of the learning rate for each pattern. If several patterns match, the first in alphabetical order is
    /// used.
    #[schemars(extend("additionalProperties" = {"type": "number", "exclusiveMinimum": 0}))]
    pub rates: BTreeMap<String, f64>,
}
