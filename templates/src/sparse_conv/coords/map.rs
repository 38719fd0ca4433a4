//! Kernel maps: which input row each output row meets at each tap.

use super::insert::{literal, rows_of_cta};
use super::lanes::{Lanes, WARPS};
use super::relation::{self, Relation, Side};
use super::table::Table;
use super::unique::{ROWS, each_pair};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, Unit};

/// Entries a thread looks up at once.
const EACH: u32 = 2;

/// Records the kernel: `map` I32 `[rows_out, taps]` from `coords` I32 `[rows, 4]` and their `table` I32 `[slots]`, and `coords_out` I32
/// `[rows_out, 4]`, of which `count_out` I32 `[1]` exist. `side` is that of the inputs. An entry is -1 where the voxel is not there
/// or fits no coordinate, and in rows that do not exist.
///
/// Scalars: `rows`, `rows_out`, `slots` and the geometry's.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn build(k: &mut KernelBuilder, side: Side) -> Result<(), LayoutError> {
    for name in ["rows", "rows_out", "slots"] {
        k.shape(name);
    }
    relation::declare(k);
    let coords = k.tensor("coords", DType::I32, [Dim::param("rows"), literal(4)]);
    let table = k.tensor("table", DType::I32, [Dim::param("slots")]);
    let coords_out = k.tensor("coords_out", DType::I32, [Dim::param("rows_out"), literal(4)]);
    let count_out = k.tensor("count_out", DType::I32, [literal(1)]);
    let map = k.tensor("map", DType::I32, [Dim::param("rows_out"), Dim::param("taps")]);
    k.grid([format!("ceil_div(rows_out,{ROWS})"), "1".into(), "1".into()]);
    let lanes = Lanes::new(EACH)?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let (first, count) = rows_of_cta(r, &count_out, "rows_out", ROWS);
        let (taps, room) = (r.param("taps"), r.param("rows_out"));
        let some = r.cmp(CmpPred::Lt, first, count);
        r.if_then(some, |r| {
            let relation = Relation::new(r, l, side);
            let table = Table { tensor: table.clone(), slots: r.param("slots") };
            each_pair(r, l, taps, |r, pair, row, tap, there| {
                let row = l.with(r, "add", row, first);
                let exists = l.than(r, CmpPred::Lt, row, count);
                let exists = r.binary("and", there, exists);
                let from = l.or_none(r, exists, row);
                let from = l.load(r, &coords_out, from);
                let to = relation.find(r, from, tap, exists);
                let wanted = r.binary("and", to.exists, to.fits);
                let found = table.find(r, l, &coords, to.at, wanted);
                let inside = l.than(r, CmpPred::Lt, row, room);
                let inside = r.binary("and", inside, there);
                r.store_elems(&map, &[first], pair, found, Some(inside));
            });
        });
        let none = r.cmp(CmpPred::Ge, first, count);
        r.if_then(none, |r| {
            each_pair(r, l, taps, |r, pair, row, _, there| {
                let row = l.with(r, "add", row, first);
                let inside = l.than(r, CmpPred::Lt, row, room);
                let inside = r.binary("and", inside, there);
                let missing = l.lit(r, -1);
                r.store_elems(&map, &[first], pair, missing, Some(inside));
            });
        });
    });
    Ok(())
}

/// Records the kernel of maps from a set to itself: `map` I32 `[rows, taps]`, which is -1 everywhere before, from `coords` I32
/// `[rows, 4]`, of which `count` I32 `[1]` exist, and their `table` I32 `[slots]`. Entries as [`build`] makes them; where taps have
/// mirror images, as those of submanifold layers with odd kernels, half of the look-ups give all of them.
///
/// Scalars: `rows`, `slots` and the geometry's; `rows * taps` is below 2^31.
///
/// # Errors
/// A tile without a layout: a mistake in the template.
pub fn build_own(k: &mut KernelBuilder) -> Result<(), LayoutError> {
    for name in ["rows", "slots"] {
        k.shape(name);
    }
    relation::declare(k);
    let coords = k.tensor("coords", DType::I32, [Dim::param("rows"), literal(4)]);
    let count = k.tensor("count", DType::I32, [literal(1)]);
    let table = k.tensor("table", DType::I32, [Dim::param("slots")]);
    let map = k.tensor("map", DType::I32, [Dim::param("rows"), Dim::param("taps")]);
    k.require("rows*taps < 2147483648");
    k.grid([format!("ceil_div(rows,{ROWS})"), "1".into(), "1".into()]);
    let lanes = Lanes::new(EACH)?;
    k.role("main", WARPS, None, Unit::Role, |r| {
        let l = &lanes;
        let (first, count) = rows_of_cta(r, &count, "rows", ROWS);
        let some = r.cmp(CmpPred::Lt, first, count);
        r.if_then(some, |r| {
            let relation = Relation::new(r, l, Side::Fine);
            let table = Table { tensor: table.clone(), slots: r.param("slots") };
            let taps = relation.taps;
            let symmetric = relation.is_symmetric(r);
            let (half, odd) = (r.div(taps, 2), r.rem(taps, 2));
            let mirrored = r.cmp(CmpPred::Eq, symmetric, 1);
            let asked = r.select(mirrored, half, taps);
            let middle = r.select(mirrored, odd, 0);
            let middle = r.cmp(CmpPred::Eq, middle, 1);
            // The middle tap of a symmetric kernel leads back to the voxel.
            r.if_then(middle, |r| {
                let row = l.numbers(r, first);
                let end = r.add(first, ROWS);
                let end = r.min(end, count);
                let there = l.than(r, CmpPred::Lt, row, end);
                let at = l.with(r, "mul", row, taps);
                let at = l.with(r, "add", at, half);
                r.store_elems(&map, &[], at, row, Some(there));
            });
            let last = r.sub(taps, 1);
            each_pair(r, l, asked, |r, _, row, tap, there| {
                let row = l.with(r, "add", row, first);
                let exists = l.than(r, CmpPred::Lt, row, count);
                let exists = r.binary("and", there, exists);
                let from = l.or_none(r, exists, row);
                let from = l.load(r, &coords, from);
                let to = relation.find(r, from, tap, exists);
                let wanted = r.binary("and", to.exists, to.fits);
                let found = table.find(r, l, &coords, to.at, wanted);
                let hit = l.is(r, CmpPred::Ge, found, 0);
                let at = l.with(r, "mul", row, taps);
                let at = r.binary("add", at, tap);
                r.store_elems(&map, &[], at, found, Some(hit));
                let back = l.with(r, "mul", found, taps);
                let back = l.with(r, "add", back, last);
                let back = r.binary("sub", back, tap);
                let both = l.all(r, symmetric);
                let both = l.is(r, CmpPred::Eq, both, 1);
                let both = r.binary("and", both, hit);
                r.store_elems(&map, &[], back, row, Some(both));
            });
        });
    });
    Ok(())
}
