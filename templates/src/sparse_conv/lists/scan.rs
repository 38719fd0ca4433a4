//! Prefix sums of any length: sums of blocks, their prefix sums in one CTA, the blocks again. Integers: always the same.

use super::error::ListError;
use super::numbers::{Numbers, extent, fixed, kernel, role, sets};
use crate::sparse_conv::pieces::PlanBuilder;
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, Scalar, Staging, TensorRef, TileRef};
use tilewright_runtime::dtype::Dtype;

/// Numbers of a CTA, and of one step of the CTA that joins them.
pub(super) const BLOCK: u32 = 512;
/// Numbers that are summed up at once: 16 bytes a lane.
const PART: u32 = 128;
const BLOCKS: &str = "ceil_div(max(len,1),512)";

/// Adds the launches from `flags` I32 `[len]` to `pos` I32 `[len]`, the sum of all numbers before each, and `total` I32 `[1]`. The
/// tensors are the plan's, `len` an expression over its variables; sums wrap at 32 bits. The workspace is named after `pos`.
///
/// # Errors
/// [`ListError::Expr`] where `len` is no expression.
pub fn scan(pb: &mut PlanBuilder, flags: &str, len: &str, pos: &str, total: &str) -> Result<(), ListError> {
    let sums = pb.workspace(&format!("{pos}_sums"), Dtype::I32, &[&format!("ceil_div(max({len},1),{BLOCK})")])?;
    let sets = sets([("len", len)]);
    pb.launch("sparse_scan_sums", |a| kernel(a, "sparse_scan_sums", block_sums), &[("flags", flags), ("sums", &sums)], &sets)?;
    pb.launch("sparse_scan_join", |a| kernel(a, "sparse_scan_join", join), &[("sums", &sums), ("total", total)], &sets)?;
    let binds = [("flags", flags), ("sums", &sums), ("pos", pos)];
    pb.launch("sparse_scan_place", |a| kernel(a, "sparse_scan_place", place), &binds, &sets)
}

/// `flags` -> `sums`: the sum of each block.
fn block_sums(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    let (flags, sums) = declare(k);
    let n = Numbers::new(32, BLOCK, 1)?;
    k.grid([BLOCKS.into(), "1".into(), "1".into()]);
    role(k, 1, |r| {
        let cta = r.cta_id(0);
        let len = r.param("len");
        let (_, _, v) = block(r, &n, &flags, cta, len);
        let sum = r.reduce("add", v);
        let one = n.one(r);
        let at = one.all(r, cta);
        r.store_elems(&sums, &[], at, sum, None);
    });
    Ok(())
}

/// `sums` -> the sum of all blocks before each, in place, and `total`.
fn join(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    k.shape("len");
    let sums = k.tensor("sums", DType::I32, [extent(BLOCKS)]);
    let total = k.tensor("total", DType::I32, [fixed(1)]);
    let sum = Summed::declare(k)?;
    k.grid(["1".into(), "1".into(), "1".into()]);
    role(k, 1, |r| {
        let len = r.param("len");
        let len = r.max(len, 1);
        let blocks = r.ceil_div(len, BLOCK);
        let steps = r.ceil_div(blocks, BLOCK);
        let one = sum.part.one(r);
        let none = one.int(r, 0);
        let before = r.tile_cell(none);
        r.for_range(0, steps, 1, |r, step| {
            let (at, there, v) = block(r, &sum.block, &sums, step, blocks);
            let start = r.get_tile(before);
            let (value, end) = sum.before_each(r, v, start);
            r.store_elems(&sums, &[], at, value, Some(there));
            r.set_tile(before, end);
        });
        let all = r.get_tile(before);
        r.store_elems(&total, &[], none, all, None);
    });
    Ok(())
}

/// `flags` and `sums` -> `pos`.
fn place(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    let (flags, sums) = declare(k);
    let pos = k.tensor("pos", DType::I32, [extent("len")]);
    let sum = Summed::declare(k)?;
    k.grid([BLOCKS.into(), "1".into(), "1".into()]);
    role(k, 1, |r| {
        let cta = r.cta_id(0);
        let len = r.param("len");
        let (at, there, v) = block(r, &sum.block, &flags, cta, len);
        let start = r.load_scalar(&sums, &[cta]);
        let one = sum.part.one(r);
        let start = one.all(r, start);
        let (value, _) = sum.before_each(r, v, start);
        r.store_elems(&pos, &[], at, value, Some(there));
    });
    Ok(())
}

fn declare(k: &mut KernelBuilder) -> (TensorRef, TensorRef) {
    k.shape("len");
    let flags = k.tensor("flags", DType::I32, [extent("len")]);
    (flags, k.tensor("sums", DType::I32, [extent(BLOCKS)]))
}

/// Where block `i` of a list lies, what of it is there, and its numbers, 0 behind the end.
fn block(r: &mut RoleBuilder, n: &Numbers, list: &TensorRef, i: Scalar, len: Scalar) -> (TileRef, TileRef, TileRef) {
    let first = r.mul(i, BLOCK);
    let at = n.from(r, first);
    let there = n.is(r, at, CmpPred::Lt, len);
    (at, there, r.load_elems(list, &[], at, Some(there)))
}

/// A block that passes through shared memory: from memory and back neighbouring lanes hold neighbours, in sums each holds a run.
pub(super) struct Summed {
    /// As memory has them, `[1, 512]`.
    pub block: Numbers,
    /// What is summed at once, `[1, 128]`.
    pub part: Numbers,
    /// The numbers, and their sums.
    shared: Staging,
}

impl Summed {
    pub fn declare(k: &mut KernelBuilder) -> Result<Self, LayoutError> {
        let shared = k.scratch("block", DType::I32, [1, BLOCK], 2);
        Ok(Summed { block: Numbers::new(32, BLOCK, 1)?, part: Numbers::new(32, PART, PART / 32)?, shared })
    }

    /// What lies before each number of a block, `start` before the first, and what lies before the next block.
    pub fn before_each(&self, r: &mut RoleBuilder, v: TileRef, start: TileRef) -> (TileRef, TileRef) {
        let (shared, sums) = (r.staging(&self.shared, 0), r.staging(&self.shared, 1));
        r.store_shared(shared, v);
        r.sync();
        let mut start = start;
        for i in 0..BLOCK / PART {
            let [part, to] = [shared, sums].map(|s| r.view(s, i * PART * 4, DType::I32, [1, PART]));
            let v = r.load_shared(part, self.part.ty.clone());
            let first = self.part.wide(r, start);
            let value = before_each(r, v, first);
            r.store_shared(to, value);
            let sum = r.reduce("add", v);
            start = r.binary("add", start, sum);
        }
        r.sync();
        (r.load_shared(sums, self.block.ty.clone()), start)
    }
}

/// What lies before each number of a warp's row, `start` before the first.
pub(super) fn before_each(r: &mut RoleBuilder, v: TileRef, start: TileRef) -> TileRef {
    let up_to = r.scan(v);
    let before = r.binary("sub", up_to, v);
    r.binary("add", before, start)
}
