//! What plans of packed weights are verified on: boundary trip counts and ragged edges, with random weights, weights at the
//! ends of their range, and constant groups with zero scales.

use super::super::case::{Case, Random, Trial};
use super::case::{Shape, Weights, case_of, random_inputs, shapes, vars};
use super::checkpoint::{Loaded, int_tensor};
use crate::error::{Res, failure};
use crate::tensors::Tensors;
use std::rc::Rc;
use tilewright_runtime::expr::VarId;
use tilewright_templates::gemm::weight::{self, WeightClass};
use tilewright_templates::gemm::{GemmProblem, Packed};

/// The cases of a plan of a class.
pub fn cases(t: &Trial<'_>, class: &WeightClass, packed: Packed) -> Res<Vec<Case>> {
    let p = class.problem;
    let main = (0..t.plan.launches.len()).find(|l| t.axis(*l, "bm").is_some()).unwrap_or(0);
    let axis = |name: &str| t.axis(main, name).unwrap_or(64);
    let (gates, stages) = (p.gates() as usize, axis("stages"));
    let mut list = Vec::new();
    for (i, wanted) in shapes(t.level, axis("bm"), axis("bn") / gates, axis("bk"), stages).into_iter().enumerate() {
        let Some((shape, group)) = nearest(t, class, packed, wanted)? else { continue };
        let seed = t.seed * 31 + i as u64;
        let mut inputs = random_inputs(&p, shape, seed);
        inputs.remove("b");
        let (more, weights) = match class.pack() {
            None => made(&p, packed, shape, group, i % 3, class.perm, seed),
            Some(pack) => {
                let [batch, _, n, k] = shape;
                let perm = class.perm.then(|| super::pack::dealt(k, group));
                let l = Loaded { source: pack.source, packed, dtype: p.input, batch, rows: n * gates, k, group, perm };
                let mut tensors = super::pack::random(&l, seed);
                if let Some(perm) = &l.perm {
                    tensors.insert("perm".into(), int_tensor(perm));
                    tensors.insert("g_idx".into(), int_tensor(&(0..k).map(|i| (i % (k / group)) as i32).collect::<Vec<_>>()));
                }
                (tensors, Rc::new(move |t: &Tensors| l.weights(t)) as Weights)
            }
        };
        inputs.extend(more);
        let mut case = case_of(p, shape, true, 0.75, inputs, weights)?;
        case.vars.set(VarId::of("group"), group as i64).map_err(failure)?;
        list.push(case);
    }
    Ok(list)
}

/// A packed weight with its numbers: random, at the ends of the range, or constant in groups with every third scale zero.
pub fn made(
    p: &GemmProblem,
    packed: Packed,
    shape: Shape,
    group: usize,
    kind: usize,
    perm: bool,
    seed: u64,
) -> (Tensors, Weights) {
    let [batch, _, n, k] = shape;
    let gates = p.gates() as usize;
    let (rows, groups, top) = (n * gates, k.div_ceil(group), (1usize << packed.bits) - 1);
    let mut random = Random::new(seed);
    let order: Vec<usize> = (0..k).map(|i| if perm { k - 1 - i } else { i }).collect();
    let (mut words, mut weights) = (Vec::new(), Vec::new());
    for _ in 0..batch {
        let code = |r: &mut Random, i: usize| match kind {
            0 => r.below(top + 1),
            1 => r.below(2) * top,
            _ => (i / k * 5 + i % k / group) & top,
        };
        let codes: Vec<u8> = (0..rows * k).map(|i| code(&mut random, i) as u8).collect();
        let scale = |r: &mut Random, i: usize| match kind {
            0 => (r.unit() * 0.1) as f32,
            1 => 2f32.powi(r.below(20) as i32 - 16) * 1.375,
            _ => (i % 3) as f32 / 8.0,
        };
        let scales: Vec<f32> = (0..rows * groups).map(|i| scale(&mut random, i)).collect();
        let zeros: Vec<u8> = (0..rows * groups).map(|i| code(&mut random, i) as u8).collect();
        let zeros = packed.zero.then_some(&zeros[..]);
        words.extend(weight::pack(packed, p.input, n, k, gates, group, &codes, &scales, zeros));
        let w = weight::dequantised(packed, p.input, n, k, gates, group, &codes, &scales, zeros);
        let mut placed = vec![0.0; w.len()];
        for (from, to) in w.chunks(k).zip(placed.chunks_mut(k)) {
            order.iter().zip(from).for_each(|(at, x)| to[*at] = *x);
        }
        weights.extend(placed);
    }
    let mut tensors = Tensors::from([("packed".to_string(), int_tensor(&words))]);
    if perm {
        tensors.insert("perm".into(), int_tensor(&order.iter().map(|i| *i as i32).collect::<Vec<_>>()));
    }
    (tensors, Rc::new(move |_: &Tensors| Ok(weights.clone())))
}

/// The wanted shape with n and k rounded up to the first that the plan takes, and groups along k: as packed, or one a row.
fn nearest(t: &Trial<'_>, class: &WeightClass, packed: Packed, [batch, m, n, k]: Shape) -> Res<Option<(Shape, usize)>> {
    let pg = packed.group as usize;
    // A checkpoint's words hold several rows; AWQ's and GPTQ's several columns too.
    let (rows, cols) = if class.source.is_some() { (8, 8) } else { (1, 1) };
    for step_k in [1usize, 2, 4, 8, 64, 256, 512, 1024] {
        for step_n in [1usize, 2, 8] {
            let step_k = if pg < 128 || class.perm { step_k.max(2 * pg) } else { step_k.max(cols) };
            let k = k.next_multiple_of(step_k);
            let shape = [batch, m, n.next_multiple_of(step_n.max(rows)), k];
            let group = if k.is_multiple_of(pg) { pg } else { k };
            let mut vars = vars(shape)?;
            vars.set(VarId::of("group"), group as i64).map_err(failure)?;
            if (t.fits)(&vars) {
                return Ok(Some((shape, group)));
            }
        }
    }
    Ok(None)
}
