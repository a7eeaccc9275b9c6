//! Runs a plan: blocks of rows, stages, threads.
//!
//! Blocks are independent, so how many of them one task takes may depend on the number of threads. Chunks of columns are
//! not: where a kernel has few and huge rows, each chunk is reduced on its own and the results are merged in order, and
//! how long a chunk is depends on the kernel alone.

use std::ops::Range;

use rayon::prelude::*;

use crate::float::Float;
use crate::memory::{Memory, Tensor, with_scratch};
use crate::pass::{Frame, Pass};
use crate::plan::{Mode, Place, Plan, Stage};
use crate::reduce::Accumulator;

/// Work in nanoseconds, roughly, below which waking other threads costs more than they save.
const INLINE: f64 = 40_000.0;
/// Tasks for each thread, so that a slow one does not hold up the rest.
const TASKS: usize = 4;

/// A plan with the memory that it needs from one run to the next.
pub(crate) struct LoopKernel<T> {
    plan: Plan<T>,
    /// Accumulators of each (block, chunk), where there is more than one chunk.
    partial: Memory,
}

impl<T: Float> LoopKernel<T> {
    /// `None` where memory is short.
    pub fn new(plan: Plan<T>) -> Option<Self> {
        let parts = if plan.chunks() > 1 { plan.blocks() * plan.chunks() } else { 0 };
        let partial =
            Memory::zeroed(parts * plan.reductions.len() * Accumulator::<T>::bytes(plan.cut.block))?;
        Some(Self { plan, partial })
    }

    /// Whether threads share the work of a run.
    pub fn is_shared(&self) -> bool {
        self.plan.work >= INLINE && self.plan.blocks() * self.plan.chunks() > 1
    }

    /// # Safety
    /// The operands have been checked against the loop that the plan was compiled from, and nothing else uses them.
    pub unsafe fn run(&mut self, tensors: &[Tensor]) {
        let run = Run { plan: &self.plan, tensors, partial: Partial { start: self.partial.start() } };
        let (blocks, chunks, stages) = (self.plan.blocks(), self.plan.chunks(), self.plan.stages.len());
        if blocks == 0 {
            return;
        }
        if chunks == 1 {
            return run.tasks(blocks, |task, block| {
                for stage in 0..stages {
                    task.stage(stage, block, 0);
                }
            });
        }
        for stage in 0..stages {
            if stage > 0 {
                (0..blocks).for_each(|block| run.merge(stage - 1, block));
            }
            // What is written once a row is written by one task, after all that reads what was there before.
            let parts = if self.plan.stages[stage].has_elements() { chunks } else { 1 };
            run.tasks(blocks * parts, |task, part| task.stage(stage, part / parts, part % parts));
        }
    }
}

#[derive(Clone, Copy)]
struct Partial {
    start: *mut u8,
}

// SAFETY: an address; every (block, chunk) has a part of its own.
unsafe impl Sync for Partial {}

struct Run<'a, T> {
    plan: &'a Plan<T>,
    tensors: &'a [Tensor],
    partial: Partial,
}

impl<T: Float> Run<'_, T> {
    /// Calls `work` for every number below `count`, in tasks that each compute the uniform values once.
    fn tasks(&self, count: usize, work: impl Fn(&Task<'_, T>, usize) + Sync) {
        let task = |numbers: Range<usize>| {
            with_scratch(Frame::bytes(self.plan), |scratch| {
                let task = Task { run: self, frame: Frame::new(scratch, self.plan) };
                task.uniform();
                numbers.for_each(|number| work(&task, number));
            });
        };
        if count == 1 || self.plan.work < INLINE || rayon::current_num_threads() == 1 {
            return task(0..count);
        }
        let tasks = count.min(rayon::current_num_threads() * TASKS);
        (0..tasks).into_par_iter().for_each(|i| task(i * count / tasks..(i + 1) * count / tasks));
    }

    fn rows(&self, block: usize) -> Range<usize> {
        let first = block * self.plan.cut.block;
        first..self.plan.rows.min(first + self.plan.cut.block)
    }

    fn columns(&self, chunk: usize) -> Range<usize> {
        let first = chunk * self.plan.cut.chunk;
        first..self.plan.columns.min(first + self.plan.cut.chunk)
    }

    /// Memory of the accumulator of a reduction for one block and one chunk.
    fn partial(&self, reduction: usize, block: usize, chunk: usize) -> *mut u8 {
        let number = (block * self.plan.chunks() + chunk) * self.plan.reductions.len() + reduction;
        self.partial.start.wrapping_add(number * Accumulator::<T>::bytes(self.plan.cut.block))
    }

    /// The accumulator of a reduction for one block and one chunk.
    ///
    /// # Safety
    /// No other one for the same three is alive.
    unsafe fn accumulator(&self, reduction: usize, block: usize, chunk: usize) -> Accumulator<'_, T> {
        let at = self.partial(reduction, block, chunk);
        // SAFETY: `LoopKernel::new` made room for every one; the caller vouches for the rest.
        unsafe { Accumulator::at(at, self.rows(block).len(), self.plan.reductions[reduction]) }
    }

    /// Merges what the chunks gathered in a stage into that of the first.
    fn merge(&self, stage: usize, block: usize) {
        for take in &self.plan.stages[stage].takes {
            // SAFETY: no task is running, and the chunks differ.
            unsafe {
                let mut first = self.accumulator(take.reduction, block, 0);
                for chunk in 1..self.plan.chunks() {
                    first.merge(&self.accumulator(take.reduction, block, chunk));
                }
            }
        }
    }
}

/// What one thread does: some blocks, with registers of its own.
struct Task<'a, T> {
    run: &'a Run<'a, T>,
    frame: Frame,
}

impl<T: Float> Task<'_, T> {
    fn pass(&self, mode: Mode, start: usize, len: usize, fixed: usize) -> Pass<'_> {
        let Run { plan, tensors, .. } = *self.run;
        Pass { frame: self.frame, tensors, addresses: &plan.addresses, mode, start, len, fixed, kept: 0 }
    }

    /// Computes the uniform values in one lane and repeats them over their registers, and then those that are the same in
    /// every block.
    fn uniform(&self) {
        let plan = self.run.plan;
        let one = self.pass(Mode::Rows, 0, 1, 0);
        // SAFETY: the caller of `LoopKernel::run` vouches for the tensors; the registers are this task's.
        unsafe { one.run(&plan.uniform) };
        let all = self.pass(Mode::Rows, 0, plan.cut.block.max(plan.cut.lanes), 0);
        for (i, &word) in plan.uniform_words.iter().enumerate() {
            let splat = crate::plan::Splat { from: Place::Uniform(i), to: Place::Uniform(i), word };
            // SAFETY: as above.
            unsafe { all.splat::<T>(&[splat], &one, 0) };
        }
        let block = self.pass(Mode::Rows, 0, plan.cut.block.min(plan.rows), 0);
        // SAFETY: as above; every block begins where the first does in the period.
        unsafe { block.run(&plan.periodic) };
    }

    /// One stage for the rows of a block and the columns of a chunk.
    fn stage(&self, number: usize, block: usize, chunk: usize) {
        let Run { plan, .. } = *self.run;
        let stage = &plan.stages[number];
        let (rows, columns) = (self.run.rows(block), self.run.columns(chunk));
        let row_pass = self.pass(Mode::Rows, rows.start, rows.len(), 0);
        let whole = plan.chunks() == 1;
        // SAFETY: as in `uniform`; the accumulators are this task's, or of this block and chunk alone. Merged ones of
        // chunk 0 are only read, by every chunk, in stages that do not reduce into them.
        unsafe {
            if !whole {
                self.fetch_results(number, block);
            }
            row_pass.run(&stage.row);
            row_pass.write::<T>(&stage.row_writes);
            if !stage.has_elements() {
                return;
            }
            for take in &stage.takes {
                self.accumulator(take.reduction, block, chunk).reset();
            }
            match plan.cut.mode {
                Mode::Rows => self.along_rows(stage, &row_pass, block, chunk, columns),
                Mode::Columns => self.along_columns(stage, &row_pass, block, chunk, columns),
            }
            for take in stage.takes.iter().filter(|_| whole) {
                self.result(take.reduction, self.frame.accumulator(take.reduction), block);
            }
        }
    }

    /// # Safety
    /// See [`Task::stage`].
    unsafe fn accumulator(&self, reduction: usize, block: usize, chunk: usize) -> Accumulator<'_, T> {
        // SAFETY: passed on to the caller.
        unsafe {
            if self.run.plan.chunks() > 1 {
                return self.run.accumulator(reduction, block, chunk);
            }
            let rows = self.run.rows(block).len();
            Accumulator::at(self.frame.accumulator(reduction), rows, self.run.plan.reductions[reduction])
        }
    }

    /// Brings the results of earlier stages into registers, when they were merged from chunks.
    ///
    /// # Safety
    /// See [`Task::stage`].
    unsafe fn fetch_results(&self, stage: usize, block: usize) {
        for take in self.run.plan.stages[..stage].iter().flat_map(|stage| &stage.takes) {
            // SAFETY: passed on to the caller.
            unsafe { self.result(take.reduction, self.run.partial(take.reduction, block, 0), block) };
        }
    }

    /// # Safety
    /// See [`Task::stage`]; `from` leads to an accumulator of this reduction and block.
    unsafe fn result(&self, reduction: usize, from: *const u8, block: usize) {
        let to = self.frame.register(Place::Result(reduction));
        // SAFETY: passed on to the caller.
        unsafe {
            Accumulator::<T>::read(from, self.run.rows(block).len(), self.run.plan.reductions[reduction], to)
        };
    }

    /// Every row of the block at once, one column after the other.
    ///
    /// # Safety
    /// See [`Task::stage`].
    unsafe fn along_rows(
        &self,
        stage: &Stage<T>,
        rows: &Pass<'_>,
        block: usize,
        chunk: usize,
        columns: Range<usize>,
    ) {
        for (nth, column) in columns.clone().enumerate() {
            let pass = Pass { fixed: column, kept: column * self.run.plan.cut.block, ..*rows };
            // SAFETY: passed on to the caller.
            unsafe {
                pass.run(&stage.element);
                for take in &stage.takes {
                    let values = pass.values(take.from);
                    self.accumulator(take.reduction, block, chunk).take_column(values, column, nth);
                }
                pass.write::<T>(&stage.element_writes);
            }
        }
        for take in &stage.takes {
            // SAFETY: passed on to the caller.
            unsafe { self.accumulator(take.reduction, block, chunk).flush() };
        }
    }

    /// Some columns of a row at once, one row after the other.
    ///
    /// # Safety
    /// See [`Task::stage`].
    unsafe fn along_columns(
        &self,
        stage: &Stage<T>,
        rows: &Pass<'_>,
        block: usize,
        chunk: usize,
        columns: Range<usize>,
    ) {
        let lanes = self.run.plan.cut.lanes;
        for row in 0..rows.len {
            let first = self.pass(Mode::Columns, columns.start, lanes.min(columns.len()), rows.start + row);
            // SAFETY: passed on to the caller.
            unsafe { first.splat::<T>(&stage.splats, rows, row) };
            for start in columns.clone().step_by(lanes) {
                let kept = row * self.run.plan.columns + start;
                let pass = Pass { start, len: lanes.min(columns.end - start), kept, ..first };
                // SAFETY: passed on to the caller.
                unsafe {
                    pass.run(&stage.element);
                    for take in &stage.takes {
                        let values = pass.values(take.from);
                        self.accumulator(take.reduction, block, chunk).take_row(row, values, start);
                    }
                    pass.write::<T>(&stage.element_writes);
                }
            }
        }
    }
}
