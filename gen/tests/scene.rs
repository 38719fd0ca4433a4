//! `gen scene`: scans, real and simulated, as tensors.

use crate::common::{gen_in, load, outcome};
use std::collections::HashSet;
use std::fs;

#[test]
fn a_simulated_scene_is_voxels_with_features() {
    let dir = tempfile::tempdir().unwrap();
    let scene = |seed: &str, out: &str| {
        let args =
            ["scene", "--sensor", "hdl32", "--voxel", "0.1,0.1,0.2", "--crop", "500", "--channels", "6", "--dtype", "bf16"];
        let o = gen_in(dir.path(), &[&args[..], &["--seed", seed, "--output", out]].concat());
        assert_eq!(outcome(&o).0, 0, "{}", outcome(&o).1);
        assert!(outcome(&o).1.contains("500 of them written"), "{}", outcome(&o).1);
        fs::read(dir.path().join(out)).unwrap()
    };
    let (a, b, c) = (scene("1", "a.safetensors"), scene("1", "b.safetensors"), scene("2", "c.safetensors"));
    assert!(a == b && a != c, "a seed is a scene");
    let (shape, coords) = load(&dir.path().join("a.safetensors"), "coords");
    assert_eq!(shape, [500, 4]);
    let rows: HashSet<Vec<i64>> = coords.chunks(4).map(|c| c.iter().map(|v| *v as i64).collect()).collect();
    assert_eq!(rows.len(), 500, "every voxel once");
    let around = |c: &Vec<i64>| {
        let near = |k: i64| vec![c[0], c[1] + k / 9 - 1, c[2] + k / 3 % 3 - 1, c[3] + k % 3 - 1];
        (0..27).filter(|k| rows.contains(&near(*k))).count()
    };
    // The whole scan has 2.7 for each voxel.
    assert!((1100..1700).contains(&rows.iter().map(around).sum::<usize>()), "a crop keeps its neighbours");
    let (shape, features) = load(&dir.path().join("a.safetensors"), "features");
    assert_eq!(shape, [500, 6]);
    assert!(features.iter().all(|f| f.abs() <= 1.0));
}

#[test]
fn a_scan_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n\
                0.01 0.02 -0.03\n0.02 0.01 -0.04\n-1 2 3\n";
    fs::write(dir.path().join("s.ply"), text).unwrap();
    let o = gen_in(dir.path(), &["scene", "--scan", "s.ply", "--output", "o.safetensors"]);
    assert_eq!(outcome(&o), (0, "s.ply: 3 points, 2 voxels, 2 of them written".into()));
    let (_, coords) = load(&dir.path().join("o.safetensors"), "coords");
    assert_eq!(coords, [0.0, 0.0, 0.0, -1.0, 0.0, -20.0, 40.0, 60.0]);
    let (_, features) = load(&dir.path().join("o.safetensors"), "features");
    assert_eq!(features.len(), 8);
}

#[test]
fn refusals_name_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("s.ply"), "solid\n").unwrap();
    let told = |args: &[&str], part: &str| {
        let o = gen_in(dir.path(), &[&["scene", "--output", "o.safetensors"], args].concat());
        let text = String::from_utf8_lossy(&o.stderr).into_owned();
        assert!(o.status.code() == Some(2) && text.contains(part), "{text}");
        assert!(!dir.path().join("o.safetensors").exists());
    };
    told(&["--scan", "none.ply"], "cargo xtask scans");
    told(&["--scan", "s.ply"], "not a PLY file");
    told(&["--sensor", "hdl65"], "there are hdl64, hdl32, waymo");
    told(&["--sensor", "hdl32", "--voxel", "0"], "positive numbers");
    told(&["--sensor", "hdl32", "--voxel", "1,2"], "--voxel has 2 numbers");
    told(&["--sensor", "hdl32", "--channels", "0"], "--channels 0");
    told(&[], "required");
}
