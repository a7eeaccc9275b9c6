//! The section `[model]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wgrad_nn::{Activation, ImageNorm, Norm, Shortcut, Stem};

/// Largest width of a layer. Products of two widths stay far below the range of an index.
const MAX_WIDTH: u64 = 1 << 20;
/// Largest number of layers.
const MAX_LAYERS: u64 = 10_000;
/// Largest number of channels of a convolution.
const MAX_CHANNELS: u64 = 4096;

/// Network between the inputs and the outputs of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// Sequence of linear layers.
    Mlp(MlpModel),
    /// Residual blocks of linear layers of one width.
    ResidualMlp(ResidualMlpModel),
    /// Residual network of convolutions.
    #[serde(rename = "resnet")]
    ResNet(ResNetModel),
}

impl Model {
    /// Value of the key `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mlp(_) => "mlp",
            Self::ResidualMlp(_) => "residual-mlp",
            Self::ResNet(_) => "resnet",
        }
    }
}

/// Keys of `kind = "mlp"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlpModel {
    /// Widths of the hidden layers; empty for a linear model.
    #[schemars(length(max = MAX_LAYERS), inner(range(min = 1, max = MAX_WIDTH)))]
    pub hidden: Vec<usize>,
    /// Activation after each hidden layer.
    pub activation: Activation,
    /// Norm before each activation.
    pub norm: Norm,
    /// Probability of dropping an activation in training.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
}

impl Default for MlpModel {
    fn default() -> Self {
        Self { hidden: vec![128, 128], activation: Activation::Relu, norm: Norm::None, dropout: 0.0 }
    }
}

/// Keys of `kind = "residual-mlp"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualMlpModel {
    /// Width of every block.
    #[schemars(range(min = 1, max = MAX_WIDTH))]
    pub width: usize,
    /// Number of blocks.
    #[schemars(range(min = 1, max = MAX_LAYERS))]
    pub depth: usize,
    /// Activation in each block.
    pub activation: Activation,
    /// Norm at the start of each block and before the head.
    pub norm: Norm,
    /// Probability of dropping a value in a block in training.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
}

impl Default for ResidualMlpModel {
    fn default() -> Self {
        Self { width: 128, depth: 2, activation: Activation::Gelu, norm: Norm::Layer, dropout: 0.0 }
    }
}

/// Keys of `kind = "resnet"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetModel {
    /// Family of networks of He et al. (2016) that the depth belongs to.
    pub family: Family,
    /// Number of layers with weights: 6n + 2 in the family `cifar`; 18, 34 or 50 in the family `imagenet`.
    #[schemars(range(min = 8))]
    pub depth: usize,
    /// Layers before the blocks. Absent: by family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// Channels of the first stage; each stage has twice as many as the one before. Absent: 16 or 64 by family.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_CHANNELS))]
    pub width: Option<usize>,
    /// Shortcut of a block. Absent: `pad` in the family `cifar`, `projection` in the family `imagenet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// Whether norm and activation are before each convolution instead of after it.
    pub preactivation: bool,
    /// Whether the last norm of each block is initialised to zero, so that the block starts as its shortcut.
    pub zero_init: bool,
    /// Norm after each convolution.
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

/// Family of residual networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Three stages of 3×3 blocks, for images of 32×32.
    Cifar,
    /// Four stages, for images of 224×224.
    Imagenet,
}
