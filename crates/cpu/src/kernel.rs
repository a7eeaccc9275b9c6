//! Execution of a plan: division into blocks of rows, stages and threads.
//!
//! Blocks are independent of each other, so the number of blocks per task may depend on the number of threads. Chunks
//! of columns are not independent. If a kernel has few and very long rows, each chunk of a row is reduced separately,
//! and the results of the chunks are merged in order. The length of a chunk therefore depends only on the kernel.

use std::ops::Range;

use rayon::prelude::*;
use wgrad_stdx::InternalError;

use crate::float::Float;
use crate::memory::{Memory, Tensor, with_scratch};
use crate::pass::{Frame, Pass};
use crate::plan::{Location, Mode, Plan, Stage};
use crate::reduce::Accumulator;

/// Kernels with less work than this, in approximate nanoseconds, run on one thread: waking other threads costs more
/// time than it saves.
const MIN_PARALLEL_NS: f64 = 40_000.0;
/// Maximum number of tasks per thread. With several tasks per thread, the load is balanced better.
const TASKS_PER_THREAD: usize = 4;

/// Error in the compilation of a kernel.
pub(crate) enum KernelError {
    /// An allocation of this many bytes failed.
    OutOfMemory(usize),
    Internal(InternalError),
}

impl From<InternalError> for KernelError {
    fn from(error: InternalError) -> Self {
        KernelError::Internal(error)
    }
}

/// A plan with the memory for its accumulators.
pub(crate) struct LoopKernel<T> {
    plan: Plan<T>,
    /// Accumulators of each pair of block and chunk, if there is more than one chunk.
    partials: Memory,
}

impl<T: Float> LoopKernel<T> {
    /// Allocates the memory for the accumulators of a plan.
    pub fn new(plan: Plan<T>) -> Result<Self, KernelError> {
        let parts = if plan.chunks() > 1 { plan.blocks() * plan.chunks() } else { 0 };
        let bytes = parts * plan.reductions.len() * Accumulator::<T>::bytes(plan.tiling.block);
        let partials = Memory::zeroed(bytes).ok_or(KernelError::OutOfMemory(bytes))?;
        Ok(Self { plan, partials })
    }

    /// Whether several threads share the work of one run.
    pub fn is_shared(&self) -> bool {
        self.plan.work >= MIN_PARALLEL_NS && self.plan.blocks() * self.plan.chunks() > 1
    }

    /// Runs all stages of the kernel.
    ///
    /// # Safety
    /// The operands have been checked against the loop that the plan was compiled from, and nothing else uses them.
    pub unsafe fn run(&mut self, tensors: &[Tensor]) {
        let run = Run { plan: &self.plan, tensors, partials: Partials { start: self.partials.start() } };
        let (blocks, chunks, stages) = (self.plan.blocks(), self.plan.chunks(), self.plan.stages.len());
        if blocks == 0 {
            return;
        }
        if chunks == 1 {
            return run.run_tasks(blocks, |task, block| {
                for stage in 0..stages {
                    task.run_stage(stage, block, 0);
                }
            });
        }
        for stage in 0..stages {
            if stage > 0 {
                (0..blocks).for_each(|block| run.merge_chunks(stage - 1, block));
            }
            // A stage that only writes row values has one part per block. It writes them after all reads of the
            // previous content.
            let parts = if self.plan.stages[stage].has_elements() { chunks } else { 1 };
            run.run_tasks(blocks * parts, |task, part| task.run_stage(stage, part / parts, part % parts));
        }
    }
}

#[derive(Clone, Copy)]
struct Partials {
    start: *mut u8,
}

// SAFETY: only the address is shared; every (block, chunk) has its own accumulators.
unsafe impl Sync for Partials {}

struct Run<'a, T> {
    plan: &'a Plan<T>,
    tensors: &'a [Tensor],
    partials: Partials,
}

impl<T: Float> Run<'_, T> {
    /// Calls `work` for every number below `count`. The numbers are divided into tasks, and each task computes the
    /// hoisted values once.
    fn run_tasks(&self, count: usize, work: impl Fn(&Task<'_, T>, usize) + Sync) {
        let task = |numbers: Range<usize>| {
            with_scratch(Frame::bytes(self.plan), |scratch| {
                let task = Task { run: self, frame: Frame::new(scratch, self.plan) };
                task.compute_hoisted();
                numbers.for_each(|number| work(&task, number));
            });
        };
        if count == 1 || self.plan.work < MIN_PARALLEL_NS || rayon::current_num_threads() == 1 {
            return task(0..count);
        }
        let tasks = count.min(rayon::current_num_threads() * TASKS_PER_THREAD);
        (0..tasks).into_par_iter().for_each(|i| task(i * count / tasks..(i + 1) * count / tasks));
    }

    fn rows(&self, block: usize) -> Range<usize> {
        let first = block * self.plan.tiling.block;
        first..self.plan.rows.min(first + self.plan.tiling.block)
    }

    fn columns(&self, chunk: usize) -> Range<usize> {
        let first = chunk * self.plan.tiling.chunk;
        first..self.plan.columns.min(first + self.plan.tiling.chunk)
    }

    /// Returns the address of the accumulator of a reduction for one block and one chunk.
    fn partial(&self, reduction: usize, block: usize, chunk: usize) -> *mut u8 {
        let number = (block * self.plan.chunks() + chunk) * self.plan.reductions.len() + reduction;
        self.partials.start.wrapping_add(number * Accumulator::<T>::bytes(self.plan.tiling.block))
    }

    /// Returns the accumulator of a reduction for one block and one chunk.
    ///
    /// # Safety
    /// No other accumulator for the same reduction, block and chunk is alive.
    unsafe fn accumulator(&self, reduction: usize, block: usize, chunk: usize) -> Accumulator<'_, T> {
        let at = self.partial(reduction, block, chunk);
        // SAFETY: `LoopKernel::new` allocated memory for every accumulator; the caller guarantees that this one is
        // unused.
        unsafe { Accumulator::at(at, self.rows(block).len(), self.plan.reductions[reduction]) }
    }

    /// Merges the accumulators of all chunks of a stage into the accumulator of the first chunk.
    fn merge_chunks(&self, stage: usize, block: usize) {
        for input in &self.plan.stages[stage].reduction_inputs {
            // SAFETY: no task is running, and the chunks differ.
            unsafe {
                let mut first = self.accumulator(input.reduction, block, 0);
                for chunk in 1..self.plan.chunks() {
                    first.merge(&self.accumulator(input.reduction, block, chunk));
                }
            }
        }
    }
}

/// A unit of work of one thread: a range of blocks or of chunks. Each task has its own registers.
struct Task<'a, T> {
    run: &'a Run<'a, T>,
    frame: Frame,
}

impl<T: Float> Task<'_, T> {
    fn pass(&self, mode: Mode, start: usize, len: usize, fixed: usize) -> Pass<'_> {
        let Run { plan, tensors, .. } = *self.run;
        Pass { frame: self.frame, tensors, addresses: &plan.addresses, mode, start, len, fixed, kept: 0 }
    }

    /// Computes the uniform values in one lane and copies them to all lanes of their registers, then computes the
    /// values that are equal in every block.
    fn compute_hoisted(&self) {
        let plan = self.run.plan;
        let one = self.pass(Mode::Rows, 0, 1, 0);
        // SAFETY: the caller of `LoopKernel::run` guarantees valid tensors; the registers belong to this task.
        unsafe { one.run(&plan.uniform) };
        let all = self.pass(Mode::Rows, 0, plan.tiling.block.max(plan.tiling.lanes), 0);
        for (i, &is_u32) in plan.uniform_is_u32.iter().enumerate() {
            let splat = crate::plan::Splat { from: Location::Uniform(i), to: Location::Uniform(i), is_u32 };
            // SAFETY: the registers belong to this task and have at least this many lanes.
            unsafe { all.splat::<T>(&[splat], &one, 0) };
        }
        let block = self.pass(Mode::Rows, 0, plan.tiling.block.min(plan.rows), 0);
        // SAFETY: the caller of `LoopKernel::run` guarantees valid tensors; every block starts at the same point of the
        // period.
        unsafe { block.run(&plan.periodic) };
    }

    /// Runs one stage for the rows of one block and the columns of one chunk.
    fn run_stage(&self, number: usize, block: usize, chunk: usize) {
        let Run { plan, .. } = *self.run;
        let stage = &plan.stages[number];
        let (rows, columns) = (self.run.rows(block), self.run.columns(chunk));
        let row_pass = self.pass(Mode::Rows, rows.start, rows.len(), 0);
        let whole = plan.chunks() == 1;
        // SAFETY: the caller of `LoopKernel::run` guarantees valid tensors, and the registers belong to this task. The
        // accumulators belong to this task, or to this block and chunk. Merged accumulators of chunk 0 are only read,
        // by stages that do not reduce into them.
        unsafe {
            if !whole {
                self.fetch_results(number, block);
            }
            row_pass.run(&stage.row);
            row_pass.write::<T>(&stage.row_writes);
            if !stage.has_elements() {
                return;
            }
            for input in &stage.reduction_inputs {
                self.accumulator(input.reduction, block, chunk).reset();
            }
            match plan.tiling.mode {
                Mode::Rows => self.along_rows(stage, &row_pass, block, chunk, columns),
                Mode::Columns => self.along_columns(stage, &row_pass, block, chunk, columns),
            }
            for input in stage.reduction_inputs.iter().filter(|_| whole) {
                self.read_result(input.reduction, self.frame.accumulator(input.reduction), block);
            }
        }
    }

    /// Returns the accumulator of a reduction. It is in the task's own memory if there is one chunk, and in the
    /// kernel's memory otherwise.
    ///
    /// # Safety
    /// No other accumulator for the same reduction, block and chunk is in use.
    unsafe fn accumulator(&self, reduction: usize, block: usize, chunk: usize) -> Accumulator<'_, T> {
        // SAFETY: the caller guarantees that this accumulator is unused; its memory has room for the rows of the block.
        unsafe {
            if self.run.plan.chunks() > 1 {
                return self.run.accumulator(reduction, block, chunk);
            }
            let rows = self.run.rows(block).len();
            Accumulator::at(self.frame.accumulator(reduction), rows, self.run.plan.reductions[reduction])
        }
    }

    /// Copies the merged reduction results of earlier stages to registers.
    ///
    /// # Safety
    /// No task writes the accumulators of earlier stages.
    unsafe fn fetch_results(&self, stage: usize, block: usize) {
        for input in self.run.plan.stages[..stage].iter().flat_map(|stage| &stage.reduction_inputs) {
            // SAFETY: the caller guarantees that nothing writes these accumulators.
            unsafe { self.read_result(input.reduction, self.run.partial(input.reduction, block, 0), block) };
        }
    }

    /// Copies the result of a reduction to its register.
    ///
    /// # Safety
    /// `from` points to an accumulator of this reduction and block, which nothing writes.
    unsafe fn read_result(&self, reduction: usize, from: *const u8, block: usize) {
        let to = self.frame.register(Location::Result(reduction));
        // SAFETY: the caller guarantees a valid accumulator; the register belongs to this task.
        unsafe {
            Accumulator::<T>::read(from, self.run.rows(block).len(), self.run.plan.reductions[reduction], to)
        };
    }

    /// Runs a stage with lanes along the rows: processes all rows of the block at once, one column after the other.
    ///
    /// # Safety
    /// As in `run_stage`: valid tensors, and accumulators that no other task uses.
    unsafe fn along_rows(
        &self,
        stage: &Stage<T>,
        rows: &Pass<'_>,
        block: usize,
        chunk: usize,
        columns: Range<usize>,
    ) {
        for (nth, column) in columns.clone().enumerate() {
            let pass = Pass { fixed: column, kept: column * self.run.plan.tiling.block, ..*rows };
            // SAFETY: the caller guarantees valid tensors and exclusive accumulators.
            unsafe {
                pass.run(&stage.element);
                for input in &stage.reduction_inputs {
                    let values = pass.values(input.from);
                    self.accumulator(input.reduction, block, chunk).add_column(values, column, nth);
                }
                pass.write::<T>(&stage.element_writes);
            }
        }
        for input in &stage.reduction_inputs {
            // SAFETY: the caller guarantees exclusive accumulators.
            unsafe { self.accumulator(input.reduction, block, chunk).flush() };
        }
    }

    /// Runs a stage with lanes along the columns: processes a slice of columns of one row at once, one row after the
    /// other.
    ///
    /// # Safety
    /// As in `run_stage`: valid tensors, and accumulators that no other task uses.
    unsafe fn along_columns(
        &self,
        stage: &Stage<T>,
        rows: &Pass<'_>,
        block: usize,
        chunk: usize,
        columns: Range<usize>,
    ) {
        let lanes = self.run.plan.tiling.lanes;
        for row in 0..rows.len {
            let first = self.pass(Mode::Columns, columns.start, lanes.min(columns.len()), rows.start + row);
            // SAFETY: the registers belong to this task, and `row` is a row of the block.
            unsafe { first.splat::<T>(&stage.splats, rows, row) };
            for start in columns.clone().step_by(lanes) {
                let kept = row * self.run.plan.columns + start;
                let pass = Pass { start, len: lanes.min(columns.end - start), kept, ..first };
                // SAFETY: the caller guarantees valid tensors and exclusive accumulators.
                unsafe {
                    pass.run(&stage.element);
                    for input in &stage.reduction_inputs {
                        let values = pass.values(input.from);
                        self.accumulator(input.reduction, block, chunk).add_row(row, values, start);
                    }
                    pass.write::<T>(&stage.element_writes);
                }
            }
        }
    }
}
