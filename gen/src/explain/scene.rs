//! The network and the voxels that `gen explain` is given.

use safetensors::Dtype;
use std::path::Path;
use tilewright_autotune::sparse::{NetworkWork, Precision};
use tilewright_ops::error::{Fail, Res, bad_input, usage};
use tilewright_ops::tensors;
use tilewright_templates::sparse_conv::network::{Network, NetworkMaps, SHIPPED, shipped};
use tilewright_templates::sparse_conv::{Coord, Points};

/// Names of the networks that come with the library.
pub fn names() -> String {
    SHIPPED.map(|s| s.0).join(", ")
}

/// A network by its name, or from a TOML file.
pub fn network(name: &str) -> Res<Network> {
    if let Some(found) = shipped(name) {
        return found.map_err(bad_input);
    }
    let path = Path::new(name);
    if path.extension().is_none_or(|e| e != "toml") {
        return usage(format!("network = `{name}`: expected one of {}, or a TOML file", names()));
    }
    let at = |e: &dyn std::fmt::Display| Fail::Usage(format!("{name}: {e}"));
    let text = std::fs::read_to_string(path).map_err(|e| at(&e))?;
    Network::parse(&text).map_err(|e| at(&e))
}

/// The voxels of a scene.
pub fn coords(path: &Path) -> Res<Vec<Coord>> {
    let tensors = tensors::read(path)?;
    let Some(t) = tensors.get("coords") else {
        return usage(format!("{}: tensor `coords` is missing: expected I32 [n,4]", path.display()));
    };
    if t.dtype != Dtype::I32 || t.shape.len() != 2 || t.shape[1] != 4 {
        return usage(format!("tensor `coords` is {}: expected I32 [n,4]", t.describe()));
    }
    let word = |b: &[u8]| i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    Ok(t.data.chunks_exact(16).map(|c| [0, 4, 8, 12].map(|i| word(&c[i..i + 4]))).collect())
}

/// What there is to tune of a network on these voxels.
pub fn work(network: &Network, coords: Vec<Coord>, precision: Precision) -> Res<NetworkWork> {
    let input = Points::new(coords).map_err(|e| Fail::Usage(format!("tensor `coords`: {e}")))?;
    let maps = NetworkMaps::build(network, input).map_err(bad_input)?;
    NetworkWork::exact(network, &maps, precision).map_err(bad_input)
}
