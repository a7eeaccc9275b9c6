//! A product by subgroups: rows of A are loaded once for all lanes and handed around.

use super::{Block, Product, Text, filled, side};
use crate::codegen::{Target, split};

impl Product<'_> {
    /// `rows` and `columns` are those of an invocation. [`fits`](crate::GemmVariant::fits) has seen that subgroups have a size.
    pub(super) fn subgroup(&self, rows: u32, columns: u32, target: &Target) -> Text {
        let lanes = target.subgroup.unwrap_or(1);
        let (m, n, k) = (self.gemm.rows(), self.gemm.columns(), self.gemm.depth());
        let wide = columns * lanes;
        let tiles = (m.div_ceil(rows as usize), n.div_ceil(wide as usize));
        let grid = split(self.batch() * tiles.0 * tiles.1, target.groups);
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
        let step = steps(&block, lanes as usize, "p0 + lane");
        let rest = match rest {
            0 => String::new(),
            // Lanes past the end repeat the last element, and nobody asks them for it.
            rest => format!("let p0 = WHOLE_K;\n{}", steps(&block, rest, "min(p0 + lane, K - 1u)")),
        };
        let store = self.store(&block, rows, wide, &|r| format!("i0 + {r}"), &column);
        let text = self.head(&constants, grid)
            + &filled(
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

/// So many steps along k from `p0`: lane l loads A at `depth`, its own step, and each step takes A from its lane.
fn steps(block: &Block, count: usize, depth: &str) -> String {
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
