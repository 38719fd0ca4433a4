//! Numbers that each thread has of its own, and rows of four coordinates: what all kernels here are written with.

use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, RegTile, RoleBuilder, Scalar, TensorRef, TileRef};

/// Warps of a CTA.
pub(super) const WARPS: u32 = 4;
const THREADS: u32 = 32 * WARPS;

/// Batch, x, y, z of each element.
pub(super) type Four = [TileRef; 4];

/// The types of tiles that hold so many elements a thread.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// `[n, 4]`, a row in one thread: 16 bytes at once.
    wide: RegTile,
    /// `[n, 1]`: neighbouring threads hold neighbours.
    one: RegTile,
}

impl Lanes {
    /// Tiles of `each` elements a thread.
    pub fn new(each: u32) -> Result<Self, LayoutError> {
        let shape = [THREADS * each, 4];
        let wide = RegTile { dtype: DType::I32, shape, layout: blocked(THREADS, shape, 4)? };
        let layout = wide.layout.collapsed(tilewright_ir::layout::Dim::Col)?;
        Ok(Lanes { one: RegTile { dtype: DType::I32, shape: [shape[0], 1], layout }, wide })
    }

    /// Elements of a tile.
    pub fn count(&self) -> u32 {
        self.one.shape[0]
    }

    /// The type of a number an element.
    pub fn one(&self) -> RegTile {
        self.one.clone()
    }

    /// `first`, `first + 1`, ..
    pub fn numbers(&self, r: &mut RoleBuilder, first: Scalar) -> TileRef {
        let i = r.iota(0, self.one());
        self.with(r, "add", i, first)
    }

    /// The same number everywhere.
    pub fn all(&self, r: &mut RoleBuilder, v: Scalar) -> TileRef {
        r.splat(v, self.one())
    }

    /// A literal everywhere.
    pub fn lit(&self, r: &mut RoleBuilder, v: i64) -> TileRef {
        let v = r.int(v);
        self.all(r, v)
    }

    /// `f` of each element and a number.
    pub fn with(&self, r: &mut RoleBuilder, f: &str, a: TileRef, b: Scalar) -> TileRef {
        let b = self.all(r, b);
        r.binary(f, a, b)
    }

    /// `f` of each element and a literal.
    pub fn by(&self, r: &mut RoleBuilder, f: &str, a: TileRef, b: i64) -> TileRef {
        let b = self.lit(r, b);
        r.binary(f, a, b)
    }

    /// A comparison of each element with a number.
    pub fn than(&self, r: &mut RoleBuilder, pred: CmpPred, a: TileRef, b: Scalar) -> TileRef {
        let b = self.all(r, b);
        r.compare(pred, a, b)
    }

    /// A comparison of each element with a literal.
    pub fn is(&self, r: &mut RoleBuilder, pred: CmpPred, a: TileRef, b: i64) -> TileRef {
        let b = self.lit(r, b);
        r.compare(pred, a, b)
    }

    /// The number where the mask holds, else -1: no row.
    pub fn or_none(&self, r: &mut RoleBuilder, mask: TileRef, v: TileRef) -> TileRef {
        let none = self.lit(r, -1);
        r.choose(mask, v, none)
    }

    /// Rows of a tensor `[rows, 4]`; a negative number is zeros.
    pub fn load(&self, r: &mut RoleBuilder, from: &TensorRef, rows: TileRef) -> Four {
        let tile = r.load_rows(from, self.wide.clone(), rows, 0, 4);
        [0, 1, 2, 3].map(|col| r.part(tile, [0, col], self.one()))
    }

    /// The inverse of [`Self::load`]; negative rows are not stored.
    pub fn store(&self, r: &mut RoleBuilder, to: &TensorRef, rows: TileRef, c: Four) {
        let tile = r.reinterpret(&c, self.wide.clone());
        r.store_rows(to, tile, rows, 0, 4);
    }

    /// Where all four are equal.
    pub fn same(&self, r: &mut RoleBuilder, a: Four, b: Four) -> TileRef {
        let parts = [0, 1, 2, 3].map(|i| r.compare(CmpPred::Eq, a[i], b[i]));
        let [b, x, y, z] = parts;
        let (bx, yz) = (r.binary("and", b, x), r.binary("and", y, z));
        r.binary("and", bx, yz)
    }
}
