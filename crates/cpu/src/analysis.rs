//! Analysis of a loop: which values depend on which other values, the addresses of the operands, and the cost of a
//! run.

use wgrad_graph::{Combine, DType, Layout, ScalarFn};
use wgrad_program::{Access, Instr, Loop, ValueId};
use wgrad_stdx::{InternalError, never};

use crate::address::{Address, Axis};
use crate::float::Float;
use crate::memory::pitch;
use crate::plan::{Mode, Tiling};

/// Maximum period, in rows, of values that are computed once and used for all blocks.
const MAX_PERIOD: usize = 512;
/// Approximate overhead of one vector operation in nanoseconds.
const OP_NS: f64 = 8.0;
/// Approximate nanoseconds per lane and floating-point operation of a call.
const CALL_NS: f64 = 0.3;
/// Approximate nanoseconds per lane of a contiguous load.
const LOAD_NS: f64 = 0.1;
/// Approximate nanoseconds per lane of a strided load.
const STRIDED_LOAD_NS: f64 = 1.0;

/// The part of the domain over which a value varies. Levels are in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Uniform,
    /// Repeats after a fixed number of rows. A block consists of complete periods, so the values are the same in every
    /// block.
    Periodic,
    Row,
    Element,
}

/// Kind of computation of a value. Operands are represented by the numbers of their addresses.
#[derive(Debug, Clone)]
pub(crate) enum ValueKind {
    Float(f64),
    U32(u32),
    Load(usize),
    Iota(usize),
    Gather { address: usize, index: ValueId, stride: isize, bound: usize },
    Call(&'static ScalarFn, Vec<ValueId>),
    Reduce(usize),
}

impl ValueKind {
    pub fn args(&self) -> &[ValueId] {
        match self {
            ValueKind::Call(_, args) => args,
            ValueKind::Gather { index, .. } => std::slice::from_ref(index),
            _ => &[],
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub kind: ValueKind,
    pub level: Level,
    /// First stage in which the value can be computed, because all reductions that it depends on are complete.
    pub stage: usize,
    pub is_u32: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreInfo {
    pub value: ValueId,
    pub address: usize,
    /// Whether the store writes every element; otherwise it writes one value per row.
    pub per_element: bool,
}

/// Results of the analysis of a loop.
#[derive(Debug)]
pub(crate) struct Analysis<'a> {
    pub values: Vec<Value>,
    pub addresses: Vec<Address>,
    pub reductions: Vec<(Combine, ValueId)>,
    pub stores: Vec<StoreInfo>,
    pub access: &'a [Access],
    /// For each operand, whether its elements are stored contiguously, in the type in which the kernel computes.
    stored_as_computed: Vec<bool>,
    pitches: Vec<usize>,
    outer: usize,
    /// Number of rows after which every periodic value repeats.
    pub period: usize,
}

impl<'a> Analysis<'a> {
    pub fn new<T: Float>(
        kernel: &Loop,
        dtypes: &[DType],
        access: &'a [Access],
    ) -> Result<Self, InternalError> {
        let pitches: Vec<usize> = dtypes.iter().map(|&dtype| pitch::<T>(dtype)).collect();
        let stored_as_computed =
            dtypes.iter().zip(&pitches).map(|(&dtype, &pitch)| dtype != DType::F16 && pitch == 1).collect();
        let mut analysis = Analysis {
            values: Vec::new(),
            addresses: Vec::new(),
            reductions: Vec::new(),
            stores: Vec::new(),
            access,
            stored_as_computed,
            pitches,
            outer: kernel.outer.len(),
            period: 1,
        };
        for (instr, is_u32) in kernel.body.iter().zip(kernel.is_u32(dtypes)) {
            let (kind, level) = analysis.value_kind(instr, is_u32)?;
            let stage = match &kind {
                ValueKind::Reduce(i) => analysis.values[analysis.reductions[*i].1].stage + 1,
                kind => kind.args().iter().map(|&a| analysis.values[a].stage).max().unwrap_or(0),
            };
            analysis.values.push(Value { kind, level, stage, is_u32 });
        }
        for store in &kernel.stores {
            let per_element = store.layout.shape.len() > analysis.outer && kernel.columns() != 1;
            let address = analysis.unpadded_address(Some(store.operand), &store.layout)?;
            analysis.stores.push(StoreInfo { value: store.value, address, per_element });
        }
        Ok(analysis)
    }

    /// Adds an address and returns its number in `addresses`. Returns `None` if the layout is all padding.
    fn address(&mut self, operand: Option<usize>, layout: &Layout) -> Option<usize> {
        let pitch = operand.map_or(1, |operand| self.pitches[operand]);
        self.addresses.push(Address::new(operand.unwrap_or(0), layout, self.outer, pitch)?);
        Some(self.addresses.len() - 1)
    }

    /// Adds the address of an unpadded layout and returns its number. [`crate::check`] rejects padding for this
    /// layout.
    fn unpadded_address(&mut self, operand: Option<usize>, layout: &Layout) -> Result<usize, InternalError> {
        self.address(operand, layout).ok_or_else(|| never!("a layout that must be unpadded is all padding"))
    }

    fn value_kind(&mut self, instr: &Instr, is_u32: bool) -> Result<(ValueKind, Level), InternalError> {
        Ok(match instr {
            Instr::Float(x) => (ValueKind::Float(*x), Level::Uniform),
            Instr::U32(x) => (ValueKind::U32(*x), Level::Uniform),
            Instr::Load { operand, layout } => match self.address(Some(*operand), layout) {
                Some(address) => (ValueKind::Load(address), self.level(address)),
                None if is_u32 => (ValueKind::U32(0), Level::Uniform),
                None => (ValueKind::Float(0.0), Level::Uniform),
            },
            Instr::Iota(layout) => {
                let address = self.unpadded_address(None, layout)?;
                (ValueKind::Iota(address), self.level(address))
            }
            Instr::Gather { operand, layout, index, stride, bound } => {
                let address = self.unpadded_address(Some(*operand), layout)?;
                let stride = (stride * self.pitches[*operand]) as isize;
                let level = self.level(address).max(self.values[*index].level);
                (ValueKind::Gather { address, index: *index, stride, bound: *bound }, level)
            }
            Instr::Call(f, args) => {
                let level = args.iter().map(|&a| self.values[a].level).max().unwrap_or(Level::Uniform);
                (ValueKind::Call(f, args.clone()), level)
            }
            Instr::Reduce(combine, value) => {
                self.reductions.push((*combine, *value));
                (ValueKind::Reduce(self.reductions.len() - 1), Level::Row)
            }
            Instr::Product => return Err(never!("the product of an epilogue was not replaced by a load")),
        })
    }

    /// Returns the level of an address. An address is periodic only if its period is a multiple of the longest period
    /// so far, or if the longest period so far is a multiple of its period.
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
                if period <= MAX_PERIOD
                    && period.max(self.period).is_multiple_of(period.min(self.period)) =>
            {
                self.period = self.period.max(period);
                Level::Periodic
            }
            _ => Level::Row,
        }
    }

    /// Returns the axis of an address along which the lanes run: the rows or the columns.
    pub fn lanes(&self, address: usize, mode: Mode) -> &Axis {
        match mode {
            Mode::Rows => &self.addresses[address].rows,
            Mode::Columns => &self.addresses[address].columns,
        }
    }

    /// Whether lanes can access the operand directly, without a register. The elements must be contiguous, unpadded,
    /// and stored in the type of the computation.
    pub fn is_direct(&self, address: usize, mode: Mode) -> bool {
        let at = &self.addresses[address];
        self.stored_as_computed[at.operand]
            && !at.is_padded()
            && self.lanes(address, mode).stride() == Some(1)
    }

    /// Approximate nanoseconds per lane to compute a value, if each vector operation has `lanes` lanes.
    fn lane_cost(&self, value: &Value, mode: Mode, lanes: usize) -> f64 {
        let access = |address: usize| match self.lanes(address, mode).stride() {
            Some(0 | 1) => LOAD_NS,
            Some(_) => STRIDED_LOAD_NS,
            None => LOAD_NS + OP_NS / self.lanes(address, mode).run_length() as f64,
        };
        let work = match &value.kind {
            ValueKind::Load(address) => access(*address),
            ValueKind::Gather { address, .. } => STRIDED_LOAD_NS + access(*address),
            ValueKind::Call(f, _) => CALL_NS * f64::from(f.flops.max(1)),
            _ => LOAD_NS,
        };
        work + OP_NS / lanes.max(1) as f64
    }

    fn element_cost(&self, mode: Mode, lanes: usize) -> f64 {
        let per_element = self.values.iter().filter(|value| value.level == Level::Element);
        let stores = self.stores.iter().filter(|store| store.per_element);
        let write = |address: usize| if self.is_direct(address, mode) { LOAD_NS } else { STRIDED_LOAD_NS };
        let written = stores.map(|store| write(store.address) + OP_NS / lanes as f64);
        let taken = self.reductions.len() as f64 * (CALL_NS + OP_NS / lanes as f64);
        per_element.map(|value| self.lane_cost(value, mode, lanes)).sum::<f64>()
            + written.sum::<f64>()
            + taken
    }

    /// Returns the direction of the lanes with the lower cost. Short rows and non-contiguous rows usually give
    /// [`Mode::Rows`].
    pub fn mode(&self, rows: usize, columns: usize) -> Mode {
        let lanes = |n: usize| n.clamp(1, 1024);
        let along_rows = self.element_cost(Mode::Rows, lanes(rows));
        let along_columns = self.element_cost(Mode::Columns, lanes(columns));
        if columns <= 1 || along_rows < along_columns { Mode::Rows } else { Mode::Columns }
    }

    /// Approximate nanoseconds of a complete run of the kernel on one core.
    pub fn work(&self, rows: usize, columns: usize, tiling: &Tiling, stages: usize) -> f64 {
        let row = self.values.iter().filter(|value| value.level == Level::Row);
        let row: f64 = row.map(|value| self.lane_cost(value, Mode::Rows, tiling.block)).sum();
        let element = self.element_cost(tiling.mode, tiling.lanes) * stages as f64;
        rows as f64 * (row + self.stores.len() as f64 * LOAD_NS + columns as f64 * element)
    }
}
