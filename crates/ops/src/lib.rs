//! Operations: the shape rule, gradient, lowering and scalar implementation of each operation.
//!
//! Model code uses [`TensorOps`] and [`ImageOps`], the methods of a [`Var`](wgrad_graph::Var). Tests, benchmarks, pages
//! and the command line iterate over [`ops`], the only list of operations. Each family of operations is one file; an
//! elementwise function is one entry of a list in `scalar/`. This crate defines the results of operations and does not
//! depend on any device.
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
mod elementwise;
mod gather;
mod host_callback;
mod image;
mod image_norm;
mod loss;
mod matmul;
mod norm;
mod op_info;
mod pack;
mod pool;
mod random;
mod reduce;
mod resize;
mod rules;
mod sample;
mod scalar;
mod softmax;
mod strided_view;
mod table;
mod tensor;
mod view;

pub use constant::{full, full_u32, iota};
pub use conv::Conv;
pub use host_callback::{AllReduceSlots, SyncBatch};
pub use image::ImageOps;
pub use image_norm::BatchNormOutput;
pub use op_info::{ErrorInput, Family, GradientOrder, OpInfo};
pub use pack::pack;
pub use pool::Pool;
pub use random::{normal, uniform};
pub use sample::{BuildFn, Distribution, Input, Sample, SampleData};
pub use table::{FAMILIES, ops, scalar_functions};
pub use tensor::TensorOps;
pub use view::{concat, stack};

use wgrad_graph::{Arithmetic, Graph, States};

/// Operations that implement the operators of a `Var`, sums of gradients and zero gradients.
static ARITHMETIC: Arithmetic = Arithmetic {
    add: |x, y| elementwise::elementwise(&scalar::arithmetic::ADD, &[x, y], &[]),
    sub: |x, y| elementwise::elementwise(&scalar::arithmetic::SUB, &[x, y], &[]),
    mul: |x, y| elementwise::elementwise(&scalar::arithmetic::MUL, &[x, y], &[]),
    div: |x, y| elementwise::elementwise(&scalar::arithmetic::DIV, &[x, y], &[]),
    neg: |x| elementwise::elementwise(&scalar::arithmetic::NEG, &[x], &[]),
    full: |graph, shape, value| full(graph, shape.clone(), value),
};

/// Creates an empty graph over `states`, with the arithmetic of this crate.
pub fn graph(states: States) -> Graph {
    Graph::new(&ARITHMETIC, states)
}
