//! Generates WGSL statements for instructions and stores.
//!
//! Values that are constant along a row go to the row block; all others go to the column block, inside a loop over
//! columns. A kernel without reductions has only a row block, and so does the epilogue of a GEMM.

use std::collections::HashSet;

use wgrad_graph::{DType, Layout, ScalarFn};
use wgrad_program::{Instr, Loop, Operand, Store, ValueId};

use super::index::{Address, Axis, Code};

/// Body of a loop over index variables. The first `row_axes` variables enumerate the rows.
pub(super) struct Body<'k> {
    pub kernel: &'k Loop,
    pub dtypes: Vec<DType>,
    pub axes: Vec<Axis>,
    pub row_axes: usize,
    pub varies: Vec<bool>,
    pub is_u32: Vec<bool>,
}

/// Blocks that statements are added to.
pub(super) struct Blocks<'c> {
    pub row: &'c mut Code,
    pub column: Option<&'c mut Code>,
}

impl<'k> Body<'k> {
    pub fn new(kernel: &'k Loop, operands: &[Operand], axes: Vec<Axis>, row_axes: usize) -> Self {
        let dtypes: Vec<DType> = operands.iter().map(|operand| operand.tensor.dtype).collect();
        let (varies, is_u32) = (kernel.varies(), kernel.is_u32(&dtypes));
        Self { kernel, dtypes, axes, row_axes, varies, is_u32 }
    }

    /// Adds the statements that declare value `i` as `v{i}`. Reductions and GEMM results are declared elsewhere.
    pub fn value(&self, i: ValueId, blocks: &mut Blocks<'_>) {
        let expression = match &self.kernel.body[i] {
            Instr::Load { operand, layout } => {
                self.load(*operand, layout, &format!("at{i}"), None, i, blocks)
            }
            Instr::Gather { operand, layout, index, stride, bound } => {
                let gather = Some((*index, *stride, *bound));
                self.load(*operand, layout, &format!("at{i}"), gather, i, blocks)
            }
            Instr::Float(x) => {
                let code = blocks.select(self.varies[i]);
                float(*x, &format!("bits{i}"), code)
            }
            Instr::U32(x) => format!("{x}u"),
            Instr::Iota(layout) => {
                let address = Address::new(layout, &self.axes);
                self.offset(&address, &format!("at{i}"), blocks).0
            }
            Instr::Call(f, args) => call(f, args),
            Instr::Reduce(..) | Instr::Product => return,
        };
        // The explicit type is needed because `1.0` alone would be an abstract float.
        let ty = if self.is_u32[i] { "u32" } else { "f32" };
        blocks.select(self.varies[i]).line(format!("let v{i}: {ty} = {expression};"));
    }

    /// Adds the statement that stores a value to an operand. `number` makes the names of the variables of a store
    /// unique.
    pub fn store(&self, store: &Store, number: usize, blocks: &mut Blocks<'_>) {
        let address = Address::new(&store.layout, &self.axes);
        let (offset, _) = self.offset(&address, &format!("to{number}"), blocks);
        let value = match self.dtypes[store.operand] {
            DType::F16 => format!("f16(v{})", store.value),
            DType::F32 | DType::U32 => format!("v{}", store.value),
        };
        let line = format!("operand{}[{offset}] = {value};", store.operand);
        let in_column = blocks.column.is_some();
        blocks.select(in_column).line(line);
    }

    /// Returns the WGSL expression of a load or gather.
    ///
    /// The value is zero in the padding. A gather past the last row of a table gives NaN, or zero for u32.
    fn load(
        &self,
        operand: usize,
        layout: &Layout,
        key: &str,
        gather: Option<(ValueId, usize, usize)>,
        i: ValueId,
        blocks: &mut Blocks<'_>,
    ) -> String {
        let is_u32 = self.is_u32[i];
        let zero = if is_u32 { "0u" } else { "0.0" };
        let address = Address::new(layout, &self.axes);
        if address.is_void {
            return zero.into();
        }
        let (mut offset, condition) = self.offset(&address, key, blocks);
        let element = |offset: &str| match self.dtypes[operand] {
            DType::F16 => format!("f32(operand{operand}[{offset}])"),
            DType::F32 | DType::U32 => format!("operand{operand}[{offset}]"),
        };
        let code = blocks.select(self.varies[i]);
        let (condition, otherwise) = match (condition, gather) {
            (None, None) => return element(&offset),
            (Some(condition), _) => (condition, zero.to_string()),
            (None, Some((index, stride, bound))) => {
                let step = if stride == 1 { String::new() } else { format!(" * {}u", stride as u32) };
                offset = format!("{offset} + v{index}{step}");
                let otherwise = if is_u32 { zero.into() } else { float(f64::NAN, &format!("bits{i}"), code) };
                (format!("v{index} < {bound}u"), otherwise)
            }
        };
        // Element 0 is read in place of an element that does not exist, so that no read is out of bounds.
        code.line(format!("let in{i} = {condition};"));
        let inside = element(&format!("select(0u, {offset}, in{i})"));
        format!("select({otherwise}, {inside}, in{i})")
    }

    /// Returns the offset and the bounds condition as expressions for the innermost block.
    ///
    /// The part of the offset that is constant along a row is declared once in the row block, under the name `key`.
    fn offset(&self, address: &Address, key: &str, blocks: &mut Blocks<'_>) -> (String, Option<String>) {
        let (rows, columns) = (0..self.row_axes, self.row_axes..self.axes.len());
        let row = address.sum(&rows, true, &self.axes, blocks.row);
        let row_condition = address.condition(&rows, &rows, &self.axes, blocks.row);
        let Some(column) = blocks.column.as_deref_mut().filter(|_| address.depends_on(&columns)) else {
            return (row.unwrap_or("0u".into()), row_condition);
        };
        let sum = address.sum(&columns, false, &self.axes, column);
        let condition = address.condition(&(0..self.axes.len()), &columns, &self.axes, column);
        let offset = match (row, sum) {
            (Some(row), Some(sum)) => {
                blocks.row.declare(key, row);
                format!("{key} + {sum}")
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "0u".into(),
        };
        let condition = match (row_condition, condition) {
            (Some(row), Some(column)) => {
                let name = format!("{key}_in");
                blocks.row.declare(&name, row);
                Some(format!("{name} && {column}"))
            }
            (one, other) => one.or(other),
        };
        (offset, condition)
    }
}

impl Blocks<'_> {
    /// Returns the column block if the value varies along a row and a column block exists, otherwise the row block.
    fn select(&mut self, varies: bool) -> &mut Code {
        match &mut self.column {
            Some(column) if varies => column,
            _ => self.row,
        }
    }
}

/// Returns the values that an instruction uses.
pub(crate) fn arguments(instr: &Instr) -> &[ValueId] {
    match instr {
        Instr::Call(_, args) => args,
        Instr::Reduce(_, value) => std::slice::from_ref(value),
        Instr::Gather { index, .. } => std::slice::from_ref(index),
        Instr::Load { .. } | Instr::Float(_) | Instr::U32(_) | Instr::Iota(_) | Instr::Product => &[],
    }
}

/// Returns, for each value of the body, whether one of `roots` depends on it. The arguments of values for which `stops`
/// is true are not followed.
pub(super) fn needed(
    kernel: &Loop,
    roots: impl IntoIterator<Item = ValueId>,
    stops: impl Fn(ValueId) -> bool,
) -> Vec<bool> {
    let mut needed = vec![false; kernel.body.len()];
    roots.into_iter().for_each(|root| needed[root] = true);
    for i in (0..needed.len()).rev() {
        if needed[i] && !stops(i) {
            arguments(&kernel.body[i]).iter().for_each(|&arg| needed[arg] = true);
        }
    }
    needed
}

/// Returns the WGSL text of the functions that the calls in a loop body need, each function once.
pub(super) fn preludes(kernel: &Loop) -> String {
    let mut seen = HashSet::new();
    let calls = kernel.body.iter().filter_map(|instr| match instr {
        Instr::Call(f, _) if !f.prelude.is_empty() => Some(f.prelude),
        _ => None,
    });
    calls.filter(|prelude| seen.insert(*prelude)).map(|prelude| format!("{}\n", prelude.trim_end())).collect()
}

fn call(f: &ScalarFn, args: &[ValueId]) -> String {
    let mut text = f.wgsl.to_string();
    for (i, arg) in args.iter().enumerate() {
        text = text.replace(&format!("{{{i}}}"), &format!("v{arg}"));
    }
    text
}

/// Returns a float as a WGSL expression of type f32.
///
/// WGSL has no literals for non-finite values, and drivers may flush a subnormal literal to zero. Non-finite and
/// subnormal values are therefore built from their bits. The bits are first declared as a variable named `bits`,
/// because WGSL rejects such a bitcast of a constant expression.
pub(super) fn float(x: f64, bits: &str, code: &mut Code) -> String {
    let x = x as f32;
    if x.is_normal() || x == 0.0 {
        return format!("{x:?}f");
    }
    // All NaNs get the same bits, regardless of payload.
    let bits_of_x = if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
    code.declare(bits, format!("{bits_of_x:#x}u"));
    format!("bitcast<f32>({bits})")
}
