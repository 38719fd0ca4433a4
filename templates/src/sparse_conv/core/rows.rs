//! What the small kernels share: CTAs that each take a block of a matrix, rows first.

use super::class::CoreError;
use tilewright_ir::DType;
use tilewright_ir::layout::blocked;
use tilewright_ir::tile::{CmpPred, RegTile, RoleBuilder, Scalar, TileRef};

/// Warps of a CTA.
pub(super) const WARPS: u32 = 4;
/// Rows of a CTA's block.
pub(super) const ROWS: u32 = 64;
/// Columns of a CTA's block: few convolutions have fewer channels.
pub(super) const COLS: u32 = 32;

/// A CTA's block.
pub(super) struct At {
    /// First row.
    pub first: Scalar,
    /// First column.
    pub col: Scalar,
    ty: RegTile,
}

/// A block in registers, `vec` neighbours a thread.
pub(super) fn matrix(dtype: DType, vec: u32) -> Result<RegTile, CoreError> {
    let shape = [ROWS, COLS];
    Ok(RegTile { dtype, shape, layout: blocked(WARPS * 32, shape, vec)? })
}

/// The block of this CTA in a matrix of so many columns: blocks beside each other follow each other.
pub(super) fn place(r: &mut RoleBuilder, like: &RegTile, columns: Scalar) -> At {
    let cta = r.cta_id(0);
    let across = r.ceil_div(columns, COLS);
    let (row, col) = (r.div(cta, across), r.rem(cta, across));
    let (first, col) = (r.mul(row, ROWS), r.mul(col, COLS));
    At { first, col, ty: r.row_vec(like, DType::I32) }
}

impl At {
    /// Numbers of the block's rows that are below `end`, -1 for the others.
    pub fn rows_below(&self, r: &mut RoleBuilder, end: Scalar) -> TileRef {
        let number = r.iota(0, self.ty.clone());
        let (first, end) = (r.splat(self.first, self.ty.clone()), r.splat(end, self.ty.clone()));
        let number = r.binary("add", number, first);
        let there = r.compare(CmpPred::Lt, number, end);
        let none = r.splat_int(-1, number);
        r.choose(there, number, none)
    }
}
