//! Pairs cut into tiles of one tap each, of one height or of two.

use super::error::ListError;
use super::numbers::{Numbers, extent, fixed, kernel, role, sets};
use crate::sparse_conv::pieces::{PairTiles, Pairs, PlanBuilder};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, Scalar, TensorRef};
use tilewright_runtime::dtype::Dtype;

/// Entries of a CTA, one for each thread.
const ENTRIES: u32 = 128;
/// Taps whose numbers are under way at once.
const AT_ONCE: u32 = 8;
/// Numbers of an entry: tap, first pair, pairs.
const FIELDS: u32 = 3;
/// `eps` counts these parts.
const PARTS: u32 = 1000;

/// Two tile heights: taps that tall tiles would pad little take them, the others short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Rows of a tall tile.
    pub tall: u32,
    /// Rows of a short one.
    pub short: u32,
    /// Padding of a tap's tall tiles that is still little, in thousandths of its pairs.
    pub eps_thousandths: u32,
}

impl Grouping {
    /// Whether tall tiles take a tap of so many pairs.
    pub fn is_tall(&self, pairs: u64) -> bool {
        let padding = pairs.next_multiple_of(self.tall.into()) - pairs;
        padding * u64::from(PARTS) <= u64::from(self.eps_thousandths.min(PARTS)) * pairs
    }
}

/// Which taps a list takes.
#[derive(Clone, Copy, Debug)]
enum Pick {
    All,
    /// Those that tiles of so many rows pad little.
    Padded {
        tall: u32,
        little: bool,
    },
}

/// Adds the launch that makes `{name}_tiles` I32 `[most, 3]` (tap, first pair, pairs, at most `bm`), taps ascending and pairs in them,
/// and `{name}_tile_count` I32 `[1]`. Entries behind that are not written. Pairs past the capacity are in no tile.
///
/// # Errors
/// [`ListError::TileRows`] for tiles of no rows.
pub fn pair_tiles(pb: &mut PlanBuilder, name: &str, pairs: &Pairs, bm: u32) -> Result<PairTiles, ListError> {
    make(pb, name, pairs, bm, Pick::All, 0)
}

/// As [`pair_tiles`] in two lists, `{name}_tall_..` and `{name}_short_..`: a tap is in the first if its tall tiles hold at most
/// `eps_thousandths` of its pairs besides them, else in the second.
///
/// # Errors
/// [`ListError::Grouping`] where the heights do not descend.
pub fn pair_tiles_grouped(pb: &mut PlanBuilder, name: &str, pairs: &Pairs, g: Grouping) -> Result<[PairTiles; 2], ListError> {
    if g.short == 0 || g.short >= g.tall {
        return Err(ListError::Grouping { tall: g.tall, short: g.short });
    }
    let mut list = |part: &str, bm, little| {
        make(pb, &format!("{name}_{part}"), pairs, bm, Pick::Padded { tall: g.tall, little }, g.eps_thousandths)
    };
    Ok([list("tall", g.tall, true)?, list("short", g.short, false)?])
}

fn make(pb: &mut PlanBuilder, name: &str, pairs: &Pairs, bm: u32, pick: Pick, eps: u32) -> Result<PairTiles, ListError> {
    if bm == 0 {
        return Err(ListError::TileRows(bm));
    }
    let (taps, capacity) = (&pairs.map.taps, &pairs.pairs);
    let most = format!("({capacity})/{bm}+min({taps},{capacity})");
    let tiles = pb.workspace(&format!("{name}_tiles"), Dtype::I32, &[&most, &FIELDS.to_string()])?;
    let count = pb.workspace(&format!("{name}_tile_count"), Dtype::I32, &["1"])?;
    let id = match pick {
        Pick::All => format!("sparse_pair_tiles_b{bm}"),
        Pick::Padded { tall, little } => format!("sparse_pair_tiles_b{bm}_{}{tall}", if little { "in" } else { "not" }),
    };
    let binds = [("tap_start", pairs.tap_start.as_str()), ("tiles", &tiles), ("tile_count", &count)];
    let sets = sets([("taps", taps), ("pairs", capacity), ("eps", &eps.to_string())]);
    pb.launch(&id, |a| kernel(a, &id, |k| list(k, bm, pick)), &binds, &sets)?;
    Ok(PairTiles { tiles, count, most, bm })
}

/// `tap_start` -> `tiles`, `tile_count`. The owner of an entry is the last tap whose tiles begin at or before it: taps without any
/// begin where the next one does.
fn list(k: &mut KernelBuilder, bm: u32, pick: Pick) -> Result<(), LayoutError> {
    ["taps", "pairs"].into_iter().for_each(|n| drop(k.shape(n)));
    if let Pick::Padded { .. } = pick {
        k.shape("eps");
    }
    let starts = k.tensor("tap_start", DType::I32, [extent("taps+1")]);
    let most = format!("pairs/{bm}+min(taps,pairs)");
    let tiles = k.tensor("tiles", DType::I32, [extent(&most), fixed(FIELDS)]);
    let count = k.tensor("tile_count", DType::I32, [fixed(1)]);
    k.grid([format!("ceil_div(max({most},1),{ENTRIES})"), "1".into(), "1".into()]);
    let n = Numbers::new(ENTRIES, ENTRIES, 1)?;
    role(k, ENTRIES / 32, |r| {
        let cta = r.cta_id(0);
        let first = r.mul(cta, ENTRIES);
        let number = n.from(r, first);
        let taps = r.param("taps");
        let none = n.int(r, 0);
        let before = r.scalar_cell(0);
        let cells = [none; 4].map(|v| r.tile_cell(v));
        r.for_range(0, taps, AT_ONCE, |r, tap| {
            for (j, [start, rows]) in spans(r, &starts, tap, taps).into_iter().enumerate() {
                let at = r.get(before);
                let tiles = tiles_of(r, rows, bm, pick);
                let next = r.add(at, tiles);
                r.set(before, next);
                let tap = r.add(tap, j as u32);
                let mine = n.is(r, number, CmpPred::Ge, at);
                for (cell, value) in cells.into_iter().zip([tap, at, start, rows]) {
                    let (value, old) = (n.all(r, value), r.get_tile(cell));
                    let new = r.choose(mine, value, old);
                    r.set_tile(cell, new);
                }
            }
        });
        let total = r.get(before);
        let there = n.is(r, number, CmpPred::Lt, total);
        let [tap, begin, from, len] = cells.map(|c| r.get_tile(c));
        let tile = r.binary("sub", number, begin);
        let done = n.with(r, "mul", tile, bm);
        let pair = r.binary("add", from, done);
        let left = r.binary("sub", len, done);
        let rows = n.with(r, "min", left, bm);
        let at = n.with(r, "mul", number, FIELDS);
        for (i, value) in [tap, pair, rows].into_iter().enumerate() {
            let at = n.with(r, "add", at, i as u32);
            r.store_elems(&tiles, &[], at, value, Some(there));
        }
        let total = n.all(r, total);
        let first = n.is(r, number, CmpPred::Eq, 0);
        r.store_elems(&count, &[], number, total, Some(first));
    });
    Ok(())
}

/// First pair and pairs of the taps from `tap` on; none past the last.
fn spans(r: &mut RoleBuilder, starts: &TensorRef, tap: Scalar, taps: Scalar) -> Vec<[Scalar; 2]> {
    let ends: Vec<Scalar> = (0..=AT_ONCE)
        .map(|j| {
            let at = r.add(tap, j);
            let at = r.min(at, taps);
            r.load_scalar(starts, &[at])
        })
        .collect();
    let pairs = r.param("pairs");
    let ends: Vec<Scalar> = ends.into_iter().map(|v| r.min(v, pairs)).collect();
    ends.windows(2).map(|pair| [pair[0], r.sub(pair[1], pair[0])]).collect()
}

/// Tiles of a tap with `rows` pairs in this list.
fn tiles_of(r: &mut RoleBuilder, rows: Scalar, bm: u32, pick: Pick) -> Scalar {
    let tiles = r.ceil_div(rows, bm);
    let Pick::Padded { tall, little } = pick else { return tiles };
    let whole = r.ceil_div(rows, tall);
    let whole = r.mul(whole, tall);
    let padding = r.sub(whole, rows);
    let padding = r.mul(padding, PARTS);
    // Padding is less than a tile: with more pairs than this any part of them is enough, and products stay inside 32 bits.
    let counted = r.min(rows, PARTS * tall);
    let eps = r.param("eps");
    let eps = r.min(eps, PARTS);
    let allowed = r.mul(counted, eps);
    let is_little = r.cmp(CmpPred::Le, padding, allowed);
    let [yes, no] = if little { [tiles.into(), 0.into()] } else { [0.into(), tilewright_ir::tile::Operand::from(tiles)] };
    r.select(is_little, yes, no)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_that_tall_tiles_pad_little_are_tall() {
        let g = Grouping { tall: 64, short: 16, eps_thousandths: 100 };
        let tall: Vec<u64> = [0, 1, 58, 59, 64, 65, 117, 580, 590, 1 << 40].into_iter().filter(|n| g.is_tall(*n)).collect();
        assert_eq!(tall, [0, 59, 64, 117, 590, 1 << 40]);
        assert!(!Grouping { eps_thousandths: 0, ..g }.is_tall(63) && Grouping { eps_thousandths: 5000, ..g }.is_tall(32));
    }
}
