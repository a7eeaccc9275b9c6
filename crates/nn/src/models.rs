//! Models that recipes name.

use wgrad_graph::Var;

use crate::init::Init;
use crate::layers::{Activation, Dropout, LayerNorm, Linear, Residual, RmsNorm, Sequential};
use crate::module::{Builder, Context, Module, layers_a_segment};

/// Normalisation over the features of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "kebab-case")
)]
pub enum Norm {
    /// No normalisation.
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

/// A multilayer perceptron: `[batch, inputs]` → `[batch, outputs]`.
pub struct Mlp {
    layers: Sequential,
}

impl Mlp {
    /// Linear layers `inputs → hidden[0] → … → outputs`, each but the last followed by normalisation, activation, dropout.
    pub fn new(
        b: &mut Builder,
        inputs: usize,
        hidden: &[usize],
        outputs: usize,
        activation: Activation,
        norm: Norm,
        dropout: f64,
    ) -> Self {
        let mut layers = Sequential::new();
        let mut width = inputs;
        let segment = layers_a_segment(hidden.len(), 1);
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

/// About how many values of the size of its input a residual block computes.
pub(crate) const BLOCK_VALUES: usize = 4;

/// An MLP of pre-norm residual blocks: `stem`, then `depth` times `x + f(norm(x))`, then `head`.
pub struct ResidualMlp {
    stem: Linear,
    blocks: Vec<Residual<Sequential>>,
    head: Sequential,
}

impl ResidualMlp {
    /// Blocks are norm, linear, activation, dropout, linear, all `width` wide; the last linear of each starts at zero, so
    /// that the network starts as the identity between stem and head.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        b: &mut Builder,
        inputs: usize,
        width: usize,
        depth: usize,
        outputs: usize,
        activation: Activation,
        norm: Norm,
        dropout: f64,
    ) -> Self {
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
        for segment in blocks.chunks(layers_a_segment(blocks.len(), BLOCK_VALUES)) {
            x = graph.segment("", || segment.iter().fold(x, |x, &i| step(x, i)));
        }
        graph.scope("head", || self.head.forward(cx, x))
    }
}
