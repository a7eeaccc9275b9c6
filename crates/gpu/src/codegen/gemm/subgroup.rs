//! GEMM by subgroups: each element of A is loaded once and broadcast to all lanes.

use super::{Block, GemmCodegen, KernelText, fill_template, side};
use crate::codegen::kernel::workgroup_grid;
use crate::codegen::target::Target;

impl GemmCodegen<'_> {
    /// Generates the kernel for `rows`×`columns` elements per invocation.
    ///
    /// Subgroups must have a fixed size, which [`fits`](crate::GemmVariant::fits) checks.
    pub(super) fn subgroup(&self, rows: u32, columns: u32, target: &Target) -> KernelText {
        debug_assert!(
            target.subgroup_size.is_some(),
            "subgroup GEMM on a target without a fixed subgroup size"
        );
        let lanes = target.subgroup_size.unwrap_or(1);
        let (m, n, k) = (self.gemm.rows(), self.gemm.columns(), self.gemm.depth());
        let wide = columns * lanes;
        let tiles = (m.div_ceil(rows as usize), n.div_ceil(wide as usize));
        let grid = workgroup_grid(self.batch() * tiles.0 * tiles.1, target.max_workgroups);
        let rest = k % lanes as usize;
        let constants = [
            ("LANES", lanes as usize),
            ("TILE_M", rows as usize),
            ("TILE_N", wide as usize),
            ("TILES_M", tiles.0),
            ("TILES_N", tiles.1),
            ("WHOLE_K", k - rest),
        ];
        let column = |c: String| format!("j0 + {c} * {lanes}u + lane");
        let mut sides = String::new();
        for r in 0..rows {
            sides += &format!("let side_a{r} = {};\n", side('a', &format!("i0 + {r}u"), m, rows));
        }
        for c in 0..columns {
            sides += &format!("let side_b{c} = {};\n", side('b', &column(format!("{c}u")), n, wide));
        }
        let block = Block { rows, parts: columns, width: 1 };
        let step = unrolled_steps(&block, lanes as usize, "p0 + lane");
        let rest = match rest {
            0 => String::new(),
            // Lanes past the end load the last element. The values of these lanes are not broadcast.
            rest => format!("let p0 = WHOLE_K;\n{}", unrolled_steps(&block, rest, "min(p0 + lane, K - 1u)")),
        };
        let store = self.store_block(&block, rows, wide, &|r| format!("i0 + {r}"), &column);
        let text = self.header(&constants, grid)
            + &fill_template(
                wgrad_shaders::GEMM_SUBGROUP,
                &[
                    ("sides", &sides),
                    ("accumulators", &block.accumulators()),
                    ("accumulate", &step),
                    ("rest", &rest),
                    ("store", &store),
                ],
            );
        (text, grid, lanes)
    }
}

/// Returns the WGSL text of `count` unrolled steps along k from `p0`.
///
/// Each lane loads the element of A at its own `depth`. Step `s` broadcasts the element of lane `s`.
fn unrolled_steps(block: &Block, count: usize, depth: &str) -> String {
    let mut text = format!("let in_a = depth_a({depth});\n");
    (0..block.rows).for_each(|r| text += &format!("let a{r} = load_a(side_a{r}, in_a);\n"));
    for step in 0..count {
        text += &format!("{{\nlet in_b = depth_b(p0 + {step}u);\n");
        (0..block.parts).for_each(|c| text += &format!("let b{c} = load_b(side_b{c}, in_b);\n"));
        for r in 0..block.rows {
            text += &format!("let row{r} = subgroupBroadcast(a{r}, {step}u);\n");
            (0..block.parts).for_each(|c| text += &format!("c{r}_{c} = fma(row{r}, b{c}, c{r}_{c});\n"));
        }
        text += "}\n";
    }
    text
}
