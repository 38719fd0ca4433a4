//! Networks with made-up weights on pieces of a simulated scan.

use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Random, Trial};
use super::case::case;
use super::from_class;
use super::request::layer_tensors;
use crate::error::{Res, failure};
use crate::level::Level;
use crate::tensors::{Tensor, Tensors, from_f64};
use safetensors::Dtype;
use tilewright_ir::DType;
use tilewright_scenes::{Sensor, scan, voxelise};
use tilewright_templates::sparse_conv::network::{Network, NetworkMaps};
use tilewright_templates::sparse_conv::{Coord, Points};

/// What a plan is verified on.
pub fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let (network, d) = from_class(&t.plan.class)?;
    let whole = voxelise(&scan(Sensor::Hdl32, t.seed), [0.15; 3], 0).map_err(failure)?;
    // Networks are deep: a few voxels go through every kernel, on every level.
    let sizes: &[usize] = if t.level == Level::Full { &[1, 70] } else { &[40] };
    let mut list = Vec::new();
    for n in sizes {
        let mut r = Random::new(t.seed * 31 + *n as u64);
        let coords = whole.crop(*n).coords;
        let tensors = tensors(&network, d, &coords, &mut r);
        let maps = NetworkMaps::build(&network, Points::new(coords).map_err(failure)?).map_err(failure)?;
        let case = case(&network, d, maps, tensors)?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

/// Inputs: weights that neither let features grow nor vanish.
fn tensors(network: &Network, d: DType, coords: &[Coord], r: &mut Random) -> Tensors {
    let mut put = |dtype: DType, shape: Vec<usize>, low: f64, high: f64| {
        let count: usize = shape.iter().product();
        let data = from_f64(dtype, (0..count).map(|_| low + (high - low) * 0.5 * (r.unit() + 1.0)));
        Tensor { dtype: safetensors_dtype(dtype), shape, data }
    };
    let mut list = Tensors::new();
    let rows = coords.iter().flatten().flat_map(|c| c.to_le_bytes()).collect();
    list.insert("coords".into(), Tensor { dtype: Dtype::I32, shape: vec![coords.len(), 4], data: rows });
    list.insert("features".into(), put(d, vec![coords.len(), network.channels as usize], -1.0, 1.0));
    for (name, is_weight, shape) in layer_tensors(network) {
        let tensor = if is_weight {
            // Not every tap finds a neighbour.
            let high = 3.0 / ((shape[0] * shape[1]) as f64).sqrt();
            put(d, shape, -high, high)
        } else if name.ends_with("bn_scale") {
            put(DType::F32, shape, 0.5, 1.0)
        } else {
            put(DType::F32, shape, -0.3, 0.3)
        };
        list.insert(name, tensor);
    }
    list
}
