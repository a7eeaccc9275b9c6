//! The methods of tensors: what model code is written with.

use std::ops::Range;

use wgrad_graph::{Combine, DType, Shape, Var};

use crate::pointwise::pointwise;
use crate::reduce::{mean, reduce, variance};
use crate::scalar::{activation, arithmetic, functions};
use crate::{cast, compare, constant, gather, loss, matmul, norm, random, softmax, view};

/// Operations on tensors, as methods of [`Var`].
///
/// Operands of elementwise methods broadcast as in NumPy: sizes, aligned at the last dimension, agree or are 1. They are f32
/// but where it says otherwise; masks are f32 too, 1 where something holds and 0 where not. An axis counts from 0, outermost
/// first. A mistake does not stop the recording: the graph keeps the first one with the line of the call, and
/// [`Graph::finish`](wgrad_graph::Graph::finish) returns it.
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
    /// The tensor itself.
    fn var(self) -> Var<'g>;

    /// x + y. The operator `+` is the same.
    #[track_caller]
    fn add(self, y: Var<'g>) -> Var<'g> {
        pointwise(&arithmetic::ADD, &[self.var(), y], &[])
    }

    /// x − y. The operator `-` is the same.
    #[track_caller]
    fn sub(self, y: Var<'g>) -> Var<'g> {
        pointwise(&arithmetic::SUB, &[self.var(), y], &[])
    }

    /// x · y, element by element. The operator `*` is the same.
    #[track_caller]
    fn mul(self, y: Var<'g>) -> Var<'g> {
        pointwise(&arithmetic::MUL, &[self.var(), y], &[])
    }

    /// x / y. The operator `/` is the same.
    #[track_caller]
    fn div(self, y: Var<'g>) -> Var<'g> {
        pointwise(&arithmetic::DIV, &[self.var(), y], &[])
    }

    /// |x|. Its gradient at 0 is 0.
    #[track_caller]
    fn abs(self) -> Var<'g> {
        pointwise(&arithmetic::ABS, &[self.var()], &[])
    }

    /// −1, 0 or 1 by the sign. It has no gradient.
    #[track_caller]
    fn sign(self) -> Var<'g> {
        pointwise(&arithmetic::SIGN, &[self.var()], &[])
    }

    /// The largest whole number not above x. It has no gradient.
    #[track_caller]
    fn floor(self) -> Var<'g> {
        pointwise(&arithmetic::FLOOR, &[self.var()], &[])
    }

    /// x².
    #[track_caller]
    fn square(self) -> Var<'g> {
        pointwise(&arithmetic::SQUARE, &[self.var()], &[])
    }

    /// 1 / x.
    #[track_caller]
    fn recip(self) -> Var<'g> {
        pointwise(&arithmetic::RECIP, &[self.var()], &[])
    }

    /// The larger of x and y; NaN where either is. Where they tie, each has half the gradient.
    #[track_caller]
    fn maximum(self, y: Var<'g>) -> Var<'g> {
        pointwise(&arithmetic::MAXIMUM, &[self.var(), y], &[])
    }

    /// The smaller of x and y; NaN where either is. Where they tie, each has half the gradient.
    #[track_caller]
    fn minimum(self, y: Var<'g>) -> Var<'g> {
        pointwise(&arithmetic::MINIMUM, &[self.var(), y], &[])
    }

    /// x kept between two constants; NaN stays NaN.
    #[track_caller]
    fn clamp(self, low: f64, high: f64) -> Var<'g> {
        pointwise(&arithmetic::CLAMP, &[self.var()], &[low, high])
    }

    /// √x; NaN below 0.
    #[track_caller]
    fn sqrt(self) -> Var<'g> {
        pointwise(&functions::SQRT, &[self.var()], &[])
    }

    /// 1 / √x; NaN below 0.
    #[track_caller]
    fn rsqrt(self) -> Var<'g> {
        pointwise(&functions::RSQRT, &[self.var()], &[])
    }

    /// xʸ. For x below 0 it is NaN unless y is whole.
    #[track_caller]
    fn pow(self, y: Var<'g>) -> Var<'g> {
        pointwise(&functions::POW, &[self.var(), y], &[])
    }

    /// xᵖ for a constant p. For x below 0 it is NaN unless p is whole.
    #[track_caller]
    fn powf(self, p: f64) -> Var<'g> {
        functions::powf(self.var(), p)
    }

    /// eˣ.
    #[track_caller]
    fn exp(self) -> Var<'g> {
        pointwise(&functions::EXP, &[self.var()], &[])
    }

    /// Natural logarithm; −∞ at 0, NaN below.
    #[track_caller]
    fn ln(self) -> Var<'g> {
        pointwise(&functions::LN, &[self.var()], &[])
    }

    /// Sine of x in radians; accurate between −π and π on every device.
    #[track_caller]
    fn sin(self) -> Var<'g> {
        pointwise(&functions::SIN, &[self.var()], &[])
    }

    /// Cosine of x in radians; accurate between −π and π on every device.
    #[track_caller]
    fn cos(self) -> Var<'g> {
        pointwise(&functions::COS, &[self.var()], &[])
    }

    /// Error function, 2/√π ∫₀ˣ exp(−t²) dt.
    #[track_caller]
    fn erf(self) -> Var<'g> {
        pointwise(&functions::ERF, &[self.var()], &[])
    }

    /// Hyperbolic tangent.
    #[track_caller]
    fn tanh(self) -> Var<'g> {
        pointwise(&activation::TANH, &[self.var()], &[])
    }

    /// Logistic function, 1 / (1 + e⁻ˣ).
    #[track_caller]
    fn sigmoid(self) -> Var<'g> {
        pointwise(&activation::SIGMOID, &[self.var()], &[])
    }

    /// max(x, 0). Its gradient at 0 is 0; NaN stays NaN.
    #[track_caller]
    fn relu(self) -> Var<'g> {
        pointwise(&activation::RELU, &[self.var()], &[])
    }

    /// x above 0, slope · x below.
    #[track_caller]
    fn leaky_relu(self, slope: f64) -> Var<'g> {
        pointwise(&activation::LEAKY_RELU, &[self.var()], &[slope])
    }

    /// Gaussian error linear unit, x/2 · (1 + erf(x/√2)).
    #[track_caller]
    fn gelu(self) -> Var<'g> {
        pointwise(&activation::GELU, &[self.var()], &[])
    }

    /// Sigmoid linear unit, x · sigmoid(x).
    #[track_caller]
    fn silu(self) -> Var<'g> {
        pointwise(&activation::SILU, &[self.var()], &[])
    }

    /// ln(1 + eˣ).
    #[track_caller]
    fn softplus(self) -> Var<'g> {
        pointwise(&activation::SOFTPLUS, &[self.var()], &[])
    }

    /// 1 where x > 0, else 0. It has no gradient.
    #[track_caller]
    fn step(self) -> Var<'g> {
        pointwise(&compare::STEP, &[self.var()], &[])
    }

    /// 1 where x = y, of two f32 or two u32 tensors.
    #[track_caller]
    fn eq(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::EQ, &compare::EQ_WORDS, self.var(), y)
    }

    /// 1 where x ≠ y, of two f32 or two u32 tensors.
    #[track_caller]
    fn ne(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::NE, &compare::NE_WORDS, self.var(), y)
    }

    /// 1 where x < y, of two f32 or two u32 tensors.
    #[track_caller]
    fn lt(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::LT, &compare::LT_WORDS, self.var(), y)
    }

    /// 1 where x ≤ y, of two f32 or two u32 tensors.
    #[track_caller]
    fn le(self, y: Var<'g>) -> Var<'g> {
        compare::compare(&compare::LE, &compare::LE_WORDS, self.var(), y)
    }

    /// 1 where x > y, of two f32 or two u32 tensors.
    #[track_caller]
    fn gt(self, y: Var<'g>) -> Var<'g> {
        compare::compare_reversed(&compare::GT, &compare::LT_WORDS, self.var(), y)
    }

    /// 1 where x ≥ y, of two f32 or two u32 tensors.
    #[track_caller]
    fn ge(self, y: Var<'g>) -> Var<'g> {
        compare::compare_reversed(&compare::GE, &compare::LE_WORDS, self.var(), y)
    }

    /// a where the mask `self` is not 0, else b. No gradient flows into the mask.
    #[track_caller]
    fn select(self, a: Var<'g>, b: Var<'g>) -> Var<'g> {
        pointwise(&compare::SELECT, &[self.var(), a, b], &[])
    }

    /// The elements as another type. f16 is for storage only; words are the whole part of floats.
    #[track_caller]
    fn cast(self, to: DType) -> Var<'g> {
        cast::cast(self.var(), to)
    }

    /// The same values, through which no gradient flows.
    #[track_caller]
    fn stop_gradient(self) -> Var<'g> {
        constant::stop_gradient(self.var())
    }

    /// Sum along `axes`, which go.
    #[track_caller]
    fn sum(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Sum, self.var(), axes, false)
    }

    /// Sum along `axes`, which stay with size 1.
    #[track_caller]
    fn sum_keep(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Sum, self.var(), axes, true)
    }

    /// Maximum, NaN if there is one, along `axes`, which go.
    #[track_caller]
    fn max(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Max, self.var(), axes, false)
    }

    /// Maximum, NaN if there is one, along `axes`, which stay with size 1.
    #[track_caller]
    fn max_keep(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Max, self.var(), axes, true)
    }

    /// Minimum, NaN if there is one, along `axes`, which go.
    #[track_caller]
    fn min(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Min, self.var(), axes, false)
    }

    /// Minimum, NaN if there is one, along `axes`, which stay with size 1.
    #[track_caller]
    fn min_keep(self, axes: &[usize]) -> Var<'g> {
        reduce(Combine::Min, self.var(), axes, true)
    }

    /// Index of the first maximum along `axis`, which goes, as a word. A NaN counts as the maximum.
    #[track_caller]
    fn argmax(self, axis: usize) -> Var<'g> {
        reduce(Combine::ArgMax, self.var(), &[axis], false)
    }

    /// Index of the first maximum along `axis`, which stays with size 1, as a word.
    #[track_caller]
    fn argmax_keep(self, axis: usize) -> Var<'g> {
        reduce(Combine::ArgMax, self.var(), &[axis], true)
    }

    /// Mean along `axes`, which go.
    #[track_caller]
    fn mean(self, axes: &[usize]) -> Var<'g> {
        mean(self.var(), axes, false)
    }

    /// Mean along `axes`, which stay with size 1.
    #[track_caller]
    fn mean_keep(self, axes: &[usize]) -> Var<'g> {
        mean(self.var(), axes, true)
    }

    /// Variance of the population (divided by n) along `axes`, which go.
    #[track_caller]
    fn variance(self, axes: &[usize]) -> Var<'g> {
        variance(self.var(), axes, false)
    }

    /// Variance of the population (divided by n) along `axes`, which stay with size 1.
    #[track_caller]
    fn variance_keep(self, axes: &[usize]) -> Var<'g> {
        variance(self.var(), axes, true)
    }

    /// ln Σ eˣ along `axes`, which go.
    #[track_caller]
    fn logsumexp(self, axes: &[usize]) -> Var<'g> {
        softmax::logsumexp(self.var(), axes, false)
    }

    /// ln Σ eˣ along `axes`, which stay with size 1.
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

    /// Matrix product of the last two dimensions, `[batch…, m, k] · [batch…, k, n] → [batch…, m, n]`; batches broadcast.
    #[track_caller]
    fn matmul(self, b: Var<'g>) -> Var<'g> {
        matmul::matmul(self.var(), b)
    }

    /// The same elements in row-major order under another shape.
    #[track_caller]
    fn reshape(self, shape: impl Into<Shape>) -> Var<'g> {
        view::reshape(self.var(), shape)
    }

    /// The dimensions from `axis` on merged into one, e.g. `flatten(1)` of `[batch, 8, 8]` is `[batch, 64]`.
    #[track_caller]
    fn flatten(self, axis: usize) -> Var<'g> {
        view::flatten(self.var(), axis)
    }

    /// Dimension i of the result is dimension `axes[i]`.
    #[track_caller]
    fn permute(self, axes: &[usize]) -> Var<'g> {
        view::permute(self.var(), axes)
    }

    /// The last two dimensions swapped.
    #[track_caller]
    fn t(self) -> Var<'g> {
        view::transpose(self.var())
    }

    /// Dimensions of size 1, and missing leading ones, repeated to `shape`.
    #[track_caller]
    fn broadcast_to(self, shape: impl Into<Shape>) -> Var<'g> {
        view::broadcast_to(self.var(), shape)
    }

    /// The indices of `axis` in `range`.
    #[track_caller]
    fn slice(self, axis: usize, range: Range<usize>) -> Var<'g> {
        view::slice_step(self.var(), axis, range, 1)
    }

    /// Every `step`-th index of `axis` in `range`.
    #[track_caller]
    fn slice_step(self, axis: usize, range: Range<usize>, step: usize) -> Var<'g> {
        view::slice_step(self.var(), axis, range, step)
    }

    /// Zeros before and after the elements along `axis`.
    #[track_caller]
    fn pad(self, axis: usize, before: usize, after: usize) -> Var<'g> {
        view::pad(self.var(), axis, before, after)
    }

    /// Without dimension `axis`, of size 1.
    #[track_caller]
    fn squeeze(self, axis: usize) -> Var<'g> {
        view::squeeze(self.var(), axis)
    }

    /// With one more dimension of size 1, which becomes dimension `axis`.
    #[track_caller]
    fn unsqueeze(self, axis: usize) -> Var<'g> {
        view::unsqueeze(self.var(), axis)
    }

    /// Rows picked by index: `[rows, d…]` and u32 `[i…]` give `[i…, d…]`. An index out of range gives NaN.
    #[track_caller]
    fn gather(self, index: Var<'g>) -> Var<'g> {
        gather::gather(self.var(), index)
    }

    /// `rows`, `[i…, d…]`, added to `self`, `[n, d…]`, at the rows that u32 `[i…]` names. Out of range they are dropped.
    #[track_caller]
    fn scatter_add(self, index: Var<'g>, rows: Var<'g>) -> Var<'g> {
        gather::scatter_add(self.var(), index, rows)
    }

    /// u32 `[i…]` to f32 `[i…, classes]`: 1 at the index, else 0.
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

    /// −ln of the softmax at the label, of logits `[batch, classes]` and labels u32 `[batch]`: one loss an example, `[batch]`.
    /// A label out of range gives ∞.
    #[track_caller]
    fn cross_entropy(self, labels: Var<'g>) -> Var<'g> {
        loss::cross_entropy("cross_entropy", self.var(), labels, 0.0)
    }

    /// Cross-entropy against (1 − ε) · label + ε · uniform over the classes, `[batch]`.
    #[track_caller]
    fn cross_entropy_smooth(self, labels: Var<'g>, epsilon: f64) -> Var<'g> {
        loss::cross_entropy("cross_entropy_smooth", self.var(), labels, epsilon)
    }

    /// Mean of (x − target)² over all dimensions but the first: one loss an example, `[batch]`.
    #[track_caller]
    fn mse(self, target: Var<'g>) -> Var<'g> {
        loss::mse(self.var(), target)
    }

    /// Binary cross-entropy of logits with targets between 0 and 1, averaged over all dimensions but the first, `[batch]`.
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

    /// Each element zeroed with probability `p`, the others divided by 1 − p. `rng` is the generator of [`crate::uniform`].
    #[track_caller]
    fn dropout(self, p: f64, rng: Var<'g>) -> Var<'g> {
        random::dropout(self.var(), p, rng, 0)
    }

    /// [`TensorOps::dropout`] of a part of a batch, whose rows are those from `first` on of the whole: they keep what they
    /// would keep there.
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
