//! What rows are sorted by: masks of the taps that a row has, as numbers of one or more words.
//!
//! A range of taps has a number for each row. Its bits are the taps, in their order or by how rare they are, and in Gray's order it is the
//! place of these bits in Gray's code: each bit the parity of those from the top down to it. Rows are to descend, heavy ones
//! first, so keys are the complement and ascend.

use super::count::{range_length, rare_bits};
use super::error::ListError;
use super::numbers::{Map, Numbers, extent, kernel, role};
use crate::sparse_conv::RowOrder;
use crate::sparse_conv::pieces::{MapSet, PlanBuilder};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, Scalar, TensorRef, TileRef};
use tilewright_runtime::dtype::Dtype;

/// Rows of a CTA.
const ROWS: u32 = 128;
/// Taps whose entries are under way at once.
const AT_ONCE: u32 = 8;

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
    let n = Numbers::new(ROWS, ROWS, 1)?;
    role(k, ROWS / 32, |r| {
        let (x, y) = (r.cta_id(0), r.cta_id(1));
        let [taps, words] = ["taps", "words"].map(|p| r.param(p));
        let (range, word) = (r.div(y, words), r.rem(y, words));
        let first = r.mul(x, ROWS);
        let row = n.from(r, first);
        let start = n.with(r, "mul", row, taps);
        let rows = map.rows(r);
        let each = range_length(r);
        let from = r.mul(range, each);
        let to = r.add(from, each);
        let to = r.min(to, taps);
        let none = n.int(r, 0);
        let (key, above) = (r.tile_cell(none), r.tile_cell(none));
        r.for_range(from, to, AT_ONCE, |r, tap| {
            let load = |j| {
                let tap = r.add(tap, j);
                let inside = r.cmp(CmpPred::Lt, tap, to);
                let end = r.select(inside, rows, 0);
                let there = n.is(r, row, CmpPred::Lt, end);
                (tap, map.entries(r, &n, start, tap, there))
            };
            let entries: Vec<(Scalar, TileRef)> = (0..AT_ONCE).map(load).collect();
            for (tap, entry) in entries {
                let some = n.is(r, entry, CmpPred::Ge, 0);
                let bit = bit_of(r, bits.as_ref(), tap, from, taps);
                let (at_word, bit) = (r.div(bit, 32), r.rem(bit, 32));
                let here = r.cmp(CmpPred::Eq, at_word, word);
                let unit = r.select(here, 1, 0);
                let (unit, bit) = (n.all(r, unit), n.all(r, bit));
                let value = r.binary("shl", unit, bit);
                put(r, key, "or", some, value, none);
                if order == RowOrder::GrayRare {
                    let higher = r.cmp(CmpPred::Gt, at_word, word);
                    let ones = r.select(higher, -1, 0);
                    let ones = n.all(r, ones);
                    put(r, above, "xor", some, ones, none);
                }
            }
        });
        let mut value = r.get_tile(key);
        if order == RowOrder::GrayRare {
            for by in [1, 2, 4, 8, 16] {
                let high = n.with(r, "shr", value, by);
                // The shift repeats the sign.
                let high = n.with(r, "and", high, i64::from(u32::MAX >> by));
                value = r.binary("xor", value, high);
            }
            let above = r.get_tile(above);
            value = r.binary("xor", value, above);
        }
        let value = n.with(r, "xor", value, -1);
        let capacity = r.param("rows");
        let there = n.is(r, row, CmpPred::Lt, capacity);
        r.store_elems(&keys, &[y], row, value, Some(there));
    });
    Ok(())
}

/// A tap's bit in its range: its place there, or what the list says.
fn bit_of(r: &mut RoleBuilder, bits: Option<&TensorRef>, tap: Scalar, from: Scalar, taps: Scalar) -> Scalar {
    match bits {
        None => r.sub(tap, from),
        Some(bits) => {
            let last = r.sub(taps, 1);
            let tap = r.min(tap, last);
            r.load_scalar(bits, &[tap])
        }
    }
}

/// Joins `value` to a cell where the mask holds.
fn put(r: &mut RoleBuilder, cell: tilewright_ir::tile::Cell, f: &str, mask: TileRef, value: TileRef, none: TileRef) {
    let value = r.choose(mask, value, none);
    let before = r.get_tile(cell);
    let after = r.binary(f, before, value);
    r.set_tile(cell, after);
}
