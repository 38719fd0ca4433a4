//! Copies operands of bytes to where TMA and wgmma can read them: rows of a multiple of 16, k contiguous. A plan for any k, not a
//! fast one: elements are moved one by one.

use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, Unit};

const WARPS: u32 = 4;
/// Rows a tensor map can address are multiples of this many bytes (CUDA driver API, cuTensorMapEncodeTiled).
pub(super) const ROW_BYTES: u32 = 16;

/// Columns of a copied row, as an expression of k.
pub(super) fn padded_k() -> String {
    format!("ceil_div(k,{ROW_BYTES})*{ROW_BYTES}")
}

/// Records the kernel: `x [rows, k]` -> `y [rows, ceil(k/16)*16]`, zeros past k. Scalars: `rows`, `k`.
pub(super) fn pad_rows(k: &mut KernelBuilder, dtype: DType) -> Result<(), LayoutError> {
    let shape = [16, 256];
    for name in ["rows", "k"] {
        k.shape(name);
    }
    let x = k.tensor("x", dtype, [Dim::param("rows"), Dim::param("k")]);
    let y = k.tensor("y", dtype, [Dim::param("rows"), Dim::param(&padded_k())]);
    k.grid([format!("ceil_div(rows,{})", shape[0]), format!("ceil_div(k,{})", shape[1]), "1".into()]);
    let like = RegTile { dtype, shape, layout: blocked(WARPS * 32, shape, 1)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (row, col) = (r.cta_id(0), r.cta_id(1));
        let at = [r.mul(row, shape[0]), r.mul(col, shape[1])];
        let tile = r.load_tile(&x, like, &at, &[0, 1], 1);
        r.store_tile(&y, tile, &at, 1);
    });
    Ok(())
}

/// Records the kernel: `x [batch, k, rows]` -> `y [batch, rows, ceil(k/16)*16]`, zeros past k. Scalars: `batch`, `rows`, `k`.
pub(super) fn turn_rows(k: &mut KernelBuilder, dtype: DType) -> Result<(), LayoutError> {
    let shape = [64, 64];
    for name in ["batch", "rows", "k"] {
        k.shape(name);
    }
    let x = k.tensor("x", dtype, [Dim::param("batch"), Dim::param("k"), Dim::param("rows")]);
    let y = k.tensor("y", dtype, [Dim::param("batch"), Dim::param("rows"), Dim::param(&padded_k())]);
    k.grid([format!("ceil_div(rows,{})", shape[1]), format!("ceil_div(k,{})", shape[0]), "batch".into()]);
    let like = RegTile { dtype, shape, layout: blocked(WARPS * 32, shape, 1)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (row, col, batch) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let (row, col) = (r.mul(row, shape[1]), r.mul(col, shape[0]));
        let tile = r.load_tile(&x, like, &[batch, col, row], &[0, 1], 1);
        let turned = r.transpose(tile);
        r.store_tile(&y, turned, &[batch, row, col], 1);
    });
    Ok(())
}
