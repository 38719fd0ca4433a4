//! Clouds and numbers that plans are verified on.

use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Random, Trial};
use super::case::{conv_case, map_case};
use super::keys::Keys;
use super::request::Layer;
use crate::error::{Res, bad_input, failure};
use crate::level::Level;
use crate::tensors::{Tensor, Tensors, from_f64};
use safetensors::Dtype;
use std::collections::BTreeSet;
use std::rc::Rc;
use tilewright_ir::DType;
use tilewright_templates::gemm::Act;
use tilewright_templates::sparse_conv::{
    ConvProblem, Coord, Geometry, KernelMap, Mode, Points, Recipe, RowOrder, from_map_class,
};

/// A cloud: voxels of each batch.
type Cloud = [usize; 2];

/// Kernels, strides, dilations and paddings that cases go through.
fn geometries(mode: Mode) -> [Geometry; 3] {
    let mixed = Geometry { kernel: [1, 3, 2], stride: [2, 1, 3], dilation: [1, 2, 1], padding: [0, 2, 1] };
    match mode {
        Mode::Submanifold => [[3, 3, 3], [2, 3, 1], [1, 1, 5]].map(|kernel| Geometry::submanifold(kernel, [1, 2, 1])),
        _ => [Geometry { padding: [1; 3], ..Geometry::cube(3, 2, 1) }, Geometry::cube(2, 2, 1), mixed],
    }
}

/// None, one voxel, two batches; more with tiles that are just full.
fn clouds(level: Level, tile: usize) -> Vec<Cloud> {
    let mut list = vec![[0, 0], [1, 0], [tile - 9, 41]];
    if level == Level::Full {
        list.extend([[tile, 0], [0, tile + 1]]);
    }
    list
}

/// Verification of `kernel_map`.
pub fn map_cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let (mode, target) = from_map_class(&t.plan.class).map_err(bad_input)?;
    let case = |layer: Layer, tensors: Tensors, _: &mut Random| map_case(layer, tensors);
    cases(t, mode, target, 64, Act::None, case)
}

/// Verification of `sparse_conv`.
pub fn conv_cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let p = ConvProblem::from_class(&t.plan.class).map_err(bad_input)?;
    let recipe = Recipe::of_plan(&t.plan.id).ok_or_else(|| failure(format!("plan {} names no dataflow", t.plan.id)))?;
    let vec = 16 / p.dtype.bytes() as usize;
    let mut turn = 0;
    let case = |layer: Layer, mut tensors: Tensors, r: &mut Random| {
        turn += 1;
        let channels = match (recipe.ragged, turn % 3) {
            (false, 0) => [2 * vec, 5 * vec],
            (false, 1) => [4 * vec, 2 * vec],
            (false, _) => [vec, 8 * vec],
            (true, 0) => [4, 20],
            (true, 1) => [5, 3],
            (true, _) => [33, 18],
        };
        numbers(&p, &layer, channels, r, &mut tensors);
        conv_case(p, layer, channels, tensors)
    };
    cases(t, p.mode, p.target, recipe.config.tile()[0] as usize, p.act, case)
}

fn cases(
    t: &Trial<'_>,
    mode: Mode,
    target: bool,
    tile: usize,
    act: Act,
    mut case: impl FnMut(Layer, Tensors, &mut Random) -> Res<Case>,
) -> Res<Vec<Case>> {
    let mut list = Vec::new();
    for (i, cloud) in clouds(t.level, tile).into_iter().enumerate() {
        let mut r = Random::new(t.seed * 31 + i as u64);
        let geometry = geometries(mode)[(i + t.seed as usize) % 3];
        let coords = voxels(cloud, &mut r);
        let given = target.then(|| voxels([cloud[1] + 17, cloud[0]], &mut r));
        let points = |c: &Vec<Coord>| Points::new(c.clone()).map_err(failure);
        let (input, out) = (points(&coords)?, given.as_ref().map(points).transpose()?);
        let map = Rc::new(KernelMap::build(mode, &geometry, &input, out.as_ref()).map_err(failure)?);
        let keys = Keys { mode, geometry, flow: None, order: RowOrder::default(), config: None, act };
        let mut tensors = Tensors::from([("coords".to_string(), rows(&coords))]);
        given.iter().for_each(|c| drop(tensors.insert("coords_target".into(), rows(c))));
        let case = case(Layer { keys, target, n: coords.len(), map }, tensors, &mut r)?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

/// Voxels in no order, some at negative coordinates.
fn voxels(cloud: Cloud, r: &mut Random) -> Vec<Coord> {
    let mut list = Vec::new();
    for (batch, n) in cloud.into_iter().enumerate() {
        // A box that a third of is full.
        let width = ((3 * n) as f64).cbrt() as usize + 1;
        let mut taken = BTreeSet::new();
        while taken.len() < n {
            let at = [0; 3].map(|_: i32| r.below(width) as i32 - width as i32 / 2);
            if taken.insert(at) {
                list.push([batch as i32, at[0], at[1], at[2]]);
            }
        }
    }
    // Batches are mixed.
    for i in (1..list.len()).rev() {
        list.swap(i, r.below(i + 1));
    }
    list
}

fn rows(coords: &[Coord]) -> Tensor {
    let data = coords.iter().flatten().flat_map(|c| c.to_le_bytes()).collect();
    Tensor { dtype: Dtype::I32, shape: vec![coords.len(), 4], data }
}

fn numbers(p: &ConvProblem, layer: &Layer, [cin, cout]: [usize; 2], r: &mut Random, tensors: &mut Tensors) {
    let mut put = |name: &str, dtype: DType, shape: Vec<usize>, size: f64| {
        let count: usize = shape.iter().product();
        let data = from_f64(dtype, (0..count).map(|_| r.unit() * size));
        tensors.insert(name.into(), Tensor { dtype: safetensors_dtype(dtype), shape, data });
    };
    put("features", p.dtype, vec![layer.n, cin], 1.0);
    put("weight", p.dtype, vec![layer.map.taps, cin, cout], 0.5);
    if let Some(d) = p.bias {
        put("bias", d, vec![cout], 1.0);
    }
    if let Some(d) = p.bn {
        put("bn_scale", d, vec![cout], 2.0);
        put("bn_shift", d, vec![cout], 1.0);
    }
    if p.residual {
        put("residual", p.dtype, vec![layer.map.rows(), cout], 2.0);
    }
}
