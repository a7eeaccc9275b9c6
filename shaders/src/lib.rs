//! The WGSL of wgrad, one folder a family, as text.
//!
//! `scalar/` and `random/` hold functions that the expressions of operations call, `lib/` those that generated kernels call. `gemm/` holds templates of matrix products: a generator (in
//! `wgrad-gpu`) puts the constants and functions that a template's head names in front of it, and replaces lines that begin
//! with `//@` by generated statements.

/// How two elements of a reduction combine.
pub const REDUCE: &str = include_str!("../lib/reduce.wgsl");

/// A matrix product with one invocation an element: the reference for the others.
pub const GEMM_NAIVE: &str = include_str!("../gemm/naive.wgsl");

/// A matrix product with a block of elements an invocation and no shared memory.
pub const GEMM_DIRECT: &str = include_str!("../gemm/direct.wgsl");

/// A matrix product whose workgroups share out the sum along k.
pub const GEMM_SPLIT: &str = include_str!("../gemm/split.wgsl");

/// A matrix product with a tile a subgroup, whose lanes hand rows around.
pub const GEMM_SUBGROUP: &str = include_str!("../gemm/subgroup.wgsl");

/// A matrix product by tiles in workgroup memory.
pub const GEMM_TILED: &str = include_str!("../gemm/tiled.wgsl");

/// The error function.
pub const ERF: &str = include_str!("../scalar/erf.wgsl");

/// The exponential, right where it overflows.
pub const EXP: &str = include_str!("../scalar/exp.wgsl");

/// The natural logarithm, right at 0 and below.
pub const LN: &str = include_str!("../scalar/ln.wgsl");

/// Powers, negative bases included.
pub const POW: &str = include_str!("../scalar/pow.wgsl");

/// The logistic function, right for large inputs.
pub const SIGMOID: &str = include_str!("../scalar/sigmoid.wgsl");

/// ln(1 + eˣ), right in both tails.
pub const SOFTPLUS: &str = include_str!("../scalar/softplus.wgsl");

/// The hyperbolic tangent, right for large inputs.
pub const TANH: &str = include_str!("../scalar/tanh.wgsl");

/// Philox4x32-10, the twin of `wgrad_graph::philox`.
pub const PHILOX: &str = include_str!("../random/philox.wgsl");
