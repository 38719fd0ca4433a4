//! Networks for tests: MinkUNet on maps with given waste, without a scene.

use super::work::{GroupStats, LayerShape, MapWork, NetworkWork, Precision, Rows, TileStats, ViewStats, Way};

/// Rows executed over pairs at tiles of 128 rows: unsorted, then 1 to 4 ranges of plainly sorted rows.
type Waste = [f64; 5];

/// Submanifold k3 maps of a KITTI scan (HDL-64, 0.05 m) as measured at the finest level, and from level to level as voxels of
/// 0.1 and 0.2 m have them; the coarsest two go on from there. Voxels, pairs a voxel, waste.
pub const KITTI: [(u64, f64, Waste); 5] = [
    (91_888, 3.78, [5.40, 2.17, 1.43, 1.21, 1.10]),
    (60_216, 6.30, [4.20, 2.18, 1.42, 1.15, 1.06]),
    (31_890, 8.82, [3.01, 1.97, 1.42, 1.19, 1.07]),
    (14_430, 10.5, [2.52, 1.85, 1.40, 1.19, 1.08]),
    (5_929, 12.0, [2.20, 1.75, 1.38, 1.19, 1.08]),
];

/// Down maps k2 s2, one tap in eight: unsorted all taps are executed.
const DOWN: Waste = [5.8, 1.12, 1.08, 1.06, 1.04];
/// Seen from below each fine voxel has one tap: sorted, a tile has hardly more.
const UP: Waste = [7.2, 1.03, 1.02, 1.02, 1.01];

fn tiles(taps: u32, m: u64, pairs: u64, waste: Waste) -> Vec<TileStats> {
    let mut list = Vec::new();
    for (height, share) in [(32u32, 0.8), (64, 0.9), (128, 1.0)] {
        let mut add = |order, splits: u32, waste: f64| {
            let tall = |rows: f64| (rows / f64::from(height)).ceil() as u64;
            let items = m.div_ceil(height.into()) * u64::from(splits);
            let most = items * u64::from(taps.div_ceil(splits));
            let taps_executed = tall((1.0 + (waste - 1.0) * share) * pairs as f64).clamp(tall(pairs as f64), most);
            let executed = taps_executed * u64::from(height);
            let unique = (pairs as f64 * 0.6) as u64;
            list.push(TileStats { order, splits, height, executed, items, longest: taps.div_ceil(splits), unique });
        };
        add(Rows::Given, 1, waste[0]);
        for splits in 1..=4 {
            let plain = waste[splits as usize];
            add(Rows::Plain, splits, plain);
            // What the other orders save shrinks with every split.
            let saved = |part: f64| 1.0 + (plain - 1.0) * (1.0 - part / f64::from(splits));
            add(Rows::Rare, splits, saved(0.25));
            add(Rows::GrayRare, splits, saved(0.33));
        }
    }
    list
}

fn submanifold(level: usize, (rows, density, waste): (u64, f64, Waste), insert: bool) -> GroupStats {
    let pairs = (rows as f64 * density) as u64;
    // The middle tap has every row, the others share the rest.
    let mut pairs_per_tap = vec![(pairs - rows) / 26; 27];
    pairs_per_tap[13] = rows;
    let pairs = pairs_per_tap.iter().sum();
    GroupStats {
        name: format!("submanifold k3 at {}", 1 << level),
        taps: 27,
        map: MapWork { inserted: if insert { rows } else { 0 }, candidates: 0, probes: rows * 13, cleared: rows * 27 },
        pairs_per_tap,
        forward: ViewStats { n: rows, m: rows, tiles: tiles(27, rows, pairs, waste) },
        transposed: None,
    }
}

fn down(level: usize, n: u64, m: u64) -> GroupStats {
    let pairs_per_tap = vec![n / 8; 8];
    let pairs = pairs_per_tap.iter().sum();
    GroupStats {
        name: format!("strided k2 s2 at {}", 1 << level),
        taps: 8,
        map: MapWork { inserted: m, candidates: n, probes: m * 8, cleared: 0 },
        pairs_per_tap,
        forward: ViewStats { n, m, tiles: tiles(8, m, pairs, DOWN) },
        transposed: Some(ViewStats { n: m, m: n, tiles: tiles(8, n, pairs, UP) }),
    }
}

/// MinkUNet42 of a width on these levels.
pub fn minkunet(levels: &[(u64, f64, Waste); 5], width: f64, precision: Precision) -> NetworkWork {
    let c = |channels: f64| (channels * width) as u32;
    let mut groups: Vec<_> = (0..5).map(|i| submanifold(i, levels[i], i == 0)).collect();
    groups.extend((0..4).map(|i| down(i, levels[i].0, levels[i + 1].0)));
    let mut layers = Vec::new();
    let mut add = |name: String, group, way, cin, cout, residual| {
        layers.push(LayerShape { name, group, way, cin, cout, residual });
    };
    let block = |add: &mut dyn FnMut(String, usize, Way, u32, u32, bool), name: String, level, cin, cout| {
        add(format!("{name}.0"), level, Way::Forward, cin, cout, false);
        add(format!("{name}.1"), level, Way::Forward, cout, cout, true);
    };
    add("stem.0".into(), 0, Way::Forward, 4, c(32.0), false);
    add("stem.1".into(), 0, Way::Forward, c(32.0), c(32.0), false);
    let (mut cin, widths) = (c(32.0), [32.0, 64.0, 128.0, 256.0].map(c));
    for (i, cout) in widths.into_iter().enumerate() {
        add(format!("down{i}"), 5 + i, Way::Forward, cin, cin, false);
        block(&mut add, format!("stage{i}a"), i + 1, cin, cout);
        block(&mut add, format!("stage{i}b"), i + 1, cout, cout);
        cin = cout;
    }
    let skips = [c(128.0), c(64.0), c(32.0), c(32.0)];
    for (i, cout) in [256.0, 128.0, 96.0, 96.0].map(c).into_iter().enumerate() {
        let level = 3 - i;
        add(format!("up{i}"), 5 + level, Way::Transposed, cin, cout, false);
        block(&mut add, format!("back{i}a"), level, cout + skips[i], cout);
        block(&mut add, format!("back{i}b"), level, cout, cout);
        cin = cout;
    }
    NetworkWork { network: "minkunet_w1".into(), precision, groups, layers, copies: Vec::new() }
}

/// A small network for searches: two levels, few layers.
pub fn small() -> NetworkWork {
    let mut work = minkunet(&KITTI, 1.0, Precision::F16);
    work.network = "small".into();
    work.groups = [0, 1, 5].map(|g| work.groups[g].clone()).to_vec();
    work.layers.retain(|l| [0, 1, 5].contains(&l.group));
    work.layers.iter_mut().filter(|l| l.group == 5).for_each(|l| l.group = 2);
    work
}
