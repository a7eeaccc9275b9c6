//! A matrix product as WGSL: a template of `wgrad-shaders`, with constants and functions in front and the register block
//! written out, since WGSL cannot size function-local registers by a constant.

use std::fmt::Write;
use std::ops::Range;

use wgrad_graph::{DType, Layout};
use wgrad_program::{Gemm, Instr, Loop, Operand};

use super::body::{Blocks, Body, preludes};
use super::index::{Address, Axis, Code, Half};
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
        let mut sides = String::new();
        for r in 0..rows {
            sides += &format!("let side_a{r} = {};\n", side('a', &format!("i0 + {r}u"), m, rows));
        }
        for c in 0..columns {
            sides += &format!("let side_b{c} = {};\n", side('b', &format!("j0 + {c}u"), n, columns));
        }
        let mut step = String::from("let in_a = depth_a(p);\nlet in_b = depth_b(p);\n");
        for q in 0..block.quads {
            let load = |c: u32| format!("load_b(side_b{}, in_b)", q * 4 + c);
            step += &format!("let b{q} = vec4<f32>({}, {}, {}, {});\n", load(0), load(1), load(2), load(3));
        }
        for r in 0..rows {
            step += &format!("let a{r} = load_a(side_a{r}, in_a);\n");
            (0..block.quads).for_each(|q| step += &multiply_add(r, q, &format!("a{r}")));
        }
        let (i, j) = (|r: String| format!("i0 + {r}"), |q: String| format!("j0 + {q} * 4u"));
        let store = self.store(&block, rows, columns, &i, &j);
        let text = self.head(&constants, grid)
            + &filled(
                wgrad_shaders::GEMM_DIRECT,
                &[
                    ("sides", &sides),
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
        let text = self.head(&constants, grid)
            + &self.quad('a', tile.k)
            + &self.quad('b', tile.k)
            + &filled(
                wgrad_shaders::GEMM_TILED,
                &[
                    ("sides", &(slice_a.kept_sides(threads, m) + &slice_b.kept_sides(threads, n))),
                    ("accumulators", &block.accumulators()),
                    ("fill", &(slice_a.fill(threads, m) + &slice_b.fill(threads, n))),
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
        let Gemm { batch, m: rows, n: columns, k: depth, .. } = self.gemm;
        text += &self.factor('a', *a, a_layout, [rows, depth]);
        // As A has it: batch ++ n ++ k.
        let (first, last) = (batch.len(), b_layout.shape.len());
        let across = first + depth.len();
        let axes: Vec<usize> = (0..first).chain(across..last).chain(first..across).collect();
        text += &self.factor('b', *b, &b_layout.permute(&axes), [columns, depth]);
        text + &self.epilogue()
    }

    fn axes(&self, rows: (&'static str, &[usize]), columns: (&'static str, &[usize])) -> Vec<Axis> {
        let axis = |(name, sizes): (&'static str, &[usize])| Axis { name, sizes: sizes.to_vec() };
        vec![axis(("batch", &self.gemm.batch)), axis(rows), axis(columns)]
    }

    /// The functions that read a factor, zero where a bound excludes an element: `side_a(batch, i)` and `depth_a(p)` are the
    /// two halves of an address, `load_a` reads at both. A block of the product reads each row of A at many depths and
    /// many rows at one depth, and what an image's window divides and bounds is found once for each half.
    ///
    /// `sizes` are those along m (n) and k, as the layout has them.
    fn factor(&self, name: char, operand: usize, layout: &Layout, sizes: [&[usize]; 2]) -> String {
        let index = index(name);
        let axes = self.axes((index, sizes[0]), ("p", sizes[1]));
        let address = Address::new(layout, &axes);
        let (side, depth) = (0..2, 2..3);
        let half = |axes_of: [&Range<usize>; 2], is_first| {
            let mut code = Code::new(1);
            let half = address.half(axes_of, is_first, &axes, &mut code);
            if address.never { (Half::nothing(), String::new()) } else { (half, code.text) }
        };
        let ((first, first_code), (second, second_code)) =
            (half([&side, &depth], true), half([&depth, &side], false));
        let upper = name.to_ascii_uppercase();
        let signature = format!("side_{name}(batch: u32, {index}: u32)");
        declared(&first, &format!("Side{upper}"), &signature, &first_code)
            + &declared(&second, &format!("Depth{upper}"), &format!("depth_{name}(p: u32)"), &second_code)
            + &self.load(name, operand, &address, [&first, &second])
    }

    /// The function that reads an element at two halves of its address.
    fn load(&self, name: char, operand: usize, address: &Address, halves: [&Half; 2]) -> String {
        let element = |offset: &str| match self.operands[operand].tensor.dtype {
            DType::F32 => format!("operand{operand}[{offset}]"),
            DType::F16 | DType::U32 => format!("f32(operand{operand}[{offset}])"),
        };
        let names = ["side", "depth"];
        let field = |half: usize, field: &str| match halves[half].fields().len() {
            1 => names[half].to_string(),
            _ => format!("{}.{field}", names[half]),
        };
        let offset = format!("{} + {}", field(0, "offset"), field(1, "offset"));
        let mut conditions: Vec<String> = (0..2)
            .filter(|&half| halves[half].inside.is_some())
            .map(|half| format!("{}.inside", names[half]))
            .collect();
        conditions.extend(
            address
                .shared([&(0..2), &(2..3)])
                .iter()
                .enumerate()
                .map(|(i, &bound)| format!("side.at{i} + depth.at{i} < {}u", address.size(bound))),
        );
        let body = match conditions.as_slice() {
            _ if address.never => "    return 0.0;\n".to_string(),
            [] => format!("    return {};\n", element(&offset)),
            // The first element stands in for one that does not exist, so that nothing is read out of bounds.
            all => format!(
                "    let inside = {};\n    return select(0.0, {}, inside);\n",
                all.join(" && "),
                element(&format!("select(0u, {offset}, inside)"))
            ),
        };
        let upper = name.to_ascii_uppercase();
        format!("fn load_{name}(side: Side{upper}, depth: Depth{upper}) -> f32 {{\n{body}}}\n\n")
    }

    /// Four neighbours of A along m, or of B along n; zero past the end of k.
    fn quad(&self, name: char, depth: u32) -> String {
        let end = if self.gemm.depth().is_multiple_of(depth as usize) {
            ""
        } else {
            "    if p >= K {\n        return vec4<f32>();\n    }\n"
        };
        let upper = name.to_ascii_uppercase();
        let sides: Vec<String> = (0..4).map(|c| format!("side{c}: Side{upper}")).collect();
        let loads: Vec<String> = (0..4).map(|c| format!("load_{name}(side{c}, depth)")).collect();
        format!(
            "fn quad_{name}({}, p: u32) -> vec4<f32> {{\n{end}    let depth = depth_{name}(p);\n    \
             return vec4<f32>({});\n}}\n\n",
            sides.join(", "),
            loads.join(", ")
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
        // One call in a loop over the elements: a function written out for each takes drivers seconds to compile.
        let columns = 4 * block.quads;
        let (row, quad) = (format!("s / {columns}u"), format!("s / 4u % {}u", block.quads));
        let all: Vec<String> =
            (0..block.rows).flat_map(|r| (0..block.quads).map(move |q| format!("c{r}_{q}"))).collect();
        let mut conditions = Vec::new();
        conditions.extend((!whole_m).then_some("i < M"));
        conditions.extend((!whole_n).then_some("j < N"));
        let guard =
            if conditions.is_empty() { String::new() } else { format!("if {} ", conditions.join(" && ")) };
        format!(
            "var sums = array<vec4<f32>, {}>({});\nfor (var s = 0u; s < {elements}u; s += 1u) {{\n\
             let i = {};\nlet j = {} + s % 4u;\n{guard}{{\nepilogue(batch, i, j, sums[s / 4u][s % 4u]);\n}}\n}}\n",
            all.len(),
            all.join(", "),
            i(row),
            j(quad)
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

/// A half of an address as a type, and the function that finds it.
fn declared(half: &Half, ty: &str, signature: &str, code: &str) -> String {
    let fields = half.fields();
    let values: Vec<&str> = fields.iter().map(|(.., value)| *value).collect();
    let (declared, value) = match fields.as_slice() {
        [_] => (format!("alias {ty} = u32;"), values.concat()),
        all => {
            let fields: String = all.iter().map(|(name, ty, _)| format!("    {name}: {ty},\n")).collect();
            (format!("struct {ty} {{\n{fields}}}"), format!("{ty}({})", values.join(", ")))
        }
    };
    format!("{declared}\nfn {signature} -> {ty} {{\n{code}    return {value};\n}}\n\n")
}

/// The index variable of a factor along m or n.
fn index(name: char) -> &'static str {
    if name == 'a' { "i" } else { "j" }
}

/// The half of an address that an index along m or n gives.
fn side(name: char, index: &str, size: usize, by: u32) -> String {
    format!("side_{name}(batch, {})", clamped(index, size, by))
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

    /// What an invocation reads for the slice: first element of each time, its quad and its depth.
    fn reads(&self, threads: u32) -> impl Iterator<Item = (u32, String, String)> {
        let Self { quads, depth, along_k, .. } = *self;
        (0..quads * depth).step_by(threads as usize).map(move |start| {
            let at = format!("(local + {start}u)");
            match along_k {
                true => (start, format!("{at} / {depth}u"), format!("{at} % {depth}u")),
                false => (start, format!("{at} % {quads}u"), format!("{at} / {quads}u")),
            }
        })
    }

    /// True when every read has the same quad, so that its sides stay the same from slice to slice. Where they do not, keeping
    /// all of them costs more than finding them again: in registers, and software devices store what a barrier parts.
    fn keeps_sides(&self, threads: u32) -> bool {
        self.quads * self.depth <= threads || (!self.along_k && threads.is_multiple_of(self.quads))
    }

    fn sides(&self, quad: &str, size: usize) -> String {
        let side = |c: u32| {
            let at = format!("{}0 + {quad} * 4u + {c}u", index(self.name));
            side(self.name, &at, size, self.quads * 4)
        };
        (0..4).map(|c| format!("let side_{}{c} = {};\n", self.name, side(c))).collect()
    }

    /// The sides that stay, if they do; `size` is that along m or n.
    fn kept_sides(&self, threads: u32, size: usize) -> String {
        let first = self.reads(threads).next().filter(|_| self.keeps_sides(threads));
        first.map_or(String::new(), |(_, quad, _)| self.sides(&quad, size))
    }

    fn fill(&self, threads: u32, size: usize) -> String {
        let Self { name, quads, depth, pitch, .. } = *self;
        let all = quads * depth;
        let mut text = String::new();
        for (start, quad, p) in self.reads(threads) {
            let guard =
                if start + threads > all { format!("if local + {start}u < {all}u ") } else { String::new() };
            let sides = if self.keeps_sides(threads) { String::new() } else { self.sides(&quad, size) };
            let _ = writeln!(
                text,
                "{guard}{{\nlet p = {p};\n{sides}slice_{name}[p * {pitch}u + {quad}] = \
                 quad_{name}(side_{name}0, side_{name}1, side_{name}2, side_{name}3, p0 + p);\n}}"
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
