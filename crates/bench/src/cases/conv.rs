//! Cases for the convolution layers of residual networks and their gradients.

use crate::results::Group;
use wgrad_graph::{EntryId, Graph, GraphError, grad_with};
use wgrad_ops::{Conv, ImageOps, TensorOps};

use crate::cases::Case;
use crate::workload::{Recorder, Workload};

/// Sizes of a convolution layer.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Network that contains the layer, e.g. `resnet20`.
    pub network: &'static str,
    /// Number of images in a batch.
    pub images: usize,
    /// Number of input channels.
    pub inputs: usize,
    /// Number of output channels.
    pub outputs: usize,
    /// Height and width of an image in pixels.
    pub side: usize,
    /// Height and width of the kernel in pixels.
    pub kernel: usize,
    /// Stride in both dimensions, in pixels.
    pub stride: usize,
}

const fn layer(network: &'static str, sizes: [usize; 6]) -> Layer {
    let [images, inputs, outputs, side, kernel, stride] = sizes;
    Layer { network, images, inputs, outputs, side, kernel, stride }
}

/// Layers to measure: one layer of each kind in ResNet-20 and in ResNet-50.
///
/// The batch has 64 images of 32×32 pixels for ResNet-20, and 8 images of 224×224 pixels for ResNet-50.
pub const LAYERS: [Layer; 14] = [
    layer("resnet20", [64, 3, 16, 32, 3, 1]),
    layer("resnet20", [64, 16, 16, 32, 3, 1]),
    layer("resnet20", [64, 16, 32, 32, 3, 2]),
    layer("resnet20", [64, 32, 32, 16, 3, 1]),
    layer("resnet20", [64, 32, 64, 16, 3, 2]),
    layer("resnet20", [64, 64, 64, 8, 3, 1]),
    layer("resnet50", [8, 3, 64, 224, 7, 2]),
    layer("resnet50", [8, 64, 64, 56, 3, 1]),
    layer("resnet50", [8, 64, 256, 56, 1, 1]),
    layer("resnet50", [8, 128, 128, 56, 3, 2]),
    layer("resnet50", [8, 256, 512, 56, 1, 2]),
    layer("resnet50", [8, 256, 256, 14, 3, 1]),
    layer("resnet50", [8, 512, 512, 7, 3, 1]),
    layer("resnet50", [8, 2048, 512, 7, 1, 1]),
];

/// Pass of a convolution layer: the forward convolution or one of its gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvPass {
    /// Forward convolution.
    Forward,
    /// Gradient with respect to the images.
    InputGradient,
    /// Gradient with respect to the weights.
    WeightGradient,
}

impl ConvPass {
    /// All passes, forward convolution first.
    pub const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];

    /// Returns the name of the pass, e.g. `input gradient`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::InputGradient => "dx",
            Self::WeightGradient => "dw",
        }
    }
}

impl Layer {
    fn conv(&self) -> Conv {
        Conv::default().stride(self.stride).padding(self.kernel / 2)
    }

    /// Returns the height and width of the output in pixels; 0 if the kernel does not fit.
    pub fn output_side(&self) -> usize {
        let side = self.conv().output([self.side; 2], [self.kernel; 2]);
        side.map_or(0, |[side, _]| side)
    }

    /// Returns the number of floating-point operations of the forward convolution.
    pub fn flops(&self) -> f64 {
        let positions = self.images * self.output_side().pow(2);
        2.0 * (positions * self.outputs * self.inputs * self.kernel.pow(2)) as f64
    }

    /// Creates the workload of a pass. Images are stored in channels-last layout, as in a network.
    ///
    /// # Errors
    /// Returns an error if the kernel does not fit the image.
    pub fn workload(&self, pass: ConvPass) -> Result<Workload, GraphError> {
        let Self { images, inputs, outputs, side, kernel, .. } = *self;
        let out = self.output_side();
        let mut recorder = Recorder::new();
        let x = recorder.floats("x", [images, side, side, inputs]);
        let weight = recorder.floats("weight", [outputs, inputs, kernel, kernel]);
        let y = recorder.floats("y", [images, out, out, outputs]);
        recorder.record(|graph| {
            let channels_first =
                |graph: &Graph, entry: EntryId| graph.entry(entry).permute(&[0, 3, 1, 2]).id();
            let (x, weight) = (graph.var(channels_first(graph, x)), graph.entry(weight));
            let forward = x.conv2d(weight, self.conv());
            let channels_last = [0, 2, 3, 1];
            let value = match pass {
                ConvPass::Forward => forward.permute(&channels_last),
                ConvPass::InputGradient => {
                    grad_with(forward, graph.var(channels_first(graph, y)), &[x])?[0].permute(&channels_last)
                }
                ConvPass::WeightGradient => {
                    grad_with(forward, graph.var(channels_first(graph, y)), &[weight])?[0]
                }
            };
            graph.output("result", value);
            Ok(())
        })
    }

    fn name(&self) -> String {
        let Self { network, inputs, outputs, side, kernel, stride, .. } = self;
        let stride = if *stride == 1 { String::new() } else { format!("s{stride}") };
        format!("{network}-conv{kernel}x{kernel}{stride}-{inputs}to{outputs}-at{side}")
    }
}

pub(super) fn cases() -> Vec<Case> {
    let passes =
        LAYERS.into_iter().enumerate().flat_map(|(i, layer)| ConvPass::ALL.map(|pass| (i, layer, pass)));
    passes
        .map(|(i, layer, pass)| {
            let name = format!("{}-{}", layer.name(), pass.short());
            Case::new(Group::Conv, name, move || layer.workload(pass)).quick_if(i == 3)
        })
        .collect()
}
