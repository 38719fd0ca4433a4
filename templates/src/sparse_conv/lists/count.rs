//! Pairs of each tap, and which bit of a mask each tap is.

use super::error::ListError;
use super::numbers::{Map, Numbers, Panel, TAPS, extent, kernel, role, sets};
use crate::sparse_conv::pieces::{MapSet, PlanBuilder};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, Scalar, TensorRef};
use tilewright_runtime::dtype::Dtype;

/// Rows that a warp counts.
pub(super) const ROWS: u32 = 128;
/// Blocks of rows.
pub(super) const BLOCKS: &str = "ceil_div(max(rows,1),128)";
/// Counts that a warp adds at once.
const ADDED: u32 = 256;
/// Taps of a CTA that ranks them.
const RANKED: u32 = 128;

/// `{name}` I32 `[taps, blocks]`: pairs of each tap in each block of [`ROWS`] rows. Gives its name and its length.
pub(super) fn block_counts(pb: &mut PlanBuilder, name: &str, map: &MapSet) -> Result<(String, String), ListError> {
    let blocks = format!("ceil_div(max({},1),{ROWS})", map.rows);
    let counts = pb.workspace(name, Dtype::I32, &[&map.taps, &blocks])?;
    let (binds, sets) = Map::launch(map);
    let binds = [binds[0], binds[1], ("counts", &counts)];
    pb.launch("sparse_count", |a| kernel(a, "sparse_count", count), &binds, &sets)?;
    Ok((counts, format!("({})*{blocks}", map.taps)))
}

/// `{name}_bits` I32 `[taps]`: the bit of each tap in its range's mask, the top one the tap with the fewest pairs, of equal ones the
/// first.
pub(super) fn rare_bits(pb: &mut PlanBuilder, name: &str, map: &MapSet, splits: u32) -> Result<String, ListError> {
    let (counts, _) = block_counts(pb, &format!("{name}_counts"), map)?;
    let totals = pb.workspace(&format!("{name}_totals"), Dtype::I32, &[&map.taps])?;
    let bits = pb.workspace(&format!("{name}_bits"), Dtype::I32, &[&map.taps])?;
    let splits = splits.to_string();
    let sets = sets([("rows", &map.rows), ("taps", &map.taps), ("splits", &splits)]);
    pb.launch("sparse_totals", |a| kernel(a, "sparse_totals", totals_of), &[("counts", &counts), ("totals", &totals)], &sets)?;
    pb.launch("sparse_rank", |a| kernel(a, "sparse_rank", rank), &[("totals", &totals), ("bits", &bits)], &sets)?;
    Ok(bits)
}

/// `map`, `count` -> `counts` I32 `[taps, blocks]`.
fn count(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    let map = Map::declare(k);
    let counts = k.tensor("counts", DType::I32, [extent("taps"), extent(BLOCKS)]);
    k.grid([BLOCKS.into(), format!("ceil_div(taps,{TAPS})"), "1".into()]);
    let p = Panel::new(ROWS)?;
    role(k, 1, |r| {
        let (x, y) = (r.cta_id(0), r.cta_id(1));
        let (first, tap) = (r.mul(x, ROWS), r.mul(y, TAPS));
        let row = p.rows.from(r, first);
        let (rows, taps) = (map.rows(r), r.param("taps"));
        let start = p.rows.with(r, "mul", row, taps);
        let there = p.rows.is(r, row, CmpPred::Lt, rows);
        let entries = map.entries(r, &p, [start, there], tap, taps);
        let some = p.all.is(r, entries, CmpPred::Ge, 0);
        let ones = p.all.ones(r, some);
        let sums = p.of_taps(r, "add", ones);
        let tap = p.taps.from(r, tap);
        let inside = p.taps.is(r, tap, CmpPred::Lt, taps);
        let blocks = blocks(r);
        let at = p.taps.with(r, "mul", tap, blocks);
        let at = p.taps.with(r, "add", at, x);
        r.store_elems(&counts, &[], at, sums, Some(inside));
    });
    Ok(())
}

/// How many blocks of rows there are.
pub(super) fn blocks(r: &mut RoleBuilder) -> Scalar {
    let rows = r.param("rows");
    let rows = r.max(rows, 1);
    r.ceil_div(rows, ROWS)
}

/// `counts` -> `totals` I32 `[taps]`: a warp each.
fn totals_of(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    k.shape("rows");
    k.shape("taps");
    let counts = k.tensor("counts", DType::I32, [extent("taps"), extent(BLOCKS)]);
    let totals = k.tensor("totals", DType::I32, [extent("taps")]);
    k.grid(["taps".into(), "1".into(), "1".into()]);
    let n = Numbers::new(32, ADDED, 1)?;
    role(k, 1, |r| {
        let tap = r.cta_id(0);
        let blocks = blocks(r);
        let from = r.mul(tap, blocks);
        let none = n.int(r, 0);
        let sum = r.tile_cell(none);
        r.for_range(0, blocks, ADDED, |r, b| {
            let b = n.from(r, b);
            let there = n.is(r, b, CmpPred::Lt, blocks);
            let at = n.with(r, "add", b, from);
            let v = r.load_elems(&counts, &[], at, Some(there));
            let before = r.get_tile(sum);
            let after = r.binary("add", before, v);
            r.set_tile(sum, after);
        });
        let sum = r.get_tile(sum);
        let sum = r.reduce("add", sum);
        let one = n.one(r);
        let at = one.all(r, tap);
        r.store_elems(&totals, &[], at, sum, None);
    });
    Ok(())
}

/// `totals` -> `bits` I32 `[taps]`: how many taps of the same range have more pairs, or as many and a higher number.
fn rank(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    k.shape("taps");
    k.shape("splits");
    let totals = k.tensor("totals", DType::I32, [extent("taps")]);
    let bits = k.tensor("bits", DType::I32, [extent("taps")]);
    k.grid([format!("ceil_div(taps,{RANKED})"), "1".into(), "1".into()]);
    let n = Numbers::new(RANKED, RANKED, 1)?;
    role(k, RANKED / 32, |r| {
        let cta = r.cta_id(0);
        let first = r.mul(cta, RANKED);
        let tap = n.from(r, first);
        let taps = r.param("taps");
        let there = n.is(r, tap, CmpPred::Lt, taps);
        let each = range_length(r);
        let range = n.with(r, "div", tap, each);
        let mine = r.load_elems(&totals, &[], tap, Some(there));
        let none = n.int(r, 0);
        let bit = r.tile_cell(none);
        r.for_range(0, taps, 1, |r, other| {
            let theirs = r.load_scalar(&totals, &[other]);
            let theirs = n.all(r, theirs);
            let their_range = r.div(other, each);
            let same = n.is(r, range, CmpPred::Eq, their_range);
            let more = r.compare(CmpPred::Gt, theirs, mine);
            let equal = r.compare(CmpPred::Eq, theirs, mine);
            let later = n.is(r, tap, CmpPred::Lt, other);
            let behind = r.binary("and", equal, later);
            let less_rare = r.binary("or", more, behind);
            let counts = r.binary("and", same, less_rare);
            let ones = n.ones(r, counts);
            let before = r.get_tile(bit);
            let after = r.binary("add", before, ones);
            r.set_tile(bit, after);
        });
        let bit = r.get_tile(bit);
        r.store_elems(&bits, &[], tap, bit, Some(there));
    });
    Ok(())
}

/// Taps of a range: `ceil(taps / splits)`.
pub(super) fn range_length(r: &mut RoleBuilder) -> Scalar {
    let (taps, splits) = (r.param("taps"), r.param("splits"));
    let up = r.add(taps, splits);
    let up = r.sub(up, 1);
    r.div(up, splits)
}

/// A tensor of `counts`' form.
pub(super) fn declare_counts(k: &mut KernelBuilder, name: &str) -> TensorRef {
    k.tensor(name, DType::I32, [extent(&format!("taps*{BLOCKS}"))])
}
