//! A map as pairs, tap by tap.

use super::count::{BLOCKS, Block, TAPS, block_counts, blocks, declare_counts};
use super::error::ListError;
use super::numbers::{Map, extent, fixed, kernel, role};
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

/// `map`, `count`, `starts`, `total` -> the lists.
fn list(k: &mut KernelBuilder, lists: PairLists) -> Result<(), LayoutError> {
    let map = Map::declare(k);
    k.shape("pairs");
    let starts = declare_counts(k, "starts");
    let total = k.tensor("total", DType::I32, [fixed(1)]);
    let pair_in = k.tensor("pair_in", DType::I32, [extent("pairs")]);
    let tap_start = k.tensor("tap_start", DType::I32, [extent("taps+1")]);
    let pair_out = lists.outputs.then(|| k.tensor("pair_out", DType::I32, [extent("pairs")]));
    let pair_at = lists.positions.then(|| k.tensor("pair_at", DType::I32, [extent("rows"), extent("taps")]));
    k.grid([BLOCKS.into(), format!("ceil_div(taps,{TAPS})"), "1".into()]);
    let mut result = Ok(());
    role(k, 1, |r| {
        let block = match Block::load(r, &map) {
            Ok(block) => block,
            Err(e) => return result = Err(e),
        };
        let (n, x, y) = (&block.numbers, r.cta_id(0), r.cta_id(1));
        let [rows, taps, pairs] = ["rows", "taps", "pairs"].map(|p| r.param(p));
        let blocks = blocks(r);
        let one = n.one(r);
        for e in block.taps {
            // Past the last tap the last one's start: nothing is stored there.
            let last = r.sub(taps, 1);
            let tap = r.min(e.tap, last);
            let at = r.mul(tap, blocks);
            let at = r.add(at, x);
            let start = r.load_scalar(&starts, &[at]);
            let first = n.all(r, start);
            let ones = n.ones(r, e.some);
            let pair = before_each(r, ones, first);
            let room = n.is(r, pair, CmpPred::Lt, pairs);
            let some = r.binary("and", e.some, room);
            r.store_elems(&pair_in, &[], pair, e.from, Some(some));
            if let Some(list) = &pair_out {
                r.store_elems(list, &[], pair, block.row, Some(some));
            }
            let inside = r.cmp(CmpPred::Lt, e.tap, taps);
            if let Some(list) = &pair_at {
                let none = n.int(r, -1);
                let value = r.choose(some, pair, none);
                let end = r.select(inside, rows, 0);
                let there = n.is(r, block.row, CmpPred::Lt, end);
                let at = n.with(r, "add", block.start, e.tap);
                r.store_elems(list, &[], at, value, Some(there));
            }
            // The first block's start is the tap's.
            let end = r.select(inside, 1, 0);
            let (block, at, start) = (one.all(r, x), one.all(r, e.tap), one.all(r, start));
            let mine = one.is(r, block, CmpPred::Lt, end);
            r.store_elems(&tap_start, &[], at, start, Some(mine));
        }
        let zero = r.int(0);
        let all = r.load_scalar(&total, &[zero]);
        let cta = r.add(x, y);
        let (cta, at, all) = (one.all(r, cta), one.all(r, taps), one.all(r, all));
        let mine = one.is(r, cta, CmpPred::Eq, 0);
        r.store_elems(&tap_start, &[], at, all, Some(mine));
    });
    result
}
