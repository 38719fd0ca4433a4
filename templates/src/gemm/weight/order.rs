//! Columns in another order: the gather that puts those of a where a packed weight has them, and the copy that hands the
//! order on beside the weight.

use super::pack::below;
use super::source::with;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, Unit};

const WARPS: u32 = 4;

/// Records the gather kernel: `a` `[batch, m, k]`, `perm` I32 `[k]` -> `a_perm` `[batch, m, k]` with column `i` of it column `perm[i]` of a.
///
/// Scalars: `batch`, `m`, `k`.
pub fn gather_kernel(k: &mut KernelBuilder, dtype: DType) -> Result<(), LayoutError> {
    const WIDE: u32 = 256;
    const TALL: u32 = 8;
    for name in ["batch", "m", "k"] {
        k.shape(name);
    }
    let matrix = [Dim::param("batch"), Dim::param("m"), Dim::param("k")];
    let a = k.tensor("a", dtype, matrix.clone());
    let perm = k.tensor("perm", DType::I32, [Dim::param("k")]);
    let out = k.tensor("a_perm", dtype, matrix);
    k.grid([format!("ceil_div(k,{WIDE})"), format!("ceil_div(m,{TALL})"), "batch".into()]);
    let shape = [TALL, WIDE];
    let like = RegTile { dtype: DType::I32, shape, layout: blocked(WARPS * 32, shape, 1)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (x, y, batch) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let (col0, row0) = (r.mul(x, WIDE), r.mul(y, TALL));
        let (m, cols) = (r.param("m"), r.param("k"));
        let col = r.iota(1, r.col_vec(&like, DType::I32));
        let col = with(r, "add", col, col0);
        let col_inside = below(r, col, cols);
        let from = r.load_elems(&perm, &[], col, Some(col_inside));
        let row = r.iota(0, r.row_vec(&like, DType::I32));
        let row = with(r, "add", row, row0);
        let row_inside = below(r, row, m);
        let start = with(r, "mul", row, cols);
        let [start, from, to] = [start, from, col].map(|v| r.broadcast(v, like.clone()));
        let mask = RegTile { dtype: DType::I1, ..like.clone() };
        let (row_inside, col_inside) = (r.broadcast(row_inside, mask.clone()), r.broadcast(col_inside, mask));
        let inside = r.binary("and", row_inside, col_inside);
        let (from, to) = (r.binary("add", start, from), r.binary("add", start, to));
        // 16-bit floats are F32 on the way: the same number again.
        let moved = r.load_elems(&a, &[batch], from, Some(inside));
        r.store_elems(&out, &[batch], to, moved, Some(inside));
    });
    Ok(())
}

/// Records the copy kernel: `order` I32 `[k]` -> `perm` I32 `[k]`.
///
/// Scalars: `k`.
pub fn copy_kernel(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    const WIDE: u32 = WARPS * 32;
    k.shape("k");
    let [from, to] = ["order", "perm"].map(|name| k.tensor(name, DType::I32, [Dim::param("k")]));
    k.grid([format!("ceil_div(k,{WIDE})"), "1".into(), "1".into()]);
    let like = RegTile { dtype: DType::I32, shape: [1, WIDE], layout: blocked(WIDE, [1, WIDE], 1)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let x = r.cta_id(0);
        let first = r.mul(x, WIDE);
        let (at, end) = (r.iota(1, like.clone()), r.param("k"));
        let at = with(r, "add", at, first);
        let inside = below(r, at, end);
        let number = r.load_elems(&from, &[], at, Some(inside));
        r.store_elems(&to, &[], at, number, Some(inside));
    });
    Ok(())
}
