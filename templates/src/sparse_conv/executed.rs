//! How many rows a recipe multiplies, counted on the host exactly as the device's lists come out.

use super::host::KernelMap;
use super::multiply::{EPS_THOUSANDTHS, SHORT};
use super::problem::{Dataflow, RowOrder};
use super::recipe::Recipe;

/// Words of a mask of 343 taps.
const WORDS: usize = 6;
type Mask = [u64; WORDS];

/// Rows that are multiplied: tile-padded rows times the taps they are multiplied by.
pub fn executed_rows(map: &KernelMap, r: &Recipe) -> u64 {
    let bm = r.config.tile()[0] as usize;
    let up_to = |pairs: usize, bm: usize| pairs.next_multiple_of(bm) as u64;
    match r.flow {
        Dataflow::Implicit => tiled(map, 1, None, bm),
        Dataflow::ImplicitSorted { splits } => tiled(map, splits as usize, Some(r.order), bm),
        Dataflow::FetchOnDemand { .. } => pairs_of_taps(map).into_iter().map(|p| up_to(p, bm)).sum(),
        Dataflow::GatherScatter => {
            let rows = |p: usize| {
                let tall = up_to(p, bm);
                let little = (tall as usize - p) * 1000 <= p * EPS_THOUSANDTHS as usize;
                if little || r.short().is_none() { tall } else { up_to(p, SHORT as usize) }
            };
            pairs_of_taps(map).into_iter().map(rows).sum()
        }
    }
}

fn pairs_of_taps(map: &KernelMap) -> Vec<usize> {
    let mut counts = vec![0; map.taps];
    for (i, _) in map.map.iter().enumerate().filter(|(_, j)| **j >= 0) {
        counts[i % map.taps] += 1;
    }
    counts
}

/// Tiles of `bm` rows, in the map's order or sorted in each range of taps, times the taps that any row of a tile has.
fn tiled(map: &KernelMap, splits: usize, order: Option<RowOrder>, bm: usize) -> u64 {
    let each = map.taps.div_ceil(splits).max(1);
    let counts = pairs_of_taps(map);
    let mut executed = 0;
    for from in (0..map.taps).step_by(each) {
        let mut taps: Vec<usize> = (from..(from + each).min(map.taps)).collect();
        // The first is the top bit.
        match order {
            None | Some(RowOrder::Plain) => taps.reverse(),
            Some(RowOrder::Rare | RowOrder::GrayRare) => taps.sort_by_key(|t| (counts[*t], *t)),
        }
        let mut rows: Vec<(Mask, Mask)> = (0..map.rows()).map(|m| masks(map.row(m), &taps, order)).collect();
        if order.is_some() {
            // Equal keys are equal masks: their order changes no tile.
            rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.0));
        }
        for tile in rows.chunks(bm) {
            let any = tile.iter().fold([0; WORDS], |all: Mask, (_, m)| std::array::from_fn(|w| all[w] | m[w]));
            executed += bm as u64 * any.iter().map(|w| u64::from(w.count_ones())).sum::<u64>();
        }
    }
    executed
}

/// What a row is sorted by, and the taps it has: bits from the top, in the order of `taps`.
fn masks(row: &[i32], taps: &[usize], order: Option<RowOrder>) -> (Mask, Mask) {
    let (mut key, mut mask, mut parity) = ([0; WORDS], [0; WORDS], false);
    for (i, tap) in taps.iter().enumerate() {
        let has = row[*tap] >= 0;
        // A place in Gray's code: each bit the parity of those from the top down to it.
        parity ^= has;
        let bit = 1u64 << (63 - i % 64);
        mask[i / 64] |= if has { bit } else { 0 };
        key[i / 64] |= if if order == Some(RowOrder::GrayRare) { parity } else { has } { bit } else { 0 };
    }
    (key, mask)
}

#[cfg(test)]
mod tests {
    use super::super::core::CoreConfig;
    use super::*;

    fn recipe(flow: Dataflow, order: RowOrder, config: &str) -> Recipe {
        Recipe { flow, order, taps: 8, config: config.parse::<CoreConfig>().unwrap(), ragged: false }
    }

    /// 64 rows, tap 0 in all of them, tap 1 in every second, tap 2 in row 5 only, tap 3 in none.
    fn map() -> KernelMap {
        let row = |m: i32| [m, if m % 2 == 0 { m } else { -1 }, if m == 5 { 0 } else { -1 }, -1];
        KernelMap { taps: 4, coords_out: vec![[0; 4]; 64], map: (0..64).flat_map(row).collect() }
    }

    #[test]
    fn rows_by_hand() {
        let rows = |flow, order| executed_rows(&map(), &recipe(flow, order, "mma_32x16x16_s3_w2x1"));
        // Two tiles: taps 0, 1, 2 and taps 0, 1.
        assert_eq!(rows(Dataflow::Implicit, RowOrder::Plain), 5 * 32);
        // Row 5 is first, 31 rows of taps 0 and 1 with it, one of these and the others with tap 0 alone after it.
        assert_eq!(rows(Dataflow::ImplicitSorted { splits: 1 }, RowOrder::Rare), 5 * 32);
        // Gray's code: row 5 (111..), tap 0 alone, then taps 0 and 1: the second tile has no tap 2.
        assert_eq!(rows(Dataflow::ImplicitSorted { splits: 1 }, RowOrder::GrayRare), 5 * 32);
        // Ranges of taps (0, 1) and (2, 3): one tile with tap 0 and 1, one with tap 0; one with tap 2.
        assert_eq!(rows(Dataflow::ImplicitSorted { splits: 2 }, RowOrder::Plain), 4 * 32);
        // 64, 32 and 1 pairs.
        assert_eq!(rows(Dataflow::FetchOnDemand { fused: true }, RowOrder::Plain), 64 + 32 + 32);
        let grouped = recipe(Dataflow::GatherScatter, RowOrder::Plain, "mma_64x16x16_s3_w4x1");
        assert_eq!(executed_rows(&map(), &grouped), 64 + 32 + 32);
    }

    #[test]
    fn an_empty_map_multiplies_nothing() {
        let none = KernelMap { taps: 27, coords_out: Vec::new(), map: Vec::new() };
        for flow in [Dataflow::Implicit, Dataflow::ImplicitSorted { splits: 3 }, Dataflow::GatherScatter] {
            assert_eq!(executed_rows(&none, &recipe(flow, RowOrder::GrayRare, "mma_64x16x16_s3_w4x1")), 0);
        }
    }
}
