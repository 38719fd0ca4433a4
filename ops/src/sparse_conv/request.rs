//! Keys and tensors of `sparse_conv` and `kernel_map`, checked against each other, and the map on the host, which gives the number of
//! outputs and what the device's map is compared with.

use super::super::ask::{Ask, MAX_SIZE, dtype_of, ints, only, safetensors_dtype};
use super::super::case::Request;
use super::case::{conv_case, map_case};
use super::keys::{KEYS, Keys};
use crate::error::{Fail, Res, bad_input, usage};
use crate::tensors::{Tensor, from_f64, to_f64};
use std::rc::Rc;
use tilewright_ir::DType;
use tilewright_templates::sparse_conv::{
    ConvProblem, Coord, KernelMap, Mode, Points, Recipe, conv_plan, map_plan, recipe, recipes,
};

/// A map's tensors.
const MAP_TENSORS: [&str; 2] = ["coords", "coords_target"];
/// A convolution's.
const TENSORS: [&str; 8] = ["coords", "coords_target", "features", "weight", "bias", "bn_scale", "bn_shift", "residual"];

/// A layer without its numbers.
#[derive(Clone)]
pub struct Layer {
    /// Keys.
    pub keys: Keys,
    /// Whether outputs are given.
    pub target: bool,
    /// Rows of the input.
    pub n: usize,
    /// Its map, from the host.
    pub map: Rc<KernelMap>,
}

/// Checks keys and tensors of `kernel_map`.
pub fn map_request(mut ask: Ask) -> Res<Request> {
    // The keys and the file of a convolution give its map; what only the convolution reads is left alone.
    only(&ask, &KEYS, &TENSORS, &[])?;
    let layer = layer(&ask)?;
    ask.tensors.retain(|name, _| MAP_TENSORS.contains(&name.as_str()));
    let (mode, target) = (layer.keys.mode, layer.target);
    Ok(Request {
        case: map_case(layer, ask.tensors)?,
        pinned: false,
        plans: Box::new(move |arch| Ok(vec![map_plan(arch, mode, target).map_err(bad_input)?])),
    })
}

/// Checks keys and tensors of `sparse_conv`.
pub fn conv_request(mut ask: Ask) -> Res<Request> {
    only(&ask, &KEYS, &TENSORS, &[])?;
    let layer = layer(&ask)?;
    let (problem, channels) = operands(&mut ask, &layer)?;
    problem.check().map_err(bad_input)?;
    let keys = layer.keys.clone();
    let pinned = keys.flow.is_some() || keys.config.is_some();
    let map = Rc::clone(&layer.map);
    Ok(Request {
        case: conv_case(problem, layer, channels, ask.tensors)?,
        pinned,
        plans: Box::new(move |arch| {
            let channels = channels.map(|c| c as u32);
            let mut list = match keys.flow {
                Some(flow) => vec![recipe(arch, &problem, channels, Some([map.rows(), map.taps]), flow, keys.order)],
                None => recipes(arch, &problem, channels, Some(&map)),
            };
            if let Some(config) = keys.config {
                list = list.into_iter().take(1).map(|r| Recipe { config, ..r }).collect();
            }
            list.iter().map(|r| conv_plan(arch, &problem, r).map_err(bad_input)).collect()
        }),
    })
}

/// Coordinates, and the map they make.
fn layer(ask: &Ask) -> Res<Layer> {
    let target = ask.tensors.contains_key("coords_target");
    let keys = Keys::read(ask, target)?;
    let input = points(ask, "coords")?;
    let given = target.then(|| points(ask, "coords_target")).transpose()?;
    // Kernels count the slots of the hash table of all candidates in 32 bits.
    let (n, taps) = (input.rows().len(), keys.geometry.taps());
    let rows = n.max(given.as_ref().map_or(0, |p| p.rows().len()));
    if rows.saturating_mul(taps) > MAX_SIZE {
        return usage(format!("{rows} voxels with {taps} taps: voxels times taps may be {MAX_SIZE} at most"));
    }
    let outputs = KernelMap::outputs(keys.mode, &keys.geometry, &input, given.as_ref());
    let outputs = outputs.map_err(|e| Fail::Usage(format!("tensor `coords`: {e}")))?;
    if outputs.len().saturating_mul(taps) > MAX_SIZE {
        return usage(format!("{} outputs with {taps} taps: outputs times taps may be {MAX_SIZE} at most", outputs.len()));
    }
    let map = KernelMap::at(keys.mode, &keys.geometry, &input, outputs);
    Ok(Layer { keys, target, n, map: Rc::new(map) })
}

/// The voxels of a tensor: each once, batches from 0.
fn points(ask: &Ask, name: &str) -> Res<Points> {
    let t = ask.need(name)?;
    let [_, 4] = t.shape[..] else {
        return usage(format!("tensor `{name}` is {}: expected I32 [n, 4], which is batch, x, y, z", t.describe()));
    };
    let rows: Vec<Coord> = ints(ask, name)?.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]).collect();
    Points::new(rows).map_err(|e| Fail::Usage(format!("tensor `{name}`: {e}")))
}

/// Features, weight and what the epilogue takes: the class, and channels in and out.
fn operands(ask: &mut Ask, layer: &Layer) -> Res<(ConvProblem, [usize; 2])> {
    let (n, m, taps) = (layer.n, layer.map.rows(), layer.map.taps);
    let features = ask.need("features")?;
    let dtype = dtype_of("features", features, &[DType::F16, DType::BF16, DType::F32])?;
    let [rows, cin] = features.shape[..] else {
        return usage(format!("tensor `features` is {}: expected [n, cin]", features.describe()));
    };
    if rows != n {
        return usage(format!("tensor `features` is {}: expected {n} rows, one for each of `coords`", features.describe()));
    }
    let weight = ask.need("weight")?;
    let [k, w_cin, cout] = weight.shape[..] else {
        return usage(format!("tensor `weight` is {}: expected [K, cin, cout]", weight.describe()));
    };
    if weight.dtype != features.dtype {
        return usage(format!("tensor `weight` is {}: expected {:?}, as `features`", weight.describe(), features.dtype));
    }
    if k != taps {
        let [x, y, z] = layer.keys.geometry.kernel;
        return usage(format!("tensor `weight` is {}: expected K = {taps}, the taps of kernel={x},{y},{z}", weight.describe()));
    }
    if w_cin != cin {
        return usage(format!(
            "tensor `weight` is {}: expected {cin} channels, as `features` {} has",
            weight.describe(),
            features.describe()
        ));
    }
    if cin == 0 || cout == 0 || cin.max(cout) > MAX_SIZE / taps.max(1) {
        return usage(format!("cin = {cin}, cout = {cout}: channels go from 1 to {}", MAX_SIZE / taps.max(1)));
    }
    let vector = |name: &str| -> Res<Option<DType>> {
        let Some(t) = ask.tensors.get(name) else { return Ok(None) };
        let found = dtype_of(name, t, &if dtype == DType::F32 { vec![dtype] } else { vec![dtype, DType::F32] })?;
        ask.expect(name, safetensors_dtype(found), &[cout])?;
        Ok(Some(found))
    };
    let bias = vector("bias")?;
    let bn = match (vector("bn_scale")?, vector("bn_shift")?) {
        (None, None) => None,
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(_), Some(_)) => Some(DType::F32),
        (a, _) => {
            let [there, missing] = if a.is_some() { ["bn_scale", "bn_shift"] } else { ["bn_shift", "bn_scale"] };
            return usage(format!("tensor `{missing}` is missing from the input: `{there}` goes with it"));
        }
    };
    let residual = ask.tensors.contains_key("residual");
    if residual {
        if layer.keys.mode != Mode::Submanifold && !layer.target {
            return usage(
                "tensor `residual` needs mode=submanifold or coords_target: other outputs are in an order of their own",
            );
        }
        ask.expect("residual", safetensors_dtype(dtype), &[m, cout])?;
    }
    // Both in one dtype; f32 holds the other exactly.
    for name in ["bn_scale", "bn_shift"] {
        if let (Some(t), Some(bn)) = (ask.tensors.get_mut(name), bn)
            && t.dtype != safetensors_dtype(bn)
        {
            let data = from_f64(bn, to_f64(t.dtype, &t.data)?.into_iter());
            *t = Tensor { dtype: safetensors_dtype(bn), shape: t.shape.clone(), data };
        }
    }
    let (mode, target, act) = (layer.keys.mode, layer.target, layer.keys.act);
    Ok((ConvProblem { dtype, mode, target, bias, bn, act, residual }, [cin, cout]))
}
