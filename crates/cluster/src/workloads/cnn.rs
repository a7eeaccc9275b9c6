//! Convolutional networks for images of 224×224, with FLOPs and parameters counted layer by layer.

use super::{ParameterBytes, Workload, backward_layers};

/// Bytes per parameter for SGD with momentum in f32.
const BYTES: ParameterBytes = ParameterBytes { weight: 4.0, gradient: 4.0, state: 4.0 };

/// Counts multiply-adds, parameters and activations of layers.
struct Counter {
    /// Name, multiply-adds of the forward pass, and parameters of each layer.
    layers: Vec<(String, f64, u64)>,
    /// Number of elements of all layer outputs.
    outputs: f64,
}

impl Counter {
    /// Adds a convolution of `from` to `to` channels with a `k`×`k` kernel and an output of `side`×`side` pixels.
    ///
    /// `extra` is the number of additional parameters per output channel: 1 for a bias, 2 for the scale and shift of
    /// a batch norm.
    fn conv(&mut self, name: String, (from, to): (u64, u64), k: u64, side: u64, extra: u64) {
        let weights = from * to * k * k;
        self.layers.push((name, (weights * side * side) as f64, weights + extra * to));
        self.outputs += (to * side * side) as f64;
    }

    /// Adds a fully connected layer with bias, with `from` inputs and `to` outputs.
    fn dense(&mut self, name: &str, from: u64, to: u64) {
        self.layers.push((name.to_owned(), (from * to) as f64, from * to + to));
        self.outputs += to as f64;
    }

    /// Returns the workload. `stored` is the number of elements stored for the backward pass per element of the layer
    /// outputs.
    fn workload(self, name: &str, description: &str, stored: f64) -> Workload {
        let macs: f64 = self.layers.iter().map(|(_, macs, _)| macs).sum();
        Workload {
            name: name.into(),
            description: description.into(),
            // The backward pass has twice the multiply-adds of the forward pass; a multiply-add is two operations.
            flops: 6.0 * macs,
            parameters: self.layers.iter().map(|(.., parameters)| parameters).sum(),
            bytes: BYTES,
            activation_bytes: 4.0 * stored * self.outputs,
            batch: 64,
            global_batch: 8192,
            layers: backward_layers(&self.layers, BYTES.gradient),
            transformer: None,
            measured: None,
        }
    }
}

/// Residual network with bottleneck blocks (He et al. 2016), with the stride in the 3×3 convolutions as in torchvision.
///
/// Computed by hand for [3, 4, 6, 3]: 25.56 million parameters and 4.089 billion multiply-adds, 118 million of them
/// in the first convolution (49 · 3 · 64 · 112²).
pub(super) fn resnet(name: &str, blocks: [u64; 4]) -> Workload {
    let mut count = Counter { layers: Vec::new(), outputs: 0.0 };
    count.conv("conv1".into(), (3, 64), 7, 112, 2);
    let (mut from, mut side) = (64, 56);
    for (stage, blocks) in (0u32..).zip(blocks) {
        let width = 64 << stage;
        for block in 0..blocks {
            let input_side = side;
            if stage > 0 && block == 0 {
                side /= 2;
            }
            let layer = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            if block == 0 {
                count.conv(layer("shortcut"), (from, 4 * width), 1, side, 2);
            }
            count.conv(layer("conv1"), (from, width), 1, input_side, 2);
            count.conv(layer("conv2"), (width, width), 3, side, 2);
            count.conv(layer("conv3"), (width, 4 * width), 1, side, 2);
            from = 4 * width;
        }
    }
    count.dense("fc", 2048, 1000);
    // A batch norm stores its input, and the next convolution stores its input.
    count.workload(name, &format!("{name} on images of 224×224 in f32, SGD with momentum"), 2.0)
}

/// VGG-16 (Simonyan & Zisserman 2015, configuration D).
///
/// The model has 138.4 million parameters and 15.47 billion multiply-adds. The fully connected layers have 123.6
/// million of the parameters and 0.124 billion of the multiply-adds.
pub(super) fn vgg16() -> Workload {
    let mut count = Counter { layers: Vec::new(), outputs: 0.0 };
    let (mut from, mut side) = (3, 224);
    for (stage, (convs, to)) in [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)].into_iter().enumerate() {
        for conv in 0..convs {
            count.conv(format!("conv{}_{}", stage + 1, conv + 1), (from, to), 3, side, 1);
            from = to;
        }
        side /= 2;
    }
    count.dense("fc6", 512 * 7 * 7, 4096);
    count.dense("fc7", 4096, 4096);
    count.dense("fc8", 4096, 1000);
    count.workload("vgg16", "vgg16 on images of 224×224 in f32, SGD with momentum", 1.0)
}
