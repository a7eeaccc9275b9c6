//! GEMM variants and workgroup sizes of reductions.

use std::fmt;
use std::str::FromStr;

/// Kernel variant that computes a GEMM. The results of all variants are equal up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GemmVariant {
    /// One element per invocation. The reference for the other variants.
    Naive,
    /// One block of elements per invocation. The block is kept in registers, and no workgroup memory is used.
    Direct {
        /// Rows of the block.
        rows: u32,
        /// Columns of the block: a multiple of 4.
        columns: u32,
    },
    /// One tile per subgroup. Lanes share the elements of A that they load. Needs subgroups of fixed size.
    Subgroup {
        /// Rows of the tile.
        rows: u32,
        /// Columns per invocation. The tile has `columns` × subgroup size columns.
        columns: u32,
    },
    /// One tile per workgroup. Slices of A and B are kept in workgroup memory.
    Tiled(Tile),
    /// One small tile per workgroup, whose invocations split the sum along k.
    SplitK(SplitK),
}

/// Sizes of a tiled GEMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of the tile.
    pub m: u32,
    /// Columns of the tile.
    pub n: u32,
    /// Number of steps along k in a slice.
    pub k: u32,
    /// Rows per invocation: a multiple of 4.
    pub rows: u32,
    /// Columns per invocation: a multiple of 4.
    pub columns: u32,
}

impl Tile {
    /// Returns the number of invocations along m and n.
    pub(super) fn threads(&self) -> (u32, u32) {
        (self.m / self.rows, self.n / self.columns)
    }

    pub(super) fn invocations(&self) -> u32 {
        let (m, n) = self.threads();
        m * n
    }

    /// Returns the bytes of workgroup memory, including padding.
    pub(super) fn workgroup_bytes(&self) -> u32 {
        (self.m / 4 + 1 + self.n / 4 + 1) * self.k * 16
    }
}

/// Sizes of a split-K GEMM. Each invocation computes 4×4 elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SplitK {
    /// Rows of the tile: a multiple of 4.
    pub m: u32,
    /// Columns of the tile: a multiple of 4.
    pub n: u32,
    /// Number of parts that the sum along k is split into: a power of two.
    pub parts: u32,
}

impl SplitK {
    /// Returns the number of invocations per part of the sum.
    pub(super) fn blocks(&self) -> u32 {
        self.m / 4 * (self.n / 4)
    }

    pub(super) fn invocations(&self) -> u32 {
        self.blocks() * self.parts
    }

    /// Returns the bytes of workgroup memory.
    pub(super) fn workgroup_bytes(&self) -> u32 {
        self.parts / 2 * self.m * self.n * 4
    }
}

/// Workgroup size of a reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lanes {
    /// Number of rows per workgroup.
    pub rows: u32,
    /// Number of invocations that share a row: a power of two.
    pub lanes: u32,
}

const fn tile(m: u32, n: u32, k: u32, rows: u32, columns: u32) -> Tile {
    Tile { m, n, k, rows, columns }
}

/// Tiles from large to small. A GEMM gets the first tile that gives enough workgroups to keep the adapter busy.
pub(super) const TILES: [Tile; 5] = [
    tile(128, 128, 8, 8, 8),
    tile(64, 64, 16, 4, 4),
    tile(32, 32, 16, 4, 4),
    tile(16, 64, 16, 4, 4),
    tile(64, 16, 16, 4, 4),
];

/// Split-K tiles: one for few rows and columns, and one for at most 4 rows.
pub(super) const SPLIT_TILES: [SplitK; 2] =
    [SplitK { m: 16, n: 16, parts: 16 }, SplitK { m: 4, n: 64, parts: 16 }];

impl GemmVariant {
    /// All variants: the variants that can be chosen by shape, and the naive variant. Tests cover each of them.
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
        GemmVariant::SplitK(SPLIT_TILES[0]),
        GemmVariant::SplitK(SPLIT_TILES[1]),
    ];
}

/// Formats the name for logs and for tables on disk: `naive`, `direct 8×8`, `subgroup 8×2`, `tiled 64×64×16 by 4×4`,
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
            GemmVariant::SplitK(SplitK { m, n, parts }) => write!(f, "split {m}×{n} in {parts}"),
        }
    }
}

/// Parses the name of one of [`GemmVariant::ALL`].
impl FromStr for GemmVariant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = GemmVariant::ALL.into_iter().find(|variant| variant.to_string() == name);
        known.ok_or_else(|| {
            format!("`{name}` is not a GEMM variant; expected a name such as `naive` or `direct 8×8`")
        })
    }
}
