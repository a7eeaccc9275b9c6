//! Residual networks for CIFAR and ImageNet (He et al. 2016), with and without shortcuts.
//!
//! Parameters and buffers have the names of torchvision: `conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0`,
//! `fc`.

use wgrad_graph::Var;
use wgrad_ops::{Conv, ImageOps, Pool, TensorOps};

use crate::images::{BatchNorm2d, Conv2d, GroupNorm, MaxPool2d};
use crate::layers::Linear;
use crate::models::VALUES_PER_BLOCK;
use crate::module::{Builder, Context, Module, layers_per_segment};

/// Layers before the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "kebab-case")
)]
pub enum Stem {
    /// A 3×3 convolution, for images of 32×32.
    Small,
    /// A 7×7 convolution and a 3×3 max pooling, both with stride 2, for images of 224×224.
    Large,
}

/// Convolutions of a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 and 1×1 convolutions. The block has four times as many output channels as the 3×3 convolution, which
    /// has the stride, as in torchvision.
    Bottleneck,
}

impl Block {
    fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

/// Shortcut of a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "kebab-case")
)]
pub enum Shortcut {
    /// No shortcut: a plain network.
    None,
    /// Identity. If the size changes, takes every second pixel and adds zeros for the new channels (option A).
    Pad,
    /// Identity. If the size changes, a 1×1 convolution and a norm (option B).
    Projection,
}

/// Normalization of the channels of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "kebab-case")
)]
pub enum ImageNorm {
    /// Batch norm over the examples and pixels of the batch.
    Batch,
    /// Group norm over groups of 16 channels of an image, or over all channels if there are fewer.
    Group,
    /// No normalization.
    None,
}

/// Architecture of a residual network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Layers before the first block.
    pub stem: Stem,
    /// Convolutions of a block.
    pub block: Block,
    /// Number of blocks of each stage. Stages after the first begin with a stride of 2.
    pub blocks: Vec<usize>,
    /// Number of channels of the first stage, before expansion. The number doubles with each stage.
    pub width: usize,
    /// Shortcut connection of a block.
    pub shortcut: Shortcut,
    /// Whether norm and activation precede each convolution (He et al. 2016, “Identity mappings”).
    pub preactivation: bool,
    /// Whether the weight of the last norm of each block is initially zero, so that the block starts as its shortcut
    /// (Goyal et al. 2017).
    pub zero_init: bool,
    /// Normalization of each convolution: of its input if `preactivation` is set, otherwise of its output.
    pub norm: ImageNorm,
}

impl ResNetConfig {
    /// Returns the CIFAR network of depth 6n + 2: shortcuts of option A, and three stages of widths 16, 32 and 64.
    /// Returns `None` for other depths.
    pub fn cifar(depth: usize) -> Option<Self> {
        let n = depth.checked_sub(2)?.checked_div(6).filter(|n| *n > 0 && 6 * n + 2 == depth)?;
        Some(Self {
            stem: Stem::Small,
            block: Block::Basic,
            blocks: vec![n; 3],
            width: 16,
            shortcut: Shortcut::Pad,
            preactivation: false,
            zero_init: false,
            norm: ImageNorm::Batch,
        })
    }

    /// Returns the ImageNet network of depth 18, 34 or 50, as in torchvision. Returns `None` for other depths.
    pub fn imagenet(depth: usize) -> Option<Self> {
        let (block, blocks) = match depth {
            18 => (Block::Basic, [2, 2, 2, 2]),
            34 => (Block::Basic, [3, 4, 6, 3]),
            50 => (Block::Bottleneck, [3, 4, 6, 3]),
            _ => return None,
        };
        Some(Self {
            stem: Stem::Large,
            block,
            blocks: blocks.to_vec(),
            width: 64,
            shortcut: Shortcut::Projection,
            preactivation: false,
            zero_init: false,
            norm: ImageNorm::Batch,
        })
    }

    /// Number of channels after the last stage.
    pub fn features(&self) -> usize {
        (self.width << self.blocks.len().saturating_sub(1)) * self.block.expansion()
    }

    /// Declares a norm whose weight is initially `weight`.
    fn norm(&self, b: &mut Builder, channels: usize, weight: f32) -> NormLayer {
        match self.norm {
            ImageNorm::Batch => NormLayer::Batch(BatchNorm2d::scaled(b, channels, weight)),
            ImageNorm::Group => {
                let groups = (channels / 16).max(1);
                let groups = if channels.is_multiple_of(groups) { groups } else { 1 };
                NormLayer::Group(GroupNorm::scaled(b, groups, channels, weight))
            }
            ImageNorm::None => NormLayer::None,
        }
    }

    /// Declares a convolution, with a bias if there is no norm.
    fn conv(&self, b: &mut Builder, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Conv2d {
        let conv = Conv::default().stride(stride).padding(kernel / 2);
        match self.norm {
            ImageNorm::None => Conv2d::with_bias(b, inputs, outputs, kernel, conv),
            _ => Conv2d::new(b, inputs, outputs, kernel, conv),
        }
    }
}

enum NormLayer {
    Batch(BatchNorm2d),
    Group(GroupNorm),
    None,
}

impl Module for NormLayer {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        match self {
            NormLayer::Batch(norm) => norm.forward(cx, x),
            NormLayer::Group(norm) => norm.forward(cx, x),
            NormLayer::None => x,
        }
    }
}

/// Residual network, `[n, channels, height, width]` → `[n, classes]`.
pub struct ResNet {
    config: ResNetConfig,
    conv1: Conv2d,
    bn1: Option<NormLayer>,
    blocks: Vec<(String, ResidualBlock)>,
    last: Option<NormLayer>,
    fc: Linear,
}

/// Residual block: convolutions with a norm each, and a shortcut.
struct ResidualBlock {
    convs: Vec<(Conv2d, NormLayer)>,
    shortcut: ShortcutLayers,
}

/// Layers of a shortcut.
enum ShortcutLayers {
    None,
    Identity,
    Pad { stride: usize, channels: usize },
    Projection(Conv2d, NormLayer),
}

impl ResNet {
    /// Declares the network for images with `channels` channels.
    pub fn new(b: &mut Builder, config: ResNetConfig, channels: usize, classes: usize) -> Self {
        let (kernel, stride) = match config.stem {
            Stem::Small => (3, 1),
            Stem::Large => (7, 2),
        };
        let conv1 = b.scope("conv1", |b| config.conv(b, channels, config.width, kernel, stride));
        let bn1 = (!config.preactivation).then(|| b.scope("bn1", |b| config.norm(b, config.width, 1.0)));
        let mut inputs = config.width;
        let mut blocks = Vec::new();
        for (stage, &count) in config.blocks.iter().enumerate() {
            for i in 0..count {
                let name = format!("layer{}.{i}", stage + 1);
                let width = config.width << stage;
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let block = b.scope(name.as_str(), |b| ResidualBlock::new(b, &config, inputs, width, stride));
                inputs = width * config.block.expansion();
                blocks.push((name, block));
            }
        }
        let last = config.preactivation.then(|| b.scope("bn", |b| config.norm(b, inputs, 1.0)));
        let fc = b.scope("fc", |b| Linear::new(b, inputs, classes));
        Self { config, conv1, bn1, blocks, last, fc }
    }
}

impl ResidualBlock {
    fn new(b: &mut Builder, config: &ResNetConfig, inputs: usize, width: usize, stride: usize) -> Self {
        let outputs = width * config.block.expansion();
        // Input channels, kernel and stride of each convolution.
        let sizes: &[(usize, usize, usize)] = match config.block {
            Block::Basic => &[(inputs, 3, stride), (width, 3, 1)],
            Block::Bottleneck => &[(inputs, 1, 1), (width, 3, stride), (width, 1, 1)],
        };
        let mut convs = Vec::new();
        for (i, &(from, kernel, stride)) in sizes.iter().enumerate() {
            let last = i + 1 == sizes.len();
            let to = if last { outputs } else { width };
            let conv = b.scope(format!("conv{}", i + 1), |b| config.conv(b, from, to, kernel, stride));
            let scale = if last && config.zero_init && config.shortcut != Shortcut::None { 0.0 } else { 1.0 };
            // A norm before the convolution has its input channels, a norm after it has its output channels.
            let (normed, scale) = if config.preactivation { (from, 1.0) } else { (to, scale) };
            let norm = b.scope(format!("bn{}", i + 1), |b| config.norm(b, normed, scale));
            convs.push((conv, norm));
        }
        let shortcut = match config.shortcut {
            Shortcut::None => ShortcutLayers::None,
            _ if stride == 1 && inputs == outputs => ShortcutLayers::Identity,
            Shortcut::Pad => ShortcutLayers::Pad { stride, channels: outputs - inputs },
            Shortcut::Projection => b.scope("downsample", |b| {
                let conv = b.scope("0", |b| config.conv(b, inputs, outputs, 1, stride));
                let norm = match config.preactivation {
                    true => NormLayer::None,
                    false => b.scope("1", |b| config.norm(b, outputs, 1.0)),
                };
                ShortcutLayers::Projection(conv, norm)
            }),
        };
        Self { convs, shortcut }
    }

    fn shortcut<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Option<Var<'g>> {
        let graph = cx.graph();
        match &self.shortcut {
            ShortcutLayers::None => None,
            ShortcutLayers::Identity => Some(x),
            ShortcutLayers::Pad { stride, channels } => {
                let shape = x.shape();
                let subsampled = x.slice_step(2, 0..shape[2], *stride).slice_step(3, 0..shape[3], *stride);
                Some(subsampled.pad(1, 0, *channels))
            }
            ShortcutLayers::Projection(conv, norm) => Some(graph.scope("downsample", || {
                let y = graph.scope("0", || conv.forward(cx, x));
                graph.scope("1", || norm.forward(cx, y))
            })),
        }
    }

    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>, preactivation: bool) -> Var<'g> {
        let graph = cx.graph();
        let conv = |i: usize, y| graph.scope(&format!("conv{}", i + 1), || self.convs[i].0.forward(cx, y));
        let norm = |i: usize, y| graph.scope(&format!("bn{}", i + 1), || self.convs[i].1.forward(cx, y));
        let mut y = x;
        if preactivation {
            let first = norm(0, x).relu();
            // A projection starts after the first norm and activation, as the convolutions do.
            let start = if matches!(self.shortcut, ShortcutLayers::Projection(..)) { first } else { x };
            y = conv(0, first);
            for i in 1..self.convs.len() {
                y = conv(i, norm(i, y).relu());
            }
            return self.shortcut(cx, start).map_or(y, |shortcut| y + shortcut);
        }
        for i in 0..self.convs.len() {
            y = norm(i, conv(i, y));
            if i + 1 < self.convs.len() {
                y = y.relu();
            }
        }
        self.shortcut(cx, x).map_or(y, |shortcut| y + shortcut).relu()
    }
}

impl Module for ResNet {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let graph = cx.graph();
        let mut x = graph.segment("", || {
            let mut x = graph.scope("conv1", || self.conv1.forward(cx, x));
            if let Some(norm) = &self.bn1 {
                x = graph.scope("bn1", || norm.forward(cx, x)).relu();
            }
            if self.config.stem == Stem::Large {
                x = graph.scope("maxpool", || MaxPool2d(Pool::new(3).stride(2).padding(1)).forward(cx, x));
            }
            x
        });
        let step = |x, (name, block): &(String, ResidualBlock)| {
            graph.scope(name, || block.forward(cx, x, self.config.preactivation))
        };
        for segment in self.blocks.chunks(layers_per_segment(self.blocks.len(), VALUES_PER_BLOCK)) {
            x = graph.segment("", || segment.iter().fold(x, step));
        }
        if let Some(norm) = &self.last {
            x = graph.scope("bn", || norm.forward(cx, x)).relu();
        }
        let pooled = graph.scope("avgpool", || x.global_avg_pool2d());
        graph.scope("fc", || self.fc.forward(cx, pooled))
    }
}
