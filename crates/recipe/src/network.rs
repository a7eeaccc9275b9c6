//! The keys of `[model]` for networks over images, and of `[transfer]`: what a training starts from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Keys of `kind = "resnet"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetModel {
    /// Which of the two families of He et al. (2016) the depth is one of.
    pub family: Family,
    /// Layers with weights: 6n + 2 in the family `"cifar"`, 18, 34 or 50 in `"imagenet"`.
    pub depth: usize,
    /// What comes before the blocks. Absent: that of the family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// Channels of the first stage. Absent: 16 in the family `"cifar"`, 64 in `"imagenet"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// How a block's input comes to its end. Absent: `"pad"` in the family `"cifar"`, `"projection"` in `"imagenet"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// Norm and activation before each convolution instead of after it.
    pub preactivation: bool,
    /// Whether the last norm of each block starts at zero.
    pub zero_init: bool,
    /// What normalizes.
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

/// A family of residual networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Three stages of 3×3 blocks, for images of 32×32.
    Cifar,
    /// Four stages, for images of 224×224.
    Imagenet,
}

/// What comes before the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A 3×3 convolution.
    Small,
    /// A 7×7 convolution and a maximum over windows, with a stride of 2 each.
    Large,
}

/// How a block's input comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// Not at all: a plain network.
    None,
    /// Every other pixel and zeros for new channels, where sizes change (option A).
    Pad,
    /// Through a 1×1 convolution, where sizes change (option B).
    Projection,
}

/// How images are normalized inside a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageNorm {
    /// Over the batch, for each channel.
    Batch,
    /// Over groups of channels of each image.
    Group,
    /// Not at all.
    None,
}

/// `[transfer]`: what the parameters start from, and how parts of the network are trained. Patterns are names with `*` for
/// anything, e.g. `layer1.*`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transfer {
    /// Weights to start from: a safetensors or PyTorch file, or a run directory. Absent: random ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// A recipe to train first, whose weights this one starts from, unless `weights` says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<String>,
    /// Changes of that recipe, as after `--set`.
    pub pretrain_set: Vec<String>,
    /// Parameters that keep their random start whatever the weights hold: a new head.
    pub replace: Vec<String>,
    /// Parameters that are not trained.
    pub freeze: Vec<String>,
    /// Factors of the learning rate by pattern; the first pattern in alphabetical order that fits counts.
    pub rates: BTreeMap<String, f64>,
}
