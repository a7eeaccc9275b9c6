//! Methods of tensors of images, `[n, channels, height, width]`.

use wgrad_graph::Var;

use crate::conv::{self, Conv};
use crate::host_callback::SyncBatch;
use crate::image_norm::{self, BatchNormOutput};
use crate::pool::{self, Pool};
use crate::resize;

/// Operations on images, as methods of [`Var`]: f32 `[n, channels, height, width]`, as in PyTorch. A device may store
/// the channels last.
///
/// ```
/// use wgrad_graph::{States, TensorType};
/// use wgrad_ops::{Conv, ImageOps};
///
/// let graph = wgrad_ops::graph(States::new());
/// let x = graph.input("x", TensorType::f32([8, 3, 32, 32]));
/// let weight = graph.input("weight", TensorType::f32([16, 3, 3, 3]));
/// let y = x.conv2d(weight, Conv::default().stride(2).padding(1));
/// assert_eq!(y.ty(), TensorType::f32([8, 16, 16, 16]));
/// ```
pub trait ImageOps<'g>: Sized {
    /// Returns `self` as a [`Var`].
    fn images(self) -> Var<'g>;

    /// Convolution with a weight `[out, in / groups, kh, kw]` → `[n, out, h′, w′]`,
    /// h′ = ⌊(h + 2·padding − dilation·(kh − 1) − 1) / stride⌋ + 1.
    #[track_caller]
    fn conv2d(self, weight: Var<'g>, conv: Conv) -> Var<'g> {
        conv::conv2d(self.images(), weight, conv)
    }

    /// Transposed convolution with a weight `[in, out / groups, kh, kw]` → `[n, out, h′, w′]`,
    /// h′ = (h − 1)·stride − 2·padding + dilation·(kh − 1) + 1 + output_padding.
    #[track_caller]
    fn conv_transpose2d(self, weight: Var<'g>, conv: Conv, output_padding: [usize; 2]) -> Var<'g> {
        conv::conv_transpose2d(self.images(), weight, conv, output_padding)
    }

    /// Maximum of each window; NaN if the window contains NaN. Of equal elements, the first in row-major order gets the
    /// gradient.
    #[track_caller]
    fn max_pool2d(self, pool: Pool) -> Var<'g> {
        pool::max_pool2d(self.images(), pool)
    }

    /// Mean of each window. Includes the zeros of the padding unless [`Pool::counts_padding`] is false.
    #[track_caller]
    fn avg_pool2d(self, pool: Pool) -> Var<'g> {
        pool::avg_pool2d(self.images(), pool)
    }

    /// Mean over height and width → `[n, channels]`.
    #[track_caller]
    fn global_avg_pool2d(self) -> Var<'g> {
        pool::global_avg_pool2d(self.images())
    }

    /// γ · (x − mean) / √(variance + ε) + β for each channel, with the statistics of the batch; γ and β are
    /// `[channels]`.
    #[track_caller]
    fn batch_norm(self, gamma: Var<'g>, beta: Var<'g>, epsilon: f64) -> BatchNormOutput<'g> {
        image_norm::batch_norm(self.images(), gamma, beta, epsilon, None)
    }

    /// Batch normalization with the statistics of the batch of all replicas.
    #[track_caller]
    fn sync_batch_norm(
        self,
        gamma: Var<'g>,
        beta: Var<'g>,
        epsilon: f64,
        sync: SyncBatch<'g>,
    ) -> BatchNormOutput<'g> {
        image_norm::batch_norm(self.images(), gamma, beta, epsilon, Some(sync))
    }

    /// Batch normalization with given statistics, `[channels]` each.
    #[track_caller]
    fn batch_norm_with(
        self,
        mean: Var<'g>,
        variance: Var<'g>,
        gamma: Var<'g>,
        beta: Var<'g>,
        epsilon: f64,
    ) -> Var<'g> {
        image_norm::batch_norm_with(self.images(), [mean, variance, gamma, beta], epsilon)
    }

    /// Group normalization: like batch normalization, with the statistics of each group of channels of each image.
    #[track_caller]
    fn group_norm(self, groups: usize, gamma: Var<'g>, beta: Var<'g>, epsilon: f64) -> Var<'g> {
        image_norm::group_norm(self.images(), groups, gamma, beta, epsilon)
    }

    /// Resizes to another height and width: pixel i of the result is pixel ⌊i · h / h′⌋.
    #[track_caller]
    fn resize_nearest(self, size: [usize; 2]) -> Var<'g> {
        resize::resize_nearest(self.images(), size)
    }

    /// Resizes to another height and width by linear interpolation between pixel centres, without antialiasing.
    #[track_caller]
    fn resize_bilinear(self, size: [usize; 2]) -> Var<'g> {
        resize::resize_bilinear(self.images(), size)
    }
}

impl<'g> ImageOps<'g> for Var<'g> {
    fn images(self) -> Var<'g> {
        self
    }
}
