//! Sums of products by output, in the order of taps: the end of gather-GEMM-scatter. Nothing is added atomically, so every run
//! gives the same bits.

use super::class::CoreError;
use super::finish::{Finish, FinishClass, add_to};
use super::kernel::{TEMPLATE, with_gelu};
use crate::plan::TemplateKernel;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, TileRef};
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
    let finish = Finish::declare(&mut k, class)?;
    k.shape("taps");
    k.require("m * taps <= 2147483647");
    let products = k.tensor("products", DType::F32, ["pairs", "cout"].map(Dim::param));
    let pair_at = k.tensor("pair_at", DType::I32, ["m", "taps"].map(Dim::param));
    finish.record(&mut k, |r, block| {
        let ty = r.tile_type(block.rows);
        let taps = r.param("taps");
        let row_taps = r.splat(taps, ty.clone());
        let first = r.binary("mul", block.rows, row_taps);
        let start = r.float(0.0);
        let start = r.splat(start, block.like.clone());
        let sum = r.tile_cell(start);
        r.for_range(0, taps, AT_ONCE, |r, k| {
            let parts: Vec<TileRef> = (0..AT_ONCE)
                .map(|i| {
                    let k = r.add(k, i);
                    let k = r.splat(k, ty.clone());
                    let index = r.binary("add", first, k);
                    let mask = r.compare(CmpPred::Lt, k, row_taps);
                    let mask = r.binary("and", mask, block.there);
                    let pair = r.load_elems(&pair_at, &[], index, Some(mask));
                    let pair = r.choose(mask, pair, block.none);
                    block.load(r, &products, pair)
                })
                .collect();
            for part in parts {
                add_to(r, sum, part);
            }
        });
        r.get_tile(sum)
    });
    let axes = [("kind", "scatter".to_string()), ("n_align", class.n_align.to_string())];
    Ok(with_gelu(TemplateKernel::plain(id, TEMPLATE, axes, "taps.seq", k), class.epilogue.act))
}

/// The id of [`scatter_kernel`].
pub(super) fn scatter_id(class: &FinishClass) -> String {
    format!("sparse_scatter_{}", class.slug())
}
