//! Generates the tiled GEMM, which keeps slices of A and B in workgroup memory.

use std::fmt::Write;

use wgrad_graph::Layout;
use wgrad_program::Gemm;

use super::{Block, GemmCodegen, KernelText, LANES, fill_template, index_name, multiply_add, side};
use crate::codegen::kernel::workgroup_grid;
use crate::codegen::target::Target;
use crate::codegen::variant::Tile;

impl GemmCodegen<'_> {
    pub(super) fn tiled(&self, tile: Tile, target: &Target) -> KernelText {
        let (m, n) = (self.gemm.rows(), self.gemm.columns());
        let (threads_m, threads_n) = tile.threads();
        let threads = threads_m * threads_n;
        let tiles = (m.div_ceil(tile.m as usize), n.div_ceil(tile.n as usize));
        let grid = workgroup_grid(self.batch() * tiles.0 * tiles.1, target.max_workgroups);
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
        let block = Block::of_quads(tile.rows, tile.columns / 4);
        let mut step = String::new();
        for q in 0..tile.rows / 4 {
            step += &format!("let a{q} = slice_a[p * PITCH_A + {}u + thread_m];\n", q * threads_m);
        }
        for q in 0..block.parts {
            step += &format!("let b{q} = slice_b[p * PITCH_B + {}u + thread_n];\n", q * threads_n);
        }
        for r in 0..tile.rows {
            let a = format!("a{}.{}", r / 4, LANES[r as usize % 4]);
            (0..block.parts).for_each(|q| step += &multiply_add(r, q, &a));
        }
        let i = |r: String| format!("i0 + ({r} / 4u * {threads_m}u + thread_m) * 4u + {r} % 4u");
        let j = |q: String| format!("j0 + ({q} * {threads_n}u + thread_n) * 4u");
        let store = self.store_block(&block, tile.m, tile.n, &i, &j);
        let text = self.header(&constants, grid)
            + &self.quad_function('a', tile.k)
            + &self.quad_function('b', tile.k)
            + &fill_template(
                wgrad_shaders::GEMM_TILED,
                &[
                    ("sides", &(slice_a.constant_sides(threads, m) + &slice_b.constant_sides(threads, n))),
                    ("accumulators", &block.accumulators()),
                    ("fill", &(slice_a.fill(threads, m) + &slice_b.fill(threads, n))),
                    ("accumulate", &step),
                    ("store", &store),
                ],
            );
        (text, grid, threads)
    }

    /// Returns the WGSL text of the function that loads four neighbours of A along m, or of B along n. The function
    /// returns zero past the end of k.
    fn quad_function(&self, name: char, depth: u32) -> String {
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
}

/// Whether neighbours along k are contiguous and neighbours along m or n are not.
///
/// `depth` is the first dimension of the layout along k, and `across` is the first dimension along m or n.
pub(super) fn lies_along_k(layout: &Layout, [depth, across]: [usize; 2]) -> bool {
    let end = |first: usize, other: usize| if first < other { other } else { layout.shape.len() };
    let stride = |first: usize, other: usize| {
        let wide = (first..end(first, other)).rev().find(|&i| layout.shape[i] != 1);
        wide.map_or(0, |i| layout.strides[i])
    };
    stride(depth, across) == 1 && stride(across, depth) != 1
}

/// A slice of A or B in workgroup memory: `[depth, pitch]` of vec4.
struct Slice {
    name: char,
    /// Number of vec4s along m or n.
    quads: u32,
    depth: u32,
    /// Whether neighbouring invocations read neighbours along k, rather than along m or n. The choice depends on the
    /// operand's layout.
    along_k: bool,
    /// Distance in vec4s from one step along k to the next. Padded by one if writes along k would otherwise hit a
    /// single memory bank.
    pitch: u32,
}

impl Slice {
    /// Creates a slice of `side` elements along m or n and `slice` steps along k. `dims` holds the first dimension of
    /// the layout along k and the first along m or n.
    fn new(name: char, layout: &Layout, dims: [usize; 2], side: u32, slice: u32) -> Self {
        let along_k = lies_along_k(layout, dims);
        let quads = side / 4;
        Self { name, quads, depth: slice, along_k, pitch: quads + u32::from(along_k) }
    }

    /// Iterates over the reads of an invocation. Each item is the index of the first vec4 that the workgroup reads,
    /// the WGSL expression of the vec4 index along m or n, and the WGSL expression of the depth.
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

    /// Whether all reads of an invocation have the same vec4 along m or n, so that the sides are computed once for all
    /// slices.
    ///
    /// If the vec4s differ, it is cheaper to recompute the sides than to keep all of them: the sides would occupy
    /// registers, and software devices spill values that live across a barrier.
    fn has_constant_sides(&self, threads: u32) -> bool {
        self.quads * self.depth <= threads || (!self.along_k && threads.is_multiple_of(self.quads))
    }

    fn sides(&self, quad: &str, size: usize) -> String {
        let side = |c: u32| {
            let at = format!("{}0 + {quad} * 4u + {c}u", index_name(self.name));
            side(self.name, &at, size, self.quads * 4)
        };
        (0..4).map(|c| format!("let side_{}{c} = {};\n", self.name, side(c))).collect()
    }

    /// Returns the declarations of the sides that stay the same for all slices. `size` is the size along m or n.
    fn constant_sides(&self, threads: u32, size: usize) -> String {
        let first = self.reads(threads).next().filter(|_| self.has_constant_sides(threads));
        first.map_or(String::new(), |(_, quad, _)| self.sides(&quad, size))
    }

    fn fill(&self, threads: u32, size: usize) -> String {
        let Self { name, quads, depth, pitch, .. } = *self;
        let all = quads * depth;
        let mut text = String::new();
        for (start, quad, p) in self.reads(threads) {
            let guard =
                if start + threads > all { format!("if local + {start}u < {all}u ") } else { String::new() };
            let sides =
                if self.has_constant_sides(threads) { String::new() } else { self.sides(&quad, size) };
            let _ = writeln!(
                text,
                "{guard}{{\nlet p = {p};\n{sides}slice_{name}[p * {pitch}u + {quad}] = \
                 quad_{name}(side_{name}0, side_{name}1, side_{name}2, side_{name}3, p0 + p);\n}}"
            );
        }
        text
    }
}
