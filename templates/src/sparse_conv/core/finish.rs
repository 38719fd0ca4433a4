//! From f32 sums to the output: parts added up in their order, then the epilogue.

use super::class::{CoreError, EpilogueClass};
use super::epilogue::Epilogue;
use super::kernel::{TEMPLATE, with_gelu};
use super::rows::{COLS, ROWS, WARPS, matrix, place};
use crate::plan::TemplateKernel;
use tilewright_ir::tile::{Cell, CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};
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

/// What every kernel that makes outputs of sums shares: the outputs, how many exist, the epilogue.
pub(super) struct Finish {
    class: FinishClass,
    count: TensorRef,
    y: TensorRef,
    epilogue: Epilogue,
    like: RegTile,
}

/// The outputs of a CTA.
pub(super) struct Block {
    /// Their numbers, -1 for those that do not exist.
    pub rows: TileRef,
    /// Which exist.
    pub there: TileRef,
    /// -1 everywhere.
    pub none: TileRef,
    /// Their sums' type: f32.
    pub like: RegTile,
    col: Scalar,
    /// Neighbours along cout that may be loaded at once.
    vec: u32,
}

impl Finish {
    /// Declares `y [m, cout]`, `count` I32 `[1]`, the epilogue's tensors, and the grid. Scalars: `m`, `cout`.
    pub fn declare(k: &mut KernelBuilder, class: &FinishClass) -> Result<Self, CoreError> {
        for name in ["m", "cout"] {
            k.shape(name);
        }
        let count = k.tensor("count", DType::I32, [Dim { param: None, factor: 1 }]);
        let y = k.tensor("y", class.dtype, ["m", "cout"].map(Dim::param));
        let epilogue = Epilogue::declare(k, class.epilogue, class.dtype, class.n_align);
        if class.n_align > 1 {
            k.require(format!("cout % {} == 0", class.n_align));
        }
        k.grid([format!("ceil_div(m,{ROWS})*ceil_div(cout,{COLS})"), "1".into(), "1".into()]);
        // Where columns are accessed one by one, neighbouring lanes have neighbours.
        let like = matrix(DType::F32, class.n_align)?;
        Ok(Finish { class: *class, count, y, epilogue, like })
    }

    /// Records the kernel: `sum` gives the whole sums of a CTA's outputs.
    pub fn record(self, k: &mut KernelBuilder, sum: impl FnOnce(&mut RoleBuilder, &Block) -> TileRef) {
        k.role("main", WARPS, None, Unit::Role, |r| {
            let (cout, zero) = (r.param("cout"), r.int(0));
            let at = place(r, &self.like, cout);
            let exist = r.load_scalar(&self.count, &[zero]);
            let some = r.cmp(CmpPred::Lt, at.first, exist);
            r.if_then(some, |r| {
                let rows = at.rows_below(r, exist);
                let none = r.splat_int(-1, rows);
                let there = r.compare(CmpPred::Ne, rows, none);
                let (like, vec) = (self.like.clone(), self.class.n_align.min(4));
                let sum = sum(r, &Block { rows, there, none, like, col: at.col, vec });
                let tile = self.epilogue.emit(r, sum, rows, at.col);
                let tile = r.cast(tile, self.class.dtype);
                r.store_rows(&self.y, tile, rows, at.col, self.class.n_align.min(16 / self.class.dtype.bytes()));
            });
        });
    }
}

impl Block {
    /// Rows of f32 `[.., cout]` by number, zeros for -1.
    pub fn load(&self, r: &mut RoleBuilder, from: &TensorRef, rows: TileRef) -> TileRef {
        r.load_rows(from, self.like.clone(), rows, self.col, self.vec)
    }
}

/// Adds a part to the sum in a place.
pub(super) fn add_to(r: &mut RoleBuilder, sum: Cell, part: TileRef) {
    let before = r.get_tile(sum);
    let after = r.binary("add", before, part);
    r.set_tile(sum, after);
}

/// The kernel: row m of `y [m, cout]` is the epilogue of the sum over s, ascending, of rows m of `sums` f32 `[splits, m, cout]`, for the
/// `count` rows that exist. The same bits in every run.
///
/// Scalars: `m`, `cout`, `splits`; `splits * m` fits 31 bits.
pub fn finish_kernel(arch: Arch, class: &FinishClass) -> Result<TemplateKernel, CoreError> {
    class.epilogue.check(class.dtype)?;
    let id = finish_id(class);
    let mut k = KernelBuilder::new(&id, arch);
    let finish = Finish::declare(&mut k, class)?;
    k.shape("splits");
    k.require("splits * m <= 2147483647");
    let sums = k.tensor("sums", DType::F32, ["splits", "m", "cout"].map(Dim::param));
    finish.record(&mut k, |r, block| {
        let first = block.load(r, &sums, block.rows);
        let sum = r.tile_cell(first);
        let (m, splits) = (r.param("m"), r.param("splits"));
        r.for_range(1, splits, 1, |r, s| {
            let further = r.mul(s, m);
            let further = r.splat(further, r.tile_type(block.rows));
            let further = r.binary("add", block.rows, further);
            let part = r.choose(block.there, further, block.none);
            let part = block.load(r, &sums, part);
            add_to(r, sum, part);
        });
        r.get_tile(sum)
    });
    let axes = [("kind", "finish".to_string()), ("n_align", class.n_align.to_string())];
    Ok(with_gelu(TemplateKernel::plain(id, TEMPLATE, axes, "splits.seq", k), class.epilogue.act))
}

/// The id of [`finish_kernel`].
pub(super) fn finish_id(class: &FinishClass) -> String {
    format!("sparse_finish_{}", class.slug())
}
