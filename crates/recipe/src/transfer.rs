//! The section `[transfer]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Initial weights, and which parameters are trained.
///
/// A pattern is a parameter name in which `*` matches any text, such as `layer1.*`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Transfer {
    /// Initial weights: a safetensors or PyTorch file, or a run directory. Absent: random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Recipe to train first, whose weights are the initial ones; not used if `weights` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<String>,
    /// Changes of the recipe `pretrain`, as for `--set`.
    pub pretrain_set: Vec<String>,
    /// Patterns of parameters that keep their random initial values, such as a new head.
    pub replace: Vec<String>,
    /// Patterns of parameters that are not trained.
    pub freeze: Vec<String>,
    /// Factors of the learning rate by pattern; if several patterns match, the first in alphabetical order is used.
    #[schemars(extend("additionalProperties" = {"type": "number", "exclusiveMinimum": 0}))]
    pub rates: BTreeMap<String, f64>,
}
