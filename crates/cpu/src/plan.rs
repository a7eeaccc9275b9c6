//! A loop kernel ready to run: straight-line code over registers, a stage for each level of reductions and one for the
//! stores. Plain data; [`crate::compile`] makes it, [`crate::kernel`] runs it.
//!
//! A kernel works on *blocks* of rows. In each stage it first runs `row` code over the rows of the block: what is the same
//! for all columns. Then it runs `element` code for every element, with lanes along one of two directions ([`Mode`]).

use wgrad_graph::{Call, Combine};

use crate::address::Address;

/// Which way the lanes of element code run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A block of rows at one column after the other: short rows, and sums down the columns of a matrix.
    Rows,
    /// A block of columns of one row after the other: long rows that lie contiguous.
    Columns,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The same everywhere, repeated over a register. Computed once a task.
    Uniform(usize),
    /// One value a row of a block, the same in every block. Computed once a task.
    Periodic(usize),
    /// One value a row of the block, from row code.
    Row(usize),
    /// One value a row of the block: the result of a reduction.
    Result(usize),
    /// One value a lane, from element code.
    Element(usize),
    /// One value for each element of the block, kept for a later stage.
    Kept(usize),
    /// In the operand itself: the address has this number and stride 1 along the lanes.
    Direct(usize),
}

/// One vector instruction.
#[derive(Clone)]
pub(crate) enum Step<T> {
    Float(T, Place),
    Word(u32, Place),
    /// The elements at an address, converted from what the operand stores.
    Load {
        address: usize,
        to: Place,
    },
    /// The offset of the address itself.
    Iota {
        address: usize,
        to: Place,
    },
    Gather {
        address: usize,
        index: Place,
        stride: isize,
        bound: usize,
        to: Place,
    },
    Call {
        call: Call<T>,
        args: [Place; 5],
        to: Place,
    },
}

/// A register written to an operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    pub from: Place,
    pub address: usize,
}

/// A row value repeated over a register of element lanes, once a row. Only in [`Mode::Columns`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Splat {
    pub from: Place,
    pub to: Place,
    pub word: bool,
}

/// A register taken by a reduction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take {
    pub reduction: usize,
    pub from: Place,
}

/// One pass over the columns.
#[derive(Clone)]
pub(crate) struct Stage<T> {
    pub row: Vec<Step<T>>,
    pub row_writes: Vec<Write>,
    pub splats: Vec<Splat>,
    pub element: Vec<Step<T>>,
    pub takes: Vec<Take>,
    pub element_writes: Vec<Write>,
}

impl<T> Stage<T> {
    /// True when there is something to do for each element.
    pub fn has_elements(&self) -> bool {
        !self.takes.is_empty() || !self.element_writes.is_empty() || !self.element.is_empty()
    }
}

/// Numbers of registers of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Registers {
    pub uniform: usize,
    pub periodic: usize,
    pub row: usize,
    pub element: usize,
    pub kept: usize,
}

/// How the domain is cut. Depends on the kernel alone, so that the bits of a result do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub mode: Mode,
    /// Rows of a block.
    pub block: usize,
    /// Lanes of a register of element code.
    pub lanes: usize,
    /// Columns of a chunk; all of them unless rows are few and huge.
    pub chunk: usize,
}

/// A compiled loop.
#[derive(Clone)]
pub(crate) struct Plan<T> {
    pub rows: usize,
    pub columns: usize,
    pub cut: Cut,
    pub addresses: Vec<Address>,
    pub reductions: Vec<Combine>,
    /// Code run once a task, for one lane.
    pub uniform: Vec<Step<T>>,
    /// For each uniform register whether it is a word.
    pub uniform_words: Vec<bool>,
    /// Code run once a task, for the rows of a block.
    pub periodic: Vec<Step<T>>,
    pub stages: Vec<Stage<T>>,
    pub registers: Registers,
    /// Rough nanoseconds of a run on one core.
    pub work: f64,
}

impl<T> Plan<T> {
    pub fn blocks(&self) -> usize {
        self.rows.div_ceil(self.cut.block.max(1))
    }

    pub fn chunks(&self) -> usize {
        self.columns.div_ceil(self.cut.chunk.max(1)).max(1)
    }
}
