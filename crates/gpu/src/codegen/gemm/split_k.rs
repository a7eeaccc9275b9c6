//! Split-K GEMM: the invocations of a workgroup split the sum along k.

use super::tiled::lies_along_k;
use super::{Block, GemmCodegen, KernelText, fill_template, multiply_add, side};
use crate::codegen::kernel::workgroup_grid;
use crate::codegen::target::Target;
use crate::codegen::variant::SplitK;

/// Number of rows and of columns per invocation.
const SIDE: u32 = 4;

impl GemmCodegen<'_> {
    pub(super) fn split_k(&self, tile: SplitK, target: &Target) -> KernelText {
        let (m, n) = (self.gemm.rows(), self.gemm.columns());
        let tiles = (m.div_ceil(tile.m as usize), n.div_ceil(tile.n as usize));
        let grid = workgroup_grid(self.batch() * tiles.0 * tiles.1, target.max_workgroups);
        let (threads, blocks) = (tile.invocations(), tile.blocks());
        let constants = [
            ("THREADS", threads as usize),
            ("TILE_M", tile.m as usize),
            ("TILE_N", tile.n as usize),
            ("TILES_M", tiles.0),
            ("TILES_N", tiles.1),
            ("PARTS", tile.parts as usize),
            ("BLOCKS", blocks as usize),
            ("BLOCKS_N", (tile.n / SIDE) as usize),
        ];
        // Neighbouring invocations read neighbouring elements of B.
        let (batch, depth) = (self.gemm.batch.len(), self.gemm.k.len());
        let (inner, outer) = match lies_along_k(&self.gemm.b_layout, [batch, batch + depth]) {
            true => ("part = local % PARTS", "block = local / PARTS"),
            false => ("block = local % BLOCKS", "part = local / BLOCKS"),
        };
        let place = format!("let {inner};\nlet {outer};\n");
        let mut sides = String::new();
        let mut step = String::from("let in_a = depth_a(p);\nlet in_b = depth_b(p);\n");
        for s in 0..SIDE {
            sides += &format!("let side_a{s} = {};\n", side('a', &format!("i0 + {s}u"), m, tile.m));
            sides += &format!("let side_b{s} = {};\n", side('b', &format!("j0 + {s}u"), n, tile.n));
        }
        let load = |c: u32| format!("load_b(side_b{c}, in_b)");
        step += &format!("let b0 = vec4<f32>({}, {}, {}, {});\n", load(0), load(1), load(2), load(3));
        let (mut hand, mut take) = (String::new(), String::new());
        for r in 0..SIDE {
            step += &format!("let a{r} = load_a(side_a{r}, in_a);\n");
            step += &multiply_add(r, 0, &format!("a{r}"));
            hand += &format!("sums[at + {r}u] = c{r}_0;\n");
            take += &format!("c{r}_0 += sums[at + {r}u];\n");
        }
        let block = Block::of_quads(SIDE, 1);
        let store = self.store_block(&block, tile.m, tile.n, &|r| format!("i0 + {r}"), &|_| "j0".into());
        let parts = [
            ("place", &place),
            ("sides", &sides),
            ("accumulators", &block.accumulators()),
            ("accumulate", &step),
            ("hand over", &hand),
            ("take", &take),
            ("store", &store),
        ];
        (self.header(&constants, grid) + &fill_template(wgrad_shaders::GEMM_SPLIT_K, &parts), grid, threads)
    }
}
