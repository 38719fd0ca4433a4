//! Rows in the order of an index: tokens sorted by expert.

use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, Unit};

const WARPS: u32 = 4;
/// Rows of a CTA.
const ROWS: u32 = 16;
/// Columns of a CTA.
const COLS: u32 = 256;

/// Records the kernel: row i of `sorted [tokens, k]` is row `gather[i]` of `a [rows, k]`, zeros where the number is none of
/// its rows. `gather` is I32 `[tokens]`.
///
/// Scalars: `tokens`, `rows`, `k`, a multiple of `align`: so many elements, at most 16 bytes, are copied at once.
///
/// # Errors
/// An `align` that is none of these.
pub fn gather_rows(k: &mut KernelBuilder, dtype: DType, align: u32) -> Result<(), LayoutError> {
    for name in ["tokens", "rows", "k"] {
        k.shape(name);
    }
    let a = k.tensor("a", dtype, [Dim::param("rows"), Dim::param("k")]);
    let index = k.tensor("gather", DType::I32, [Dim::param("tokens")]);
    let sorted = k.tensor("sorted", dtype, [Dim::param("tokens"), Dim::param("k")]);
    k.grid([format!("ceil_div(tokens,{ROWS})"), format!("ceil_div(k,{COLS})"), "1".into()]);
    if align > 1 {
        k.require(format!("k % {align} == 0"));
    }
    let shape = [ROWS, COLS];
    let like = RegTile { dtype, shape, layout: blocked(WARPS * 32, shape, align)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (x, y) = (r.cta_id(0), r.cta_id(1));
        let (first, col) = (r.mul(x, ROWS), r.mul(y, COLS));
        let ty = r.row_vec(&like, DType::I32);
        let number = r.iota(0, ty.clone());
        let first = r.splat(first, ty.clone());
        let number = r.binary("add", number, first);
        let (tokens, rows, none, zero) = (r.param("tokens"), r.param("rows"), r.int(-1), r.int(0));
        let [tokens, rows, none, zero] = [tokens, rows, none, zero].map(|v| r.splat(v, ty.clone()));
        let inside = r.compare(CmpPred::Lt, number, tokens);
        let from = r.load_elems(&index, &[], number, Some(inside));
        let (low, high) = (r.compare(CmpPred::Ge, from, zero), r.compare(CmpPred::Lt, from, rows));
        let there = r.binary("and", low, high);
        let from = r.choose(there, from, none);
        let to = r.choose(inside, number, none);
        // Past the last token the index reads as 0, which is a row.
        let from = r.choose(inside, from, none);
        let tile = r.load_rows(&a, like.clone(), from, col, align);
        r.store_rows(&sorted, tile, to, col, align);
    });
    Ok(())
}
