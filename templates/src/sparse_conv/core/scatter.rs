//! Sums of products by output, in the order of taps: the end of gather-GEMM-scatter. Nothing is added atomically, so every run
//! gives the same bits.

use super::class::CoreError;
use super::epilogue::Epilogue;
use super::finish::FinishClass;
use super::kernel::{TEMPLATE, with_gelu};
use super::rows::{COLS, ROWS, WARPS, matrix, place};
use crate::plan::TemplateKernel;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, TileRef, Unit};
use tilewright_ir::{Arch, DType};

/// Taps whose products are under way at once.
const AT_ONCE: u32 = 4;

/// The kernel: row m of `y [m, cout]` is the epilogue of the sum over taps k, ascending, of rows `pair_at[m, k]` of `products` f32
/// `[pairs, cout]`, for the `count` rows that exist. `pair_at` is I32 `[m, taps]`, -1 where the output has no such tap.
///
/// Scalars: `m`, `cout`, `taps`; `m * taps` fits 31 bits.
pub fn scatter_kernel(arch: Arch, class: &FinishClass) -> Result<TemplateKernel, CoreError> {
    class.epilogue.check(class.dtype)?;
    let id = scatter_id(class);
    let mut k = KernelBuilder::new(&id, arch);
    for name in ["m", "cout", "taps"] {
        k.shape(name);
    }
    let [m, cout, taps] = ["m", "cout", "taps"].map(Dim::param);
    let products = k.tensor("products", DType::F32, [Dim::param("pairs"), cout.clone()]);
    let pair_at = k.tensor("pair_at", DType::I32, [m.clone(), taps]);
    let count = k.tensor("count", DType::I32, [Dim { param: None, factor: 1 }]);
    let y = k.tensor("y", class.dtype, [m, cout]);
    let epilogue = Epilogue::declare(&mut k, class.epilogue, class.dtype, class.n_align);
    k.require("m * taps <= 2147483647");
    if class.n_align > 1 {
        k.require(format!("cout % {} == 0", class.n_align));
    }
    k.grid([format!("ceil_div(m,{ROWS})*ceil_div(cout,{COLS})"), "1".into(), "1".into()]);
    // Where columns are accessed one by one, neighbouring lanes have neighbours.
    let like = matrix(DType::F32, class.n_align)?;
    let vec = class.n_align.min(4);
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (cout, zero) = (r.param("cout"), r.int(0));
        let at = place(r, &like, cout);
        let exist = r.load_scalar(&count, &[zero]);
        let some = r.cmp(CmpPred::Lt, at.first, exist);
        r.if_then(some, |r| {
            let rows = at.rows_below(r, exist);
            let ty = r.tile_type(rows);
            let none = r.splat_int(-1, rows);
            let there = r.compare(CmpPred::Ne, rows, none);
            let taps = r.param("taps");
            let row_taps = r.splat(taps, ty.clone());
            let first = r.binary("mul", rows, row_taps);
            let start = r.float(0.0);
            let start = r.splat(start, like.clone());
            let sum = r.tile_cell(start);
            r.for_range(0, taps, AT_ONCE, |r, k| {
                let parts: Vec<TileRef> = (0..AT_ONCE)
                    .map(|i| {
                        let k = r.add(k, i);
                        let k = r.splat(k, ty.clone());
                        let index = r.binary("add", first, k);
                        let mask = r.compare(CmpPred::Lt, k, row_taps);
                        let mask = r.binary("and", mask, there);
                        let pair = r.load_elems(&pair_at, &[], index, Some(mask));
                        let pair = r.choose(mask, pair, none);
                        r.load_rows(&products, like.clone(), pair, at.col, vec)
                    })
                    .collect();
                for part in parts {
                    let before = r.get_tile(sum);
                    let after = r.binary("add", before, part);
                    r.set_tile(sum, after);
                }
            });
            let sum = r.get_tile(sum);
            let tile = epilogue.emit(r, sum, rows, at.col);
            let tile = r.cast(tile, class.dtype);
            r.store_rows(&y, tile, rows, at.col, class.n_align.min(16 / class.dtype.bytes()));
        });
    });
    let axes = [("kind", "scatter".to_string()), ("n_align", class.n_align.to_string())];
    Ok(with_gelu(TemplateKernel::plain(id, TEMPLATE, axes, "taps.seq", k), class.epilogue.act))
}

/// The id of [`scatter_kernel`].
pub(super) fn scatter_id(class: &FinishClass) -> String {
    format!("sparse_scatter_{}", class.slug())
}
