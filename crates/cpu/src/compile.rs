//! From a loop of the program to a plan: what each value depends on, and how the domain is cut. The code of the stages is
//! emitted by [`crate::emit`].

use wgrad_graph::{Combine, DType, Layout, ScalarFn};
use wgrad_program::{Access, Instr, Loop, ValueId};

use crate::address::{Address, Axis};
use crate::emit::{Code, emit};
use crate::float::Float;
use crate::memory::pitch;
use crate::plan::{Cut, Mode, Plan, Registers};

/// Bytes of registers that stay in a first-level cache.
const CACHE: usize = 32 << 10;
/// Bytes of kept values that stay in a second-level cache.
const KEPT: usize = 192 << 10;
/// Elements of a block or chunk worth a task of their own.
const TASK: usize = 1 << 14;
/// Blocks that a large kernel should have, so that threads have something to share.
const BLOCKS: usize = 8;
/// Longest period of values that are computed once for all blocks.
const PERIOD: usize = 512;
/// Nanoseconds, roughly, to start a step; and for a lane of a call, a load, and a load that jumps.
const STEP: f64 = 8.0;
const CALL: f64 = 0.3;
const LOAD: f64 = 0.1;
const JUMP: f64 = 1.0;

/// What a value depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Uniform,
    /// The same in every block: along the rows it repeats itself, and a block is a whole number of periods.
    Periodic,
    Row,
    Element,
}

/// How a value comes about, with operands resolved.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    Float(f64),
    Word(u32),
    Load(usize),
    Iota(usize),
    Gather { address: usize, index: ValueId, stride: isize, bound: usize },
    Call(&'static ScalarFn, Vec<ValueId>),
    Reduce(usize),
}

impl Form {
    pub fn args(&self) -> &[ValueId] {
        match self {
            Form::Call(_, args) => args,
            Form::Gather { index, .. } => std::slice::from_ref(index),
            _ => &[],
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub form: Form,
    pub level: Level,
    /// First stage in which it can be computed.
    pub stage: usize,
    pub word: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub value: ValueId,
    pub address: usize,
    /// Written for every element, not once a row.
    pub each: bool,
}

/// A loop, looked through.
#[derive(Debug)]
pub(crate) struct Analysis<'a> {
    pub values: Vec<Value>,
    pub addresses: Vec<Address>,
    pub reductions: Vec<(Combine, ValueId)>,
    pub stores: Vec<Stored>,
    pub access: &'a [Access],
    /// For each operand, whether its elements are stored as they are computed, one next to the other.
    plain: Vec<bool>,
    pitches: Vec<usize>,
    outer: usize,
    /// Rows after which every periodic value repeats itself.
    period: usize,
}

/// Compiles a loop that [`crate::check`] has passed. `Instr::Product` has been replaced by a load.
pub(crate) fn compile<T: Float>(kernel: &Loop, dtypes: &[DType], access: &[Access]) -> Plan<T> {
    let (rows, columns) = (kernel.rows(), kernel.columns());
    let analysis = Analysis::of::<T>(kernel, dtypes, access);
    let mode = analysis.mode(rows, columns);
    let room = KEPT / (columns.max(1) * size_of::<T>());
    let least = if mode == Mode::Rows { rows.min(64) } else { 1 };
    let code = emit(&analysis, mode, if columns > TASK { 0 } else { room / least.max(1) });
    let cut = cut::<T>(rows, columns, mode, &code, analysis.period);
    let work = analysis.work(rows, columns, &cut, code.stages.len());
    Plan {
        rows,
        columns,
        cut,
        addresses: analysis.addresses,
        reductions: analysis.reductions.iter().map(|&(combine, _)| combine).collect(),
        uniform: code.uniform,
        uniform_words: code.uniform_words,
        periodic: code.periodic,
        stages: code.stages,
        registers: code.registers,
        work,
    }
}

impl<'a> Analysis<'a> {
    fn of<T: Float>(kernel: &Loop, dtypes: &[DType], access: &'a [Access]) -> Self {
        let pitches: Vec<usize> = dtypes.iter().map(|&dtype| pitch::<T>(dtype)).collect();
        let plain =
            dtypes.iter().zip(&pitches).map(|(&dtype, &pitch)| dtype != DType::F16 && pitch == 1).collect();
        let mut all = Analysis {
            values: Vec::new(),
            addresses: Vec::new(),
            reductions: Vec::new(),
            stores: Vec::new(),
            access,
            plain,
            pitches,
            outer: kernel.outer.len(),
            period: 1,
        };
        for (instr, word) in kernel.body.iter().zip(kernel.is_u32(dtypes)) {
            let (form, level) = all.form(instr, word);
            let stage = match &form {
                Form::Reduce(i) => all.values[all.reductions[*i].1].stage + 1,
                form => form.args().iter().map(|&a| all.values[a].stage).max().unwrap_or(0),
            };
            all.values.push(Value { form, level, stage, word });
        }
        for store in &kernel.stores {
            let each = store.layout.shape.len() > all.outer && kernel.columns() != 1;
            if let Some(address) = all.address(Some(store.operand), &store.layout) {
                all.stores.push(Stored { value: store.value, address, each });
            }
        }
        all
    }

    /// The number of a new address, or `None` when all of it is padding.
    fn address(&mut self, operand: Option<usize>, layout: &Layout) -> Option<usize> {
        let pitch = operand.map_or(1, |operand| self.pitches[operand]);
        self.addresses.push(Address::new(operand.unwrap_or(0), layout, self.outer, pitch)?);
        Some(self.addresses.len() - 1)
    }

    fn form(&mut self, instr: &Instr, word: bool) -> (Form, Level) {
        let zero = if word { Form::Word(0) } else { Form::Float(0.0) };
        match instr {
            Instr::Float(x) => (Form::Float(*x), Level::Uniform),
            Instr::U32(x) => (Form::Word(*x), Level::Uniform),
            Instr::Load { operand, layout } => match self.address(Some(*operand), layout) {
                Some(address) => (Form::Load(address), self.level(address)),
                None => (zero, Level::Uniform),
            },
            Instr::Iota(layout) => match self.address(None, layout) {
                Some(address) => (Form::Iota(address), self.level(address)),
                None => (zero, Level::Uniform),
            },
            Instr::Gather { operand, layout, index, stride, bound } => {
                match self.address(Some(*operand), layout) {
                    Some(address) => {
                        let stride = (stride * self.pitches[*operand]) as isize;
                        let level = self.level(address).max(self.values[*index].level);
                        (Form::Gather { address, index: *index, stride, bound: *bound }, level)
                    }
                    None => (zero, Level::Uniform),
                }
            }
            Instr::Call(f, args) => {
                let level = args.iter().map(|&a| self.values[a].level).max().unwrap_or(Level::Uniform);
                (Form::Call(f, args.clone()), level)
            }
            Instr::Reduce(combine, value) => {
                self.reductions.push((*combine, *value));
                (Form::Reduce(self.reductions.len() - 1), Level::Row)
            }
            // Replaced by a load before a loop comes here.
            Instr::Product => (zero, Level::Uniform),
        }
    }

    /// What an address depends on. Periods are sizes of the innermost dimensions, so that each is a multiple of the shorter.
    fn level(&mut self, address: usize) -> Level {
        let Address { rows, columns, .. } = &self.addresses[address];
        if !columns.is_constant() {
            return Level::Element;
        }
        if rows.is_constant() {
            return Level::Uniform;
        }
        match rows.period() {
            Some(period)
                if period <= PERIOD && period.max(self.period).is_multiple_of(period.min(self.period)) =>
            {
                self.period = self.period.max(period);
                Level::Periodic
            }
            _ => Level::Row,
        }
    }

    /// The axis along which lanes run.
    pub fn lanes(&self, address: usize, mode: Mode) -> &Axis {
        match mode {
            Mode::Rows => &self.addresses[address].rows,
            Mode::Columns => &self.addresses[address].columns,
        }
    }

    /// True when lanes can work on the operand itself: next to each other, whole, and stored as they are computed.
    pub fn is_direct(&self, address: usize, mode: Mode) -> bool {
        let at = &self.addresses[address];
        self.plain[at.operand] && !at.is_padded() && self.lanes(address, mode).stride() == Some(1)
    }

    /// Nanoseconds, roughly, that a value takes for each of `lanes` lanes.
    fn lane_cost(&self, value: &Value, mode: Mode, lanes: usize) -> f64 {
        let access = |address: usize| match self.lanes(address, mode).stride() {
            Some(0 | 1) => LOAD,
            Some(_) => JUMP,
            None => LOAD + STEP / self.lanes(address, mode).run() as f64,
        };
        let work = match &value.form {
            Form::Load(address) => access(*address),
            Form::Gather { address, .. } => JUMP + access(*address),
            Form::Call(f, _) => CALL * f64::from(f.flops.max(1)),
            _ => LOAD,
        };
        work + STEP / lanes.max(1) as f64
    }

    fn element_cost(&self, mode: Mode, lanes: usize) -> f64 {
        let each = self.values.iter().filter(|value| value.level == Level::Element);
        let stores = self.stores.iter().filter(|store| store.each);
        let write = |address: usize| if self.is_direct(address, mode) { LOAD } else { JUMP };
        let written = stores.map(|store| write(store.address) + STEP / lanes as f64);
        let taken = self.reductions.len() as f64 * (CALL + STEP / lanes as f64);
        each.map(|value| self.lane_cost(value, mode, lanes)).sum::<f64>() + written.sum::<f64>() + taken
    }

    /// The cheaper direction. Short rows and rows that do not lie contiguous go along the rows.
    fn mode(&self, rows: usize, columns: usize) -> Mode {
        let lanes = |n: usize| n.clamp(1, 1024);
        let along_rows = self.element_cost(Mode::Rows, lanes(rows));
        let along_columns = self.element_cost(Mode::Columns, lanes(columns));
        if columns <= 1 || along_rows < along_columns { Mode::Rows } else { Mode::Columns }
    }

    /// Nanoseconds, roughly, of a run on one core.
    fn work(&self, rows: usize, columns: usize, cut: &Cut, stages: usize) -> f64 {
        let row = self.values.iter().filter(|value| value.level == Level::Row);
        let row: f64 = row.map(|value| self.lane_cost(value, Mode::Rows, cut.block)).sum();
        let element = self.element_cost(cut.mode, cut.lanes) * stages as f64;
        rows as f64 * (row + self.stores.len() as f64 * LOAD + columns as f64 * element)
    }
}

/// Cuts the domain into blocks whose registers fit a first-level cache and whose kept values fit a second-level one. A
/// block is a multiple of the period, or all rows.
fn cut<T: Float>(rows: usize, columns: usize, mode: Mode, code: &Code<T>, period: usize) -> Cut {
    let cut = cut_blocks(rows, columns, mode, code);
    if cut.block >= rows || cut.block.is_multiple_of(period) {
        return cut;
    }
    let block = (cut.block / period * period).max(period).min(rows);
    let lanes = if cut.lanes == cut.block { block } else { cut.lanes };
    Cut { block, lanes, ..cut }
}

fn cut_blocks<T: Float>(rows: usize, columns: usize, mode: Mode, code: &Code<T>) -> Cut {
    let Registers { uniform, periodic, row, element, .. } = code.registers;
    let registers = uniform + periodic + row + element + 1;
    let lanes = (CACHE / (registers * size_of::<T>())).clamp(128, 1024) / 64 * 64;
    let kept = (KEPT / (code.registers.kept * columns * size_of::<T>()).max(1)).max(1);
    let has_elements = code.stages.iter().any(|stage| stage.has_elements());
    if !has_elements {
        let block = rows.min(lanes).max(1);
        return Cut { mode: Mode::Rows, block, lanes: 1, chunk: columns.max(1) };
    }
    let large = rows.saturating_mul(columns) >= BLOCKS * TASK;
    let reduces_once = code.stages.len() == 2 && !code.stages[1].has_elements();
    match mode {
        Mode::Rows => {
            let mut block = rows.min(lanes).min(kept.max(64)).max(1);
            if large && !reduces_once && rows.div_ceil(block) < BLOCKS {
                block = block.min(rows.div_ceil(BLOCKS).next_multiple_of(16).max(64));
            }
            let blocks = rows.div_ceil(block);
            let splits = large && code.registers.kept == 0 && blocks < BLOCKS;
            let chunk =
                if splits { columns.div_ceil(BLOCKS.div_ceil(blocks)).max(TASK / block) } else { columns };
            Cut { mode, block, lanes: block, chunk: chunk.max(1) }
        }
        Mode::Columns => {
            let few = if large { rows.div_ceil(BLOCKS) } else { rows };
            let block = (TASK / columns.max(1)).clamp(1, 256).min(kept).min(few.max(1));
            let splits = rows.div_ceil(block) < BLOCKS && columns >= 2 * TASK && code.registers.kept == 0;
            let chunk =
                if splits { columns.div_ceil(8 * BLOCKS).next_multiple_of(1024).max(TASK) } else { columns };
            Cut { mode, block, lanes: columns.clamp(1, lanes), chunk: chunk.max(1) }
        }
    }
}
