//! Exact counts of a map on the host: pairs, and what each way of cutting rows into tiles multiplies and reads. The same rows in
//! the same tiles as the device's lists, of which this is the witness.

use super::host::KernelMap;
use super::lists::{Grouping, ListError, TileConfig};
use super::problem::RowOrder;

/// Pairs of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStats {
    /// Output rows.
    pub rows: usize,
    /// Entries of the map, tap by tap.
    pub pairs_per_tap: Vec<u64>,
}

/// A map's rows cut into tiles, item `g*T + t` tile t of range g of taps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileStats {
    /// Rows of a tile.
    pub bm: u32,
    /// Taps that some row of each item has.
    pub taps: Vec<u32>,
    /// Different input rows that each item reads.
    pub unique: Vec<u32>,
}

/// The lists that the device makes, whose undefined parts are -1 here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTiles {
    /// `[splits*T, ceil(taps/splits) + 1]`: how many taps, then which.
    pub tile_taps: Vec<i32>,
    /// `[splits*T, ceil(taps/splits), bm]`: input rows.
    pub tile_rows: Vec<i32>,
    /// `[splits*T, bm]`: output rows.
    pub tile_out: Vec<i32>,
}

impl MapStats {
    /// Counts a map.
    pub fn new(map: &KernelMap) -> Self {
        let mut pairs_per_tap = vec![0; map.taps];
        for row in map.map.chunks_exact(map.taps) {
            for (count, j) in pairs_per_tap.iter_mut().zip(row) {
                *count += u64::from(*j >= 0);
            }
        }
        MapStats { rows: map.rows(), pairs_per_tap }
    }

    /// All pairs.
    pub fn pairs(&self) -> u64 {
        self.pairs_per_tap.iter().sum()
    }

    /// Rows multiplied by tiles of one tap each.
    pub fn pair_rows(&self, bm: u32) -> u64 {
        self.pairs_per_tap.iter().map(|n| n.next_multiple_of(bm.into())).sum()
    }

    /// The same with tiles of two heights.
    pub fn grouped_pair_rows(&self, g: Grouping) -> u64 {
        let height = |n: &u64| if g.is_tall(*n) { g.tall } else { g.short };
        self.pairs_per_tap.iter().map(|n| n.next_multiple_of(height(n).into())).sum()
    }
}

impl TileStats {
    /// Walks a map's tiles.
    ///
    /// # Errors
    /// What [`TileConfig::check`] refuses.
    pub fn new(map: &KernelMap, config: &TileConfig) -> Result<Self, ListError> {
        let walk = Walk::new(map, config)?;
        let mut stats = TileStats { bm: config.bm, taps: Vec::new(), unique: Vec::new() };
        let inputs = map.map.iter().max().map_or(0, |j| (j + 1).max(0) as usize);
        let mut seen = vec![0; inputs];
        let mut item = 0u32;
        let mut has = vec![false; walk.length];
        for (range, order) in walk.ranges() {
            for rows in order.chunks(config.bm as usize) {
                item += 1;
                has.fill(false);
                let mut unique = 0;
                for row in rows {
                    for (has, j) in has.iter_mut().zip(&map.row(*row as usize)[range.clone()]) {
                        if *j >= 0 {
                            *has = true;
                            let last = &mut seen[*j as usize];
                            unique += u32::from(*last != item);
                            *last = item;
                        }
                    }
                }
                stats.taps.push(has.iter().filter(|h| **h).count() as u32);
                stats.unique.push(unique);
            }
        }
        Ok(stats)
    }

    /// Rows multiplied: a tile's rows for each of its taps.
    pub fn executed(&self) -> u64 {
        u64::from(self.bm) * self.taps.iter().map(|c| u64::from(*c)).sum::<u64>()
    }
}

impl HostTiles {
    /// The lists of a map with room for `capacity` rows, at least those it has.
    ///
    /// # Errors
    /// What [`TileConfig::check`] refuses.
    pub fn new(map: &KernelMap, config: &TileConfig, capacity: usize) -> Result<Self, ListError> {
        let walk = Walk::new(map, config)?;
        let bm = config.bm as usize;
        let mut lists = HostTiles { tile_taps: Vec::new(), tile_rows: Vec::new(), tile_out: Vec::new() };
        for (range, order) in walk.ranges() {
            let mut order: Vec<i32> = order.into_iter().map(|row| row as i32).collect();
            order.resize(capacity.next_multiple_of(bm), -1);
            for rows in order.chunks(bm) {
                let entry = |row: &i32, k| if *row < 0 { -1 } else { map.row(*row as usize)[k] };
                let taps: Vec<usize> = range.clone().filter(|k| rows.iter().any(|row| entry(row, *k) >= 0)).collect();
                let free = walk.length - taps.len();
                lists.tile_taps.push(taps.len() as i32);
                lists.tile_taps.extend(taps.iter().map(|k| *k as i32));
                lists.tile_taps.extend(vec![-1; free]);
                lists.tile_rows.extend(taps.iter().flat_map(|k| rows.iter().map(|row| entry(row, *k))));
                lists.tile_rows.extend(vec![-1; free * bm]);
                lists.tile_out.extend(rows);
            }
        }
        Ok(lists)
    }
}

/// The ranges of a map's taps and how rows are ordered in them.
struct Walk<'m> {
    map: &'m KernelMap,
    order: Option<RowOrder>,
    splits: usize,
    /// Taps of a range.
    length: usize,
}

impl<'m> Walk<'m> {
    fn new(map: &'m KernelMap, config: &TileConfig) -> Result<Self, ListError> {
        config.check()?;
        let splits = config.splits as usize;
        Ok(Walk { map, order: config.order, splits, length: map.taps.div_ceil(splits) })
    }

    /// Each range of taps and its order of rows.
    fn ranges(&self) -> impl Iterator<Item = (std::ops::Range<usize>, Vec<u32>)> {
        let taps = self.map.taps;
        let totals = MapStats::new(self.map).pairs_per_tap;
        (0..self.splits).map(move |g| {
            let range = (g * self.length).min(taps)..((g + 1) * self.length).min(taps);
            let order = self.sorted(range.clone(), &totals[range.clone()]);
            (range, order)
        })
    }

    /// Row numbers by descending key, equal ones ascending.
    fn sorted(&self, range: std::ops::Range<usize>, totals: &[u64]) -> Vec<u32> {
        let rows = 0..self.map.rows() as u32;
        let Some(order) = self.order else { return rows.collect() };
        let bits = bits(order, totals);
        let words = range.len().div_ceil(64).max(1);
        // Each row's key, its highest word first, in complement.
        let keys: Vec<u64> = (rows.clone())
            .flat_map(|row| {
                let mut key = vec![0u64; words];
                for (bit, j) in bits.iter().zip(&self.map.row(row as usize)[range.clone()]) {
                    key[words - 1 - bit / 64] |= u64::from(*j >= 0) << (bit % 64);
                }
                if order == RowOrder::GrayRare {
                    from_gray(&mut key);
                }
                key.into_iter().map(|word| !word)
            })
            .collect();
        let key = |row: &u32| &keys[*row as usize * words..][..words];
        let mut list: Vec<u32> = rows.collect();
        list.sort_by(|a, b| key(a).cmp(key(b)));
        list
    }
}

/// The bit of each tap of a range in its mask. By rarity: the fewest pairs on top, of equal ones the first.
fn bits(order: RowOrder, totals: &[u64]) -> Vec<usize> {
    if order == RowOrder::Plain {
        return (0..totals.len()).collect();
    }
    let less_rare = |k: usize| (0..totals.len()).filter(|o| (totals[*o], *o) > (totals[k], k)).count();
    (0..totals.len()).map(less_rare).collect()
}

/// The place in Gray's code, highest word first: each bit the parity of those from the top down to it.
fn from_gray(words: &mut [u64]) {
    let mut odd = false;
    for word in words {
        for by in [1, 2, 4, 8, 16, 32] {
            *word ^= *word >> by;
        }
        if odd {
            *word = !*word;
        }
        odd = *word & 1 == 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(taps: usize, rows: &[&[usize]]) -> KernelMap {
        let mut map = vec![-1; rows.len() * taps];
        for (m, has) in rows.iter().enumerate() {
            has.iter().for_each(|k| map[m * taps + k] = (m % 3) as i32);
        }
        KernelMap { taps, coords_out: vec![[0; 4]; rows.len()], map }
    }

    fn order(map: &KernelMap, order: RowOrder, splits: u32) -> Vec<Vec<u32>> {
        let config = TileConfig { order: Some(order), splits, bm: 32, most_taps: map.taps as u32 };
        Walk::new(map, &config).unwrap().ranges().map(|(_, rows)| rows).collect()
    }

    /// Masks 1, 2, 3, 1, 4, 6 of three taps with 3, 3 and 2 pairs.
    #[test]
    fn rows_descend_in_each_order() {
        let m = map(3, &[&[0], &[1], &[0, 1], &[0], &[2], &[1, 2]]);
        assert_eq!(order(&m, RowOrder::Plain, 1), [[5, 4, 2, 1, 0, 3]]);
        // Tap 2 on top, then tap 0, the first of two equal ones: 2, 1, 3, 2, 4, 5.
        assert_eq!(order(&m, RowOrder::Rare, 1), [[5, 4, 2, 0, 3, 1]]);
        // Places of 010, 001, 011, 010, 100, 101 in Gray's code: 3, 1, 2, 3, 7, 6.
        assert_eq!(order(&m, RowOrder::GrayRare, 1), [[4, 5, 0, 3, 2, 1]]);
        // Taps 0 and 1, then tap 2 alone.
        assert_eq!(order(&m, RowOrder::Plain, 2), [[2, 1, 5, 0, 3, 4], [4, 5, 0, 1, 2, 3]]);
    }

    #[test]
    fn gray_code_crosses_words() {
        for n in [0u128, 1, 5, 1 << 64, (1 << 64) + 3, u128::MAX, 0x1234_5678_9abc_def0_0fed_cba9] {
            let gray = n ^ (n >> 1);
            let mut words = [(gray >> 64) as u64, gray as u64];
            from_gray(&mut words);
            assert_eq!((u128::from(words[0]) << 64) | u128::from(words[1]), n);
        }
    }

    #[test]
    fn tiles_count_what_they_multiply_and_read() {
        let all: Vec<&[usize]> = (0..40).map(|m| if m < 32 { &[0usize][..] } else { &[1, 2][..] }).collect();
        let m = map(3, &all);
        let config = TileConfig { order: None, splits: 1, bm: 32, most_taps: 3 };
        let stats = TileStats::new(&m, &config).unwrap();
        assert_eq!((stats.taps.as_slice(), stats.unique.as_slice(), stats.executed()), (&[1, 2][..], &[3, 3][..], 96));
        let pairs = MapStats::new(&m);
        assert_eq!((pairs.pairs(), pairs.pair_rows(16)), (48, 64));
        let two = Grouping { tall: 32, short: 8, eps_thousandths: 100 };
        assert_eq!(pairs.grouped_pair_rows(two), 48);
        let lists = HostTiles::new(&m, &config, 70).unwrap();
        assert_eq!(lists.tile_taps, [1, 0, -1, -1, 2, 1, 2, -1, 0, -1, -1, -1]);
        assert_eq!(lists.tile_out[32..42], [32, 33, 34, 35, 36, 37, 38, 39, -1, -1]);
        assert_eq!(lists.tile_rows[3 * 32..3 * 32 + 9], [2, 0, 1, 2, 0, 1, 2, 0, -1]);
        let split = TileConfig { splits: 2, ..config };
        assert_eq!(TileStats::new(&m, &split), Err(ListError::Unsorted(2)));
    }
}
