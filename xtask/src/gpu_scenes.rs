//! Voxels for a machine with a GPU: simulated scans, and the real ones where they are.

use crate::{scans, shell};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use tilewright_scenes::{Point, Sensor, read_ply, scan, voxelise};

/// Name, sensor, street, size of a voxel in metres: as SemanticKITTI's, nuScenes' and Waymo's networks have it.
const SIMULATED: [(&str, Sensor, u64, [f64; 3]); 5] = [
    ("hdl64-0", Sensor::Hdl64, 0, [0.05; 3]),
    ("hdl64-1", Sensor::Hdl64, 1, [0.05; 3]),
    ("hdl32-0", Sensor::Hdl32, 0, [0.075, 0.075, 0.2]),
    ("hdl32-1", Sensor::Hdl32, 1, [0.075, 0.075, 0.2]),
    ("waymo-0", Sensor::Waymo, 0, [0.1, 0.1, 0.15]),
];
/// Of the real scans, in metres.
const REAL_VOXEL: [f64; 3] = [0.05; 3];

/// Writes `index.json` and, for each scene, `NAME.i32`: rows of batch, x, y, z, little-endian. The bytes written.
pub fn write(folder: &Path) -> Result<u64> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut all: Vec<(String, Vec<Point>, [f64; 3])> =
        SIMULATED.iter().map(|(name, sensor, seed, size)| (name.to_string(), scan(*sensor, *seed), *size)).collect();
    let real = shell::root().join(".tools/scans");
    if scans::there(&real) {
        let file = real.join("source.ply");
        let bytes = fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let points = read_ply(&bytes).with_context(|| format!("cannot read `{}`", file.display()))?;
        all.push(("scan-source".into(), points, REAL_VOXEL));
    } else {
        eprintln!("xtask: no real scan in the kit: `cargo xtask scans` gets one");
    }
    let (mut total, mut index) = (0, Vec::new());
    for (name, points, size) in all {
        let coords = voxelise(&points, size, 0).with_context(|| format!("scene {name}"))?.coords;
        let bytes: Vec<u8> = coords.iter().flatten().flat_map(|c| c.to_le_bytes()).collect();
        total += put(&folder.join(format!("{name}.i32")), &bytes)?;
        index.push(format!("{{\"name\":\"{name}\",\"voxels\":{},\"size\":{size:?}}}", coords.len()));
    }
    Ok(total + put(&folder.join("index.json"), format!("[\n{}\n]\n", index.join(",\n")).as_bytes())?)
}

fn put(path: &Path, bytes: &[u8]) -> Result<u64> {
    fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_and_their_index_agree() {
        let folder = std::env::temp_dir().join(format!("tilewright-scenes-{}", std::process::id()));
        let bytes = write(&folder).unwrap();
        let index = fs::read_to_string(folder.join("index.json")).unwrap();
        let mut rows = 0;
        for (name, ..) in SIMULATED {
            let size = fs::metadata(folder.join(format!("{name}.i32"))).unwrap().len();
            assert!(index.contains(&format!("{{\"name\":\"{name}\",\"voxels\":{},", size / 16)), "{index}");
            rows += size;
        }
        assert!(bytes > rows && bytes < 16 << 20, "{bytes}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
