//! Multilayer perceptrons, plain and residual.

use wgrad_graph::Var;

use crate::init::Init;
use crate::layers::{Activation, Dropout, LayerNorm, Linear, Residual, RmsNorm, Sequential};
use crate::module::{Builder, Context, Module, layers_per_segment};

/// Maximum width that recipes accept, so that products of two widths cannot overflow.
#[cfg(feature = "schema")]
const MAX_WIDTH: u64 = 1 << 20;
/// Maximum number of layers that recipes accept.
#[cfg(feature = "schema")]
const MAX_LAYERS: u64 = 10_000;

/// Normalization over the features of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "kebab-case")
)]
pub enum Norm {
    /// No normalization.
    None,
    /// Layer norm: mean 0 and standard deviation 1, then a learned scale and shift.
    Layer,
    /// RMS norm: root mean square 1, then a learned scale.
    Rms,
}

impl Norm {
    fn push(self, b: &mut Builder, layers: Sequential, width: usize) -> Sequential {
        match self {
            Norm::None => layers,
            Norm::Layer => layers.push(b, |b| LayerNorm::new(b, width)),
            Norm::Rms => layers.push(b, |b| RmsNorm::new(b, width)),
        }
    }
}

/// Configuration of the hidden layers of an [`Mlp`].
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct MlpConfig {
    /// Widths of the hidden layers; empty for a linear model.
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_LAYERS), inner(range(min = 1, max = MAX_WIDTH))))]
    pub hidden: Vec<usize>,
    /// Activation after each hidden layer.
    pub activation: Activation,
    /// Norm before each activation.
    pub norm: Norm,
    /// Probability that dropout zeroes an activation in training.
    #[cfg_attr(feature = "schema", schemars(range(min = 0), extend("exclusiveMaximum" = 1)))]
    pub dropout: f64,
}

impl Default for MlpConfig {
    /// Returns two hidden layers of width 128 with ReLU, no normalization and no dropout.
    fn default() -> Self {
        Self { hidden: vec![128, 128], activation: Activation::Relu, norm: Norm::None, dropout: 0.0 }
    }
}

/// Multilayer perceptron, `[batch, inputs]` → `[batch, outputs]`.
pub struct Mlp {
    layers: Sequential,
}

impl Mlp {
    /// Declares linear layers `inputs → hidden[0] → … → outputs`. Normalization, activation and dropout follow each
    /// layer except the last.
    pub fn new(b: &mut Builder, config: &MlpConfig, inputs: usize, outputs: usize) -> Self {
        let &MlpConfig { ref hidden, activation, norm, dropout } = config;
        let mut layers = Sequential::new();
        let mut width = inputs;
        let segment = layers_per_segment(hidden.len(), 1);
        for (i, &next) in hidden.iter().enumerate() {
            if i.is_multiple_of(segment) {
                layers = layers.segment();
            }
            layers = layers.push(b, |b| Linear::with_init(b, width, next, activation.init()));
            layers = norm.push(b, layers, next).push(b, |_| activation).push(b, |_| Dropout { p: dropout });
            width = next;
        }
        Self { layers: layers.push(b, |b| Linear::new(b, width, outputs)) }
    }
}

impl Module for Mlp {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        self.layers.forward(cx, x)
    }
}

/// Approximate number of tensors that a residual block computes, each with the size of its input.
pub(crate) const VALUES_PER_BLOCK: usize = 4;

/// Configuration of the blocks of a [`ResidualMlp`].
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct ResidualMlpConfig {
    /// Width of every block.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_WIDTH)))]
    pub width: usize,
    /// Number of blocks.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_LAYERS)))]
    pub depth: usize,
    /// Activation between the two linear layers of each block.
    pub activation: Activation,
    /// Norm at the start of each block and before the head.
    pub norm: Norm,
    /// Probability that dropout zeroes an activation of a block in training.
    #[cfg_attr(feature = "schema", schemars(range(min = 0), extend("exclusiveMaximum" = 1)))]
    pub dropout: f64,
}

impl Default for ResidualMlpConfig {
    /// Returns two blocks of width 128 with GELU, layer norm and no dropout.
    fn default() -> Self {
        Self { width: 128, depth: 2, activation: Activation::Gelu, norm: Norm::Layer, dropout: 0.0 }
    }
}

/// MLP of pre-norm residual blocks: `stem`, then `depth` times `x + f(norm(x))`, then `head`.
pub struct ResidualMlp {
    stem: Linear,
    blocks: Vec<Residual<Sequential>>,
    head: Sequential,
}

impl ResidualMlp {
    /// Declares the network, `[batch, inputs]` → `[batch, outputs]`.
    ///
    /// A block is norm, linear, activation, dropout, linear. The last linear layer of each block is initially zero, so
    /// that the network starts as the identity between stem and head.
    pub fn new(b: &mut Builder, config: &ResidualMlpConfig, inputs: usize, outputs: usize) -> Self {
        let &ResidualMlpConfig { width, depth, activation, norm, dropout } = config;
        let stem = b.scope("stem", |b| Linear::new(b, inputs, width));
        let block = |b: &mut Builder| {
            let layers = norm.push(b, Sequential::new(), width);
            let layers = layers.push(b, |b| Linear::with_init(b, width, width, activation.init()));
            let layers = layers.push(b, |_| activation).push(b, |_| Dropout { p: dropout });
            Residual(layers.push(b, |b| Linear::with_init(b, width, width, Init::Constant(0.0))))
        };
        let blocks = (0..depth).map(|i| b.scope("blocks", |b| b.scope(i.to_string(), block))).collect();
        let head = b.scope("head", |b| {
            let layers = norm.push(b, Sequential::new(), width);
            layers.push(b, |b| Linear::new(b, width, outputs))
        });
        Self { stem, blocks, head }
    }
}

impl Module for ResidualMlp {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let graph = cx.graph();
        let mut x = graph.scope("stem", || self.stem.forward(cx, x));
        let step = |x, i: usize| graph.scope(&format!("blocks.{i}"), || self.blocks[i].forward(cx, x));
        let blocks: Vec<usize> = (0..self.blocks.len()).collect();
        for segment in blocks.chunks(layers_per_segment(blocks.len(), VALUES_PER_BLOCK)) {
            x = graph.segment("", || segment.iter().fold(x, |x, &i| step(x, i)));
        }
        graph.scope("head", || self.head.forward(cx, x))
    }
}
