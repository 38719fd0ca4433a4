//! What a grouped plan is verified on: routings that leave experts without rows, give one all, fill tiles to the row.

use super::super::super::case::{Case, Random, Trial};
use super::super::case::{Weights, drawn};
use super::case::{Sizes, case, ints, numbers};
use super::problem;
use crate::error::{Res, failed};
use crate::level::Level;
use crate::tensors::{Tensor, Tensors};
use safetensors::Dtype;
use std::rc::Rc;
use tilewright_ir::DType;
use tilewright_templates::gemm::weight::{Blocks, pack, unpack, words as words_of};
use tilewright_templates::gemm::{BLOCK, BLayout, GemmProblem, Groups, Packed, Scale, Weight};

/// Cases at boundary trip counts and ragged sizes, rounded to what the plan requires.
pub fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let (class, gather) = problem(&t.plan.class)?;
    if class.source.is_some() {
        return failed(format!("{}: the library has packed weights of experts, not those that come from a source", t.plan.class));
    }
    let p = class.problem;
    let last = t.plan.launches.len() - 1;
    let axis = |name: &str, other| t.axis(last, name).unwrap_or(other);
    // Rows of weights of a packed tile are those of one gate.
    let gates = if p.weight == Weight::Same { p.gates() as usize } else { 1 };
    let (bm, bn, bk, stages) = (axis("bm", 64), axis("bn", 64) / gates, axis("bk", 128), axis("stages", 2));
    let mut wanted = vec![(vec![0, 1, bm + 1, 0, 3], bn + 9, bk + 9), (vec![bm - 1, bm, 0], 24, stages * bk), (vec![0, 0], 8, 8)];
    if t.level == Level::Full {
        wanted.extend([
            (vec![2 * bm + 3], 2 * bn + 1, (stages + 1) * bk),
            (vec![1; 19], 17, (stages - 1) * bk + 5),
            ((1..=12).map(|i| 3 * bm / (2 * i)).collect(), bn, 2 * bk - 3),
            (vec![0, 0, 0, 0, 0, 0, 0, 0, 0, bm / 2], bn + 1, (2 * stages + 1) * bk),
        ]);
    }
    let mut list = Vec::new();
    for (i, (counts, n, k)) in wanted.into_iter().enumerate() {
        let tokens: usize = counts.iter().sum();
        let max_m = counts.iter().max().map_or(1, |m| m + i % 3);
        let sizes = Sizes { counts, max_m: max_m.max(1), n, k, rows: gather.then_some(tokens / 2 + 1) };
        if let Some(s) = nearest(t, &p, &sizes)? {
            let (inputs, weights) = made(&p, &s, t.seed + i as u64);
            let alpha = if p.output == DType::I32 { 1.0 } else { 0.75 };
            list.push(case(p, s, alpha, inputs, weights)?);
        }
    }
    Ok(list)
}

/// Random tensors of a problem, and the weights they stand for.
pub fn made(p: &GemmProblem, s: &Sizes, seed: u64) -> (Tensors, Weights) {
    let mut inputs = inputs(p, s, seed);
    let weights: Weights = match p.weight {
        Weight::Same => Rc::new(|inputs| numbers(inputs, "b")),
        Weight::Packed(packed) => {
            let (e, gates, dtype) = (s.counts.len(), p.gates() as usize, p.input);
            let blocks = Blocks { packed, n: s.n, k: s.k, gates };
            inputs.insert("packed".into(), random_blocks(p, packed, blocks, e, seed));
            Rc::new(move |inputs| {
                let words = ints(inputs, "packed");
                Ok(words.chunks(blocks.len()).flat_map(|w| unpack(packed, dtype, blocks.n, blocks.k, gates, w)).collect())
            })
        }
    };
    (inputs, weights)
}

/// The sizes with n and k rounded up to the first that the plan takes.
fn nearest(t: &Trial<'_>, p: &GemmProblem, s: &Sizes) -> Res<Option<Sizes>> {
    for step_k in [1usize, 2, 4, 8, 16] {
        for step_n in [1usize, 2, 8] {
            let s = Sizes { n: s.n.next_multiple_of(step_n), k: s.k.next_multiple_of(step_k), ..s.clone() };
            if (t.fits)(&s.vars(p)?) {
                return Ok(Some(s));
            }
        }
    }
    Ok(None)
}

/// Random numbers in -1..1 that the dtypes hold exactly, and what says whose rows are whose.
fn inputs(p: &GemmProblem, s: &Sizes, seed: u64) -> Tensors {
    let mut random = Random::new(seed);
    let (e, tokens, n, k) = (s.counts.len(), s.tokens(), s.n, s.k);
    let wide = n * p.gates() as usize;
    let sorted = p.groups == Groups::Offsets;
    let rows = |cols: usize| if sorted { vec![tokens, cols] } else { vec![e, s.max_m, cols] };
    let b = if p.b == BLayout::Nk { vec![e, wide, k] } else { vec![e, k, wide] };
    let blocks = |x: usize| x.div_ceil(BLOCK as usize);
    let source = s.rows.map_or(if sorted { vec![tokens] } else { vec![e, s.max_m] }, |rows| vec![rows]);
    let scale = |scale: Scale, row: Vec<usize>, block: Vec<usize>| match scale {
        Scale::None | Scale::Tensor => vec![1],
        Scale::Row => row,
        Scale::Block => block,
    };
    let of_a = scale(p.a_scale, source.clone(), [source, vec![blocks(k)]].concat());
    let of_b = scale(p.b_scale, vec![e, wide], vec![e, blocks(wide), blocks(k)]);
    let all: [(&str, DType, bool, Vec<usize>); 6] = [
        ("a", p.input, true, s.rows.map_or(rows(k), |rows| vec![rows, k])),
        ("b", p.input, p.weight == Weight::Same, b),
        ("a_scale", DType::F32, p.a_scale != Scale::None, of_a),
        ("b_scale", DType::F32, p.b_scale != Scale::None, of_b),
        ("bias", p.bias_dtype(), p.bias, vec![e, wide]),
        ("residual", p.output, p.residual, rows(n)),
    ];
    let mut tensors = drawn(&mut random, all);
    let mut add = |name: &str, values: Vec<usize>| {
        let data = values.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect();
        tensors.insert(name.to_string(), Tensor { dtype: Dtype::I32, shape: vec![values.len()], data });
    };
    if sorted {
        let end = |i: usize| s.counts[..i].iter().sum();
        add("offsets", (0..=e).map(end).collect());
    } else {
        add("counts", s.counts.clone());
    }
    if let Some(rows) = s.rows {
        add("gather", (0..tokens).map(|_| random.below(rows)).collect());
    }
    tensors
}

/// Random codes, zero points and scales of every expert, packed.
fn random_blocks(p: &GemmProblem, packed: Packed, blocks: Blocks, e: usize, seed: u64) -> Tensor {
    let Blocks { n, k, gates, .. } = blocks;
    let (rows, group) = (n * gates, packed.group as usize);
    let factors = rows * k.div_ceil(group);
    let mut random = Random::new(seed + 1);
    let mut words = Vec::new();
    for _ in 0..e {
        let codes = |random: &mut Random, n: usize| -> Vec<u8> { (0..n).map(|_| random.below(1 << packed.bits) as u8).collect() };
        let code = codes(&mut random, rows * k);
        let zero = packed.zero.then(|| codes(&mut random, factors));
        let scale: Vec<f32> = (0..factors).map(|_| (1 + random.below(64)) as f32 / 1024.0).collect();
        words.extend(pack(packed, p.input, n, k, gates, group, &code, &scale, zero.as_deref()));
    }
    let shape = vec![e, blocks.along_n(), blocks.along_k(), words_of(packed) as usize];
    Tensor { dtype: Dtype::I32, shape, data: words.into_iter().flat_map(i32::to_le_bytes).collect() }
}
