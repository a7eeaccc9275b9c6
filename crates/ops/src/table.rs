//! The table: one entry an operation, by family. Tests, benches, pages and the command line iterate it; there is no other
//! list of operations.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Expr, Graph, Lowered, ScalarFn, TensorType, Var};

use crate::sample::{Build, Sample};
use crate::{
    cast, compare, constant, conv, gather, image_norm, loss, matmul, norm, pack, pool, random, reduce,
    resize, scalar, softmax, view,
};

/// An operation, primitive or composed, as every check and page needs it.
pub struct Entry {
    /// Unique name, that of the method.
    pub name: &'static str,
    /// What it computes, in one sentence or two.
    pub doc: &'static str,
    /// Draws a random use, on which it is defined and, where it has a gradient, smooth.
    pub sample: fn(&mut Stream) -> Sample,
    /// Largest difference from the exact result in f32, relative to the largest magnitude of the result or 1.
    pub tolerance: f64,
    /// How often it can be differentiated.
    pub order: Order,
    /// Uses that must be refused, and with which words.
    pub refuses: fn() -> Vec<Refused>,
}

/// How often an operation can be differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Never: the gradient of each differentiable input is zero by definition.
    Zero,
    /// Once.
    First,
    /// As often as one likes.
    Any,
}

/// A use of an operation that must be refused.
pub struct Refused {
    /// Types of the inputs.
    pub inputs: Vec<TensorType>,
    /// Part of the message.
    pub why: &'static str,
    /// Records the operation on them.
    pub build: Build,
}

/// The operations of one file.
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// Its operations.
    pub entries: &'static [Entry],
}

/// All families. A new one adds a line here; a new operation only an entry of its family.
pub static FAMILIES: &[Family] = &[
    Family { name: "arithmetic", entries: scalar::arithmetic::ENTRIES },
    Family { name: "functions", entries: scalar::functions::ENTRIES },
    Family { name: "activations", entries: scalar::activation::ENTRIES },
    Family { name: "comparisons", entries: compare::ENTRIES },
    Family { name: "comparisons of words", entries: compare::WORD_ENTRIES },
    Family { name: "casts", entries: cast::ENTRIES },
    Family { name: "constants", entries: constant::ENTRIES },
    Family { name: "views", entries: view::ENTRIES },
    Family { name: "reductions", entries: reduce::ENTRIES },
    Family { name: "matrix product", entries: matmul::ENTRIES },
    Family { name: "convolution", entries: conv::ENTRIES },
    Family { name: "pooling", entries: pool::ENTRIES },
    Family { name: "normalization of images", entries: image_norm::ENTRIES },
    Family { name: "resizing", entries: resize::ENTRIES },
    Family { name: "gather", entries: gather::ENTRIES },
    Family { name: "pack", entries: pack::ENTRIES },
    Family { name: "random", entries: random::ENTRIES },
    Family { name: "softmax", entries: softmax::ENTRIES },
    Family { name: "normalization", entries: norm::ENTRIES },
    Family { name: "losses", entries: loss::ENTRIES },
];

/// Every operation, in the order of the families.
pub fn ops() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|family| family.entries)
}

/// Every scalar function that some operation of the table uses, by name: what a backend must be able to compile.
pub fn scalar_functions() -> Vec<&'static ScalarFn> {
    let mut found: Vec<&'static ScalarFn> = Vec::new();
    for entry in ops() {
        let graph = crate::graph(wgrad_graph::States::new());
        (entry.sample)(&mut Stream::new(0, 0)).record(&graph);
        for node in graph.nodes().iter() {
            let types: Vec<TensorType> = node.ins.iter().map(|&id| graph.var(id).ty()).collect();
            if let Lowered::Map(expr) = node.op.lower(&types, &node.ty) {
                collect(&expr, &mut found);
            }
        }
    }
    found.sort_by_key(|f| f.name);
    // By address, so that two functions of one name stay two, which a test can see.
    found.dedup_by(|a, b| std::ptr::eq(*a, *b));
    found
}

fn collect(expr: &Expr, found: &mut Vec<&'static ScalarFn>) {
    if let Expr::Call(function, args) = expr {
        found.push(function);
        args.iter().for_each(|arg| collect(arg, found));
    }
}

impl Refused {
    /// A use that must be refused with a message that contains `why`.
    pub fn new(
        inputs: Vec<TensorType>,
        why: &'static str,
        build: impl for<'g> Fn(&'g Graph, &[Var<'g>]) -> Var<'g> + 'static,
    ) -> Self {
        Self { inputs, why, build: Box::new(build) }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
