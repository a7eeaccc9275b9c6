//! Registry of all operations, by family. Tests, benchmarks, pages and the command line iterate over this registry;
//! there is no other list.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Expr, Lowered, ScalarFn, TensorType};

use crate::op_info::{Family, OpInfo};
use crate::{
    cast, compare, constant, conv, gather, image_norm, loss, matmul, norm, pack, pool, random, reduce,
    resize, scalar, softmax, view,
};

/// All families of operations. A new operation is added to the list of its family, a new family to this list.
pub static FAMILIES: &[Family] = &[
    Family { name: "arithmetic", ops: scalar::arithmetic::OPS },
    Family { name: "functions", ops: scalar::functions::OPS },
    Family { name: "activations", ops: scalar::activation::OPS },
    Family { name: "comparisons", ops: compare::OPS },
    Family { name: "u32 comparisons", ops: compare::U32_OPS },
    Family { name: "casts", ops: cast::OPS },
    Family { name: "constants", ops: constant::OPS },
    Family { name: "views", ops: view::OPS },
    Family { name: "reductions", ops: reduce::OPS },
    Family { name: "matrix product", ops: matmul::OPS },
    Family { name: "convolution", ops: conv::OPS },
    Family { name: "pooling", ops: pool::OPS },
    Family { name: "normalization of images", ops: image_norm::OPS },
    Family { name: "resizing", ops: resize::OPS },
    Family { name: "gather", ops: gather::OPS },
    Family { name: "pack", ops: pack::OPS },
    Family { name: "random", ops: random::OPS },
    Family { name: "softmax", ops: softmax::OPS },
    Family { name: "normalization", ops: norm::OPS },
    Family { name: "losses", ops: loss::OPS },
];

/// Iterates over all operations, in the order of the families.
pub fn ops() -> impl Iterator<Item = &'static OpInfo> {
    FAMILIES.iter().flat_map(|family| family.ops)
}

/// Returns the scalar functions that the operations of the table use, sorted by name. A backend must support all of
/// these functions.
pub fn scalar_functions() -> Vec<&'static ScalarFn> {
    let mut found: Vec<&'static ScalarFn> = Vec::new();
    for op in ops() {
        let graph = crate::graph(wgrad_graph::States::new());
        (op.sample)(&mut Stream::new(0, 0)).record(&graph);
        for node in graph.nodes().iter() {
            let types: Vec<TensorType> = node.ins.iter().map(|&id| graph.var(id).ty()).collect();
            if let Lowered::Map(expr) = node.op.lower(&types, &node.ty) {
                collect_calls(&expr, &mut found);
            }
        }
    }
    found.sort_by_key(|f| f.name);
    // Compared by address: two different functions with the same name are both kept, so that a test can find them.
    found.dedup_by(|a, b| std::ptr::eq(*a, *b));
    found
}

/// Appends the functions that an expression calls.
fn collect_calls(expr: &Expr, found: &mut Vec<&'static ScalarFn>) {
    if let Expr::Call(function, args) = expr {
        found.push(function);
        args.iter().for_each(|arg| collect_calls(arg, found));
    }
}
