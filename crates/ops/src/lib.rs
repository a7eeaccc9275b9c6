//! The table of operations: shape rule, gradient, lowering and scalar bodies of each.
//!
//! Model code uses [`TensorOps`], the methods of a [`Var`](wgrad_graph::Var). Tests, benches, pages and the command line
//! iterate [`ops`], the one list there is. A family of operations is one file; an elementwise function is one row of a
//! table in `scalar/`. This crate says what is computed and never how: it knows no device.
//!
//! ```
//! use wgrad_graph::{States, TensorType, grad};
//! use wgrad_ops::TensorOps;
//!
//! let graph = wgrad_ops::graph(States::new());
//! let x = graph.input("x", TensorType::f32([32, 64]));
//! let w = graph.input("w", TensorType::f32([64, 10]));
//! let labels = graph.input("labels", TensorType::u32([32]));
//! let loss = x.matmul(w).cross_entropy(labels).mean_all();
//! let gradients = grad(loss, &[w])?;
//! assert_eq!(gradients[0].ty(), w.ty());
//! # Ok::<(), wgrad_graph::GraphError>(())
//! ```

mod cast;
mod compare;
mod constant;
mod conv;
mod exchange;
mod gather;
mod image;
mod image_norm;
mod loss;
mod matmul;
mod norm;
mod pack;
mod pointwise;
mod pool;
mod random;
mod reduce;
mod resize;
mod sample;
mod scalar;
mod softmax;
mod table;
mod tensor;
mod view;

pub use constant::{full, full_u32, iota};
pub use conv::Conv;
pub use exchange::{Places, Shares};
pub use image::ImageOps;
pub use image_norm::BatchNormed;
pub use pack::pack;
pub use pool::Pool;
pub use random::{normal, uniform};
pub use sample::{Build, Drawn, Input, Sample, Values};
pub use table::{Entry, FAMILIES, Family, Order, Refused, ops, scalar_functions};
pub use tensor::TensorOps;
pub use view::{concat, stack};

use wgrad_graph::{Arithmetic, Graph, States};

/// What the operators of a `Var` and the sum of gradients are made of.
static ARITHMETIC: Arithmetic = Arithmetic {
    add: |x, y| pointwise::pointwise(&scalar::arithmetic::ADD, &[x, y], &[]),
    sub: |x, y| pointwise::pointwise(&scalar::arithmetic::SUB, &[x, y], &[]),
    mul: |x, y| pointwise::pointwise(&scalar::arithmetic::MUL, &[x, y], &[]),
    div: |x, y| pointwise::pointwise(&scalar::arithmetic::DIV, &[x, y], &[]),
    neg: |x| pointwise::pointwise(&scalar::arithmetic::NEG, &[x], &[]),
    full: |graph, shape, value| full(graph, shape.clone(), value),
};

/// An empty graph over some state, with the arithmetic of this table.
pub fn graph(states: States) -> Graph {
    Graph::new(&ARITHMETIC, states)
}
