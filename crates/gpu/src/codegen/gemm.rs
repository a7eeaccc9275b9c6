//! A matrix product as WGSL: a template of `wgrad-shaders`, with constants and functions in front and the register block
//! written out, since WGSL cannot size function-local registers by a constant.

use std::fmt::Write;

use wgrad_graph::{DType, Layout};
use wgrad_program::{Gemm, Instr, Loop, Operand};

use super::body::{Blocks, Body, preludes};
use super::index::{Address, Axis, Code};
use super::tile::{GemmVariant, Tile};
use super::{Generated, Target, split};

/// Instructions up to which the epilogues of a block are written out, element by element, rather than looped over: drivers
/// take long to compile what is.
const LIGHT: usize = 128;

pub(super) fn generate(gemm: &Gemm, operands: &[Operand], target: &Target) -> Generated {
    let variant = GemmVariant::choose(gemm, target);
    let product = Product { gemm, operands };
    match variant {
        GemmVariant::Naive => product.naive(target),
        GemmVariant::Direct { rows, columns } => product.direct(rows, columns, target),
        GemmVariant::Tiled(tile) => product.tiled(tile, target),
    }
}

struct Product<'k> {
    gemm: &'k Gemm,
    operands: &'k [Operand],
}

/// Constants of a template.
type Constants<'c> = &'c [(&'c str, usize)];

impl Product<'_> {
    fn batch(&self) -> usize {
        self.gemm.batch.iter().product()
    }

    fn naive(&self, target: &Target) -> Generated {
        let threads =
            if target.class == crate::adapter::Class::Software { 64 } else { 256.min(target.invocations) };
        let elements = self.batch() * self.gemm.rows() * self.gemm.columns();
        let grid = split(elements.div_ceil(threads as usize), target.groups);
        let text = self.head(&[("THREADS", threads as usize)], grid) + wgrad_shaders::GEMM_NAIVE;
        Generated { text, workgroups: grid, invocations: threads, choice: "naive".into() }
    }

    fn direct(&self, rows: u32, columns: u32, target: &Target) -> Generated {
        let (m, n) = (self.gemm.rows(), self.gemm.columns());
        let blocks = (m.div_ceil(rows as usize), n.div_ceil(columns as usize));
        let all = self.batch() * blocks.0 * blocks.1;
        // The width of a vector at least, and groups for all cores.
        let threads = (all / 16).next_power_of_two().clamp(8, 32).min(target.invocations as usize);
        let grid = split(all.div_ceil(threads), target.groups);
        let constants = [
            ("THREADS", threads),
            ("ROWS", rows as usize),
            ("COLUMNS", columns as usize),
            ("BLOCKS_M", blocks.0),
            ("BLOCKS_N", blocks.1),
        ];
        let block = Block { rows, quads: columns / 4 };
        let mut indices = String::new();
        (0..rows)
            .for_each(|r| indices += &format!("let i{r}_ = {};\n", clamped(&format!("i0 + {r}u"), m, rows)));
        (0..columns).for_each(|c| {
            indices += &format!("let j{c}_ = {};\n", clamped(&format!("j0 + {c}u"), n, columns))
        });
        let mut step = String::new();
        for q in 0..block.quads {
            let load = |c: u32| format!("load_b(batch, p, j{}_)", q * 4 + c);
            step += &format!("let b{q} = vec4<f32>({}, {}, {}, {});\n", load(0), load(1), load(2), load(3));
        }
        for r in 0..rows {
            step += &format!("let a{r} = load_a(batch, i{r}_, p);\n");
            (0..block.quads).for_each(|q| step += &multiply_add(r, q, &format!("a{r}")));
        }
        let (i, j) = (|r: String| format!("i0 + {r}"), |q: String| format!("j0 + {q} * 4u"));
        let store = self.store(&block, rows, columns, &i, &j);
        let text = self.head(&constants, grid)
            + &filled(
                wgrad_shaders::GEMM_DIRECT,
                &[
                    ("indices", &indices),
                    ("accumulators", &block.accumulators()),
                    ("accumulate", &step),
                    ("store", &store),
                ],
            );
        let choice = format!("direct {rows}×{columns}");
        Generated { text, workgroups: grid, invocations: threads as u32, choice }
    }

    fn tiled(&self, tile: Tile, target: &Target) -> Generated {
        let (m, n) = (self.gemm.rows(), self.gemm.columns());
        let (threads_m, threads_n) = tile.threads();
        let threads = threads_m * threads_n;
        let tiles = (m.div_ceil(tile.m as usize), n.div_ceil(tile.n as usize));
        let grid = split(self.batch() * tiles.0 * tiles.1, target.groups);
        let Gemm { batch, m: rows, k: depth, a_layout, b_layout, .. } = self.gemm;
        let slice_a = Slice::new('a', a_layout, [batch.len() + rows.len(), batch.len()], tile.m, tile.k);
        let slice_b = Slice::new('b', b_layout, [batch.len(), batch.len() + depth.len()], tile.n, tile.k);
        let constants = [
            ("THREADS", threads as usize),
            ("TILE_M", tile.m as usize),
            ("TILE_N", tile.n as usize),
            ("TILE_K", tile.k as usize),
            ("TILES_M", tiles.0),
            ("TILES_N", tiles.1),
            ("THREADS_N", threads_n as usize),
            ("PITCH_A", slice_a.pitch as usize),
            ("PITCH_B", slice_b.pitch as usize),
        ];
        let block = Block { rows: tile.rows, quads: tile.columns / 4 };
        let mut step = String::new();
        for q in 0..tile.rows / 4 {
            step += &format!("let a{q} = slice_a[p * PITCH_A + {}u + thread_m];\n", q * threads_m);
        }
        for q in 0..block.quads {
            step += &format!("let b{q} = slice_b[p * PITCH_B + {}u + thread_n];\n", q * threads_n);
        }
        for r in 0..tile.rows {
            let a = format!("a{}.{}", r / 4, LANES[r as usize % 4]);
            (0..block.quads).for_each(|q| step += &multiply_add(r, q, &a));
        }
        let i = |r: String| format!("i0 + ({r} / 4u * {threads_m}u + thread_m) * 4u + {r} % 4u");
        let j = |q: String| format!("j0 + ({q} * {threads_n}u + thread_n) * 4u");
        let store = self.store(&block, tile.m, tile.n, &i, &j);
        let quads = self.quad("a", "i", m, tile.m, tile.k) + &self.quad("b", "j", n, tile.n, tile.k);
        let text = self.head(&constants, grid)
            + &quads
            + &filled(
                wgrad_shaders::GEMM_TILED,
                &[
                    ("accumulators", &block.accumulators()),
                    ("fill", &(slice_a.fill(threads) + &slice_b.fill(threads))),
                    ("accumulate", &step),
                    ("store", &store),
                ],
            );
        let choice = format!("tiled {}×{}×{}", tile.m, tile.n, tile.k);
        Generated { text, workgroups: grid, invocations: threads, choice }
    }

    /// Constants, and the functions that read A and B and run the epilogue.
    fn head(&self, constants: Constants<'_>, grid: [u32; 3]) -> String {
        let (m, n, k) = (self.gemm.rows(), self.gemm.columns(), self.gemm.depth());
        let common = [("M", m), ("N", n), ("K", k), ("BATCH", self.batch())];
        let groups = [("GROUPS_X", grid[0] as usize), ("GROUPS_Y", grid[1] as usize)];
        let mut text = String::new();
        for (name, value) in common.iter().chain(&groups).chain(constants) {
            let _ = writeln!(text, "const {name} = {value}u;");
        }
        text += &preludes(&self.gemm.epilogue);
        let Gemm { a, a_layout, b, b_layout, .. } = self.gemm;
        text += &self.load("a", *a, a_layout, ("i", &self.gemm.m), ("p", &self.gemm.k));
        text += &self.load("b", *b, b_layout, ("p", &self.gemm.k), ("j", &self.gemm.n));
        text + &self.epilogue()
    }

    fn axes(&self, rows: (&'static str, &[usize]), columns: (&'static str, &[usize])) -> Vec<Axis> {
        let axis = |(name, sizes): (&'static str, &[usize])| Axis { name, sizes: sizes.to_vec() };
        vec![axis(("batch", &self.gemm.batch)), axis(rows), axis(columns)]
    }

    /// A function that reads an element of a factor, zero where a bound excludes it.
    fn load(
        &self,
        name: &str,
        operand: usize,
        layout: &Layout,
        rows: (&'static str, &[usize]),
        columns: (&'static str, &[usize]),
    ) -> String {
        let axes = self.axes(rows, columns);
        let mut code = Code::new(1);
        let address = Address::new(layout, &axes);
        let offset = address.sum(&(0..3), true, &axes, &mut code).unwrap_or("0u".into());
        let condition = address.condition(&(0..3), &(0..3), &axes, &mut code);
        let element = |offset: &str| match self.operands[operand].tensor.dtype {
            DType::F32 => format!("operand{operand}[{offset}]"),
            DType::F16 | DType::U32 => format!("f32(operand{operand}[{offset}])"),
        };
        match condition {
            _ if address.never => code.line("return 0.0;"),
            None => code.line(format!("return {};", element(&offset))),
            // The first element stands in for one that does not exist, so that nothing is read out of bounds.
            Some(condition) => {
                code.line(format!("let inside = {condition};"));
                let element = element(&format!("select(0u, {offset}, inside)"));
                code.line(format!("return select(0.0, {element}, inside);"));
            }
        }
        let (rows, columns) = (rows.0, columns.0);
        format!("fn load_{name}(batch: u32, {rows}: u32, {columns}: u32) -> f32 {{\n{}}}\n\n", code.text)
    }

    /// Four neighbours of A along m, or of B along n; zero past the end of k.
    fn quad(&self, name: &str, index: &str, size: usize, tile: u32, depth: u32) -> String {
        let at = |c: u32| {
            let at = clamped(&format!("{index} + {c}u"), size, tile);
            if name == "a" { format!("load_a(batch, {at}, p)") } else { format!("load_b(batch, p, {at})") }
        };
        let end = if self.gemm.depth().is_multiple_of(depth as usize) {
            ""
        } else {
            "    if p >= K {\n        return vec4<f32>();\n    }\n"
        };
        let quad = format!("vec4<f32>({}, {}, {}, {})", at(0), at(1), at(2), at(3));
        format!(
            "fn quad_{name}(batch: u32, {index}: u32, p: u32) -> vec4<f32> {{\n{end}    return {quad};\n}}\n\n"
        )
    }

    fn epilogue(&self) -> String {
        let axes = self.axes(("i", &self.gemm.m), ("j", &self.gemm.n));
        let count = axes.len();
        let kernel: &Loop = &self.gemm.epilogue;
        let body = Body::new(kernel, self.operands, axes, count);
        let mut code = Code::new(1);
        for (i, instr) in kernel.body.iter().enumerate() {
            match instr {
                Instr::Product => code.line(format!("let v{i} = product;")),
                _ => body.value(i, &mut Blocks { row: &mut code, column: None }),
            }
        }
        for (n, store) in kernel.stores.iter().enumerate() {
            body.store(store, n, &mut Blocks { row: &mut code, column: None });
        }
        format!("fn epilogue(batch: u32, i: u32, j: u32, product: f32) {{\n{}}}\n\n", code.text)
    }

    /// Hands the elements of a block to the epilogue. `i` gives the index of row number r of the block, `j` that of the first
    /// column of quad number q; a block whose sides the tile sides `by_m` and `by_n` divide needs no check of the ends.
    fn store(
        &self,
        block: &Block,
        by_m: u32,
        by_n: u32,
        i: &dyn Fn(String) -> String,
        j: &dyn Fn(String) -> String,
    ) -> String {
        let whole = |n: usize, by: u32| n.is_multiple_of(by as usize);
        let (whole_m, whole_n) = (whole(self.gemm.rows(), by_m), whole(self.gemm.columns(), by_n));
        let mut text = String::new();
        let mut quad = |i: String, j: String, from: &str| {
            let _ = writeln!(text, "{{\nlet i = {i};\nlet j = {j};\nlet quad = {from};");
            let _ = writeln!(text, "{}", if whole_m { "{" } else { "if i < M {" });
            for (c, lane) in LANES.iter().enumerate() {
                let call = format!("epilogue(batch, i, j + {c}u, quad.{lane});");
                let _ = if whole_n {
                    writeln!(text, "{call}")
                } else {
                    writeln!(text, "if j + {c}u < N {{ {call} }}")
                };
            }
            text += "}\n}\n";
        };
        let calls =
            self.gemm.epilogue.body.iter().any(|x| matches!(x, Instr::Call(f, _) if !f.prelude.is_empty()));
        let elements = (block.rows * block.quads * 4) as usize;
        if elements * self.gemm.epilogue.body.len() <= LIGHT && !calls {
            for r in 0..block.rows {
                (0..block.quads)
                    .for_each(|q| quad(i(format!("{r}u")), j(format!("{q}u")), &format!("c{r}_{q}")));
            }
            return text;
        }
        quad(i(format!("s / {}u", block.quads)), j(format!("s % {}u", block.quads)), "sums[s]");
        let all: Vec<String> =
            (0..block.rows).flat_map(|r| (0..block.quads).map(move |q| format!("c{r}_{q}"))).collect();
        let size = all.len();
        format!(
            "var sums = array<vec4<f32>, {size}>({});\nfor (var s = 0u; s < {size}u; s += 1u) {{\n{text}}}\n",
            all.join(", ")
        )
    }
}

const LANES: [char; 4] = ['x', 'y', 'z', 'w'];

/// Registers of an invocation: rows of vec4.
struct Block {
    rows: u32,
    quads: u32,
}

impl Block {
    fn accumulators(&self) -> String {
        let all = (0..self.rows)
            .flat_map(|r| (0..self.quads).map(move |q| format!("var c{r}_{q} = vec4<f32>();\n")));
        all.collect()
    }
}

fn multiply_add(r: u32, q: u32, a: &str) -> String {
    format!("c{r}_{q} = fma(vec4<f32>({a}), b{q}, c{r}_{q});\n")
}

/// An index that stays below `size`, where blocks of `by` may go past it.
fn clamped(index: &str, size: usize, by: u32) -> String {
    if size.is_multiple_of(by as usize) { index.into() } else { format!("min({index}, {}u)", size - 1) }
}

/// A slice of A or B in workgroup memory: [depth][pitch] vec4.
struct Slice {
    name: char,
    /// Quads along m or n.
    quads: u32,
    depth: u32,
    /// Whether neighbouring invocations read neighbours along k rather than along m or n: as the operand lies in memory.
    along_k: bool,
    /// Quads from one step of k to the next: one more than there are where writes along k would fall into one bank.
    pitch: u32,
}

impl Slice {
    /// `depth` and `across` are the first dimensions of the layout along k and across it.
    fn new(name: char, layout: &Layout, [depth, across]: [usize; 2], side: u32, slice: u32) -> Self {
        let end = |first: usize, other: usize| if first < other { other } else { layout.shape.len() };
        let stride = |first: usize, other: usize| {
            let wide = (first..end(first, other)).rev().find(|&i| layout.shape[i] != 1);
            wide.map_or(0, |i| layout.strides[i])
        };
        let along_k = stride(depth, across) == 1 && stride(across, depth) != 1;
        let quads = side / 4;
        Self { name, quads, depth: slice, along_k, pitch: quads + u32::from(along_k) }
    }

    fn fill(&self, threads: u32) -> String {
        let Self { name, quads, depth, along_k, pitch } = *self;
        let all = quads * depth;
        let first = if name == 'a' { "i0" } else { "j0" };
        let mut text = String::new();
        for start in (0..all).step_by(threads as usize) {
            let at = format!("(local + {start}u)");
            let (p, quad) = match along_k {
                true => (format!("{at} % {depth}u"), format!("{at} / {depth}u")),
                false => (format!("{at} / {quads}u"), format!("{at} % {quads}u")),
            };
            let guard = if start + threads > all { format!("if {at} < {all}u ") } else { String::new() };
            let _ = writeln!(
                text,
                "{guard}{{\nlet p = {p};\nlet quad = {quad};\n\
                 slice_{name}[p * {pitch}u + quad] = quad_{name}(batch, {first} + quad * 4u, p0 + p);\n}}"
            );
        }
        text
    }
}

/// A template with its `//@` lines replaced.
fn filled(template: &str, parts: &[(&str, &String)]) -> String {
    let mut text = String::with_capacity(template.len() * 4);
    for line in template.lines() {
        match line.trim_start().strip_prefix("//@ ") {
            Some(name) => {
                let part = parts.iter().find(|(part, _)| *part == name);
                part.iter().for_each(|(_, part)| text.push_str(part));
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}
