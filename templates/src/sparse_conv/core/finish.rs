//! From f32 sums to the output: parts added up in their order, then the epilogue.

use super::class::{CoreError, EpilogueClass};
use super::epilogue::Epilogue;
use super::kernel::{TEMPLATE, with_gelu};
use super::rows::{COLS, ROWS, WARPS, matrix, place};
use crate::plan::TemplateKernel;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, Unit};
use tilewright_ir::{Arch, DType};

/// What a kernel of this file, or of `scatter`, makes of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FinishClass {
    /// Dtype of the output.
    pub dtype: DType,
    /// What is done to whole sums.
    pub epilogue: EpilogueClass,
    /// cout is a multiple of this: 1, 2, 4 or 8.
    pub n_align: u32,
}

impl FinishClass {
    /// A short name for ids: `bf16_a8_bias_relu`.
    pub(super) fn slug(&self) -> String {
        format!("{}_a{}{}", self.dtype, self.n_align, self.epilogue.slug(self.dtype))
    }
}

/// The kernel: row m of `y [m, cout]` is the epilogue of the sum over s, ascending, of rows m of `sums` f32 `[splits, m, cout]`, for the
/// `count` rows that exist. The same bits in every run.
///
/// Scalars: `m`, `cout`, `splits`; `splits * m` fits 31 bits.
pub fn finish_kernel(arch: Arch, class: &FinishClass) -> Result<TemplateKernel, CoreError> {
    class.epilogue.check(class.dtype)?;
    let id = finish_id(class);
    let mut k = KernelBuilder::new(&id, arch);
    for name in ["m", "cout", "splits"] {
        k.shape(name);
    }
    let [m, cout] = ["m", "cout"].map(Dim::param);
    let sums = k.tensor("sums", DType::F32, [Dim::param("splits"), m.clone(), cout.clone()]);
    let count = k.tensor("count", DType::I32, [Dim { param: None, factor: 1 }]);
    let y = k.tensor("y", class.dtype, [m, cout]);
    let epilogue = Epilogue::declare(&mut k, class.epilogue, class.dtype, class.n_align);
    k.require("splits * m <= 2147483647");
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
            let none = r.splat_int(-1, rows);
            let there = r.compare(CmpPred::Ne, rows, none);
            let first = r.load_rows(&sums, like.clone(), rows, at.col, vec);
            let sum = r.tile_cell(first);
            let (m, splits) = (r.param("m"), r.param("splits"));
            r.for_range(1, splits, 1, |r, s| {
                let further = r.mul(s, m);
                let further = r.splat(further, r.tile_type(rows));
                let further = r.binary("add", rows, further);
                let part = r.choose(there, further, none);
                let part = r.load_rows(&sums, like.clone(), part, at.col, vec);
                let before = r.get_tile(sum);
                let after = r.binary("add", before, part);
                r.set_tile(sum, after);
            });
            let sum = r.get_tile(sum);
            let tile = epilogue.emit(r, sum, rows, at.col);
            let tile = r.cast(tile, class.dtype);
            r.store_rows(&y, tile, rows, at.col, class.n_align.min(16 / class.dtype.bytes()));
        });
    });
    let axes = [("kind", "finish".to_string()), ("n_align", class.n_align.to_string())];
    Ok(with_gelu(TemplateKernel::plain(id, TEMPLATE, axes, "splits.seq", k), class.epilogue.act))
}

/// The id of [`finish_kernel`].
pub(super) fn finish_id(class: &FinishClass) -> String {
    format!("sparse_finish_{}", class.slug())
}
