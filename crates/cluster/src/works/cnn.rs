//! Convolutional networks for images of 224×224, layer by layer.

use super::{ParameterBytes, Work, backwards};

/// Everything in f32, SGD with momentum.
const BYTES: ParameterBytes = ParameterBytes { weight: 4.0, gradient: 4.0, state: 4.0 };

struct Counter {
    /// Name, multiply-adds forward, parameters.
    layers: Vec<(String, f64, u64)>,
    /// Numbers that layers put out.
    outputs: f64,
}

impl Counter {
    /// A convolution with a kernel of side `k` whose output has side `side`. `extra` is what it has besides weights for each
    /// output channel: a bias, or scale and shift of a batch norm.
    fn conv(&mut self, name: String, (from, to): (u64, u64), k: u64, side: u64, extra: u64) {
        let weights = from * to * k * k;
        self.layers.push((name, (weights * side * side) as f64, weights + extra * to));
        self.outputs += (to * side * side) as f64;
    }

    fn dense(&mut self, name: &str, from: u64, to: u64) {
        self.layers.push((name.to_owned(), (from * to) as f64, from * to + to));
        self.outputs += to as f64;
    }

    /// `kept` is how many numbers are kept for each that a layer puts out.
    fn work(self, name: &str, description: &str, kept: f64) -> Work {
        let macs: f64 = self.layers.iter().map(|(_, macs, _)| macs).sum();
        Work {
            name: name.into(),
            description: description.into(),
            // Forward, and backward twice as much; two operations each.
            flops: 6.0 * macs,
            parameters: self.layers.iter().map(|(.., parameters)| parameters).sum(),
            bytes: BYTES,
            activation_bytes: 4.0 * kept * self.outputs,
            batch: 64,
            global_batch: 8192,
            layers: backwards(&self.layers, BYTES.gradient),
            transformer: None,
            measured: None,
        }
    }
}

/// A residual network of bottlenecks (He et al. 2016), with the stride in the 3×3 convolutions as torchvision has it.
///
/// By hand for [3, 4, 6, 3]: 25.56 million parameters and 4.089 billion multiply-adds; of those 118 million in the first
/// convolution (49 · 3 · 64 · 112²).
pub(super) fn resnet(name: &str, blocks: [u64; 4]) -> Work {
    let mut count = Counter { layers: Vec::new(), outputs: 0.0 };
    count.conv("conv1".into(), (3, 64), 7, 112, 2);
    let (mut from, mut side) = (64, 56);
    for (stage, blocks) in (0u32..).zip(blocks) {
        let width = 64 << stage;
        for block in 0..blocks {
            let before = side;
            if stage > 0 && block == 0 {
                side /= 2;
            }
            let layer = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            if block == 0 {
                count.conv(layer("shortcut"), (from, 4 * width), 1, side, 2);
            }
            count.conv(layer("conv1"), (from, width), 1, before, 2);
            count.conv(layer("conv2"), (width, width), 3, side, 2);
            count.conv(layer("conv3"), (width, 4 * width), 1, side, 2);
            from = 4 * width;
        }
    }
    count.dense("fc", 2048, 1000);
    // A batch norm keeps what it gets, the next convolution what it gets.
    count.work(name, &format!("{name} on images of 224×224 in f32, SGD with momentum"), 2.0)
}

/// VGG-16 (Simonyan & Zisserman 2015, configuration D): 138.4 million parameters, of which 123.6 in what is fully connected,
/// and 15.47 billion multiply-adds, of which 0.124.
pub(super) fn vgg16() -> Work {
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
    count.work("vgg16", "vgg16 on images of 224×224 in f32, SGD with momentum", 1.0)
}
