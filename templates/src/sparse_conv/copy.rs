//! Coordinates of outputs that are inputs or given.

use crate::plan::TemplateKernel;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, Unit};
use tilewright_ir::{Arch, DType};

/// Its id.
pub(super) const ID: &str = "coords_copy";
const WARPS: u32 = 4;
/// Rows of a CTA, one a thread.
const ROWS: u32 = 32 * WARPS;

/// The kernel: the rows of `coords` I32 `[rows, 4]` below `count` I32 `[1]` are those of `coords_out` I32 `[rows, 4]`; the others are
/// left alone. Scalars: `rows`.
pub(super) fn copy(arch: Arch) -> Result<TemplateKernel, LayoutError> {
    let mut k = KernelBuilder::new(ID, arch);
    k.shape("rows");
    let four = || [Dim::param("rows"), Dim { param: None, factor: 4 }];
    let coords = k.tensor("coords", DType::I32, four());
    let count = k.tensor("count", DType::I32, [Dim { param: None, factor: 1 }]);
    let coords_out = k.tensor("coords_out", DType::I32, four());
    k.grid([format!("ceil_div(rows,{ROWS})"), "1".into(), "1".into()]);
    let like = RegTile { dtype: DType::I32, shape: [ROWS, 4], layout: blocked(ROWS, [ROWS, 4], 4)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let ty = r.row_vec(&like, DType::I32);
        let (zero, rows, cta) = (r.int(0), r.param("rows"), r.cta_id(0));
        let count = r.load_scalar(&count, &[zero]);
        let count = r.min(count, rows);
        let (first, count) = (r.mul(cta, ROWS), r.splat(count, ty.clone()));
        let (first, number) = (r.splat(first, ty.clone()), r.iota(0, ty.clone()));
        let number = r.binary("add", number, first);
        let there = r.compare(CmpPred::Lt, number, count);
        let none = r.splat_int(-1, number);
        let row = r.choose(there, number, none);
        let c = r.load_rows(&coords, like.clone(), row, 0, 4);
        r.store_rows(&coords_out, c, row, 0, 4);
    });
    Ok(TemplateKernel::plain(ID.into(), "sparse_conv", [("kind", ID.to_string())], "none", k))
}
