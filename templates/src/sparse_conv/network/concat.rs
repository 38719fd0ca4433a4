//! Features side by side: the channels of one layer, then those of another.

use super::plan::NetworkError;
use crate::plan::TemplateKernel;
use tilewright_ir::layout::blocked;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, Unit};
use tilewright_ir::{Arch, DType};

const WARPS: u32 = 4;
const THREADS: u32 = 32 * WARPS;
/// Channels that are copied together: a whole sector of memory.
pub(super) const WIDE: u32 = 16;

/// The id of [`place_kernel`].
pub(super) fn place_id(dtype: DType, wide: bool) -> String {
    format!("sparse_place_{dtype}{}", if wide { "" } else { "_narrow" })
}

/// The kernel: the rows of `x [rows, cols]` below `count` I32 `[1]` are columns `at` and up of `y [rows, width]`, whose other columns
/// are left alone. With `wide` cols, at and width are multiples of 16.
///
/// Scalars: `rows`, `cols`, `width`, `at`.
pub(super) fn place_kernel(arch: Arch, dtype: DType, wide: bool) -> Result<TemplateKernel, NetworkError> {
    let id = place_id(dtype, wide);
    let mut k = KernelBuilder::new(&id, arch);
    for name in ["rows", "cols", "width", "at"] {
        k.shape(name);
    }
    let x = k.tensor("x", dtype, [Dim::param("rows"), Dim::param("cols")]);
    let count = k.tensor("count", DType::I32, [Dim { param: None, factor: 1 }]);
    let y = k.tensor("y", dtype, [Dim::param("rows"), Dim::param("width")]);
    let (shape, vec) = if wide { ([64, WIDE], 16 / dtype.bytes()) } else { ([THREADS, 1], 1) };
    if wide {
        ["cols", "width", "at"].into_iter().for_each(|name| k.require(format!("{name} % {WIDE} == 0")));
    }
    let [bm, bn] = shape;
    k.grid([format!("ceil_div(rows,{bm})"), format!("ceil_div(cols,{bn})"), "1".into()]);
    let like = RegTile { dtype, shape, layout: blocked(THREADS, shape, vec)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let ty = r.row_vec(&like, DType::I32);
        let (zero, rows, at) = (r.int(0), r.param("rows"), r.param("at"));
        let (first, col) = (r.cta_id(0), r.cta_id(1));
        let (first, col) = (r.mul(first, bm), r.mul(col, bn));
        let count = r.load_scalar(&count, &[zero]);
        let count = r.min(count, rows);
        let (first, count) = (r.splat(first, ty.clone()), r.splat(count, ty.clone()));
        let number = r.iota(0, ty);
        let number = r.binary("add", number, first);
        let there = r.compare(CmpPred::Lt, number, count);
        let none = r.splat_int(-1, number);
        let row = r.choose(there, number, none);
        let tile = r.load_rows(&x, like.clone(), row, col, vec);
        let to = r.add(at, col);
        r.store_rows(&y, tile, row, to, vec);
    });
    Ok(TemplateKernel::plain(id, "sparse_conv", [("kind", "place".to_string())], "none", k))
}
