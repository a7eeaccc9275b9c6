//! Methods of tensors.

use std::ops::Range;

use wgrad_graph::{Combine, DType, Shape, Var};

use crate::elementwise::elementwise;
use crate::reduce::{mean, reduce, variance};
use crate::scalar::{activation, arithmetic, functions};
use crate::{cast, compare, constant, gather, loss, matmul, norm, random, softmax, view};

/// Operations on tensors, as methods of [`Var`].
///
/// Operands of elementwise methods broadcast as in NumPy: sizes, aligned at the last dimension, must be equal or 1.
/// Tensors are f32 unless stated otherwise. Masks are f32 too: 1 for true, 0 for false. Axes are numbered from 0,
/// outermost first. An invalid call does not stop the recording: the graph keeps the first error with the line of the
/// call, and [`Graph::finish`](wgrad_graph::Graph::finish) returns this error.
///
/// ```
/// use wgrad_graph::{States, TensorType};
/// use wgrad_ops::TensorOps;
///
/// let graph = wgrad_ops::graph(States::new());
/// let x = graph.input("x", TensorType::f32([8, 3]));
/// let y = (x.exp() + 1.0).ln().mean(&[1]);
/// assert_eq!(y.ty(), TensorType::f32([8]));
///
/// x.sum(&[2]);
/// let error = graph.finish().unwrap_err().to_string();
/// assert!(error.contains("sum(f32[8, 3]): [8, 3] has no axis 2"), "{error}");
/// ```
pub trait TensorOps<'g>: Sized {
    /// Returns `self` as a [`Var`].
    fn var(self) -> Var<'g>;

    /// x + y, same as the operator `+`.
    #[track_caller]
    fn add(self, y: Var<'g>) -> Var<'g> {
        elementwise(&arithmetic::ADD, &[self.var(), y], &[])
    }

    /// x − y, same as the operator `-`.
    #[track_caller]
    fn sub(self, y: Var<'g>) -> Var<'g> {
        elementwise(&arithmetic::SUB, &[self.var(), y], &[])
    }

    /// x · y, element by element; same as the operator `*`.
    #[track_caller]
    fn mul(self, y: Var<'g>) -> Var<'g> {
        elementwise(&arithmetic::MUL, &[self.var(), y], &[])
    }

    /// x / y, same as the operator `/`.
    #[track_caller]
    fn div(self, y: Var<'g>) -> Var<'g> {
        elementwise(&arithmetic::DIV, &[self.var(), y], &[])
    }

    /// |x|. Its gradient at 0 is 0.
    #[track_caller]
    fn abs(self) -> Var<'g> {
        elementwise(&arithmetic::ABS, &[self.var()], &[])
    }

    /// Sign of x: −1, 0 or 1. Its gradient is zero.
    #[track_caller]
    fn sign(self) -> Var<'g> {
        elementwise(&arithmetic::SIGN, &[self.var()], &[])
    }

    /// The largest integer not above x. Its gradient is zero.
    #[track_caller]
    fn floor(self) -> Var<'g> {
        elementwise(&arithmetic::FLOOR, &[self.var()], &[])
    }

    /// x².
    #[track_caller]
    fn square(self) -> Var<'g> {
        elementwise(&arithmetic::SQUARE, &[self.var()], &[])
    }

    /// 1 / x.
    #[track_caller]
    fn recip(self) -> Var<'g> {
        elementwise(&arithmetic::RECIP, &[self.var()], &[])
    }

    /// The larger of x and y; NaN if either is NaN. If x and y are equal, each gets half the gradient.
    #[track_caller]
    fn maximum(self, y: Var<'g>) -> Var<'g> {
        elementwise(&arithmetic::MAXIMUM, &[self.var(), y], &[])
    }

    /// The smaller of x and y; NaN if either is NaN. If x and y are equal, each gets half the gradient.
    #[track_caller]
    fn minimum(self, y: Var<'g>) -> Var<'g> {
        elementwise(&arithmetic::MINIMUM, &[self.var(), y], &[])
    }

    /// x limited to the range between two constants; NaN stays NaN.
    #[track_caller]
    fn clamp(self, low: f64, high: f64) -> Var<'g> {
        elementwise(&arithmetic::CLAMP, &[self.var()], &[low, high])
    }

    /// √x; NaN below 0.
    #[track_caller]
    fn sqrt(self) -> Var<'g> {
        elementwise(&functions::SQRT, &[self.var()], &[])
    }

    /// 1 / √x; NaN below 0.
    #[track_caller]
    fn rsqrt(self) -> Var<'g> {
        elementwise(&functions::RSQRT, &[self.var()], &[])
    }

    /// xʸ. NaN for x below 0 unless y is an integer.
    #[track_caller]
    fn pow(self, y: Var<'g>) -> Var<'g> {
        elementwise(&functions::POW, &[self.var(), y], &[])
    }

    /// xᵖ for a constant p. NaN for x below 0 unless p is an integer.
    #[track_caller]
    fn powf(self, p: f64) -> Var<'g> {
        functions::powf(self.var(), p)
    }

    /// eˣ.
    #[track_caller]
    fn exp(self) -> Var<'g> {
        elementwise(&functions::EXP, &[self.var()], &[])
    }

    /// Natural logarithm; −∞ at 0, NaN below 0.
    #[track_caller]
    fn ln(self) -> Var<'g> {
        elementwise(&functions::LN, &[self.var()], &[])
    }

    /// Sine of x in radians; accurate between −π and π on every device.
    #[track_caller]
    fn sin(self) -> Var<'g> {
        elementwise(&functions::SIN, &[self.var()], &[])
    }

    /// Cosine of x in radians; accurate between −π and π on every device.
    #[track_caller]
    fn cos(self) -> Var<'g> {
        elementwise(&functions::COS, &[self.var()], &[])
    }

    /// Error function, 2/√π ∫₀ˣ exp(−t²) dt.
    #[track_caller]
    fn erf(self) -> Var<'g> {
        elementwise(&functions::ERF, &[self.var()], &[])
    }

    /// Hyperbolic tangent.
    #[track_caller]
    fn tanh(self) -> Var<'g> {
        elementwise(&activation::TANH, &[self.var()], &[])
    }

    /// Logistic function, 1 / (1 + e⁻ˣ).
    #[track_caller]
    fn sigmoid(self) -> Var<'g> {
        elementwise(&activation::SIGMOID, &[self.var()], &[])
    }

    /// max(x, 0). Its gradient at 0 is 0; NaN stays NaN.
    #[track_caller]
    fn relu(self) -> Var<'g> {
        elementwise(&activation::RELU, &[self.var()], &[])
    }

    /// x for x > 0, slope · x otherwise.
    #[track_caller]
    fn leaky_relu(self, slope: f64) -> Var<'g> {
        elementwise(&activation::LEAKY_RELU, &[self.var()], &[slope])
    }

    /// Gaussian error linear unit, x/2 · (1 + erf(x/√2)).
    #[track_caller]
    fn gelu(self) -> Var<'g> {
        elementwise(&activation::GELU, &[self.var()], &[])
    }

    /// Sigmoid linear unit, x · sigmoid(x).
    #[track_caller]
    fn silu(self) -> Var<'g> {
        elementwise(&activation::SILU, &[self.var()], &[])
    }

    /// ln(1 + eˣ).
    #[track_caller]
    fn softplus(self) -> Var<'g> {
        elementwise(&activation::SOFTPLUS, &[self.var()], &[])
    }

    /// 1 where x > 0, else 0. Its gradient is zero.
    #[track_caller]
    fn step(self) -> Var<'g> {
        elementwise(&compare::STEP, &[self.var()], &[])
    }

    /// Mask that is 1 where x = y. Both tensors must be f32, or both u32.
    #[track_caller]
    fn eq(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::EQ, &compare::EQ_U32, self.var(), y)
    }

    /// Mask that is 1 where x ≠ y. Both tensors must be f32, or both u32.
    #[track_caller]
    fn ne(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::NE, &compare::NE_U32, self.var(), y)
    }

    /// Mask that is 1 where x < y. Both tensors must be f32, or both u32.
    #[track_caller]
    fn lt(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::LT, &compare::LT_U32, self.var(), y)
    }

    /// Mask that is 1 where x ≤ y. Both tensors must be f32, or both u32.
    #[track_caller]
    fn le(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::LE, &compare::LE_U32, self.var(), y)
    }

    /// Mask that is 1 where x > y. Both tensors must be f32, or both u32.
    #[track_caller]
    fn gt(self, y: Var<'g>) -> Var<'g> {
        compare::compare_reversed(&compare::GT, &compare::LT_U32, self.var(), y)
    }

    /// Mask that is 1 where x ≥ y. Both tensors must be f32, or both u32.
    #[track_caller]
    fn ge(self, y: Var<'g>) -> Var<'g> {
        compare::compare_reversed(&compare::GE, &compare::LE_U32, self.var(), y)
    }

    /// a where the mask `self` is not 0, else b. The mask gets no gradient.
    #[track_caller]
    fn select(self, a: Var<'g>, b: Var<'g>) -> Var<'g> {
        elementwise(&compare::SELECT, &[self.var(), a, b], &[])
    }

    /// Converts to another element type. f16 is a storage type only; f32 to u32 takes the integer part.
    #[track_caller]
    fn cast(self, to: DType) -> Var<'g> {
        cast::cast(self.var(), to)
    }

    /// The same values, without a gradient.
    #[track_caller]
    fn stop_gradient(self) -> Var<'g> {
        constant::stop_gradient(self.var())
    }

    /// Sum along `axes`, which are removed.
    #[track_caller]
    fn sum(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Sum, self.var(), axes, false)
    }

    /// Sum along `axes`, which are kept with size 1.
    #[track_caller]
    fn sum_keep(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Sum, self.var(), axes, true)
    }

    /// Maximum along `axes`, which are removed; NaN if an element is NaN.
    #[track_caller]
    fn max(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Max, self.var(), axes, false)
    }

    /// Maximum along `axes`, which are kept with size 1; NaN if an element is NaN.
    #[track_caller]
    fn max_keep(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Max, self.var(), axes, true)
    }

    /// Minimum along `axes`, which are removed; NaN if an element is NaN.
    #[track_caller]
    fn min(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Min, self.var(), axes, false)
    }

    /// Minimum along `axes`, which are kept with size 1; NaN if an element is NaN.
    #[track_caller]
    fn min_keep(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Min, self.var(), axes, true)
    }

    /// Index of the first maximum along `axis`, which is removed, as u32. A NaN counts as the maximum.
    #[track_caller]
    fn argmax(self, axis: usize) -> Var<'g> {
        reduce(Combine::ArgMax, self.var(), &[axis], false)
    }

    /// Index of the first maximum along `axis`, which is kept with size 1, as u32.
    #[track_caller]
    fn argmax_keep(self, axis: usize) -> Var<'g> {
        reduce(Combine::ArgMax, self.var(), &[axis], true)
    }

    /// Mean along `axes`, which are removed.
    #[track_caller]
    fn mean(self, axes: &[usize]) -> Var<'g> {
        mean(self.var(), axes, false)
    }

    /// Mean along `axes`, which are kept with size 1.
    #[track_caller]
    fn mean_keep(self, axes: &[usize]) -> Var<'g> {
        mean(self.var(), axes, true)
    }

    /// Biased variance (divided by n) along `axes`, which are removed.
    #[track_caller]
    fn variance(self, axes: &[usize]) -> Var<'g> {
        variance(self.var(), axes, false)
    }

    /// Biased variance (divided by n) along `axes`, which are kept with size 1.
    #[track_caller]
    fn variance_keep(self, axes: &[usize]) -> Var<'g> {
        variance(self.var(), axes, true)
    }

    /// ln Σ eˣ along `axes`, which are removed.
    #[track_caller]
    fn logsumexp(self, axes: &[usize]) -> Var<'g> {
        softmax::logsumexp(self.var(), axes, false)
    }

    /// ln Σ eˣ along `axes`, which are kept with size 1.
    #[track_caller]
    fn logsumexp_keep(self, axes: &[usize]) -> Var<'g> {
        softmax::logsumexp(self.var(), axes, true)
    }

    /// Sum of all elements, a scalar.
    #[track_caller]
    fn sum_all(self) -> Var<'g> {
        let x = self.var();
        reduce(Combine::Sum, x, &view::all_axes(x), false)
    }

    /// Mean of all elements, a scalar.
    #[track_caller]
    fn mean_all(self) -> Var<'g> {
        let x = self.var();
        mean(x, &view::all_axes(x), false)
    }

    /// Matrix product of the last two dimensions, `[batch…, m, k] · [batch…, k, n] → [batch…, m, n]`; batches
    /// broadcast.
    #[track_caller]
    fn matmul(self, b: Var<'g>) -> Var<'g> {
        matmul::matmul(self.var(), b)
    }

    /// The same elements in row-major order with another shape.
    #[track_caller]
    fn reshape(self, shape: impl Into<Shape>) -> Var<'g> {
        view::reshape(self.var(), shape)
    }

    /// Merges all dimensions starting at `axis` into one, e.g. `flatten(1)` of `[batch, 8, 8]` is `[batch, 64]`.
    #[track_caller]
    fn flatten(self, axis: usize) -> Var<'g> {
        view::flatten(self.var(), axis)
    }

    /// Permutes the dimensions: dimension i of the result is dimension `axes[i]`.
    #[track_caller]
    fn permute(self, axes: &[usize]) -> Var<'g> {
        view::permute(self.var(), axes)
    }

    /// Swaps the last two dimensions.
    #[track_caller]
    fn t(self) -> Var<'g> {
        view::transpose(self.var())
    }

    /// Broadcasts to `shape`: repeats dimensions of size 1 and adds missing leading dimensions.
    #[track_caller]
    fn broadcast_to(self, shape: impl Into<Shape>) -> Var<'g> {
        view::broadcast_to(self.var(), shape)
    }

    /// Elements whose index along `axis` is in `range`.
    #[track_caller]
    fn slice(self, axis: usize, range: Range<usize>) -> Var<'g> {
        view::slice_step(self.var(), axis, range, 1)
    }

    /// Every `step`-th index of `axis` in `range`.
    #[track_caller]
    fn slice_step(self, axis: usize, range: Range<usize>, step: usize) -> Var<'g> {
        view::slice_step(self.var(), axis, range, step)
    }

    /// Adds zeros before and after the elements along `axis`.
    #[track_caller]
    fn pad(self, axis: usize, before: usize, after: usize) -> Var<'g> {
        view::pad(self.var(), axis, before, after)
    }

    /// Removes dimension `axis`, which must have size 1.
    #[track_caller]
    fn squeeze(self, axis: usize) -> Var<'g> {
        view::squeeze(self.var(), axis)
    }

    /// Inserts a dimension of size 1 as dimension `axis`.
    #[track_caller]
    fn unsqueeze(self, axis: usize) -> Var<'g> {
        view::unsqueeze(self.var(), axis)
    }

    /// Selects rows of `self` `[rows, d…]` by a u32 index `[i…]`; the result is `[i…, d…]`. An index out of range gives
    /// NaN.
    #[track_caller]
    fn gather(self, index: Var<'g>) -> Var<'g> {
        gather::gather(self.var(), index)
    }

    /// Adds `rows` `[i…, d…]` to the rows of `self` `[n, d…]` that the u32 `index` `[i…]` selects. Ignores indices out
    /// of range.
    #[track_caller]
    fn scatter_add(self, index: Var<'g>, rows: Var<'g>) -> Var<'g> {
        gather::scatter_add(self.var(), index, rows)
    }

    /// One-hot encoding of u32 `[i…]` as f32 `[i…, classes]`: 1 at the index, else 0.
    #[track_caller]
    fn one_hot(self, classes: usize) -> Var<'g> {
        gather::one_hot(self.var(), classes)
    }

    /// eˣ / Σ eˣ along `axis`.
    #[track_caller]
    fn softmax(self, axis: usize) -> Var<'g> {
        softmax::softmax(self.var(), axis)
    }

    /// x − ln Σ eˣ along `axis`.
    #[track_caller]
    fn log_softmax(self, axis: usize) -> Var<'g> {
        softmax::log_softmax(self.var(), axis)
    }

    /// Cross-entropy of logits `[batch, classes]` and labels u32 `[batch]`, for each example: `[batch]`. A label out of
    /// range gives ∞.
    #[track_caller]
    fn cross_entropy(self, labels: Var<'g>) -> Var<'g> {
        loss::cross_entropy("cross_entropy", self.var(), labels, 0.0)
    }

    /// Cross-entropy against (1 − ε) · label + ε · uniform over the classes, `[batch]`.
    #[track_caller]
    fn cross_entropy_smooth(self, labels: Var<'g>, epsilon: f64) -> Var<'g> {
        loss::cross_entropy("cross_entropy_smooth", self.var(), labels, epsilon)
    }

    /// Mean of (x − target)² over all dimensions except the first, for each example: `[batch]`.
    #[track_caller]
    fn mse(self, target: Var<'g>) -> Var<'g> {
        loss::mse(self.var(), target)
    }

    /// Binary cross-entropy of logits with targets between 0 and 1, averaged over all dimensions except the first:
    /// `[batch]`.
    #[track_caller]
    fn bce_with_logits(self, target: Var<'g>) -> Var<'g> {
        loss::bce_with_logits(self.var(), target)
    }

    /// (x − mean) / √(variance + ε) over the last dimension.
    #[track_caller]
    fn layer_norm(self, epsilon: f64) -> Var<'g> {
        norm::layer_norm(self.var(), epsilon)
    }

    /// x / √(mean of x² + ε) over the last dimension.
    #[track_caller]
    fn rms_norm(self, epsilon: f64) -> Var<'g> {
        norm::rms_norm(self.var(), epsilon)
    }

    /// Zeroes each element with probability `p` and divides the others by 1 − p. See [`crate::uniform`] for `rng`.
    #[track_caller]
    fn dropout(self, p: f64, rng: Var<'g>) -> Var<'g> {
        random::dropout(self.var(), p, rng, 0)
    }

    /// Applies [`TensorOps::dropout`] to consecutive rows of a larger batch, starting at row `first`. The rows get the
    /// same mask as in the whole batch.
    #[track_caller]
    fn dropout_rows(self, p: f64, rng: Var<'g>, first: usize) -> Var<'g> {
        random::dropout(self.var(), p, rng, first)
    }
}

impl<'g> TensorOps<'g> for Var<'g> {
    fn var(self) -> Var<'g> {
        self
    }
}
