//! Compiles a loop of the program to a plan. The loop is analysed ([`crate::analysis`]), the code of its stages is
//! emitted ([`crate::emit`]), and the size of its blocks is chosen.

use wgrad_graph::DType;
use wgrad_program::{Access, Loop};
use wgrad_stdx::InternalError;

use crate::analysis::Analysis;
use crate::emit::{Code, emit};
use crate::float::Float;
use crate::plan::{Mode, Plan, Registers, Tiling};

/// Maximum total size of the registers of a task in bytes, so that the registers stay in a first-level cache.
const L1_BYTES: usize = 32 << 10;
/// Maximum total size of the kept values of a block in bytes, so that the values stay in a second-level cache.
const L2_KEPT_BYTES: usize = 192 << 10;
/// Minimum number of elements of a block or chunk. Less work is not worth a separate task.
const TASK_ELEMENTS: usize = 1 << 14;
/// Minimum number of blocks of a large kernel, so that threads can share the work.
const MIN_BLOCKS: usize = 8;

/// Compiles a loop that [`crate::check`] has accepted. Each `Instr::Product` must have been replaced by a load.
pub(crate) fn compile<T: Float>(
    kernel: &Loop,
    dtypes: &[DType],
    access: &[Access],
) -> Result<Plan<T>, InternalError> {
    let (rows, columns) = (kernel.rows(), kernel.columns());
    let analysis = Analysis::new::<T>(kernel, dtypes, access)?;
    let mode = analysis.mode(rows, columns);
    let room = L2_KEPT_BYTES / (columns.max(1) * size_of::<T>());
    let least = if mode == Mode::Rows { rows.min(64) } else { 1 };
    let code = emit(&analysis, mode, if columns > TASK_ELEMENTS { 0 } else { room / least.max(1) })?;
    let tiling = tiling::<T>(rows, columns, mode, &code, analysis.period);
    let work = analysis.work(rows, columns, &tiling, code.stages.len());
    Ok(Plan {
        rows,
        columns,
        tiling,
        addresses: analysis.addresses,
        reductions: analysis.reductions.iter().map(|&(combine, _)| combine).collect(),
        uniform: code.uniform,
        uniform_is_u32: code.uniform_is_u32,
        periodic: code.periodic,
        stages: code.stages,
        registers: code.registers,
        work,
    })
}

/// Splits the domain into blocks. The registers of a block fit into a first-level cache, and its kept values fit into
/// a second-level cache. The number of rows of a block is a multiple of `period`, unless one block contains all rows.
fn tiling<T: Float>(rows: usize, columns: usize, mode: Mode, code: &Code<T>, period: usize) -> Tiling {
    let tiling = tile_blocks(rows, columns, mode, code);
    if tiling.block >= rows || tiling.block.is_multiple_of(period) {
        return tiling;
    }
    let block = (tiling.block / period * period).max(period).min(rows);
    let lanes = if tiling.lanes == tiling.block { block } else { tiling.lanes };
    Tiling { block, lanes, ..tiling }
}

fn tile_blocks<T: Float>(rows: usize, columns: usize, mode: Mode, code: &Code<T>) -> Tiling {
    let Registers { uniform, periodic, row, element, .. } = code.registers;
    let registers = uniform + periodic + row + element + 1;
    let lanes = (L1_BYTES / (registers * size_of::<T>())).clamp(128, 1024) / 64 * 64;
    let kept = (L2_KEPT_BYTES / (code.registers.kept * columns * size_of::<T>()).max(1)).max(1);
    let has_elements = code.stages.iter().any(|stage| stage.has_elements());
    if !has_elements {
        let block = rows.min(lanes).max(1);
        return Tiling { mode: Mode::Rows, block, lanes: 1, chunk: columns.max(1) };
    }
    let large = rows.saturating_mul(columns) >= MIN_BLOCKS * TASK_ELEMENTS;
    let reduces_once = code.stages.len() == 2 && !code.stages[1].has_elements();
    match mode {
        Mode::Rows => {
            let mut block = rows.min(lanes).min(kept.max(64)).max(1);
            if large && !reduces_once && rows.div_ceil(block) < MIN_BLOCKS {
                block = block.min(rows.div_ceil(MIN_BLOCKS).next_multiple_of(16).max(64));
            }
            let blocks = rows.div_ceil(block);
            let splits = large && code.registers.kept == 0 && blocks < MIN_BLOCKS;
            let chunk = if splits {
                columns.div_ceil(MIN_BLOCKS.div_ceil(blocks)).max(TASK_ELEMENTS / block)
            } else {
                columns
            };
            Tiling { mode, block, lanes: block, chunk: chunk.max(1) }
        }
        Mode::Columns => {
            let few = if large { rows.div_ceil(MIN_BLOCKS) } else { rows };
            let block = (TASK_ELEMENTS / columns.max(1)).clamp(1, 256).min(kept).min(few.max(1));
            let splits =
                rows.div_ceil(block) < MIN_BLOCKS && columns >= 2 * TASK_ELEMENTS && code.registers.kept == 0;
            let chunk = if splits {
                columns.div_ceil(8 * MIN_BLOCKS).next_multiple_of(1024).max(TASK_ELEMENTS)
            } else {
                columns
            };
            Tiling { mode, block, lanes: columns.clamp(1, lanes), chunk: chunk.max(1) }
        }
    }
}
