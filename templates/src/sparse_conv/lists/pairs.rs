//! A map as pairs, tap by tap.

use super::count::{BLOCKS, ROWS, block_counts, blocks, declare_counts};
use super::error::ListError;
use super::numbers::{Map, Numbers, Panel, TAPS, extent, fixed, kernel, role};
use super::scan::{before_each, scan};
use crate::sparse_conv::pieces::{MapSet, Pairs, PlanBuilder};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder};
use tilewright_runtime::dtype::Dtype;

/// Which lists of pairs a plan reads, besides the input rows: it makes no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairLists {
    /// `pair_out`, the output rows: sums that are added where they belong.
    pub outputs: bool,
    /// `pair_at`, the pair of each entry of the map: sums over taps by output row.
    pub positions: bool,
}

impl PairLists {
    /// Both.
    pub const ALL: PairLists = PairLists { outputs: true, positions: true };

    fn id(self) -> String {
        format!("sparse_pairs{}{}", if self.outputs { "_out" } else { "" }, if self.positions { "_at" } else { "" })
    }
}

/// Adds the launches that make `{name}_in`, `{name}_out` I32 `[capacity]`, `{name}_start` I32 `[taps + 1]` and `{name}_at` I32
/// `[rows, taps]` of a map: pairs tap by tap, in a tap by output row. Of the second and the last those that `lists` asks for.
/// `{name}_at` is -1 where the map is.
///
/// Pairs past the capacity are dropped, and `{name}_at` is -1 for them; `{name}_start` still counts them, so that its last number
/// above the capacity says so. `rows*taps`, for every pair, is always enough.
///
/// # Errors
/// [`ListError::Expr`] where a size is no expression.
pub fn pairs(pb: &mut PlanBuilder, name: &str, map: &MapSet, capacity: &str, lists: PairLists) -> Result<Pairs, ListError> {
    let (counts, len) = block_counts(pb, &format!("{name}_counts"), map)?;
    let starts = pb.workspace(&format!("{name}_starts"), Dtype::I32, &[&len])?;
    let total = pb.workspace(&format!("{name}_total"), Dtype::I32, &["1"])?;
    scan(pb, &counts, &len, &starts, &total)?;
    let made = Pairs {
        pair_in: format!("{name}_in"),
        pair_out: format!("{name}_out"),
        tap_start: format!("{name}_start"),
        pair_at: format!("{name}_at"),
        pairs: capacity.into(),
        map: map.clone(),
    };
    pb.workspace(&made.pair_in, Dtype::I32, &[capacity])?;
    pb.workspace(&made.tap_start, Dtype::I32, &[&format!("({})+1", map.taps)])?;
    if lists.outputs {
        pb.workspace(&made.pair_out, Dtype::I32, &[capacity])?;
    }
    if lists.positions {
        pb.workspace(&made.pair_at, Dtype::I32, &[&map.rows, &map.taps])?;
    }
    let (binds, mut sets) = Map::launch(map);
    sets.push(("pairs".into(), capacity.into()));
    let binds = [
        binds[0],
        binds[1],
        ("starts", &starts),
        ("total", &total),
        ("pair_in", &made.pair_in),
        ("pair_out", &made.pair_out),
        ("tap_start", &made.tap_start),
        ("pair_at", &made.pair_at),
    ];
    let id = lists.id();
    pb.launch(&id, |a| kernel(a, &id, |k| list(k, lists)), &binds, &sets)?;
    Ok(made)
}

/// Columns of the table in shared memory: with four words more than a block's rows have, the eight taps of a panel's row and those of
/// the rows beside it lie in 32 banks.
const PITCH: u32 = ROWS + 4;

/// `map`, `count`, `starts`, `total` -> the lists. A map has its taps side by side, a list its rows: entries and positions are
/// exchanged through shared memory.
fn list(k: &mut KernelBuilder, lists: PairLists) -> Result<(), LayoutError> {
    let map = Map::declare(k);
    k.shape("pairs");
    let starts = declare_counts(k, "starts");
    let total = k.tensor("total", DType::I32, [fixed(1)]);
    let pair_in = k.tensor("pair_in", DType::I32, [extent("pairs")]);
    let tap_start = k.tensor("tap_start", DType::I32, [extent("taps+1")]);
    let pair_out = lists.outputs.then(|| k.tensor("pair_out", DType::I32, [extent("pairs")]));
    let pair_at = lists.positions.then(|| k.tensor("pair_at", DType::I32, [extent("rows"), extent("taps")]));
    let table = k.scratch("entries", DType::I32, [TAPS, PITCH], if lists.positions { 2 } else { 1 });
    k.grid([BLOCKS.into(), format!("ceil_div(taps,{TAPS})"), "1".into()]);
    let p = Panel::new(PITCH)?;
    let n = Numbers::new(32, ROWS, ROWS / 32)?;
    role(k, 1, |r| {
        let (x, y) = (r.cta_id(0), r.cta_id(1));
        let [rows, taps, pairs] = ["rows", "taps", "pairs"].map(|p| r.param(p));
        let (first, tap) = (r.mul(x, ROWS), r.mul(y, TAPS));
        let row = p.rows.from(r, first);
        let end = r.add(first, ROWS);
        let exist = map.rows(r);
        let exist = r.min(exist, end);
        let start = p.rows.with(r, "mul", row, taps);
        let there = p.rows.is(r, row, CmpPred::Lt, exist);
        let entries = map.entries(r, &p, [start, there], tap, taps);
        let shared = r.staging(&table, 0);
        let by_tap = r.transpose(entries);
        r.store_shared(shared, by_tap);
        if lists.positions {
            // What lies behind a block's rows is read back with them.
            let positions = r.staging(&table, 1);
            r.store_shared(positions, by_tap);
        }
        r.sync();
        let blocks = blocks(r);
        let out = n.from(r, first);
        let one = n.one(r);
        for j in 0..TAPS {
            let k = r.add(tap, j);
            // Past the last tap there are no entries, and the last one's start is not used.
            let last = r.sub(taps, 1);
            let at = r.min(k, last);
            let at = r.mul(at, blocks);
            let at = r.add(at, x);
            let first = r.load_scalar(&starts, &[at]);
            let of_tap = r.view(shared, j * PITCH * 4, DType::I32, [1, ROWS]);
            let input = r.load_shared(of_tap, n.ty.clone());
            let some = n.is(r, input, CmpPred::Ge, 0);
            let ones = n.ones(r, some);
            let before = n.all(r, first);
            let pair = before_each(r, ones, before);
            let room = n.is(r, pair, CmpPred::Lt, pairs);
            let some = r.binary("and", some, room);
            r.store_elems(&pair_in, &[], pair, input, Some(some));
            if let Some(list) = &pair_out {
                r.store_elems(list, &[], pair, out, Some(some));
            }
            if lists.positions {
                let none = n.int(r, -1);
                let value = r.choose(some, pair, none);
                let positions = r.staging(&table, 1);
                let of_tap = r.view(positions, j * PITCH * 4, DType::I32, [1, ROWS]);
                r.store_shared(of_tap, value);
            }
            // A tap begins where its first block does.
            let inside = r.cmp(CmpPred::Lt, k, taps);
            let end = r.select(inside, 1, 0);
            let (block, at, first) = (one.all(r, x), one.all(r, k), one.all(r, first));
            let mine = one.is(r, block, CmpPred::Lt, end);
            r.store_elems(&tap_start, &[], at, first, Some(mine));
        }
        if let Some(list) = &pair_at {
            r.sync();
            let (positions, transposed) = (r.staging(&table, 1), r.tile_type(by_tap));
            let value = r.load_shared(positions, transposed);
            let value = r.transpose(value);
            let rows = r.min(rows, end);
            let there = p.rows.is(r, row, CmpPred::Lt, rows);
            let tap = p.taps.from(r, tap);
            let inside = p.taps.is(r, tap, CmpPred::Lt, taps);
            let [start, tap, there, inside] = [start, tap, there, inside].map(|v| p.all.wide(r, v));
            let at = r.binary("add", start, tap);
            let there = r.binary("and", there, inside);
            r.store_elems(list, &[], at, value, Some(there));
        }
        let zero = r.int(0);
        let all = r.load_scalar(&total, &[zero]);
        let cta = r.add(x, y);
        let (cta, at, all) = (one.all(r, cta), one.all(r, taps), one.all(r, all));
        let mine = one.is(r, cta, CmpPred::Eq, 0);
        r.store_elems(&tap_start, &[], at, all, Some(mine));
    });
    Ok(())
}
