//! Rasterisation: from a tile's number to its place.

use tilewright_ir::tile::{Operand, RoleBuilder, Scalar};

/// A grid of output tiles (or clusters of tiles), and how it is walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raster {
    /// Rows of tiles.
    pub m: Scalar,
    /// Columns of tiles.
    pub n: Scalar,
    /// Tiles of one matrix, `m * n`.
    pub per_matrix: Scalar,
    /// Rows walked together before the next column: tiles in flight then share rows of a and columns of b, which keeps
    /// both in L2.
    pub group: u32,
}

/// Where a tile lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileAt {
    /// Row of tiles.
    pub m: Scalar,
    /// Column of tiles.
    pub n: Scalar,
    /// Matrix: batch, and part of a split k.
    pub matrix: Scalar,
}

impl Raster {
    /// A grid over an `m x n` output.
    pub fn new(r: &mut RoleBuilder, tile: [u32; 2], group: u32) -> Self {
        let (m, n) = (r.param("m"), r.param("n"));
        let (m, n) = (r.ceil_div(m, tile[0]), r.ceil_div(n, tile[1]));
        let per_matrix = r.mul(m, n);
        Raster { m, n, per_matrix, group }
    }

    /// A grid of `m` rows of tiles over `n` columns.
    pub fn of_rows(r: &mut RoleBuilder, m: Scalar, tile_cols: u32, group: u32) -> Self {
        let n = r.param("n");
        let n = r.ceil_div(n, tile_cols);
        let per_matrix = r.mul(m, n);
        Raster { m, n, per_matrix, group }
    }

    /// The place of tile `t`: down `group` rows, then to the next column; groups follow each other.
    pub fn at(&self, r: &mut RoleBuilder, t: impl Into<Operand>) -> TileAt {
        let t = t.into();
        let matrix = r.div(t, self.per_matrix);
        let rest = r.rem(t, self.per_matrix);
        let in_group = r.mul(self.n, self.group);
        let group = r.div(rest, in_group);
        let rest = r.rem(rest, in_group);
        let first = r.mul(group, self.group);
        let left = r.sub(self.m, first);
        let rows = r.min(left, self.group);
        let row = r.rem(rest, rows);
        let m = r.add(first, row);
        let n = r.div(rest, rows);
        TileAt { m, n, matrix }
    }
}
