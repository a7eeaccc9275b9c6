//! Choice of the GEMM variant by shape and kind of adapter.
//!
//! Measured on llvmpipe (Mesa 25.0.7, Vulkan, two cores) with an f32 GEMM of 512³. Each variant is followed by its
//! GFLOP/s and, in parentheses, the seconds of its first run, which includes compilation: naive 2.7 (0.1 s); direct 4×4
//! 9.4 (0.1 s); direct 4×8 11.9 (0.25 s); direct 8×8 12.6 (0.5 s); subgroup 8×1 19.0 (0.2 s); subgroup 8×2 22.5
//! (0.3 s); tiled 128×128×8 11.1 (0.6 s); tiled 64×64×16 7.2 (0.7 s); the smaller tiles 5.1 to 6.4 (0.8 to 1 s); split
//! 5.6 to 6.5 (0.45 s).
//!
//! Software adapters therefore use subgroups if the subgroups have 8 to 16 lanes, and direct kernels otherwise. The
//! choice for GPUs follows from their architecture and has not been measured; `wgrad tune` measures the variants.

use wgrad_program::Gemm;

use super::target::Target;
use super::variant::{GemmVariant, SPLIT_TILES, TILES, Tile};
use crate::adapter::Class;

/// Minimum size along k at which the gain of splitting k outweighs the cost of summing the parts.
const MIN_SPLIT_DEPTH: usize = 256;

/// Number of workgroups that keep a GPU busy.
const BUSY_WORKGROUPS: usize = 128;

impl GemmVariant {
    /// Chooses the variant by shape and kind of adapter.
    pub(super) fn by_shape(gemm: &Gemm, target: &Target) -> GemmVariant {
        let (batch, m, n) = (gemm.products(), gemm.rows(), gemm.columns());
        if target.class == Class::Software {
            return by_shape_on_software(batch, m, n, target.subgroup_size);
        }
        let waste = |tile: &Tile| {
            let padded = |n: usize, by: u32| n.next_multiple_of(by as usize) as f64 / n as f64;
            padded(m, tile.m) * padded(n, tile.n)
        };
        let groups = |tile: &Tile| batch * m.div_ceil(tile.m as usize) * n.div_ceil(tile.n as usize);
        // TILES[2] is the smallest tile that reuses loaded elements over many rows and many columns.
        if gemm.depth() >= MIN_SPLIT_DEPTH && groups(&TILES[2]) < BUSY_WORKGROUPS / 2 {
            let split = GemmVariant::SplitK(SPLIT_TILES[usize::from(m <= 4)]);
            if split.fits(target) {
                return split;
            }
        }
        let mut fitting = TILES.into_iter().filter(|&tile| GemmVariant::Tiled(tile).fits(target));
        let first = fitting.clone().find(|tile| groups(tile) >= BUSY_WORKGROUPS && waste(tile) < 1.5);
        let least = || fitting.clone().min_by(|a, b| waste(a).total_cmp(&waste(b)));
        match first.or_else(least).or_else(|| fitting.next()) {
            Some(tile) => GemmVariant::Tiled(tile),
            None => GemmVariant::Naive,
        }
    }

    /// Whether a device can run the variant.
    pub fn fits(&self, target: &Target) -> bool {
        match self {
            GemmVariant::Naive | GemmVariant::Direct { .. } => true,
            // The code is unrolled over the lanes, and would be too long for the subgroups of GPUs.
            GemmVariant::Subgroup { .. } => {
                target.subgroup_size.is_some_and(|lanes| (4..=16).contains(&lanes))
            }
            GemmVariant::Tiled(tile) => {
                tile.invocations() <= target.max_invocations
                    && tile.workgroup_bytes() <= target.max_workgroup_bytes
            }
            GemmVariant::SplitK(tile) => {
                tile.invocations() <= target.max_invocations
                    && tile.workgroup_bytes() <= target.max_workgroup_bytes
            }
        }
    }
}

/// Chooses the variant on a software adapter.
///
/// Uses subgroups if they have 8 to 16 lanes. The tiles are narrower if this leaves fewer columns of the tiles unused.
/// Otherwise uses a direct kernel. Its blocks are smaller for small matrices, so that all cores have work.
fn by_shape_on_software(batch: usize, m: usize, n: usize, subgroup_size: Option<u32>) -> GemmVariant {
    if let Some(lanes @ 8..=16) = subgroup_size {
        let padded = |columns: u32| n.next_multiple_of((columns * lanes) as usize);
        // By the measurements above, two columns per lane take 80 % of the time of one column per lane.
        let columns = if padded(2) * 4 <= padded(1) * 5 { 2 } else { 1 };
        return GemmVariant::Subgroup { rows: 8, columns };
    }
    let (rows, columns) = match batch * m * n {
        0..4096 => (4, 4),
        _ => (8, 8),
    };
    GemmVariant::Direct { rows, columns }
}
