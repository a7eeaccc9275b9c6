//! Static tensor graphs: types, layouts, the [`Op`] trait, the recorded [`Graph`] and its differentiation.
//!
//! This crate knows no operation by name (see `wgrad-ops`) and no device.

mod error;
mod grad;
mod graph;
mod hash;
mod layout;
mod op;
pub mod philox;
mod scalar;
mod shape;
mod state;

pub use error::{GraphError, Rule};
pub use grad::{grad, grad_recomputing, grad_with};
pub use graph::{Arithmetic, Graph, Node, NodeId, Var};
pub use hash::fnv1a;
pub use layout::{Affine, Bound, Layout, View};
pub use op::{Combine, Contract, Expr, Leaf, Lowered, Op, Vjp};

pub use scalar::{Call, FloatType, ScalarFn};
pub use shape::{DType, Shape, TensorType};
pub use state::{ALIGN, Entry, EntryId, Group, GroupId, States};
