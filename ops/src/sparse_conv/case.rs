//! A layer with its data: what the plan takes and gives, and the comparison with the host's map and the f64 reference.

use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Check, Facts, More, Output, numbers, set, whole};
use super::facts;
use super::request::Layer;
use crate::error::{Res, failed, failure};
use crate::tensors::{Tensor, Tensors};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::rc::Rc;
use tilewright_runtime::expr::Vars;
use tilewright_templates::sparse_conv::{ConvOperands, ConvProblem, KernelMap, Mode, Recipe, conv_reference, map_class};

/// Work (multiply-adds) up to which every row is compared with the reference; of more some rows are, evenly spread.
const REFERENCE_LIMIT: usize = 1 << 28;

/// A kernel map on its coordinates.
pub fn map_case(layer: Layer, inputs: Tensors) -> Res<Case> {
    let map = Rc::clone(&layer.map);
    let (m, taps) = (map.rows(), map.taps);
    let counted = counted(&layer);
    let check: Check = Box::new(move |_, outputs, _| {
        voxels(outputs, &map, counted)?;
        let found = whole(outputs, "map");
        if let Some(i) = (0..map.map.len()).find(|i| found.get(*i) != Some(&map.map[*i])) {
            let (row, tap) = (i / taps, i % taps);
            return failed(format!("map[{row}, {tap}] is {:?}, the host's {}", found.get(i), map.map[i]));
        }
        Ok(json!({"reference": "the map of the host", "elements": found.len(), "bound": "exact"}))
    });
    let facts: Facts = {
        let layer = layer.clone();
        Box::new(move |_| Ok(vec![("map", facts::map(&layer))]))
    };
    let outputs = vec![Output { name: "map", dtype: Dtype::I32, shape: vec![m, taps] }];
    case(&layer, map_class(layer.keys.mode, layer.target), String::new(), inputs, outputs, check, facts, &[("n", 1), ("k", 1)])
}

/// A convolution on its tensors.
pub fn conv_case(p: ConvProblem, layer: Layer, channels: [usize; 2], inputs: Tensors) -> Res<Case> {
    let [cin, cout] = channels;
    let map = Rc::clone(&layer.map);
    let features = Output { name: "features_out", dtype: safetensors_dtype(p.dtype), shape: vec![map.rows(), cout] };
    let counted = counted(&layer);
    let check: Check = Box::new(move |inputs, outputs, run| {
        voxels(outputs, &map, counted)?;
        let recipe = Recipe::of_plan(run.plan).ok_or_else(|| failure(format!("plan {} names no dataflow", run.plan)))?;
        compare(&p, &map, channels, inputs, outputs, &recipe)
    });
    let facts: Facts = {
        let layer = layer.clone();
        Box::new(move |run| facts::conv(&layer, run.plan))
    };
    let sizes = format!(" cin {cin} cout {cout}");
    let vars = [("n", cout), ("k", cin), ("pairs", layer.map.pairs())];
    case(&layer, p.class(), sizes, inputs, vec![features], check, facts, &vars)
}

/// What both ops share: coordinates in and out, the geometry as variables, what the device counted and found.
fn case(
    layer: &Layer,
    class: String,
    sizes: String,
    mut inputs: Tensors,
    own: Vec<Output>,
    check: Check,
    facts: Facts,
    more: &[(&str, usize)],
) -> Res<Case> {
    let (n, m) = (layer.n, layer.map.rows());
    let mut vars = Vars::new();
    set(&mut vars, &[("m", m as i64), ("inputs", n as i64)])?;
    layer.keys.geometry.scalars().iter().try_for_each(|(name, value)| set(&mut vars, &[(name.as_str(), *value)]))?;
    more.iter().try_for_each(|(name, value)| set(&mut vars, &[(*name, *value as i64)]))?;
    // A device that makes coordinates has their number; here it is known.
    let number = |n: usize| Tensor { dtype: Dtype::I32, shape: vec![1], data: (n as i32).to_le_bytes().to_vec() };
    inputs.insert("count".into(), number(n));
    if layer.target {
        inputs.insert("count_target".into(), number(m));
    }
    let mut outputs = own;
    outputs.push(Output { name: "coords_out", dtype: Dtype::I32, shape: vec![m, 4] });
    outputs.push(Output { name: "status", dtype: Dtype::I32, shape: vec![4] });
    let mut internal = vec!["status"];
    if counted(layer) {
        outputs.push(Output { name: "count_out", dtype: Dtype::I32, shape: vec![1] });
        internal.push("count_out");
    }
    let g = &layer.keys.geometry;
    Ok(Case {
        sizes: format!(
            "n {n} m {m} kernel {:?} stride {:?} dilation {:?} padding {:?}{sizes}",
            g.kernel, g.stride, g.dilation, g.padding
        ),
        class,
        vars,
        scalars: Vec::new(),
        inputs,
        outputs,
        unused: Vec::new(),
        check,
        more: More { internal, facts: Some(facts), from_record: None },
    })
}

/// Whether the device finds the outputs itself.
fn counted(layer: &Layer) -> bool {
    !layer.target && layer.keys.mode != Mode::Submanifold
}

/// Compares what the device says of coordinates, and its outputs, with the host.
fn voxels(outputs: &Tensors, map: &KernelMap, counted: bool) -> Res<()> {
    let status = whole(outputs, "status");
    let said = [
        "a duplicate in coords",
        "a duplicate in coords_target",
        "an output beyond 32 bits",
        "more outputs than there is room for",
    ];
    if let Some(i) = (0..said.len()).find(|i| status.get(*i) != Some(&i32::MAX)) {
        return failed(format!("the device found {} (status[{i}] = {:?}), the host none", said[i], status.get(i)));
    }
    if counted && whole(outputs, "count_out") != [map.rows() as i32] {
        return failed(format!("the device counts {:?} outputs, the host {}", whole(outputs, "count_out"), map.rows()));
    }
    let found = whole(outputs, "coords_out");
    for (row, want) in map.coords_out.iter().enumerate() {
        let found = found.get(row * 4..row * 4 + 4);
        if found != Some(want) {
            return failed(format!("row {row} of coords_out is {found:?}, the host's {want:?}"));
        }
    }
    Ok(())
}

/// Compares features with the f64 reference.
fn compare(
    p: &ConvProblem,
    map: &KernelMap,
    [cin, cout]: [usize; 2],
    inputs: &Tensors,
    outputs: &Tensors,
    recipe: &Recipe,
) -> Res<Value> {
    let mut o = ConvOperands {
        channels: [cin, cout],
        features: numbers(inputs, "features")?,
        weight: numbers(inputs, "weight")?,
        bias: numbers(inputs, "bias")?,
        bn_scale: numbers(inputs, "bn_scale")?,
        bn_shift: numbers(inputs, "bn_shift")?,
        residual: numbers(inputs, "residual")?,
    };
    let all = [&o.features, &o.weight, &o.bias, &o.bn_scale, &o.bn_shift, &o.residual];
    if all.iter().any(|v| v.iter().any(|x| !x.is_finite())) {
        return Ok(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}));
    }
    let found = numbers(outputs, "features_out")?;
    if found.len() != map.rows() * cout {
        return failed(format!("features_out has {} elements, expected {}", found.len(), map.rows() * cout));
    }
    let step = (map.pairs() * cin * cout).div_ceil(REFERENCE_LIMIT).max(1);
    let rows: Vec<usize> = (0..map.rows()).step_by(step).collect();
    let pick = |v: &[f64]| -> Vec<f64> { rows.iter().flat_map(|r| v[r * cout..(r + 1) * cout].iter().copied()).collect() };
    if !o.residual.is_empty() {
        o.residual = pick(&o.residual);
    }
    let some = KernelMap {
        taps: map.taps,
        coords_out: rows.iter().map(|r| map.coords_out[*r]).collect(),
        map: rows.iter().flat_map(|r| map.row(*r).iter().copied()).collect(),
    };
    let (want, found) = (conv_reference(p, &some, &o, recipe.flow), pick(&found));
    if let Some(miss) = want.first_miss(&found, cout) {
        let [row, col] = miss.at;
        return failed(format!(
            "features_out[{}, {col}] is {}, the f64 reference {}, the bound {:e}",
            rows[row], miss.found, miss.value, miss.bound
        ));
    }
    let error = found.iter().zip(&want.value).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    Ok(
        json!({"reference": "f64", "elements": found.len(), "max_error": error, "bound": "2*|lowp-ref| + slack", "coords_out": "exact"}),
    )
}
