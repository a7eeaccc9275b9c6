//! The interface of an operation: a shape rule, a gradient rule, and a lowering for the backends.

use std::fmt::Debug;

use crate::error::Rule;
use crate::graph::Var;
use crate::layout::View;
use crate::scalar::ScalarFn;
use crate::shape::TensorType;
use crate::state::{EntryId, GroupId};

/// An operation. Its parameters (axes, constants) are fields of the implementing type.
pub trait Op: Debug {
    /// Standard name of the operation, e.g. `matmul`.
    fn name(&self) -> &'static str;

    /// Returns the type of the output.
    ///
    /// # Errors
    /// Returns the rule that the number, types or shapes of the inputs break.
    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule>;

    /// Vector-Jacobian product: returns the gradient of each input, given the gradient of the output. The gradients are
    /// operations of the graph, so they can be differentiated again.
    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g>;

    /// Returns a description of the computation for the backends. `ins` and `out` have passed [`Op::infer`].
    fn lower(&self, ins: &[TensorType], out: &TensorType) -> Lowered;
}

/// Result of a gradient rule. Every operation must return its gradients or the reason why it has none.
#[derive(Debug)]
pub enum Vjp<'g> {
    /// One gradient for each input; `None` for indices and other constant inputs.
    Grads(Vec<Option<Var<'g>>>),
    /// The gradient is zero almost everywhere or deliberately stopped. Contains the reason.
    Zero(&'static str),
    /// The gradient is undefined, and requesting it is an error. Contains the reason.
    Undefined(&'static str),
}

/// The computations that backends implement. Every operation lowers to one of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Lowered {
    /// A value from outside the graph.
    Leaf(Leaf),
    /// The same elements at other indices. Moves no data if a layout can express the view.
    View(View),
    /// An elementwise expression. Every input has the shape of the output.
    Map(Expr),
    /// A reduction along `axes`, which keep size 1 in the output.
    Reduce {
        /// Views applied to the input, in order.
        views: Vec<View>,
        /// Function that combines two elements.
        combine: Combine,
        /// Reduced axes, ascending.
        axes: Vec<usize>,
    },
    /// Sums of products along some dimensions of two tensors: matrix products, convolutions and their gradients.
    Contract(Contract),
    /// `out[i…, d…] = table[index[i…], d…]` for inputs (table, index). An index out of range gives NaN (0 for u32).
    Gather,
    /// One flat tensor that contains input i starting at element `offsets[i]`; all other elements are zero.
    Pack {
        /// Position in the output of the first element of each input.
        offsets: Vec<usize>,
    },
    /// A value that the host computes while the program runs. The input is written to `sent`; the host then writes its
    /// reply to `received`, which is the output. Several callbacks are sent in the order in which they were recorded.
    /// In the f64 reference, which has no host, the output equals the input.
    HostCallback {
        /// State tensor that receives the input. No other operation may read or write this tensor.
        sent: EntryId,
        /// State tensor that receives the reply. No operation may write this tensor.
        received: EntryId,
    },
}

/// `out[batch…, rows…, columns…] = Σ a[batch…, rows…, depth…] · b[batch…, depth…, columns…]`, summed over depth, for
/// views of the inputs (a, b). Batch, rows, columns and depth may each have any number of dimensions, including none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contract {
    /// Views applied to a, in order.
    pub a: Vec<View>,
    /// Views applied to b, in order.
    pub b: Vec<View>,
    /// Number of batch dimensions.
    pub batch: usize,
    /// Number of row dimensions, which only a has.
    pub rows: usize,
    /// Number of column dimensions, which only b has.
    pub columns: usize,
    /// Storage order: dimension i of the stored product is dimension `order[i]` of the concatenation batch ++ rows ++
    /// columns.
    pub order: Vec<usize>,
    /// Views applied to the stored product, in order.
    pub out: Vec<View>,
}

impl Contract {
    /// Creates a batched matrix product, `[batch…, m, k] · [batch…, k, n] → [batch…, m, n]`.
    pub fn matmul(batch: usize) -> Self {
        Self { batch, rows: 1, columns: 1, order: (0..batch + 2).collect(), ..Self::default() }
    }
}

/// Source of a value from outside the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// An input that is uploaded for every run. Contains the slot number of the input.
    Input(usize),
    /// One tensor of the persistent state.
    Entry(EntryId),
    /// A whole group of the persistent state, flat, padding included.
    Group(GroupId),
}

/// Elementwise expression: computes one element of the output from the elements of the inputs at the same index.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The element of input i.
    Input(usize),
    /// A float constant.
    Float(f64),
    /// A u32 constant.
    U32(u32),
    /// `Σ index[i] · strides[i]` as a u32, where `index` is the index of the output element.
    Iota(Vec<usize>),
    /// A scalar function applied to expressions.
    Call(&'static ScalarFn, Vec<Expr>),
}

/// Combining function of a reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Combine {
    /// Sum, starting at 0.
    Sum,
    /// Maximum, starting at −∞. NaN if any element is NaN.
    Max,
    /// Minimum, starting at +∞. NaN if any element is NaN.
    Min,
    /// Row-major index along the reduced axes of the first maximum, as a u32. The first NaN counts as the maximum.
    ArgMax,
}
