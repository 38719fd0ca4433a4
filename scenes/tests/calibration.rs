//! Simulated scans against real ones, by what decides the speed of a sparse convolution: how many voxels there are, how many
//! neighbours each has, how coarser levels shrink, and how many rows of tiles of 128 a sorted map executes for each pair.

use rustc_hash::{FxHashMap, FxHashSet};
use tilewright_scenes::{Sensor, scan, voxelise};

/// What a scan is like at a voxel size.
#[derive(Debug)]
struct Numbers {
    voxels: f64,
    /// Pairs of a 3x3x3 submanifold map, for each voxel.
    neighbours: f64,
    /// Executed rows for each pair: rows as they come, and sorted in 1, 2 and 3 ranges of taps.
    waste: [f64; 4],
    /// Voxels of the next levels, by a 2x2x2 kernel of stride 2 each.
    levels: [f64; 4],
}

fn numbers(coords: &[[i32; 4]]) -> Numbers {
    let at: FxHashMap<[i32; 4], usize> = coords.iter().enumerate().map(|(i, c)| (*c, i)).collect();
    let offset = |k: i32| [k / 9 - 1, k / 3 % 3 - 1, k % 3 - 1];
    let mask = |c: &[i32; 4]| {
        (0..27).fold(0u32, |m, k| {
            let o = offset(k);
            m | (u32::from(at.contains_key(&[c[0], c[1] + o[0], c[2] + o[1], c[3] + o[2]])) << k)
        })
    };
    let masks: Vec<u32> = coords.iter().map(mask).collect();
    let pairs: u32 = masks.iter().map(|m| m.count_ones()).sum();
    let waste = |splits: u32, sort: bool| {
        let taps = 27u32.div_ceil(splits);
        let rows: u32 = (0..splits)
            .map(|g| {
                let mut part: Vec<u32> = masks.iter().map(|m| m >> (g * taps) & ((1 << taps) - 1)).collect();
                if sort {
                    part.sort_unstable_by(|a, b| b.cmp(a));
                }
                part.chunks(128).map(|tile| 128 * tile.iter().fold(0, |a, b| a | b).count_ones()).sum::<u32>()
            })
            .sum();
        f64::from(rows) / f64::from(pairs)
    };
    let mut level: FxHashSet<[i32; 4]> = coords.iter().copied().collect();
    let levels = [(); 4].map(|()| {
        level = level.iter().map(|c| [c[0], c[1] >> 1, c[2] >> 1, c[3] >> 1]).collect();
        level.len() as f64
    });
    let waste = [waste(1, false), waste(1, true), waste(2, true), waste(3, true)];
    Numbers { voxels: coords.len() as f64, neighbours: f64::from(pairs) / coords.len() as f64, waste, levels }
}

/// A simulated scan: the mean over some streets.
fn simulated(sensor: Sensor, size: [f64; 3], seeds: u64) -> Numbers {
    let all: Vec<Numbers> = (0..seeds).map(|seed| numbers(&voxelise(&scan(sensor, seed), size, 0).unwrap().coords)).collect();
    let mean = |f: &dyn Fn(&Numbers) -> f64| all.iter().map(f).sum::<f64>() / seeds as f64;
    Numbers {
        voxels: mean(&|n| n.voxels),
        neighbours: mean(&|n| n.neighbours),
        waste: [0, 1, 2, 3].map(|i| mean(&|n| n.waste[i])),
        levels: [0, 1, 2, 3].map(|i| mean(&|n| n.levels[i])),
    }
}

/// Each number within so many parts in a hundred of the real scan's.
fn close(what: &str, simulated: &Numbers, real: &Numbers, percent: [f64; 4]) {
    println!("{what}\n  simulated {simulated:.2?}\n  real      {real:.2?}");
    let check = |name: &str, s: f64, r: f64, p: f64| {
        assert!((s / r - 1.0).abs() < p / 100.0, "{what}: {name} is {s:.2}, of the real scan {r:.2}");
    };
    check("voxels", simulated.voxels, real.voxels, percent[0]);
    check("neighbours", simulated.neighbours, real.neighbours, percent[1]);
    for i in 0..4 {
        check("waste", simulated.waste[i], real.waste[i], percent[2]);
        check("levels", simulated.levels[i], real.levels[i], percent[3]);
    }
}

#[test]
fn hdl64_is_like_kitti() {
    // A scan of KITTI's odometry set, 124668 points.
    let real = Numbers {
        voxels: 91_767.0,
        neighbours: 3.77,
        waste: [5.39, 2.15, 1.43, 1.20],
        levels: [60_152.0, 31_834.0, 14_467.0, 5_925.0],
    };
    close("HDL-64 at 0.05 m", &simulated(Sensor::Hdl64, [0.05; 3], 3), &real, [15.0; 4]);
}

#[test]
fn hdl32_is_like_nuscenes() {
    // One sweep, 34688 points.
    let real = Numbers {
        voxels: 19_866.0,
        neighbours: 2.92,
        waste: [6.08, 2.40, 1.67, 1.40],
        levels: [14_167.0, 8_879.0, 4_939.0, 2_435.0],
    };
    close("HDL-32 at 0.075, 0.075, 0.2 m", &simulated(Sensor::Hdl32, [0.075, 0.075, 0.2], 4), &real, [15.0; 4]);
}

#[test]
fn a_rig_is_like_waymos() {
    // 198130 points.
    let real = Numbers {
        voxels: 125_565.0,
        neighbours: 788_961.0 / 125_565.0,
        waste: [4.21, 2.20, 1.42, 1.16],
        levels: [67_099.0, 27_855.0, 10_600.0, 3_716.0],
    };
    close("rig at 0.1 m", &simulated(Sensor::Waymo, [0.1; 3], 3), &real, [15.0; 4]);
}

#[test]
fn a_seed_is_a_scene() {
    let scans = [scan(Sensor::Hdl32, 3), scan(Sensor::Hdl32, 3), scan(Sensor::Hdl32, 4)];
    assert!(scans[0] == scans[1] && scans[0] != scans[2]);
    assert!(scans[0].iter().flatten().all(|v| v.is_finite()));
}
