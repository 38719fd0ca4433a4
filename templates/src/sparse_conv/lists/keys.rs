//! What rows are sorted by: masks of the taps that a row has, as numbers of one or more words of 28 bits.
//!
//! A range of taps has a number for each row. Its bits are the taps, in their order or by how rare they are, and in Gray's order it is the
//! place of these bits in Gray's code: each bit the parity of those from the top down to it. Rows are to descend, heavy ones
//! first, so keys are the complement and ascend.

use super::count::{range_length, rare_bits};
use super::error::ListError;
use super::numbers::{Map, Panel, TAPS, extent, kernel, role};
use super::sort::WORD_BITS;
use crate::sparse_conv::RowOrder;
use crate::sparse_conv::pieces::{MapSet, PlanBuilder};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef};
use tilewright_runtime::dtype::Dtype;

/// Rows of a CTA.
const ROWS: u32 = 128;

/// Adds the launches that make `{name}_keys` I32 `[splits*words, rows]`, the lowest word of a range first.
pub(super) fn keys(
    pb: &mut PlanBuilder,
    name: &str,
    map: &MapSet,
    order: RowOrder,
    splits: u32,
    words: u32,
) -> Result<String, ListError> {
    let bits = match order {
        RowOrder::Plain => None,
        RowOrder::Rare | RowOrder::GrayRare => Some(rare_bits(pb, name, map, splits)?),
    };
    let keys = pb.workspace(&format!("{name}_keys"), Dtype::I32, &[&(splits * words).to_string(), &map.rows])?;
    let (binds, mut sets) = Map::launch(map);
    sets.extend([("splits".into(), splits.to_string()), ("words".into(), words.to_string())]);
    let binds = [binds[0], binds[1], ("keys", &keys), ("bits", bits.as_deref().unwrap_or_default())];
    let id = format!("sparse_keys_{order}");
    pb.launch(&id, |a| kernel(a, &id, |k| mask(k, order)), &binds, &sets)?;
    Ok(keys)
}

/// `map`, `count` and, but for plain ones, `bits` -> `keys`.
fn mask(k: &mut KernelBuilder, order: RowOrder) -> Result<(), LayoutError> {
    let map = Map::declare(k);
    k.shape("splits");
    k.shape("words");
    let keys = k.tensor("keys", DType::I32, [extent("splits*words"), extent("rows")]);
    let bits = (order != RowOrder::Plain).then(|| k.tensor("bits", DType::I32, [extent("taps")]));
    k.grid([format!("ceil_div(max(rows,1),{ROWS})"), "splits*words".into(), "1".into()]);
    let p = Panel::new(ROWS)?;
    role(k, 1, |r| {
        let (x, y) = (r.cta_id(0), r.cta_id(1));
        let [capacity, taps, words] = ["rows", "taps", "words"].map(|p| r.param(p));
        let (range, word) = (r.div(y, words), r.rem(y, words));
        let first = r.mul(x, ROWS);
        let row = p.rows.from(r, first);
        let start = p.rows.with(r, "mul", row, taps);
        let rows = map.rows(r);
        let there = p.rows.is(r, row, CmpPred::Lt, rows);
        let each = range_length(r);
        let from = r.mul(range, each);
        let to = r.add(from, each);
        let to = r.min(to, taps);
        let some = r.cmp(CmpPred::Lt, first, rows);
        let to = r.select(some, to, from);
        let none = p.all.int(r, 0);
        // Of each thread the bits of its taps; a row's are joined at the end.
        let (key, above) = (r.tile_cell(none), r.tile_cell(none));
        r.for_range(from, to, TAPS, |r, tap| {
            let entries = map.entries(r, &p, [start, there], tap, to);
            let some = p.all.is(r, entries, CmpPred::Ge, 0);
            let bit = bits_of(r, &p, bits.as_ref(), tap, from, to);
            let at_word = p.taps.with(r, "div", bit, WORD_BITS);
            let bit = p.taps.with(r, "rem", bit, WORD_BITS);
            let here = p.taps.is(r, at_word, CmpPred::Eq, word);
            let unit = p.taps.ones(r, here);
            let value = r.binary("shl", unit, bit);
            let put = |r: &mut RoleBuilder, cell, value| {
                let value = p.all.wide(r, value);
                let value = r.choose(some, value, none);
                let before = r.get_tile(cell);
                let after = r.binary("add", before, value);
                r.set_tile(cell, after);
            };
            put(r, key, value);
            if order == RowOrder::GrayRare {
                let higher = p.taps.is(r, at_word, CmpPred::Gt, word);
                let ones = p.taps.ones(r, higher);
                put(r, above, ones);
            }
        });
        // No two taps have the same bit: their sum joins them.
        let value = r.get_tile(key);
        let mut value = r.reduce("add", value);
        if order == RowOrder::GrayRare {
            for by in [1, 2, 4, 8, 16] {
                let high = p.rows.with(r, "ushr", value, by);
                value = r.binary("xor", value, high);
            }
            let above = r.get_tile(above);
            let above = r.reduce("add", above);
            let odd = p.rows.with(r, "and", above, 1);
            let zero = p.rows.int(r, 0);
            let flip = r.binary("sub", zero, odd);
            value = r.binary("xor", value, flip);
        }
        let value = p.rows.with(r, "xor", value, -1);
        let there = p.rows.is(r, row, CmpPred::Lt, capacity);
        r.store_elems(&keys, &[y], row, value, Some(there));
    });
    Ok(())
}

/// The bits of a panel's taps in their range, from tap `tap` on: their places there, or what the list says.
fn bits_of(r: &mut RoleBuilder, p: &Panel, bits: Option<&TensorRef>, tap: Scalar, from: Scalar, to: Scalar) -> TileRef {
    let taps = p.taps.from(r, tap);
    match bits {
        None => p.taps.with(r, "sub", taps, from),
        Some(bits) => {
            let inside = p.taps.is(r, taps, CmpPred::Lt, to);
            r.load_elems(bits, &[], taps, Some(inside))
        }
    }
}
