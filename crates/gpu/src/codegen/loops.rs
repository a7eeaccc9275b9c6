//! Generates loop kernels in WGSL.
//!
//! A workgroup processes several rows, and one or more lanes share each row ([`super::lanes`]). Values that are
//! constant along a row are computed once, before the columns. Each *stage* is a pass over the columns. A stage
//! recomputes the values that its reductions or stores need instead of keeping them, because the operands are still in
//! the caches. The results of the lanes are combined in workgroup memory, in a tree of fixed order, so that repeated
//! runs are bit-identical.

use wgrad_graph::Combine;
use wgrad_program::{Access, Instr, Loop, Operand, Store, ValueId};

use super::body::{Blocks, Body, arguments, float, needed, preludes};
use super::index::{Axis, Code};
use super::kernel::{Generated, workgroup_grid};
use super::lanes::choose;
use super::target::Target;
use super::variant::Lanes;

/// Number of elements per partial sum of a lane. Partial sums reduce the rounding error of long sums.
const PARTIAL_SUM: usize = 256;

pub(super) fn generate(kernel: &Loop, operands: &[Operand], target: &Target) -> Generated {
    let (lanes, along_columns) = choose(kernel, target);
    let grid = workgroup_grid(kernel.rows().div_ceil(lanes.rows as usize), target.max_workgroups);
    let axes = vec![
        Axis { name: "row", sizes: kernel.outer.clone() },
        Axis { name: "col", sizes: kernel.inner.clone() },
    ];
    let writer = LoopWriter {
        body: Body::new(kernel, operands, axes, 1),
        operands,
        stages: Stages::new(kernel, operands),
        lanes,
        along_columns,
    };
    let mut text = String::new();
    if kernel.body.iter().any(|instr| matches!(instr, Instr::Reduce(..))) {
        text.push_str(wgrad_shaders::REDUCE);
    }
    text.push_str(&preludes(kernel));
    text.push_str(&writer.workgroup_memory());
    text.push_str(&writer.main(grid));
    let choice = match lanes {
        Lanes { rows, lanes: 1 } => format!("{rows} rows"),
        Lanes { rows, lanes } => format!("{rows} rows × {lanes} lanes"),
    };
    Generated { text, workgroups: grid, invocations: lanes.rows * lanes.lanes, choice }
}

/// Assignment of values and stores to passes over the columns.
struct Stages {
    /// For each value, the number of passes that must finish before it can be computed.
    level: Vec<usize>,
    needed: Vec<bool>,
    last: usize,
    /// Index of the pass that executes each store.
    stores: Vec<usize>,
}

impl Stages {
    fn new(kernel: &Loop, operands: &[Operand]) -> Self {
        let mut level: Vec<usize> = Vec::with_capacity(kernel.body.len());
        for instr in &kernel.body {
            let before = arguments(instr).iter().map(|&arg| level[arg]).max().unwrap_or(0);
            level.push(before + usize::from(matches!(instr, Instr::Reduce(..))));
        }
        let needed = needed(kernel, kernel.stores.iter().map(|store| store.value), |_| false);
        let last = (0..level.len()).filter(|&i| needed[i]).map(|i| level[i]).max().unwrap_or(0);
        // An operand that is updated in place may be read until the last pass.
        let stage = |store: &Store| match operands[store.operand].access {
            Access::Write => level[store.value],
            Access::Read | Access::ReadWrite => last,
        };
        let stores = kernel.stores.iter().map(stage).collect();
        Self { level, needed, last, stores }
    }
}

struct LoopWriter<'k> {
    body: Body<'k>,
    operands: &'k [Operand],
    stages: Stages,
    lanes: Lanes,
    along_columns: bool,
}

impl LoopWriter<'_> {
    fn kernel(&self) -> &Loop {
        self.body.kernel
    }

    fn reductions(&self, stage: usize) -> Vec<(ValueId, Combine, ValueId)> {
        let all = self.kernel().body.iter().enumerate().filter_map(|(i, instr)| match instr {
            Instr::Reduce(combine, value) if self.stages.needed[i] && self.stages.level[i] == stage + 1 => {
                Some((i, *combine, *value))
            }
            _ => None,
        });
        all.collect()
    }

    /// Declares the workgroup memory: one f32 array for each reduction of a stage, and one u32 array for each argmax.
    ///
    /// All stages use the same arrays.
    fn workgroup_memory(&self) -> String {
        if self.lanes.lanes == 1 {
            return String::new();
        }
        let max_count = |only: fn(&Combine) -> bool| {
            let count = |stage| self.reductions(stage).iter().filter(|(_, combine, _)| only(combine)).count();
            (0..self.stages.last).map(count).max().unwrap_or(0)
        };
        let size = self.lanes.rows * self.lanes.lanes;
        let array = |name: &str, ty: &str| format!("var<workgroup> {name}: array<{ty}, {size}>;\n");
        let floats = (0..max_count(|_| true)).map(|i| array(&format!("floats{i}"), "f32"));
        let words = (0..max_count(|c| *c == Combine::ArgMax)).map(|i| array(&format!("words{i}"), "u32"));
        floats.chain(words).collect()
    }

    fn main(&self, grid: [u32; 3]) -> String {
        let Lanes { rows, lanes } = self.lanes;
        let total = self.kernel().rows();
        let exact = grid.iter().map(|&n| n as usize).product::<usize>() * rows as usize == total;
        let mut code = Code::new(1);
        let group = match grid {
            [_, 1, 1] => "group.x".to_string(),
            [x, y, _] => format!("(group.x + (group.y + group.z * {y}u) * {x}u)"),
        };
        let (row, lane) = match (lanes, self.along_columns) {
            (1, _) => ("local".to_string(), None),
            (_, true) => (format!("local / {lanes}u"), Some(format!("local % {lanes}u"))),
            (_, false) => (format!("local % {rows}u"), Some(format!("local / {rows}u"))),
        };
        let row = format!("{group} * {rows}u + {row}");
        match &lane {
            _ if exact => code.line(format!("let row = {row};")),
            None => {
                code.line(format!("let row = {row};"));
                code.line(format!("if row >= {total}u {{"));
                code.line("    return;");
                code.line("}");
            }
            // All invocations must reach the barriers: invocations past the end repeat the last row and store nothing.
            Some(_) => {
                code.line(format!("let live = {row} < {total}u;"));
                code.line(format!("let row = min({row}, {}u);", total - 1));
            }
        }
        if let Some(lane) = &lane {
            code.line(format!("let lane = {lane};"));
        }
        let guarded = lane.is_some() && !exact;
        for stage in 0..=self.stages.last {
            self.stage(stage, guarded, &mut code);
        }
        self.row_stores(guarded, &mut code);
        let size = rows * lanes;
        format!(
            "@compute @workgroup_size({size})\nfn main(@builtin(workgroup_id) group: vec3<u32>, \
             @builtin(local_invocation_index) local: u32) {{\n{}}}\n",
            code.text
        )
    }

    fn stage(&self, stage: usize, guarded: bool, code: &mut Code) {
        for i in 0..self.kernel().body.len() {
            if self.stages.needed[i] && !self.body.varies[i] && self.stages.level[i] == stage {
                self.body.value(i, &mut Blocks { row: code, column: None });
            }
        }
        let reductions = self.reductions(stage);
        let stores: Vec<(usize, &Store)> = (self.kernel().stores.iter().enumerate())
            .filter(|(n, store)| !self.is_row_store(store) && self.stages.stores[*n] == stage)
            .collect();
        if reductions.is_empty() && stores.is_empty() {
            return;
        }
        if self.kernel().inner.is_empty() {
            stores
                .iter()
                .for_each(|(n, store)| self.body.store(store, *n, &mut Blocks { row: code, column: None }));
            return;
        }
        let mut column = code.inner(1);
        let roots = reductions.iter().map(|r| r.2).chain(stores.iter().map(|(_, store)| store.value));
        let needed = needed(self.kernel(), roots, |i| !self.body.varies[i]);
        for i in (0..needed.len()).filter(|&i| needed[i] && self.body.varies[i]) {
            self.body.value(i, &mut Blocks { row: code, column: Some(&mut column) });
        }
        for &(i, combine, value) in &reductions {
            column.line(accumulate(combine, i, &format!("v{value}"), "col"));
        }
        let mut inner = column.inner(usize::from(guarded));
        for (n, store) in &stores {
            self.body.store(store, *n, &mut Blocks { row: code, column: Some(&mut inner) });
        }
        if guarded && !stores.is_empty() {
            column.line("if live {");
            column.text.push_str(&inner.text);
            column.line("}");
        } else {
            column.text.push_str(&inner.text);
        }
        self.columns(&reductions, &column.text, code);
        self.combine_lanes(&reductions, code);
    }

    /// Writes the loop over the columns of a lane.
    fn columns(&self, reductions: &[(ValueId, Combine, ValueId)], text: &str, code: &mut Code) {
        let (lanes, columns) = (self.lanes.lanes as usize, self.kernel().columns());
        let first = if lanes == 1 { "0u" } else { "lane" };
        for &(i, combine, _) in reductions {
            let initial = match combine {
                Combine::Sum => "0.0f".to_string(),
                Combine::Max | Combine::ArgMax => float(f64::NEG_INFINITY, "lowest", code),
                Combine::Min => float(f64::INFINITY, "highest", code),
            };
            code.line(format!("var r{i}: f32 = {initial};"));
            if combine == Combine::ArgMax {
                code.line(format!("var k{i} = 0xffffffffu;"));
            }
        }
        let sums: Vec<ValueId> = reductions.iter().filter(|r| r.1 == Combine::Sum).map(|r| r.0).collect();
        let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        if sums.is_empty() || columns <= lanes * PARTIAL_SUM {
            code.line(format!("for (var col = {first}; col < {columns}u; col += {lanes}u) {{"));
            code.text.push_str(text);
            code.line("}");
            return;
        }
        let run = lanes * PARTIAL_SUM;
        code.line(format!("for (var start = {first}; start < {columns}u; start += {run}u) {{"));
        sums.iter().for_each(|i| code.line(format!("    var sum{i} = r{i};")));
        sums.iter().for_each(|i| code.line(format!("    r{i} = 0.0;")));
        code.line(format!("    let end = min(start + {run}u, {columns}u);"));
        code.line(format!("    for (var col = start; col < end; col += {lanes}u) {{"));
        code.text.push_str(&indented(text));
        code.line("    }");
        sums.iter().for_each(|i| code.line(format!("    r{i} += sum{i};")));
        code.line("}");
    }

    /// Combines the results of the lanes and declares the values of the reductions.
    fn combine_lanes(&self, reductions: &[(ValueId, Combine, ValueId)], code: &mut Code) {
        let Lanes { rows, lanes } = self.lanes;
        if lanes == 1 || reductions.is_empty() {
            for &(i, combine, _) in reductions {
                let result = if combine == Combine::ArgMax { "k" } else { "r" };
                code.line(format!("let v{i} = {result}{i};"));
            }
            return;
        }
        let (lane_stride, first_lane) = if self.along_columns {
            (1, format!("local / {lanes}u * {lanes}u"))
        } else {
            (rows, format!("local % {rows}u"))
        };
        let mut argmaxes = 0;
        let mut places = Vec::new();
        for (n, &(_, combine, _)) in reductions.iter().enumerate() {
            places.push((n, argmaxes));
            argmaxes += usize::from(combine == Combine::ArgMax);
        }
        for (&(i, combine, _), (f, w)) in reductions.iter().zip(&places) {
            code.line(format!("floats{f}[local] = r{i};"));
            if combine == Combine::ArgMax {
                code.line(format!("words{w}[local] = k{i};"));
            }
        }
        code.line("workgroupBarrier();");
        code.line(format!("for (var step = {}u; step > 0u; step /= 2u) {{", lanes / 2));
        code.line("    if lane < step {");
        code.line(format!("        let other = local + step * {lane_stride}u;"));
        for (&(i, combine, _), (f, w)) in reductions.iter().zip(&places) {
            match combine {
                Combine::Sum => code.line(format!("        floats{f}[local] += floats{f}[other];")),
                Combine::Max => code.line(format!(
                    "        floats{f}[local] = reduce_max(floats{f}[local], floats{f}[other]);"
                )),
                Combine::Min => code.line(format!(
                    "        floats{f}[local] = reduce_min(floats{f}[local], floats{f}[other]);"
                )),
                Combine::ArgMax => {
                    let best =
                        format!("floats{f}[local], words{w}[local], floats{f}[other], words{w}[other]");
                    code.line(format!("        let takes{i} = reduce_argmax_takes({best});"));
                    code.line(format!(
                        "        floats{f}[local] = select(floats{f}[local], floats{f}[other], takes{i});"
                    ));
                    code.line(format!(
                        "        words{w}[local] = select(words{w}[local], words{w}[other], takes{i});"
                    ));
                }
            }
        }
        code.line("    }");
        code.line("    workgroupBarrier();");
        code.line("}");
        for (&(i, combine, _), (f, w)) in reductions.iter().zip(&places) {
            let array = if combine == Combine::ArgMax { format!("words{w}") } else { format!("floats{f}") };
            code.line(format!("let v{i} = {array}[{first_lane}];"));
        }
        // The next stage writes to the same arrays.
        code.line("workgroupBarrier();");
    }

    fn is_row_store(&self, store: &Store) -> bool {
        !self.kernel().stores_elements(store)
    }

    fn row_stores(&self, guarded: bool, code: &mut Code) {
        let stores: Vec<(usize, &Store)> =
            self.kernel().stores.iter().enumerate().filter(|(_, store)| self.is_row_store(store)).collect();
        if stores.is_empty() {
            return;
        }
        if self.lanes.lanes == 1 {
            stores
                .iter()
                .for_each(|(n, store)| self.body.store(store, *n, &mut Blocks { row: code, column: None }));
            return;
        }
        // A row value is updated in place, so all lanes must have read it before one lane writes it.
        if stores.iter().any(|(_, store)| self.operands[store.operand].access == Access::ReadWrite) {
            code.line("storageBarrier();");
        }
        let mut inner = code.inner(1);
        stores
            .iter()
            .for_each(|(n, store)| self.body.store(store, *n, &mut Blocks { row: &mut inner, column: None }));
        code.line(if guarded { "if live && lane == 0u {" } else { "if lane == 0u {" });
        code.text.push_str(&inner.text);
        code.line("}");
    }
}

/// Returns the statement that adds an element to a reduction.
fn accumulate(combine: Combine, i: ValueId, value: &str, index: &str) -> String {
    match combine {
        Combine::Sum => format!("r{i} += {value};"),
        Combine::Max => format!("r{i} = reduce_max(r{i}, {value});"),
        Combine::Min => format!("r{i} = reduce_min(r{i}, {value});"),
        Combine::ArgMax => format!(
            "if reduce_argmax_takes(r{i}, k{i}, {value}, {index}) {{ r{i} = {value}; k{i} = {index}; }}"
        ),
    }
}
