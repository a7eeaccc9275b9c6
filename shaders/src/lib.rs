//! WGSL sources of wgrad as text.
//!
//! `scalar/` and `random/` hold functions that the expressions of operations call; `lib/` holds functions that
//! generated kernels call. `gemm/` holds templates: the generator in `wgrad-gpu` prepends the constants and functions
//! that the head of a template lists, and replaces lines that begin with `//@` with generated statements.
//!
//! The texts of `gemm/naive.wgsl`, `scalar/` and `random/`, comments included, are hashed into the keys of the GEMM
//! tuning table (`wgrad_gpu::gemm_key`). Any edit of these files invalidates stored tuning tables.

/// Functions that combine two elements in a reduction.
pub const REDUCE: &str = include_str!("../lib/reduce.wgsl");

/// GEMM with one element per invocation: the reference for the other variants.
pub const GEMM_NAIVE: &str = include_str!("../gemm/naive.wgsl");

/// GEMM with one block of elements per invocation, without workgroup memory.
pub const GEMM_DIRECT: &str = include_str!("../gemm/direct.wgsl");

/// GEMM whose workgroups split the sum along k.
pub const GEMM_SPLIT_K: &str = include_str!("../gemm/split_k.wgsl");

/// GEMM with one tile per subgroup. The lanes broadcast elements of A.
pub const GEMM_SUBGROUP: &str = include_str!("../gemm/subgroup.wgsl");

/// GEMM with one tile per workgroup, through workgroup memory.
pub const GEMM_TILED: &str = include_str!("../gemm/tiled.wgsl");

/// Error function erf(x).
pub const ERF: &str = include_str!("../scalar/erf.wgsl");

/// Exponential that overflows to infinity on every driver.
pub const EXP: &str = include_str!("../scalar/exp.wgsl");

/// Natural logarithm with defined results for x ≤ 0 and NaN.
pub const LN: &str = include_str!("../scalar/ln.wgsl");

/// Power function that also supports negative bases.
pub const POW: &str = include_str!("../scalar/pow.wgsl");

/// Logistic function without overflow for large inputs.
pub const SIGMOID: &str = include_str!("../scalar/sigmoid.wgsl");

/// ln(1 + eˣ), accurate in both tails.
pub const SOFTPLUS: &str = include_str!("../scalar/softplus.wgsl");

/// Hyperbolic tangent that saturates for large inputs.
pub const TANH: &str = include_str!("../scalar/tanh.wgsl");

/// Philox4x32-10, with the same results as `wgrad_graph::philox`.
pub const PHILOX: &str = include_str!("../random/philox.wgsl");
