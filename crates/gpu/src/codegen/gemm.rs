//! Generates GEMM kernels in WGSL: a template of `wgrad-shaders`, preceded by constants and functions.
//!
//! The register block is unrolled, because WGSL does not guarantee that function-local arrays are kept in registers.

mod split_k;
mod subgroup;
mod tiled;

use std::fmt::Write;
use std::ops::Range;

use wgrad_graph::{DType, Layout, fnv1a};
use wgrad_program::{Gemm, Instr, Loop, Operand};

use super::body::{Blocks, Body, preludes};
use super::index::{Address, AddressPart, Axis, Code};
use super::kernel::{Generated, workgroup_grid};
use super::target::Target;
use super::variant::GemmVariant;
use crate::adapter::Class;

/// Largest number of epilogue instructions that are unrolled over a block. Longer epilogues run in a loop, because
/// drivers take long to compile unrolled code.
const MAX_UNROLLED: usize = 128;

pub(super) fn generate(gemm: &Gemm, operands: &[Operand], target: &Target) -> Generated {
    let variant = choose_variant(gemm, operands, target);
    let codegen = GemmCodegen { gemm, operands };
    let (text, workgroups, invocations) = match variant {
        GemmVariant::Naive => codegen.naive(target),
        GemmVariant::Direct { rows, columns } => codegen.direct(rows, columns, target),
        GemmVariant::Subgroup { rows, columns } => codegen.subgroup(rows, columns, target),
        GemmVariant::Tiled(tile) => codegen.tiled(tile, target),
        GemmVariant::SplitK(tile) => codegen.split_k(tile, target),
    };
    Generated { text, workgroups, invocations, choice: variant.to_string() }
}

/// Returns the requested variant, otherwise the tuned variant, otherwise the variant chosen by shape. Variants that
/// the device cannot run are skipped.
fn choose_variant(gemm: &Gemm, operands: &[Operand], target: &Target) -> GemmVariant {
    let tuned = || target.tuned.as_ref()?.get(key(gemm, operands));
    let fitting = |variant: &GemmVariant| variant.fits(target);
    let requested = target.gemm.filter(fitting).or_else(|| tuned().filter(fitting));
    requested.unwrap_or_else(|| GemmVariant::by_shape(gemm, target))
}

/// Computes the key of a GEMM in the tuning table; see [`gemm_key`](super::gemm_key).
pub(super) fn key(gemm: &Gemm, operands: &[Operand]) -> u64 {
    let (mut text, ..) = GemmCodegen { gemm, operands }.naive(&Target::portable(Class::Software));
    operands.iter().for_each(|operand| text += &operand.tensor.dtype.to_string());
    fnv1a(text.as_bytes())
}

/// WGSL text, workgroups in each dimension, and invocations per workgroup of a kernel.
type KernelText = (String, [u32; 3], u32);

struct GemmCodegen<'k> {
    gemm: &'k Gemm,
    operands: &'k [Operand],
}

/// Names and values of a template's constants.
type Constants<'c> = &'c [(&'c str, usize)];

impl GemmCodegen<'_> {
    fn batch(&self) -> usize {
        self.gemm.batch.iter().product()
    }

    fn naive(&self, target: &Target) -> KernelText {
        let threads = if target.class == Class::Software { 64 } else { 256.min(target.max_invocations) };
        let elements = self.batch() * self.gemm.rows() * self.gemm.columns();
        let grid = workgroup_grid(elements.div_ceil(threads as usize), target.max_workgroups);
        let text = self.header(&[("THREADS", threads as usize)], grid) + wgrad_shaders::GEMM_NAIVE;
        (text, grid, threads)
    }

    fn direct(&self, rows: u32, columns: u32, target: &Target) -> KernelText {
        let (m, n) = (self.gemm.rows(), self.gemm.columns());
        let blocks = (m.div_ceil(rows as usize), n.div_ceil(columns as usize));
        let all = self.batch() * blocks.0 * blocks.1;
        // Use at least as many threads as a vector has elements, but keep enough workgroups for all cores.
        let threads = (all / 16).next_power_of_two().clamp(8, 32).min(target.max_invocations as usize);
        let grid = workgroup_grid(all.div_ceil(threads), target.max_workgroups);
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
        let store = self.store_block(&block, rows, columns, &i, &j);
        let text = self.header(&constants, grid)
            + &fill_template(
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

    /// Returns WGSL text: the constants, the functions that load elements of A and B, and the function of the
    /// epilogue.
    fn header(&self, constants: Constants<'_>, grid: [u32; 3]) -> String {
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
        text += &self.load_functions('a', *a, a_layout, [rows, depth]);
        // Permute the dimensions of B to the order of A: batch, n, k.
        let (first, last) = (batch.len(), b_layout.shape.len());
        let across = first + depth.len();
        let axes: Vec<usize> = (0..first).chain(across..last).chain(first..across).collect();
        text += &self.load_functions('b', *b, &b_layout.permute(&axes), [columns, depth]);
        text + &self.epilogue_function()
    }

    fn axes(&self, rows: (&'static str, &[usize]), columns: (&'static str, &[usize])) -> Vec<Axis> {
        let axis = |(name, sizes): (&'static str, &[usize])| Axis { name, sizes: sizes.to_vec() };
        vec![axis(("batch", &self.gemm.batch)), axis(rows), axis(columns)]
    }

    /// Returns the WGSL text of the functions that load elements of A or B. `name` is `a` or `b`.
    ///
    /// `side_a(batch, i)` and `depth_a(p)` each compute a part of an address, and `load_a` reads the element that both
    /// parts address. The result is zero where a bound excludes the element. A block reads each row of A at many depths
    /// and many rows at each depth, so the divisions and bounds of an image's window are computed once per part.
    ///
    /// `sizes` are the sizes along m (or n) and along k, as in the layout.
    fn load_functions(&self, name: char, operand: usize, layout: &Layout, sizes: [&[usize]; 2]) -> String {
        let index = index_name(name);
        let axes = self.axes((index, sizes[0]), ("p", sizes[1]));
        let address = Address::new(layout, &axes);
        let (side, depth) = (0..2, 2..3);
        let part = |axes_of: [&Range<usize>; 2], is_first| {
            let mut code = Code::new(1);
            let part = address.part(axes_of, is_first, &axes, &mut code);
            if address.is_void { (AddressPart::void(), String::new()) } else { (part, code.text) }
        };
        let ((first, first_code), (second, second_code)) =
            (part([&side, &depth], true), part([&depth, &side], false));
        let upper = name.to_ascii_uppercase();
        let signature = format!("side_{name}(batch: u32, {index}: u32)");
        part_function(&first, &format!("Side{upper}"), &signature, &first_code)
            + &part_function(
                &second,
                &format!("Depth{upper}"),
                &format!("depth_{name}(p: u32)"),
                &second_code,
            )
            + &self.load_function(name, operand, &address, [&first, &second])
    }

    /// Returns the WGSL text of the function that reads an element, given the two parts of its address.
    fn load_function(
        &self,
        name: char,
        operand: usize,
        address: &Address,
        parts: [&AddressPart; 2],
    ) -> String {
        let element = |offset: &str| match self.operands[operand].tensor.dtype {
            DType::F32 => format!("operand{operand}[{offset}]"),
            DType::F16 | DType::U32 => format!("f32(operand{operand}[{offset}])"),
        };
        let names = ["side", "depth"];
        let field = |part: usize, field: &str| match parts[part].fields().len() {
            1 => names[part].to_string(),
            _ => format!("{}.{field}", names[part]),
        };
        let offset = format!("{} + {}", field(0, "offset"), field(1, "offset"));
        let mut conditions: Vec<String> = (0..2)
            .filter(|&part| parts[part].inside.is_some())
            .map(|part| format!("{}.inside", names[part]))
            .collect();
        conditions.extend(
            address
                .shared_bounds([&(0..2), &(2..3)])
                .iter()
                .enumerate()
                .map(|(i, &bound)| format!("side.at{i} + depth.at{i} < {}u", address.bound_size(bound))),
        );
        let body = match conditions.as_slice() {
            _ if address.is_void => "    return 0.0;\n".to_string(),
            [] => format!("    return {};\n", element(&offset)),
            // Element 0 is read in place of an element that does not exist, so that no read is out of bounds.
            all => format!(
                "    let inside = {};\n    return select(0.0, {}, inside);\n",
                all.join(" && "),
                element(&format!("select(0u, {offset}, inside)"))
            ),
        };
        let upper = name.to_ascii_uppercase();
        format!("fn load_{name}(side: Side{upper}, depth: Depth{upper}) -> f32 {{\n{body}}}\n\n")
    }

    fn epilogue_function(&self) -> String {
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

    /// Returns the WGSL statements that pass the elements of a block to the epilogue.
    ///
    /// `i` returns the index of row `r` of the block, and `j` the index of the first column of register `q`. Bounds are
    /// checked only along sides of the matrix that are not multiples of the tile sides `by_m` and `by_n`.
    fn store_block(
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
        let has_functions =
            self.gemm.epilogue.body.iter().any(|x| matches!(x, Instr::Call(f, _) if !f.prelude.is_empty()));
        let elements = rows * parts * width;
        if elements as usize * self.gemm.epilogue.body.len() <= MAX_UNROLLED && !has_functions {
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
        // Call the epilogue in a loop over the elements: drivers take seconds to compile a function that is inlined for
        // each element.
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
            block.register_type(),
            all.len(),
            all.join(", "),
            i(row),
            j(part)
        )
    }
}

const LANES: [char; 4] = ['x', 'y', 'z', 'w'];

/// Accumulators of an invocation: registers `c{row}_{part}`, each a vec4 of neighbouring columns or a single column.
struct Block {
    rows: u32,
    /// Number of registers per row.
    parts: u32,
    /// Number of columns per register: 4 or 1.
    width: u32,
}

impl Block {
    fn of_quads(rows: u32, quads: u32) -> Block {
        Block { rows, parts: quads, width: 4 }
    }

    /// Iterates over row and part of each register.
    fn registers(&self) -> impl Iterator<Item = (u32, u32)> {
        let parts = self.parts;
        (0..self.rows).flat_map(move |r| (0..parts).map(move |q| (r, q)))
    }

    /// Returns the WGSL type of a register.
    fn register_type(&self) -> &'static str {
        if self.width == 1 { "f32" } else { "vec4<f32>" }
    }

    /// Returns the declarations of the registers.
    fn accumulators(&self) -> String {
        let ty = self.register_type();
        self.registers().map(|(r, q)| format!("var c{r}_{q} = {ty}();\n")).collect()
    }
}

/// Returns the statement `c += a · b` of register `q` of row `r`. `a` is the expression of an element of A.
fn multiply_add(r: u32, q: u32, a: &str) -> String {
    format!("c{r}_{q} = fma(vec4<f32>({a}), b{q}, c{r}_{q});\n")
}

/// Returns WGSL text: the type `ty` of an address part, and the function that computes the part.
///
/// `signature` is the signature of the function without its result, and `code` is its text before the `return`.
fn part_function(part: &AddressPart, ty: &str, signature: &str, code: &str) -> String {
    let fields = part.fields();
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

/// Returns the name of the index variable: `i` for the rows of A along m, `j` for the columns of B along n.
fn index_name(name: char) -> &'static str {
    if name == 'a' { "i" } else { "j" }
}

/// Returns the expression for the part of an address that depends on an index along m or n. The blocks have `by`
/// elements.
fn side(name: char, index: &str, size: usize, by: u32) -> String {
    format!("side_{name}(batch, {})", clamped(index, size, by))
}

/// Clamps an index below `size`, if blocks of `by` elements may exceed `size`.
fn clamped(index: &str, size: usize, by: u32) -> String {
    if size.is_multiple_of(by as usize) { index.into() } else { format!("min({index}, {}u)", size - 1) }
}

/// Replaces each `//@ NAME` line of a template with the generated part of that name.
fn fill_template(template: &str, parts: &[(&str, &String)]) -> String {
    let mut text = String::with_capacity(template.len() * 4);
    for line in template.lines() {
        match line.trim_start().strip_prefix("//@ ") {
            Some(name) => {
                let part = parts.iter().find(|(part, _)| *part == name);
                debug_assert!(part.is_some(), "the template part `{name}` is not generated");
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
