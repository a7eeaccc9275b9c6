//! A matrix product as WGSL: a template of `wgrad-shaders`, with constants and functions in front and the register block
//! written out, since WGSL cannot size function-local registers by a constant.

mod split;
mod subgroup;
mod tiled;

use std::fmt::Write;
use std::ops::Range;

use wgrad_graph::{DType, Layout, fnv1a};
use wgrad_program::{Gemm, Instr, Loop, Operand};

use super::body::{Blocks, Body, preludes};
use super::index::{Address, Axis, Code, Half};
use super::tile::GemmVariant;
use super::{Generated, Target, split};
use crate::adapter::Class;

/// Instructions up to which the epilogues of a block are written out, element by element, rather than looped over: drivers
/// take long to compile what is.
const LIGHT: usize = 128;

pub(super) fn generate(gemm: &Gemm, operands: &[Operand], target: &Target) -> Generated {
    let variant = choose(gemm, operands, target);
    let product = Product { gemm, operands };
    let (text, workgroups, invocations) = match variant {
        GemmVariant::Naive => product.naive(target),
        GemmVariant::Direct { rows, columns } => product.direct(rows, columns, target),
        GemmVariant::Subgroup { rows, columns } => product.subgroup(rows, columns, target),
        GemmVariant::Tiled(tile) => product.tiled(tile, target),
        GemmVariant::Split(tile) => product.split(tile, target),
    };
    Generated { text, workgroups, invocations, choice: variant.to_string() }
}

/// The variant asked for, else the tuned one, else that of the shape; one that does not fit the device counts as none.
fn choose(gemm: &Gemm, operands: &[Operand], target: &Target) -> GemmVariant {
    let tuned = || target.tuned.as_ref()?.get(key(gemm, operands));
    let fitting = |variant: &GemmVariant| variant.fits(target);
    let asked = target.gemm.filter(fitting).or_else(|| tuned().filter(fitting));
    asked.unwrap_or_else(|| GemmVariant::by_shape(gemm, target))
}

/// What a product is told by: see [`product_key`](super::product_key).
pub(super) fn key(gemm: &Gemm, operands: &[Operand]) -> u64 {
    let (mut text, ..) = Product { gemm, operands }.naive(&Target::portable(Class::Software));
    operands.iter().for_each(|operand| text += &operand.tensor.dtype.to_string());
    fnv1a(text.as_bytes())
}

/// A kernel's text, workgroups and invocations of each.
type Text = (String, [u32; 3], u32);

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

    fn naive(&self, target: &Target) -> Text {
        let threads = if target.class == Class::Software { 64 } else { 256.min(target.invocations) };
        let elements = self.batch() * self.gemm.rows() * self.gemm.columns();
        let grid = split(elements.div_ceil(threads as usize), target.groups);
        let text = self.head(&[("THREADS", threads as usize)], grid) + wgrad_shaders::GEMM_NAIVE;
        (text, grid, threads)
    }

    fn direct(&self, rows: u32, columns: u32, target: &Target) -> Text {
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
        let block = Block::of_quads(rows, columns / 4);
        let mut sides = String::new();
        for r in 0..rows {
            sides += &format!("let side_a{r} = {};\n", side('a', &format!("i0 + {r}u"), m, rows));
        }
        for c in 0..columns {
            sides += &format!("let side_b{c} = {};\n", side('b', &format!("j0 + {c}u"), n, columns));
        }
        let mut step = String::from("let in_a = depth_a(p);\nlet in_b = depth_b(p);\n");
        for q in 0..block.parts {
            let load = |c: u32| format!("load_b(side_b{}, in_b)", q * 4 + c);
            step += &format!("let b{q} = vec4<f32>({}, {}, {}, {});\n", load(0), load(1), load(2), load(3));
        }
        for r in 0..rows {
            step += &format!("let a{r} = load_a(side_a{r}, in_a);\n");
            (0..block.parts).for_each(|q| step += &multiply_add(r, q, &format!("a{r}")));
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
        (text, grid, threads as u32)
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
    /// column of part number q; a block whose sides the tile sides `by_m` and `by_n` divide needs no check of the ends.
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
        let &Block { rows, parts, width } = block;
        let calls =
            self.gemm.epilogue.body.iter().any(|x| matches!(x, Instr::Call(f, _) if !f.prelude.is_empty()));
        let elements = rows * parts * width;
        if elements as usize * self.gemm.epilogue.body.len() <= LIGHT && !calls {
            let mut text = String::new();
            for (r, q) in block.registers() {
                let (i, j) = (i(format!("{r}u")), j(format!("{q}u")));
                let _ = writeln!(text, "{{\nlet i = {i};\nlet j = {j};\nlet part = c{r}_{q};");
                let _ = writeln!(text, "{}", if whole_m { "{" } else { "if i < M {" });
                for (c, lane) in LANES.iter().enumerate().take(width as usize) {
                    let value = if width == 1 { "part".into() } else { format!("part.{lane}") };
                    let call = format!("epilogue(batch, i, j + {c}u, {value});");
                    let _ = if whole_n {
                        writeln!(text, "{call}")
                    } else {
                        writeln!(text, "if j + {c}u < N {{ {call} }}")
                    };
                }
                text += "}\n}\n";
            }
            return text;
        }
        // One call in a loop over the elements: a function written out for each takes drivers seconds to compile.
        let (row, part) = (format!("s / {}u", width * parts), format!("s / {width}u % {parts}u"));
        let all: Vec<String> = block.registers().map(|(r, q)| format!("c{r}_{q}")).collect();
        let mut conditions = Vec::new();
        conditions.extend((!whole_m).then_some("i < M"));
        conditions.extend((!whole_n).then_some("j < N"));
        let guard =
            if conditions.is_empty() { String::new() } else { format!("if {} ", conditions.join(" && ")) };
        let element = if width == 1 { "sums[s]" } else { "sums[s / 4u][s % 4u]" };
        format!(
            "var sums = array<{}, {}>({});\nfor (var s = 0u; s < {elements}u; s += 1u) {{\n\
             let i = {};\nlet j = {} + s % {width}u;\n{guard}{{\nepilogue(batch, i, j, {element});\n}}\n}}\n",
            block.register(),
            all.len(),
            all.join(", "),
            i(row),
            j(part)
        )
    }
}

const LANES: [char; 4] = ['x', 'y', 'z', 'w'];

/// The sums of an invocation: registers `c{row}_{part}`, each a vec4 of neighbouring columns or a single one.
struct Block {
    rows: u32,
    /// Registers of a row.
    parts: u32,
    /// Columns of a register: 4 or 1.
    width: u32,
}

impl Block {
    fn of_quads(rows: u32, quads: u32) -> Block {
        Block { rows, parts: quads, width: 4 }
    }

    /// Row and part of each register.
    fn registers(&self) -> impl Iterator<Item = (u32, u32)> {
        let parts = self.parts;
        (0..self.rows).flat_map(move |r| (0..parts).map(move |q| (r, q)))
    }

    fn register(&self) -> &'static str {
        if self.width == 1 { "f32" } else { "vec4<f32>" }
    }

    fn accumulators(&self) -> String {
        let ty = self.register();
        self.registers().map(|(r, q)| format!("var c{r}_{q} = {ty}();\n")).collect()
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
