//! How tiles of the output leave a Hopper kernel: through shared memory and TMA, or from registers, whole or cut at the end of
//! a group of rows.

use super::epilogue::EpilogueAt;
use super::grouped::store_some_rows;
use super::problem::Groups;
use tilewright_ir::tile::{CmpPred, RoleBuilder, Scalar, Staging, TensorRef, TileRef};

/// The way out of a warpgroup's tile.
pub(super) struct Leave<'a> {
    pub groups: Groups,
    pub d: &'a TensorRef,
    /// Two buffers for each warpgroup, one written while the other is stored; `None` where registers go out directly.
    pub staging: Option<&'a Staging>,
    pub wg: Scalar,
    /// Rows of each piece.
    pub rows: u32,
    /// Neighbours along n that one store may take.
    pub vec: u32,
    /// Stores that may still read their buffer when the next piece is written.
    pub in_flight: i64,
}

impl Leave<'_> {
    /// Stores a piece, through buffer `copy` where there are buffers; only the first `left` rows where there is a limit.
    pub fn store(&self, r: &mut RoleBuilder, y: TileRef, at: EpilogueAt, left: Option<Scalar>, copy: u32) {
        match (self.staging, left) {
            (None, None) => r.store_tile(self.d, y, &[at.batch, at.row, at.col], self.vec),
            (None, Some(left)) => store_some_rows(r, self.groups, self.d, y, at, left, self.vec),
            (Some(staging), None) => self.store_box(r, staging, y, at, copy),
            (Some(staging), Some(left)) => {
                // A box would also write rows of the next group.
                let full = r.cmp(CmpPred::Ge, left, self.rows);
                r.if_then(full, |r| self.store_box(r, staging, y, at, copy));
                let cut = r.cmp(CmpPred::Lt, left, self.rows);
                r.if_then(cut, |r| store_some_rows(r, self.groups, self.d, y, at, left, self.vec));
            }
        }
    }

    fn store_box(&self, r: &mut RoleBuilder, staging: &Staging, y: TileRef, at: EpilogueAt, copy: u32) {
        let index = r.mul(self.wg, 2);
        let index = r.add(index, copy);
        let buffer = r.staging(staging, index);
        r.tma_store_wait(self.in_flight);
        r.sync();
        r.store_matrix(buffer, y);
        r.sync();
        r.tma_store(self.d, buffer, &[at.batch, at.row, at.col]);
    }
}
