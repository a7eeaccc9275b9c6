//! The WGSL of wgrad, one folder a family, as text.
//!
//! `lib/` holds functions that generated kernels call. `gemm/` holds templates of matrix products: a generator (in
//! `wgrad-gpu`) puts the constants and functions that a template's head names in front of it, and replaces lines that begin
//! with `//@` by generated statements.

/// How two elements of a reduction combine.
pub const REDUCE: &str = include_str!("../lib/reduce.wgsl");

/// A matrix product with one invocation an element: the reference for the others.
pub const GEMM_NAIVE: &str = include_str!("../gemm/naive.wgsl");

/// A matrix product with a block of elements an invocation and no shared memory.
pub const GEMM_DIRECT: &str = include_str!("../gemm/direct.wgsl");

/// A matrix product by tiles in workgroup memory.
pub const GEMM_TILED: &str = include_str!("../gemm/tiled.wgsl");
