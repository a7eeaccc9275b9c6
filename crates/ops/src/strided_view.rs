//! Views that make the inputs of a sample non-contiguous before they are passed to an operation.

use wgrad_graph::philox::Stream;
use wgrad_graph::{TensorType, Var};

use crate::sample::pick;
use crate::view::{permute, slice_step};

/// View between an input of a sample and the operation, so that operations are tested on non-contiguous tensors too.
#[derive(Debug, Clone)]
pub(crate) enum StridedView {
    /// The input itself.
    Contiguous,
    /// The input with its dimensions in reverse order.
    Permuted,
    /// Every second element of the last dimension, starting at index 1.
    Strided,
}

impl StridedView {
    /// Draws a view. Returns the view and the type that the input must have so that the view has type `ty`.
    pub fn draw(random: &mut Stream, ty: TensorType) -> (TensorType, Self) {
        let kind = pick(random, &[0, 0, 0, 1, 2]);
        let mut shape = ty.shape.to_vec();
        match (kind, shape.last_mut()) {
            (1, Some(_)) => {
                shape.reverse();
                (TensorType::new(ty.dtype, shape), Self::Permuted)
            }
            (2, Some(last)) => {
                *last = *last * 2 + 1;
                (TensorType::new(ty.dtype, shape), Self::Strided)
            }
            _ => (ty, Self::Contiguous),
        }
    }

    /// Applies the view to an input.
    pub fn apply<'g>(&self, x: Var<'g>) -> Var<'g> {
        match self {
            Self::Contiguous => x,
            Self::Permuted => permute(x, &(0..x.rank()).rev().collect::<Vec<_>>()),
            Self::Strided => {
                let last = x.rank() - 1;
                let size = x.shape()[last];
                slice_step(x, last, 1..size, 2)
            }
        }
    }
}
