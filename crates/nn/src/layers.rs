//! Layers: linear, embedding, normalization, dropout, activations, and containers of layers.

use wgrad_graph::Var;
use wgrad_ops::TensorOps;

use crate::init::Init;
use crate::module::{Builder, Context, Mode, Module, Param};

/// Linear layer `y = x · Wᵀ + b` for x `[…, in]`, W `[out, in]`, b `[out]`, with PyTorch's names and layout.
#[derive(Debug)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
}

impl Linear {
    /// Declares `weight` and `bias`, both uniform in ±1/√in as by default in PyTorch.
    pub fn new(b: &mut Builder, inputs: usize, outputs: usize) -> Self {
        Self::with_init(b, inputs, outputs, Init::KaimingUniform { gain2: 1.0 / 3.0 })
    }

    /// Declares `weight` with the given initialization, and `bias`, uniform in ±1/√in.
    pub fn with_init(b: &mut Builder, inputs: usize, outputs: usize, init: Init) -> Self {
        let bias = b.param("bias", [outputs], Init::Uniform(1.0 / (inputs as f32).sqrt()), false);
        Self { weight: b.param("weight", [outputs, inputs], init, true), bias: Some(bias) }
    }

    /// Declares `weight` only, uniform in ±1/√in.
    pub fn without_bias(b: &mut Builder, inputs: usize, outputs: usize) -> Self {
        Self {
            weight: b.param("weight", [outputs, inputs], Init::KaimingUniform { gain2: 1.0 / 3.0 }, true),
            bias: None,
        }
    }
}

impl Module for Linear {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let y = x.matmul(cx.param(self.weight).t());
        self.bias.map_or(y, |bias| y + cx.param(bias))
    }
}

/// Rows of a table `[count, width]` selected by index: u32 `[…]` → f32 `[…, width]`.
#[derive(Debug)]
pub struct Embedding {
    weight: Param,
}

impl Embedding {
    /// Declares `weight`, normal with standard deviation 0.02.
    pub fn new(b: &mut Builder, count: usize, width: usize) -> Self {
        Self { weight: b.param("weight", [count, width], Init::Normal(0.02), true) }
    }
}

impl Module for Embedding {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, index: Var<'g>) -> Var<'g> {
        cx.param(self.weight).gather(index)
    }
}

/// Layer normalization over the last dimension, scaled by `weight` and shifted by `bias` (Ba et al. 2016).
#[derive(Debug)]
pub struct LayerNorm {
    weight: Param,
    bias: Param,
    eps: f64,
}

impl LayerNorm {
    /// Declares `weight` (1) and `bias` (0). Epsilon is 1e-5.
    pub fn new(b: &mut Builder, width: usize) -> Self {
        let weight = b.param("weight", [width], Init::Constant(1.0), false);
        Self { weight, bias: b.param("bias", [width], Init::Constant(0.0), false), eps: 1e-5 }
    }
}

impl Module for LayerNorm {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        x.layer_norm(self.eps) * cx.param(self.weight) + cx.param(self.bias)
    }
}

/// Root-mean-square normalization over the last dimension, scaled by `weight` (Zhang and Sennrich 2019).
#[derive(Debug)]
pub struct RmsNorm {
    weight: Param,
    eps: f64,
}

impl RmsNorm {
    /// Declares `weight` (1). Epsilon is 1e-5.
    pub fn new(b: &mut Builder, width: usize) -> Self {
        Self { weight: b.param("weight", [width], Init::Constant(1.0), false), eps: 1e-5 }
    }
}

impl Module for RmsNorm {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        x.rms_norm(self.eps) * cx.param(self.weight)
    }
}

/// Dropout (Srivastava et al. 2014): in training, zeroes each element with probability `p` and scales the others by
/// 1/(1−p).
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Probability that an element is zeroed.
    pub p: f64,
}

impl Module for Dropout {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        match (cx.mode(), cx.rng()) {
            (Mode::Train, Some(rng)) if self.p > 0.0 => x.dropout_rows(self.p, rng, cx.first_row()),
            _ => x,
        }
    }
}

/// Activation function of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "kebab-case")
)]
pub enum Activation {
    /// `max(0, x)`.
    Relu,
    /// `x` for `x > 0`, else `0.01·x`.
    LeakyRelu,
    /// `x·Φ(x)` with the cumulative distribution function Φ of the standard normal distribution.
    Gelu,
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// `ln(1 + eˣ)`.
    Softplus,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Returns the initialization for the weights of the layer before the activation.
    pub fn init(self) -> Init {
        match self {
            Activation::Tanh | Activation::Sigmoid | Activation::Softplus => Init::XavierUniform,
            _ => Init::KaimingNormal,
        }
    }
}

impl Module for Activation {
    fn forward<'g>(&self, _: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        match self {
            Activation::Relu => x.relu(),
            Activation::LeakyRelu => x.leaky_relu(0.01),
            Activation::Gelu => x.gelu(),
            Activation::Silu => x.silu(),
            Activation::Softplus => x.softplus(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Tanh => x.tanh(),
        }
    }
}

/// Sequence of layers, named by their index.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Module>>,
    /// Indices of the layers that start a recomputed segment.
    segments: Vec<usize>,
}

impl Sequential {
    /// Creates a sequence without layers, which is the identity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the layer that `build` creates. The scope of the layer is its index.
    pub fn push<M: Module + 'static>(
        mut self,
        b: &mut Builder,
        build: impl FnOnce(&mut Builder) -> M,
    ) -> Self {
        let layer = b.scope(self.layers.len().to_string(), build);
        self.layers.push(Box::new(layer));
        self
    }

    /// Starts a segment at the next layer. The segment ends where the next segment starts.
    /// [`wgrad_graph::grad_recomputing`] recomputes the values of a segment in the backward pass.
    pub fn segment(mut self) -> Self {
        self.segments.push(self.layers.len());
        self
    }
}

impl Module for Sequential {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let graph = cx.graph();
        let step = |x, i: usize| graph.scope(&i.to_string(), || self.layers[i].forward(cx, x));
        let first = self.segments.first().copied().unwrap_or(self.layers.len());
        let ends = self.segments.iter().skip(1).copied().chain([self.layers.len()]);
        let x = (0..first).fold(x, step);
        self.segments
            .iter()
            .zip(ends)
            .fold(x, |x, (&start, end)| graph.segment("", || (start..end).fold(x, step)))
    }
}

/// Residual connection `x + f(x)` (He et al. 2016).
#[derive(Debug)]
pub struct Residual<M>(pub M);

impl<M: Module> Module for Residual<M> {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        x + self.0.forward(cx, x)
    }
}
