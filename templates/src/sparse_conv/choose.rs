//! Which way a convolution goes where nobody says: tiles from channels, the dataflow from what the map makes of each.
//!
//! The estimate knows what decides between dataflows and no more: how many rows are multiplied for the pairs there are (counted on
//! the host, exactly), how many bytes a dataflow moves besides, how many launches it takes. `autotune` has the model that knows a
//! device.

use super::core::{CoreConfig, MmaConfig, WgmmaConfig};
use super::executed::executed_rows;
use super::host::KernelMap;
use super::problem::{ConvProblem, Dataflow, RowOrder};
use super::recipe::Recipe;
use tilewright_ir::{Arch, DType};

/// Ranges of taps that are tried.
const SPLITS: u32 = 4;
/// Numbers of taps that plans are made for: 2^3, 3^3, 4^3, 5^3, 7^3.
const MOST_TAPS: [u32; 5] = [8, 27, 64, 125, 343];
/// Widths of a tile, ascending; beyond 128 of wgmma only.
const WIDTHS: [u32; 7] = [16, 32, 64, 96, 128, 192, 256];
/// Multiply-adds a second of 16-bit operands, half of it of tf32; bytes a second; seconds of a launch. Of a large GPU, all below its data
/// sheet: only their ratios decide.
const MULTIPLIES: f64 = 1.5e14;
const BYTES: f64 = 2e12;
const LAUNCH: f64 = 2e-6;
/// Rows of tall tiles pay where there are so many outputs that every multiprocessor has several.
const MANY_ROWS: usize = 1 << 15;

/// Tiles for channels in and out, and outputs where they are known: no wider and no deeper than the channels need. Hopper multiplies
/// 16-bit operands with wgmma where a tile is not mostly idle.
pub fn tile_config(arch: Arch, dtype: DType, [cin, cout]: [u32; 2], m: Option<usize>) -> CoreConfig {
    let wgmma = arch.is_hopper() && dtype.bytes() == 2 && cin >= 32 && cout >= 32;
    let widest = if wgmma { 256 } else { 128 };
    let widths = || WIDTHS.into_iter().filter(|w| *w <= widest);
    // Of those with the fewest idle columns the widest, up to what is needed.
    let enough = widths().find(|w| *w >= cout).unwrap_or(widest);
    let fitting = widths().filter(|w| *w <= enough && *w >= 64.min(enough));
    let bn = fitting.min_by_key(|w| (cout.next_multiple_of(*w), std::cmp::Reverse(*w))).unwrap_or(enough);
    // Rows of a stage are 32, 64 or 128 bytes.
    let bytes = cin * dtype.bytes();
    let row = if bytes <= 32 {
        32
    } else if bytes.is_multiple_of(128) {
        128
    } else {
        64
    };
    let (bm, bk) = (if m.is_some_and(|m| m >= MANY_ROWS) && cin * cout >= 64 * 64 { 128 } else { 64 }, row / dtype.bytes());
    if wgmma {
        CoreConfig::Wgmma(WgmmaConfig { bm, bn, bk, stages: 4 })
    } else {
        CoreConfig::Mma(MmaConfig::new([bm, bn, bk], 3))
    }
}

/// One dataflow with the tiles its channels take; `sizes` are outputs and taps where they are known, of taps a usual number where not.
pub fn recipe(
    arch: Arch,
    p: &ConvProblem,
    channels: [u32; 2],
    sizes: Option<[usize; 2]>,
    flow: Dataflow,
    order: RowOrder,
) -> Recipe {
    let vec = 16 / p.dtype.bytes();
    let ragged = channels.into_iter().any(|c| !c.is_multiple_of(vec));
    let most = |taps: usize| MOST_TAPS.into_iter().find(|t| *t as usize >= taps).unwrap_or(343);
    let taps = match (flow, sizes) {
        // A launch for each.
        (Dataflow::FetchOnDemand { fused: false }, Some([_, taps])) => taps as u32,
        (_, sizes) => sizes.map_or(MOST_TAPS[1], |[_, taps]| most(taps)),
    };
    Recipe { flow, order, taps, config: tile_config(arch, p.dtype, channels, sizes.map(|[m, _]| m)), ragged }
}

/// Every dataflow for a convolution, the best first as far as can be told: with a map by what it makes of each, without one unsorted
/// implicit GEMM for few channels, where making lists costs more than multiplying, else the sorted one.
pub fn recipes(arch: Arch, p: &ConvProblem, channels: [u32; 2], map: Option<&KernelMap>) -> Vec<Recipe> {
    let mut flows = vec![Dataflow::Implicit];
    let most = map.map_or(SPLITS, |map| SPLITS.min(map.taps as u32));
    flows.extend((1..=most).map(|splits| Dataflow::ImplicitSorted { splits }));
    flows.extend([Dataflow::FetchOnDemand { fused: true }, Dataflow::GatherScatter, Dataflow::FetchOnDemand { fused: false }]);
    let all = flows.into_iter().map(|f| recipe(arch, p, channels, map.map(|map| [map.rows(), map.taps]), f, RowOrder::default()));
    let mut list: Vec<Recipe> = all.collect();
    match map {
        Some(map) => list.sort_by_cached_key(|r| (seconds(p, channels, map, r) * 1e12) as u64),
        None if channels[0] * channels[1] >= 64 * 64 => list.swap(0, 1),
        None => {}
    }
    list
}

/// What the estimate says.
fn seconds(p: &ConvProblem, channels: [u32; 2], map: &KernelMap, r: &Recipe) -> f64 {
    let [cin, cout] = channels.map(f64::from);
    let (m, pairs, taps) = (map.rows() as f64, map.pairs() as f64, map.taps as f64);
    // Tiles without lists are nobody's choice.
    let (rows, element) = (executed_rows(map, r).map_or(f64::INFINITY, |rows| rows as f64), f64::from(p.dtype.bytes()));
    let rate = if p.dtype == DType::F32 { MULTIPLIES / 2.0 } else { MULTIPLIES };
    let core = (rows * cin * cout / rate).max((rows * cin * element + m * cout * element) / BYTES);
    // Bytes besides the core's, and launches.
    let (bytes, launches) = match r.flow {
        Dataflow::Implicit => (8.0 * m * taps, 2.0),
        Dataflow::ImplicitSorted { splits } => {
            // A pass of the radix sort takes 8 bits of a row's mask, and reads and writes it twice with the row's number.
            let s = f64::from(splits);
            let passes = (taps / s / 8.0).ceil() * s;
            let slabs = if splits > 1 { 8.0 * s * m * cout } else { 0.0 };
            (8.0 * m * taps + 32.0 * passes * m + slabs, 4.0 + 3.0 * passes)
        }
        // Every product goes to memory and comes back.
        Dataflow::FetchOnDemand { fused } => {
            (16.0 * m * taps + pairs * 8.0 * cout + 12.0 * m * cout, if fused { 8.0 } else { 6.0 + taps })
        }
        Dataflow::GatherScatter => (16.0 * m * taps + pairs * (2.0 * cin * element + 8.0 * cout), 10.0),
    };
    core + bytes / BYTES + launches * LAUNCH
}

#[cfg(test)]
mod tests {
    use super::super::geometry::{Geometry, Mode};
    use super::super::host::Points;
    use super::*;

    #[test]
    fn tiles_of_any_channels_are_legal() {
        for arch in [Arch::Sm80, Arch::Sm90a] {
            for dtype in [DType::F16, DType::BF16, DType::F32] {
                for (cin, cout) in [(1, 1), (4, 16), (16, 20), (32, 64), (96, 96), (96, 128), (128, 192), (256, 256), (70, 300)] {
                    let p = ConvProblem::plain(dtype, Mode::Submanifold);
                    for r in recipes(arch, &p, [cin, cout], None) {
                        r.config.check(arch, dtype).unwrap();
                        r.short().map_or(Ok(()), |c| c.check(arch, dtype)).unwrap();
                        assert_eq!(r.ragged, cin * dtype.bytes() % 16 != 0 || cout * dtype.bytes() % 16 != 0);
                    }
                }
            }
        }
    }

    /// A plane of `n x n` voxels with every second one missing, and a few above it.
    fn plane(n: i32) -> KernelMap {
        let holes = (0..n * n).filter(|i| i % 3 != 0).map(|i| [0, i / n, i % n, i32::from(i % 11 == 0)]).collect();
        let points = Points::new(holes).unwrap();
        KernelMap::build(Mode::Submanifold, &Geometry::submanifold([3; 3], [1; 3]), &points, None).unwrap()
    }

    #[test]
    fn sorting_pays_with_channels_and_not_without() {
        let map = plane(150);
        let best = |channels| recipes(Arch::Sm80, &ConvProblem::plain(DType::F16, Mode::Submanifold), channels, Some(&map))[0];
        assert_eq!(best([16, 16]).flow, Dataflow::Implicit);
        let wide = best([512, 512]);
        let plain = Recipe { flow: Dataflow::Implicit, ..wide };
        assert!(wide.sorts() && executed_rows(&map, &wide).unwrap() < executed_rows(&map, &plain).unwrap());
    }

    #[test]
    fn every_dataflow_is_there_to_be_chosen() {
        let list = recipes(Arch::Sm90a, &ConvProblem::plain(DType::F16, Mode::Strided), [64, 64], Some(&plane(20)));
        assert_eq!(list.len(), 8);
        let slow = list.last().unwrap().flow;
        assert_eq!(slow, Dataflow::FetchOnDemand { fused: false }, "27 launches for a few hundred voxels");
    }
}
