//! Keys and tensors of `sparse_network`, checked against the network's layers.

use super::super::ask::{Ask, MAX_SIZE, dtype_of, ints, only, safetensors_dtype};
use super::super::case::Request;
use super::{case, network, plan};
use crate::error::{Fail, Res, bad_input, usage};
use safetensors::Dtype;
use tilewright_ir::DType;
use tilewright_templates::sparse_conv::network::{Kind, Network, NetworkChoice, NetworkMaps};
use tilewright_templates::sparse_conv::{Coord, Points};

/// Checks keys and tensors.
pub fn request(ask: Ask) -> Res<Request> {
    let Some(name) = ask.key("network") else {
        return usage("key `network` is missing: expected the name of a network, such as minkunet_w1");
    };
    let network = network(name)?;
    let tensors = layer_tensors(&network);
    let names: Vec<&str> = ["coords", "features"].into_iter().chain(tensors.iter().map(|t| t.0.as_str())).collect();
    only(&ask, &["network", "choice"], &names, &[])?;
    let features = ask.need("features")?;
    let d = dtype_of("features", features, &[DType::F16, DType::BF16, DType::F32])?;
    let points = points(&ask)?;
    let n = points.rows().len();
    ask.expect("features", safetensors_dtype(d), &[n, network.channels as usize])?;
    for (name, is_weight, shape) in &tensors {
        ask.expect(name, if *is_weight { safetensors_dtype(d) } else { Dtype::F32 }, shape)?;
    }
    let maps = NetworkMaps::build(&network, points).map_err(|e| Fail::Usage(format!("tensor `coords`: {e}")))?;
    let taps = |rows: usize, taps: usize| rows.saturating_mul(taps) > MAX_SIZE;
    if maps.maps.iter().any(|m| taps(m.rows().max(n), m.taps)) {
        return usage(format!("{n} voxels are too many: voxels times taps may be {MAX_SIZE} at most"));
    }
    let own: Option<NetworkChoice> = ask.parsed("choice")?;
    let pinned = own.is_some();
    Ok(Request {
        case: case::case(&network, d, maps, ask.tensors)?,
        pinned,
        plans: Box::new(move |arch| {
            let choice = own.clone().unwrap_or_else(|| NetworkChoice::standard(arch, &network, d));
            Ok(vec![plan(arch, &network, d, &choice)?])
        }),
    })
}

/// Tensors of the layers: name, whether it is a weight, shape.
pub fn layer_tensors(network: &Network) -> Vec<(String, bool, Vec<usize>)> {
    let mut list = Vec::new();
    for layer in &network.layers {
        let Kind::Conv(conv) = &layer.kind else { continue };
        let (cin, cout) = (layer.cin as usize, layer.cout as usize);
        let taps = network.group(conv.group).geometry.taps();
        list.push((format!("{}.weight", layer.name), true, vec![taps, cin, cout]));
        for (name, there) in [("bias", conv.bias), ("bn_scale", conv.bn), ("bn_shift", conv.bn)] {
            if there {
                list.push((format!("{}.{name}", layer.name), false, vec![cout]));
            }
        }
    }
    list
}

fn points(ask: &Ask) -> Res<Points> {
    let t = ask.need("coords")?;
    let [_, 4] = t.shape[..] else {
        return usage(format!("tensor `coords` is {}: expected I32 [n, 4], which is batch, x, y, z", t.describe()));
    };
    let rows: Vec<Coord> = ints(ask, "coords")?.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect();
    Points::new(rows).map_err(|e| bad_input(format!("tensor `coords`: {e}")))
}
