//! The lists that implicit GEMM walks: of each tile of output rows the taps that any of its rows has, and the input rows at these.

use super::count::range_length;
use super::error::ListError;
use super::keys::keys;
use super::numbers::{Map, Panel, TAPS, extent, fixed, kernel, role};
use super::sort::{WORD_BITS, sort};
use crate::sparse_conv::RowOrder;
use crate::sparse_conv::pieces::{MapSet, PlanBuilder, Tiles};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, Scalar, TileRef};
use tilewright_runtime::dtype::Dtype;

/// Most taps of a kernel.
const MOST_TAPS: u32 = super::super::geometry::MOST_TAPS.pow(3);

/// How rows become tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileConfig {
    /// What rows are sorted by; `None` leaves them in the map's order.
    pub order: Option<RowOrder>,
    /// Ranges of `ceil(taps / splits)` taps, each with an order of its own; 1 without an order.
    pub splits: u32,
    /// Rows of a tile: 32, 64, 128 or 256.
    pub bm: u32,
    /// Most taps that the map may have: how many passes the sort takes.
    pub most_taps: u32,
}

impl TileConfig {
    /// Checks it.
    pub fn check(&self) -> Result<(), ListError> {
        if ![32, 64, 128, 256].contains(&self.bm) {
            return Err(ListError::TileRows(self.bm));
        }
        if !(1..=MOST_TAPS).contains(&self.most_taps) {
            return Err(ListError::Taps(self.most_taps));
        }
        if !(1..=self.most_taps).contains(&self.splits) {
            return Err(ListError::Splits { splits: self.splits, taps: self.most_taps });
        }
        match self.order {
            None if self.splits != 1 => Err(ListError::Unsorted(self.splits)),
            _ => Ok(()),
        }
    }
}

/// Adds the launches that make the [`Tiles`] of a map: `{name}_taps`, `{name}_rows`, `{name}_outputs`. With `T = ceil(rows / bm)`, item
/// `g*T + t` is tile t of range g of taps. Sorted rows descend in their keys, so that tiles with many taps come first; rows of
/// equal keys ascend; rows past the count are in no order and in no tile.
///
/// # Errors
/// What [`TileConfig::check`] refuses; [`ListError::Expr`] where a size is no expression.
pub fn tiles(pb: &mut PlanBuilder, name: &str, map: &MapSet, config: TileConfig) -> Result<Tiles, ListError> {
    config.check()?;
    let TileConfig { order, splits, bm, most_taps } = config;
    pb.require(format!("{} <= {most_taps}", map.taps));
    let length = most_taps.div_ceil(splits);
    let sorted = match order {
        None => None,
        Some(order) => {
            let words = length.div_ceil(WORD_BITS);
            let keys = keys(pb, name, map, order, splits, words)?;
            Some(sort(pb, name, map, &keys, splits, words, length)?)
        }
    };
    let count = format!("ceil_div({},{bm})", map.rows);
    let items = format!("{splits}*{count}");
    let each = format!("ceil_div({},{splits})", map.taps);
    let made = Tiles {
        tile_taps: pb.workspace(&format!("{name}_taps"), Dtype::I32, &[&items, &format!("{each}+1")])?,
        tile_rows: pb.workspace(&format!("{name}_rows"), Dtype::I32, &[&items, &each, &bm.to_string()])?,
        tile_out: pb.workspace(&format!("{name}_outputs"), Dtype::I32, &[&items, &bm.to_string()])?,
        bm,
        splits,
        tiles: count,
        map: map.clone(),
    };
    let (binds, mut sets) = Map::launch(map);
    sets.push(("splits".into(), splits.to_string()));
    let binds = [
        binds[0],
        binds[1],
        ("order", sorted.as_deref().unwrap_or_default()),
        ("tile_taps", &made.tile_taps),
        ("tile_rows", &made.tile_rows),
        ("tile_out", &made.tile_out),
    ];
    let id = format!("sparse_tiles_b{bm}{}", if sorted.is_some() { "_sorted" } else { "" });
    pb.launch(&id, |a| kernel(a, &id, |k| list(k, bm, sorted.is_some())), &binds, &sets)?;
    Ok(made)
}

/// `map`, `count` and, where rows are sorted, `order` I32 `[splits, rows]` -> the lists; a warp each item.
fn list(k: &mut KernelBuilder, bm: u32, sorted: bool) -> Result<(), LayoutError> {
    let map = Map::declare(k);
    k.shape("splits");
    let tiles = format!("ceil_div(rows,{bm})");
    let items = format!("splits*{tiles}");
    let each = "ceil_div(taps,splits)";
    let order = sorted.then(|| k.tensor("order", DType::I32, [extent("splits"), extent("rows")]));
    let tile_taps = k.tensor("tile_taps", DType::I32, [extent(&items), extent(&format!("{each}+1"))]);
    let tile_rows = k.tensor("tile_rows", DType::I32, [extent(&items), extent(each), fixed(bm)]);
    let tile_out = k.tensor("tile_out", DType::I32, [extent(&items), fixed(bm)]);
    k.grid([format!("max({tiles},1)"), "splits".into(), "1".into()]);
    let p = Panel::new(bm)?;
    role(k, 1, |r| {
        let (tile, range) = (r.cta_id(0), r.cta_id(1));
        let [rows, taps] = ["rows", "taps"].map(|p| r.param(p));
        let some = r.cmp(CmpPred::Gt, rows, 0);
        r.if_then(some, |r| {
            let tiles = r.ceil_div(rows, bm);
            let item = r.mul(range, tiles);
            let item = r.add(item, tile);
            let first = r.mul(tile, bm);
            let at = p.rows.from(r, first);
            let exist = map.rows(r);
            let there = p.rows.is(r, at, CmpPred::Lt, exist);
            let row = match &order {
                Some(order) => r.load_elems(order, &[range], at, Some(there)),
                None => at,
            };
            let none = p.rows.int(r, -1);
            let out = r.choose(there, row, none);
            let zero = r.int(0);
            let place = p.rows.from(r, zero);
            r.store_elems(&tile_out, &[item], place, out, None);
            let start = p.rows.with(r, "mul", row, taps);
            let each = range_length(r);
            let from = r.mul(range, each);
            let to = r.add(from, each);
            let to = r.min(to, taps);
            let some = r.cmp(CmpPred::Lt, first, exist);
            let to = r.select(some, to, from);
            let slots = r.scalar_cell(0);
            r.for_range(from, to, TAPS, |r, tap| {
                let entries = map.entries(r, &p, [start, there], tap, to);
                let most = p.of_taps(r, "max", entries);
                let any = p.taps.is(r, most, CmpPred::Ge, 0);
                let (before, count) = places(r, &p, any);
                let slot = r.get(slots);
                let at = p.taps.with(r, "add", before, slot);
                let behind = r.add(slot, count);
                r.set(slots, behind);
                let tap = p.taps.from(r, tap);
                let next = p.taps.with(r, "add", at, 1);
                r.store_elems(&tile_taps, &[item], next, tap, Some(any));
                let run = p.taps.with(r, "mul", at, bm);
                let [run, place, any] = [run, place, any].map(|v| p.all.wide(r, v));
                let at = r.binary("add", run, place);
                r.store_elems(&tile_rows, &[item], at, entries, Some(any));
            });
            let c = r.get(slots);
            let one = p.taps.one(r);
            let (at, c) = (one.int(r, 0), one.all(r, c));
            r.store_elems(&tile_taps, &[item], at, c, None);
        });
    });
    Ok(())
}

/// How many of a panel's taps before each are so, and how many of all.
fn places(r: &mut RoleBuilder, p: &Panel, any: TileRef) -> (TileRef, Scalar) {
    let zero = r.int(0);
    let tap = p.taps.from(r, zero);
    let ones = p.taps.ones(r, any);
    let count = r.reduce("add", ones);
    let bits = r.binary("shl", ones, tap);
    // The whole mask in every lane, of which each counts what is below its tap.
    let mask = r.reduce("add", bits);
    let mask = p.taps.wide(r, mask);
    let mut before = p.taps.int(r, 0);
    for i in 0..TAPS - 1 {
        let bit = p.taps.with(r, "ushr", mask, i);
        let later = p.taps.is(r, tap, CmpPred::Gt, i);
        let later = p.taps.ones(r, later);
        let bit = r.binary("and", bit, later);
        before = r.binary("add", before, bit);
    }
    (before, r.scalar_of(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::Arch;

    #[test]
    fn what_no_kernel_lists_is_refused() {
        let good = TileConfig { order: Some(RowOrder::Plain), splits: 3, bm: 64, most_taps: 27 };
        assert_eq!(good.check(), Ok(()));
        let refused = |c: TileConfig| c.check().unwrap_err().to_string();
        assert_eq!(refused(TileConfig { bm: 16, ..good }), "tiles of 16 rows: 32, 64, 128 and 256 are listed");
        assert_eq!(refused(TileConfig { splits: 28, ..good }), "28 splits of 27 taps: 1 to 27");
        assert_eq!(refused(TileConfig { splits: 0, ..good }), "0 splits of 27 taps: 1 to 27");
        assert_eq!(refused(TileConfig { most_taps: 344, ..good }), "344 taps: 1 to 343");
        assert_eq!(refused(TileConfig { order: None, ..good }), "splits = 3 without an order: only sorted rows are split");
    }

    #[test]
    fn sizes_that_are_no_expressions_are_refused() {
        let mut pb = PlanBuilder::new(Arch::Sm80, "lists", "lists", "");
        let map = MapSet { map: "map".into(), count: "count".into(), rows: "2*(m".into(), taps: "27".into() };
        let config = TileConfig { order: None, splits: 1, bm: 64, most_taps: 27 };
        assert!(matches!(tiles(&mut pb, "t", &map, config), Err(ListError::Expr(_))));
    }
}
