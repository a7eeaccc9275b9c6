//! The variants of the matrix product, and which one a shape gets.
//!
//! Measured on llvmpipe (Mesa 25.0.7, Vulkan, two cores), f32, in GFLOP/s at 512³, with the seconds of the first run, which
//! compiles: naive 2.7 (0.1 s); direct 4×4 9.4 (0.1 s); direct 4×8 11.9 (0.25 s); direct 8×8 12.6 (0.5 s); subgroup 8×1 19.0
//! (0.2 s); subgroup 8×2 22.5 (0.3 s); tiled 128×128×8 11.1 (0.6 s); tiled 64×64×16 7.2 (0.7 s); the smaller tiles 5.1 to 6.4
//! (0.8 to 1 s); split 5.6 to 6.5 (0.45 s). So software gets subgroups where they have 8 lanes, and else the direct ones. The
//! choice for GPUs is from their architecture and not yet measured on one: `wgrad tune` measures it.

use std::fmt;
use std::str::FromStr;

use wgrad_program::Gemm;

use super::Target;
use crate::adapter::Class;

/// A way to compute a matrix product. All give the same values within rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GemmVariant {
    /// One invocation an element: the reference.
    Naive,
    /// A block of elements an invocation, in registers, without workgroup memory.
    Direct {
        /// Rows of the block.
        rows: u32,
        /// Columns of the block: a multiple of 4.
        columns: u32,
    },
    /// A tile a subgroup, whose lanes load rows of A for each other. For devices whose subgroups have one size.
    Subgroup {
        /// Rows of the tile.
        rows: u32,
        /// Columns of an invocation; the tile has as many times the lanes.
        columns: u32,
    },
    /// A tile a workgroup, through workgroup memory.
    Tiled(Tile),
    /// A small tile a workgroup, whose invocations share out the sum along k.
    Split(Split),
}

/// Sizes of a tiled product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of the tile.
    pub m: u32,
    /// Columns of the tile.
    pub n: u32,
    /// Depth of a slice.
    pub k: u32,
    /// Rows an invocation computes: a multiple of 4.
    pub rows: u32,
    /// Columns an invocation computes: a multiple of 4.
    pub columns: u32,
}

impl Tile {
    /// Invocations along m and n.
    pub(super) fn threads(&self) -> (u32, u32) {
        (self.m / self.rows, self.n / self.columns)
    }

    fn invocations(&self) -> u32 {
        let (m, n) = self.threads();
        m * n
    }

    /// Bytes of workgroup memory, padding included.
    fn shared_bytes(&self) -> u32 {
        (self.m / 4 + 1 + self.n / 4 + 1) * self.k * 16
    }
}

/// Sizes of a product whose sum along k is shared out. An invocation computes 4×4 elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Split {
    /// Rows of the tile: a multiple of 4.
    pub m: u32,
    /// Columns of the tile: a multiple of 4.
    pub n: u32,
    /// Invocations that share out the sum of an element: a power of two.
    pub parts: u32,
}

impl Split {
    /// Invocations that a part of the sum takes.
    pub(super) fn blocks(&self) -> u32 {
        self.m / 4 * (self.n / 4)
    }

    pub(super) fn invocations(&self) -> u32 {
        self.blocks() * self.parts
    }

    /// Bytes of workgroup memory.
    fn shared_bytes(&self) -> u32 {
        self.parts / 2 * self.m * self.n * 4
    }
}

const fn tile(m: u32, n: u32, k: u32, rows: u32, columns: u32) -> Tile {
    Tile { m, n, k, rows, columns }
}

/// From large to small. A product takes the first of which it fills enough to keep the adapter busy.
const TILES: [Tile; 5] = [
    tile(128, 128, 8, 8, 8),
    tile(64, 64, 16, 4, 4),
    tile(32, 32, 16, 4, 4),
    tile(16, 64, 16, 4, 4),
    tile(64, 16, 16, 4, 4),
];

/// For few rows and columns, and for a few rows alone.
const SPLITS: [Split; 2] = [Split { m: 16, n: 16, parts: 16 }, Split { m: 4, n: 64, parts: 16 }];

/// Steps along k from which on sharing them out pays for adding up the parts.
const LONG: usize = 256;

/// Workgroups that keep a GPU busy.
const BUSY: usize = 128;

impl GemmVariant {
    /// Every variant that a product may get, and the naive one: what has to be tested.
    pub const ALL: [GemmVariant; 13] = [
        GemmVariant::Naive,
        GemmVariant::Direct { rows: 4, columns: 4 },
        GemmVariant::Direct { rows: 4, columns: 8 },
        GemmVariant::Direct { rows: 8, columns: 8 },
        GemmVariant::Subgroup { rows: 8, columns: 1 },
        GemmVariant::Subgroup { rows: 8, columns: 2 },
        GemmVariant::Tiled(TILES[0]),
        GemmVariant::Tiled(TILES[1]),
        GemmVariant::Tiled(TILES[2]),
        GemmVariant::Tiled(TILES[3]),
        GemmVariant::Tiled(TILES[4]),
        GemmVariant::Split(SPLITS[0]),
        GemmVariant::Split(SPLITS[1]),
    ];

    /// The variant for a product by its shape and the kind of adapter.
    pub(super) fn by_shape(gemm: &Gemm, target: &Target) -> GemmVariant {
        let (batch, m, n) = (gemm.products(), gemm.rows(), gemm.columns());
        if target.class == Class::Software {
            return software(batch, m, n, target.subgroup);
        }
        let waste = |tile: &Tile| {
            let padded = |n: usize, by: u32| n.next_multiple_of(by as usize) as f64 / n as f64;
            padded(m, tile.m) * padded(n, tile.n)
        };
        let groups = |tile: &Tile| batch * m.div_ceil(tile.m as usize) * n.div_ceil(tile.n as usize);
        // The least tile that shares what it loads between many rows and columns.
        if gemm.depth() >= LONG && groups(&TILES[2]) < BUSY / 2 {
            let split = GemmVariant::Split(SPLITS[usize::from(m <= 4)]);
            if split.fits(target) {
                return split;
            }
        }
        let mut fitting = TILES.into_iter().filter(|&tile| GemmVariant::Tiled(tile).fits(target));
        let first = fitting.clone().find(|tile| groups(tile) >= BUSY && waste(tile) < 1.5);
        let least = || fitting.clone().min_by(|a, b| waste(a).total_cmp(&waste(b)));
        match first.or_else(least).or_else(|| fitting.next()) {
            Some(tile) => GemmVariant::Tiled(tile),
            None => GemmVariant::Naive,
        }
    }

    /// Whether a device can run it.
    pub fn fits(&self, target: &Target) -> bool {
        match self {
            GemmVariant::Naive | GemmVariant::Direct { .. } => true,
            // What is written out for each lane would be long for those of cards.
            GemmVariant::Subgroup { .. } => target.subgroup.is_some_and(|lanes| (4..=16).contains(&lanes)),
            GemmVariant::Tiled(tile) => {
                tile.invocations() <= target.invocations && tile.shared_bytes() <= target.shared_bytes
            }
            GemmVariant::Split(tile) => {
                tile.invocations() <= target.invocations && tile.shared_bytes() <= target.shared_bytes
            }
        }
    }
}

/// For people and for tables on disk: `naive`, `direct 8×8`, `subgroup 8×2`, `tiled 64×64×16 by 4×4`,
/// `split 16×16 in 16`.
impl fmt::Display for GemmVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GemmVariant::Naive => f.write_str("naive"),
            GemmVariant::Direct { rows, columns } => write!(f, "direct {rows}×{columns}"),
            GemmVariant::Subgroup { rows, columns } => write!(f, "subgroup {rows}×{columns}"),
            GemmVariant::Tiled(Tile { m, n, k, rows, columns }) => {
                write!(f, "tiled {m}×{n}×{k} by {rows}×{columns}")
            }
            GemmVariant::Split(Split { m, n, parts }) => write!(f, "split {m}×{n} in {parts}"),
        }
    }
}

/// The name of a variant back to the variant: one of [`GemmVariant::ALL`].
impl FromStr for GemmVariant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = GemmVariant::ALL.into_iter().find(|variant| variant.to_string() == name);
        known.ok_or_else(|| format!("there is no variant `{name}` of the matrix product"))
    }
}

/// By subgroups where they are wide enough to pay; narrower tiles for fewer columns. Else straight from memory, in smaller
/// blocks for small products, so that all cores have some.
fn software(batch: usize, m: usize, n: usize, subgroup: Option<u32>) -> GemmVariant {
    if let Some(lanes @ 8..=16) = subgroup {
        let padded = |columns: u32| n.next_multiple_of((columns * lanes) as usize);
        // Two columns a lane take four fifths of the time of one, by the figures above.
        let columns = if padded(2) * 4 <= padded(1) * 5 { 2 } else { 1 };
        return GemmVariant::Subgroup { rows: 8, columns };
    }
    let (rows, columns) = match batch * m * n {
        0..4096 => (4, 4),
        _ => (8, 8),
    };
    GemmVariant::Direct { rows, columns }
}
