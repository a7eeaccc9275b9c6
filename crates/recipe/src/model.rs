//! Section `[model]` of a recipe: the network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wgrad_nn::{ImageNorm, MlpConfig, ResidualMlpConfig, Shortcut, Stem};

/// Maximum number of channels of a convolution.
const MAX_CHANNELS: u64 = 4096;

/// Network that maps the inputs of the data to its outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// Sequence of linear layers.
    Mlp(MlpConfig),
    /// Residual blocks of linear layers, all with the same width.
    ResidualMlp(ResidualMlpConfig),
    /// Residual network of convolutions.
    #[serde(rename = "resnet")]
    ResNet(ResNetModel),
}

impl Model {
    /// Returns the value of the key `kind` for this model.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mlp(_) => "mlp",
            Self::ResidualMlp(_) => "residual-mlp",
            Self::ResNet(_) => "resnet",
        }
    }
}

/// Keys of a model with `kind = "resnet"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetModel {
    /// Family of residual networks of He et al. (2016), which determines the valid depths.
    pub family: Family,
    /// Number of layers with weights: 6n + 2 in the family `cifar`; 18, 34 or 50 in the family `imagenet`.
    #[schemars(range(min = 8))]
    pub depth: usize,
    /// Layers before the first block. Absent: the standard layers of the family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// Number of channels of the first stage, doubled in each further stage. Absent: 16 in the family `cifar`, 64 in
    /// the family `imagenet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_CHANNELS))]
    pub width: Option<usize>,
    /// Shortcut of blocks that change the size of their input; `none` removes all shortcuts. Absent: `pad` in the
    /// family `cifar`, `projection` in the family `imagenet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// Whether norm and activation come before each convolution instead of after the convolution.
    pub preactivation: bool,
    /// Whether the last norm of each block is initialised to zero, so that the block starts as its shortcut.
    pub zero_init: bool,
    /// Type of the norm layers.
    pub norm: ImageNorm,
}

impl Default for ResNetModel {
    fn default() -> Self {
        Self {
            family: Family::Cifar,
            depth: 20,
            stem: None,
            width: None,
            shortcut: None,
            preactivation: false,
            zero_init: false,
            norm: ImageNorm::Batch,
        }
    }
}

/// Family of residual networks of He et al. (2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Three stages of blocks with 3×3 convolutions, for images of 32×32.
    Cifar,
    /// Four stages, for images of 224×224.
    Imagenet,
}
