//! What an operation is: a shape rule, a gradient rule, and what a backend runs for it.

use std::fmt::Debug;

use crate::error::Rule;
use crate::graph::Var;
use crate::layout::View;
use crate::scalar::ScalarFn;
use crate::shape::TensorType;
use crate::state::{EntryId, GroupId};

/// An operation. Its parameters (axes, constants) are fields of the type that implements this.
pub trait Op: Debug {
    /// The field's name for it, e.g. `matmul`.
    fn name(&self) -> &'static str;

    /// Type of the output, or which rule the inputs break.
    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule>;

    /// Vector-Jacobian product: the gradient of each input, given that of the output, as more operations of the graph,
    /// so that it can be differentiated again.
    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g>;

    /// What a backend runs: data, never calls into a device. `ins` and `out` passed `infer`.
    fn lower(&self, ins: &[TensorType], out: &TensorType) -> Lowered;
}

/// Result of a gradient rule. There is no default: every operation says what its gradient is, or why there is none.
#[derive(Debug)]
pub enum Vjp<'g> {
    /// One gradient an input; `None` where the input is an index or otherwise constant.
    Grads(Vec<Option<Var<'g>>>),
    /// The gradient is zero almost everywhere, or stopped on purpose; why.
    Zero(&'static str),
    /// There is no gradient, and asking for one is an error; why.
    Undefined(&'static str),
}

/// The forms that a backend knows. Everything an operation does is one of these.
#[derive(Debug, Clone, PartialEq)]
pub enum Lowered {
    /// A value from outside the graph.
    Leaf(Leaf),
    /// The same elements at other indices; moves no data where a layout can express it.
    View(View),
    /// An expression for each element. Every input has the shape of the output.
    Map(Expr),
    /// The elements along `axes` combined into one; the axes stay, with size 1.
    Reduce {
        /// Views that the input is seen through, the first one first.
        views: Vec<View>,
        /// How two elements combine.
        combine: Combine,
        /// Axes combined, ascending.
        axes: Vec<usize>,
    },
    /// Sums of products along some dimensions of two tensors: matrix products, convolutions and their gradients.
    Contract(Contract),
    /// `out[i…, d…] = table[index[i…], d…]` for inputs (table, index). An index out of range gives NaN (0 for u32).
    Gather,
    /// The inputs laid into one flat tensor, input i from element `offsets[i]`; the rest is zero.
    Pack {
        /// First element of each input.
        offsets: Vec<usize>,
    },
    /// What the host gives for the input while the program runs: the input is written to `sent`, and from then on
    /// `received` holds the answer. Several of them are sent in the order in which they were recorded. Where nobody answers,
    /// it is the input.
    Exchange {
        /// Where the input goes; nothing else writes or reads it.
        sent: EntryId,
        /// Where the answer comes to; no operation writes it.
        received: EntryId,
    },
}

/// `out[batch…, rows…, columns…] = Σ a[batch…, rows…, depth…] · b[batch…, depth…, columns…]` over depth, for inputs (a, b)
/// seen through views. Batch, rows, columns and depth may have any number of dimensions, none included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contract {
    /// Views that a is seen through, the first one first.
    pub a: Vec<View>,
    /// Views that b is seen through.
    pub b: Vec<View>,
    /// Number of dimensions of the batch.
    pub batch: usize,
    /// Number of dimensions that only a has.
    pub rows: usize,
    /// Number of dimensions that only b has.
    pub columns: usize,
    /// Dimension i of the product is dimension `order[i]` of batch ++ rows ++ columns: the order in which it is stored.
    pub order: Vec<usize>,
    /// Views that the product is seen through.
    pub out: Vec<View>,
}

impl Contract {
    /// A batched matrix product, `[batch…, m, k] · [batch…, k, n] → [batch…, m, n]`.
    pub fn matmul(batch: usize) -> Self {
        Self { batch, rows: 1, columns: 1, order: (0..batch + 2).collect(), ..Self::default() }
    }
}

/// Where a value from outside comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// Uploaded for every run: the slot number.
    Input(usize),
    /// One tensor of the persistent state.
    Entry(EntryId),
    /// A whole group of the persistent state, flat, padding included.
    Group(GroupId),
}

/// An expression over the elements at one index.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The element of input number i.
    Input(usize),
    /// A float constant.
    Float(f64),
    /// A word (u32) constant.
    Word(u32),
    /// `Σ index[i] · strides[i]` of the element's own index, as a word.
    Iota(Vec<usize>),
    /// A scalar function of expressions.
    Call(&'static ScalarFn, Vec<Expr>),
}

/// How a reduction combines elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Combine {
    /// Sum, starting at 0.
    Sum,
    /// Maximum, starting at −∞. NaN wins.
    Max,
    /// Minimum, starting at +∞. NaN wins.
    Min,
    /// Row-major index, along the reduced axes, of the first maximum, as a word. The first NaN counts as the maximum.
    ArgMax,
}
