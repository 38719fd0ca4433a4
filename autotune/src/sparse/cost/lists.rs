//! What a dataflow makes of a map before the first layer: pairs, sorted rows, tiles.

use super::LaunchCost;
use super::coefficients::{RADIX_BITS, RADIX_COMPARES, RADIX_LAUNCHES};
use super::traffic::Traffic;
use crate::device::DeviceProfile;
use crate::sparse::candidate::Flow;
use crate::sparse::work::{GroupStats, Rows, TileStats, ViewStats};

/// Bytes of a number.
const WORD: f64 = 4.0;
/// Rows of a block of which pairs are counted tap by tap.
const COUNTED: f64 = 128.0;

/// Pairs of a map from one side, tap by tap. `at` says whether each entry's pair is noted, which sums by output row need; `tiles` how
/// many lists of tiles are cut.
pub(super) fn pairs(d: &DeviceProfile, g: &GroupStats, view: &ViewStats, at: bool, tiles: u32) -> Vec<LaunchCost> {
    let entries = view.m as f64 * f64::from(g.taps);
    let counts = f64::from(g.taps) * (view.m as f64 / COUNTED).ceil() * WORD;
    let count = Traffic { near: entries * WORD + counts, chain: 1.0, ..Traffic::default() };
    let scan = Traffic { near: 3.0 * counts, chain: 4.0, ..Traffic::default() };
    let noted = if at { entries * WORD } else { 0.0 };
    let fill = Traffic { near: entries * WORD + noted + g.pairs() as f64 * 2.0 * WORD, chain: 2.0, ..Traffic::default() };
    let cut = Traffic { chain: 2.0 * f64::from(tiles), ..Traffic::default() };
    let mut list = vec![count.cost(d, "pairs: counts", 1), scan.cost(d, "pairs: scan", 3), fill.cost(d, "pairs: lists", 1)];
    if tiles > 0 {
        list.push(cut.cost(d, "pairs: tiles", tiles));
    }
    list
}

/// The transpose of a map.
pub(super) fn transpose(d: &DeviceProfile, g: &GroupStats) -> LaunchCost {
    let [from, to] = [g.forward.m, g.forward.n].map(|r| r as f64 * f64::from(g.taps) * WORD);
    let turn = Traffic {
        near: from + 2.0 * to,
        random: g.pairs() as f64,
        random_bytes: WORD,
        footprint: to,
        chain: 2.0,
        ..Traffic::default()
    };
    turn.cost(d, "map: transpose", 2)
}

/// Sorting, where the dataflow sorts, and tiles.
pub(super) fn tiles(d: &DeviceProfile, g: &GroupStats, view: &ViewStats, cut: &TileStats, flow: Flow) -> Vec<LaunchCost> {
    let rows = view.m as f64;
    let (entries, splits) = (rows * f64::from(g.taps), f64::from(cut.splits));
    let mut list = Vec::new();
    let sorted = matches!(flow, Flow::ImplicitSorted { .. });
    if sorted {
        if flow.order() != Rows::Plain {
            let rank = Traffic { near: entries * WORD, chain: 3.0, ..Traffic::default() };
            list.push(rank.cost(d, "sort: rarest taps", 3));
        }
        let bits = f64::from(g.taps.div_ceil(cut.splits));
        let words = (bits / (4.0 * RADIX_BITS)).ceil();
        let keys = Traffic { near: entries * WORD + rows * splits * (words + 1.0) * WORD, chain: 2.0, ..Traffic::default() };
        list.push(keys.cost(d, "sort: keys", 1));
        let passes = (bits / RADIX_BITS).ceil();
        // A pass reads a word of the keys twice, reads and writes rows once, and counts digits of each block.
        let moved = passes * rows * splits * (2.0 + 2.0 + 3.0) * WORD;
        let compares = passes * rows * splits * RADIX_COMPARES;
        let sort = Traffic { near: moved, chain: passes * 5.0, compares, ..Traffic::default() };
        list.push(sort.cost(d, "sort: passes", (passes * RADIX_LAUNCHES) as u32));
    }
    // Sorted rows of the map lie anywhere.
    let row = f64::from(g.taps.div_ceil(cut.splits)) * WORD;
    let random = if sorted { rows * splits } else { 0.0 };
    let make = Traffic {
        near: if sorted { 0.0 } else { entries * WORD } + cut.executed as f64 * WORD + rows * splits * WORD,
        random,
        random_bytes: row,
        footprint: entries * WORD,
        chain: 3.0,
        ..Traffic::default()
    };
    list.push(make.cost(d, "tiles", 1));
    list
}
