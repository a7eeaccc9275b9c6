//! Layers over images `[n, channels, height, width]`, with PyTorch's names and layouts.

use wgrad_graph::Var;
use wgrad_ops::{Conv, ImageOps, Pool, SyncBatch, TensorOps};

use crate::init::Init;
use crate::module::{Buffer, Builder, Context, Mode, Module, Param, SyncTensor};

/// Weight of the batch statistics in the update of the running statistics.
const MOMENTUM: f64 = 0.1;
/// ε, added to variances before the square root.
const EPSILON: f64 = 1e-5;

/// Convolution with `weight` `[out, in / groups, kh, kw]` and optionally `bias` `[out]`.
#[derive(Debug)]
pub struct Conv2d {
    weight: Param,
    bias: Option<Param>,
    conv: Conv,
}

impl Conv2d {
    /// Declares `weight` with Kaiming-normal initialization (He et al. 2015), and no bias. Use this for a convolution
    /// that is followed by a norm.
    pub fn new(b: &mut Builder, inputs: usize, outputs: usize, kernel: usize, conv: Conv) -> Self {
        let shape = [outputs, inputs / conv.groups.max(1), kernel, kernel];
        Self { weight: b.param("weight", shape, Init::KaimingNormal, true), bias: None, conv }
    }

    /// Declares `weight` as [`Conv2d::new`] does, and `bias`, initially zero.
    pub fn with_bias(b: &mut Builder, inputs: usize, outputs: usize, kernel: usize, conv: Conv) -> Self {
        let bias = b.param("bias", [outputs], Init::Constant(0.0), false);
        Self { bias: Some(bias), ..Self::new(b, inputs, outputs, kernel, conv) }
    }
}

impl Module for Conv2d {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let y = x.conv2d(cx.param(self.weight), self.conv);
        self.bias.map_or(y, |bias| {
            let bias = cx.param(bias);
            y + bias.reshape([bias.shape().numel(), 1, 1])
        })
    }
}

/// Batch normalization (Ioffe and Szegedy 2015). Training uses the statistics of the batch and updates running
/// statistics; evaluation, and training with a frozen weight, use the running statistics.
///
/// As in PyTorch, the running variance averages the unbiased variance of the batch, and the momentum is 0.1. The batch
/// consists of the examples of this replica, or of all replicas with [`Context::with_replica_sync`].
#[derive(Debug)]
pub struct BatchNorm2d {
    weight: Param,
    bias: Param,
    running_mean: Buffer,
    running_var: Buffer,
    /// Statistics of the forward pass and of the backward pass, which are summed over replicas.
    sync: [SyncTensor; 2],
}

impl BatchNorm2d {
    /// Declares `weight` (1), `bias` (0), and the buffers `running_mean` (0) and `running_var` (1).
    pub fn new(b: &mut Builder, channels: usize) -> Self {
        Self::scaled(b, channels, 1.0)
    }

    /// Declares the layer with another initial value of `weight`, e.g. 0 for the last norm of a residual block.
    pub fn scaled(b: &mut Builder, channels: usize, weight: f32) -> Self {
        Self {
            weight: b.param("weight", [channels], Init::Constant(weight), false),
            bias: b.param("bias", [channels], Init::Constant(0.0), false),
            running_mean: b.buffer("running_mean", [channels], 0.0),
            running_var: b.buffer("running_var", [channels], 1.0),
            sync: [b.sync_tensor([2, channels]), b.sync_tensor([2, channels])],
        }
    }
}

impl Module for BatchNorm2d {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        let (weight, bias) = (cx.param(self.weight), cx.param(self.bias));
        let (mean, variance) = (cx.buffer(self.running_mean), cx.buffer(self.running_var));
        if cx.mode() == Mode::Evaluate || cx.is_frozen(self.weight) {
            return x.batch_norm_with(mean, variance, weight, bias, EPSILON);
        }
        let local_count = x.shape().numel() as f64 / weight.shape().numel() as f64;
        let (normed, count) = match cx.replica_sync() {
            None => (x.batch_norm(weight, bias, EPSILON), local_count),
            Some(replicas) => {
                let fraction = replicas.rows as f64 / replicas.batch as f64;
                let [forward, backward] = self.sync.map(|tensor| replicas.slots(tensor));
                let sync = SyncBatch { fraction, origin: mean, forward, backward };
                (x.sync_batch_norm(weight, bias, EPSILON, sync), local_count / fraction)
            }
        };
        let unbiased = count / (count - 1.0).max(1.0);
        cx.update_buffer(self.running_mean, mean * (1.0 - MOMENTUM) + normed.mean * MOMENTUM);
        let momentum = MOMENTUM * unbiased;
        cx.update_buffer(self.running_var, variance * (1.0 - MOMENTUM) + normed.variance * momentum);
        normed.out
    }
}

/// Group normalization (Wu and He 2018), with the statistics of each group of channels of each image.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Param,
    bias: Param,
    groups: usize,
}

impl GroupNorm {
    /// Declares `weight` (1) and `bias` (0).
    pub fn new(b: &mut Builder, groups: usize, channels: usize) -> Self {
        Self::scaled(b, groups, channels, 1.0)
    }

    /// Declares the layer with another initial value of `weight`.
    pub fn scaled(b: &mut Builder, groups: usize, channels: usize, weight: f32) -> Self {
        Self {
            weight: b.param("weight", [channels], Init::Constant(weight), false),
            bias: b.param("bias", [channels], Init::Constant(0.0), false),
            groups,
        }
    }
}

impl Module for GroupNorm {
    fn forward<'g>(&self, cx: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        x.group_norm(self.groups, cx.param(self.weight), cx.param(self.bias), EPSILON)
    }
}

/// Max pooling over the given windows.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool2d(pub Pool);

impl Module for MaxPool2d {
    fn forward<'g>(&self, _: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        x.max_pool2d(self.0)
    }
}

/// Average pooling over the given windows.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool2d(pub Pool);

impl Module for AvgPool2d {
    fn forward<'g>(&self, _: &Context<'_, 'g>, x: Var<'g>) -> Var<'g> {
        x.avg_pool2d(self.0)
    }
}
