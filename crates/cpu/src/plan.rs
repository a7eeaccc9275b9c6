//! A compiled loop kernel: straight-line code over registers. There is one stage for each level of nested reductions,
//! and up to two stages for the stores. A plan is plain data, created by [`crate::compile`] and executed by
//! [`crate::kernel`].
//!
//! A kernel works on *blocks* of rows. Each stage first runs `row` code over the rows of the block, for values that are
//! equal in all columns. Then it runs `element` code for every element, with lanes along one of two directions
//! ([`Mode`]).

use wgrad_graph::{Call, Combine};

use crate::address::Address;

/// Direction of the lanes of element code in the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The lanes are the rows of a block, and columns are processed one after the other. Used for short rows and for
    /// sums over the columns of a matrix.
    Rows,
    /// The lanes are a slice of columns, and rows are processed one after the other. Used for long contiguous rows.
    Columns,
}

/// Location of a value during the execution of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// A value that is constant over the whole domain, repeated in all lanes of a register. Computed once per task.
    Uniform(usize),
    /// One value per row of a block, equal in every block. Computed once per task.
    Periodic(usize),
    /// One value per row of the block, computed by row code.
    Row(usize),
    /// One value per row of the block: the result of a reduction.
    Result(usize),
    /// One value per lane, computed by element code.
    Element(usize),
    /// One value per element of the block, kept for a later stage.
    Kept(usize),
    /// Directly in an operand, without a register. The number identifies an address, which has stride 1 along the
    /// lanes.
    Direct(usize),
}

/// One operation on all lanes of its registers.
#[derive(Clone)]
pub(crate) enum VectorOp<T> {
    Float(T, Location),
    U32(u32, Location),
    /// Loads the elements at an address and converts them from the stored type.
    Load {
        address: usize,
        to: Location,
    },
    /// Computes the offset of an address as a value.
    Iota {
        address: usize,
        to: Location,
    },
    Gather {
        address: usize,
        index: Location,
        stride: isize,
        bound: usize,
        to: Location,
    },
    Call {
        call: Call<T>,
        args: [Location; 5],
        to: Location,
    },
}

/// A register to be written to an operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    pub from: Location,
    pub address: usize,
}

/// A row value to be copied to all lanes of an element register, once per row. Used only in [`Mode::Columns`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Splat {
    pub from: Location,
    pub to: Location,
    pub is_u32: bool,
}

/// A register whose values are accumulated by a reduction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReductionInput {
    pub reduction: usize,
    pub from: Location,
}

/// Code of one stage, which makes one pass over the columns.
#[derive(Clone)]
pub(crate) struct Stage<T> {
    pub row: Vec<VectorOp<T>>,
    pub row_writes: Vec<Write>,
    pub splats: Vec<Splat>,
    pub element: Vec<VectorOp<T>>,
    pub reduction_inputs: Vec<ReductionInput>,
    pub element_writes: Vec<Write>,
}

impl<T> Stage<T> {
    /// Whether the stage has code, reductions or writes for each element.
    pub fn has_elements(&self) -> bool {
        !self.reduction_inputs.is_empty() || !self.element_writes.is_empty() || !self.element.is_empty()
    }
}

/// Number of registers of each kind in a plan.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Registers {
    pub uniform: usize,
    pub periodic: usize,
    pub row: usize,
    pub element: usize,
    pub kept: usize,
}

/// Division of the domain into blocks and chunks. It depends only on the kernel, so the results do not depend on the
/// number of threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiling {
    pub mode: Mode,
    /// Rows per block.
    pub block: usize,
    /// Lanes of an element register.
    pub lanes: usize,
    /// Columns per chunk; all columns unless the kernel has few and very long rows.
    pub chunk: usize,
}

/// A compiled loop kernel.
#[derive(Clone)]
pub(crate) struct Plan<T> {
    pub rows: usize,
    pub columns: usize,
    pub tiling: Tiling,
    pub addresses: Vec<Address>,
    pub reductions: Vec<Combine>,
    /// Code that runs once per task, for a single lane.
    pub uniform: Vec<VectorOp<T>>,
    /// For each uniform register, whether it holds a u32.
    pub uniform_is_u32: Vec<bool>,
    /// Code that runs once per task, for the rows of a block.
    pub periodic: Vec<VectorOp<T>>,
    pub stages: Vec<Stage<T>>,
    pub registers: Registers,
    /// Approximate nanoseconds of a complete run on one core.
    pub work: f64,
}

impl<T> Plan<T> {
    pub fn blocks(&self) -> usize {
        self.rows.div_ceil(self.tiling.block.max(1))
    }

    pub fn chunks(&self) -> usize {
        self.columns.div_ceil(self.tiling.chunk.max(1)).max(1)
    }
}
