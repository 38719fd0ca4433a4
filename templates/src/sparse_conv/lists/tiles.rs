//! The lists that implicit GEMM walks: of each tile of output rows the taps that any of its rows has, and the input rows at these.

use super::count::range_length;
use super::error::ListError;
use super::keys::keys;
use super::numbers::{Map, Numbers, extent, fixed, kernel, role};
use super::sort::sort;
use crate::sparse_conv::RowOrder;
use crate::sparse_conv::pieces::{MapSet, PlanBuilder, Tiles};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, Scalar, TileRef};
use tilewright_runtime::dtype::Dtype;

/// Taps whose entries are under way at once.
const AT_ONCE: u32 = 4;
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
            let words = length.div_ceil(32);
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
    let n = Numbers::new(32, bm, 1)?;
    role(k, 1, |r| {
        let (tile, range) = (r.cta_id(0), r.cta_id(1));
        let [rows, taps] = ["rows", "taps"].map(|p| r.param(p));
        let some = r.cmp(CmpPred::Gt, rows, 0);
        r.if_then(some, |r| {
            let tiles = r.ceil_div(rows, bm);
            let item = r.mul(range, tiles);
            let item = r.add(item, tile);
            let first = r.mul(tile, bm);
            let at = n.from(r, first);
            let exist = map.rows(r);
            let there = n.is(r, at, CmpPred::Lt, exist);
            let row = match &order {
                Some(order) => r.load_elems(order, &[range], at, Some(there)),
                None => at,
            };
            let none = n.int(r, -1);
            let out = r.choose(there, row, none);
            let zero = r.int(0);
            let lane = n.from(r, zero);
            r.store_elems(&tile_out, &[item], lane, out, None);
            let start = n.with(r, "mul", row, taps);
            let each = range_length(r);
            let from = r.mul(range, each);
            let to = r.add(from, each);
            let to = r.min(to, taps);
            let one = n.one(r);
            let slot = r.scalar_cell(0);
            r.for_range(from, to, AT_ONCE, |r, tap| {
                let load = |j| {
                    let tap = r.add(tap, j);
                    let inside = r.cmp(CmpPred::Lt, tap, to);
                    // Behind the range no number of a row is below the end.
                    let end = r.select(inside, exist, 0);
                    let there = n.is(r, at, CmpPred::Lt, end);
                    (tap, map.entries(r, &n, start, tap, there))
                };
                let entries: Vec<(Scalar, TileRef)> = (0..AT_ONCE).map(load).collect();
                for (tap, entry) in entries {
                    let some = n.is(r, entry, CmpPred::Ge, 0);
                    let any = r.any(some);
                    let any = r.cmp(CmpPred::Ne, any, 0);
                    r.if_then(any, |r| {
                        let c = r.get(slot);
                        r.store_elems(&tile_rows, &[item, c], lane, entry, None);
                        let next = r.add(c, 1);
                        r.set(slot, next);
                        let (at, tap) = (one.all(r, next), one.all(r, tap));
                        r.store_elems(&tile_taps, &[item], at, tap, None);
                    });
                }
            });
            let c = r.get(slot);
            let (at, c) = (one.int(r, 0), one.all(r, c));
            r.store_elems(&tile_taps, &[item], at, c, None);
        });
    });
    Ok(())
}
