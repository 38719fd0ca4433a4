//! A grouped GEMM with its data: sizes, and the comparison with the reference, expert by expert.

use super::super::super::ask::safetensors_dtype;
use super::super::super::case::{Case, Check, More, Output};
pub use super::super::case::numbers;
use super::super::case::{Weights, expected, path, told};
use crate::error::{Res, failed, failure};
use crate::tensors::{Tensors, to_f64};
use safetensors::Dtype;
use serde_json::json;
use tilewright_ir::DType;
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_templates::gemm::{BLOCK, GemmProblem, Groups, Operands, Scale, grouped_class, quant_miss};

/// Work (multiply-adds) up to which the result is compared with the reference.
const REFERENCE_LIMIT: usize = 1 << 29;

/// Sizes of a grouped GEMM.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Rows of each expert.
    pub counts: Vec<usize>,
    /// Rows there is room for in each expert's matrix, where rows are not sorted.
    pub max_m: usize,
    /// Columns of d.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Rows that `gather` picks from.
    pub rows: Option<usize>,
}

impl Sizes {
    /// Rows of all experts.
    pub fn tokens(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Rows of d, those of nobody included.
    pub fn all_rows(&self, p: &GemmProblem) -> usize {
        if p.groups == Groups::Offsets { self.tokens() } else { self.counts.len() * self.max_m }
    }

    /// First row of each expert, in d as one matrix.
    fn first(&self, p: &GemmProblem, expert: usize) -> usize {
        if p.groups == Groups::Offsets { self.counts[..expert].iter().sum() } else { expert * self.max_m }
    }

    /// The variables of expressions. `m` is what an expert may expect, for the choice among plans.
    pub fn vars(&self, p: &GemmProblem) -> Res<Vars> {
        let e = self.counts.len();
        let expected = self.tokens().div_ceil(e.max(1));
        let mut v = Vars::gemm(expected as i64, self.n as i64, self.k as i64);
        let rows = self.rows.map(|rows| ("rows", rows));
        let extent = if p.groups == Groups::Offsets { ("tokens", self.tokens()) } else { ("max_m", self.max_m) };
        for (name, value) in [("e", e), extent].into_iter().chain(rows) {
            v.set(VarId::of(name), value as i64).map_err(failure)?;
        }
        Ok(v)
    }
}

/// A problem of these sizes on these inputs; `weights` are `[e, n, k]`, twice n for swiglu.
pub fn case(p: GemmProblem, s: Sizes, alpha: f32, inputs: Tensors, weights: Weights) -> Res<Case> {
    let sorted = p.groups == Groups::Offsets;
    let shape = if sorted { vec![s.tokens(), s.n] } else { vec![s.counts.len(), s.max_m, s.n] };
    let rows = if sorted { String::new() } else { format!(" of {}", s.max_m) };
    let mut outputs = vec![Output { name: "d", dtype: safetensors_dtype(p.output), shape: shape.clone() }];
    let blocks = s.n.div_ceil(BLOCK as usize);
    if p.quant {
        let lead = shape[..shape.len() - 1].to_vec();
        outputs.push(Output { name: "d_scale", dtype: Dtype::F32, shape: [lead, vec![blocks]].concat() });
    }
    let nobodys = s.all_rows(&p) - s.tokens();
    let unused = [("d", s.n * p.output.bytes() as usize), ("d_scale", 4 * blocks)];
    Ok(Case {
        sizes: format!("rows {:?}{rows} n {} k {}", s.counts, s.n, s.k),
        class: grouped_class(&p.class(), s.rows.is_some()),
        vars: s.vars(&p)?,
        // Bare sums have no factor.
        scalars: if p.output == DType::I32 { Vec::new() } else { vec![("alpha", alpha)] },
        outputs,
        unused: unused.map(|(name, row)| (name, (nobodys * row) as u64)).to_vec(),
        more: More::default(),
        check: check(p, s, alpha, weights),
        inputs,
    })
}

/// Compares each expert's rows with the f64 reference where that is affordable; rows past a count may hold anything.
fn check(p: GemmProblem, s: Sizes, alpha: f32, weights: Weights) -> Check {
    Box::new(move |inputs, outputs, run| {
        let path = path(&p, &run.kernels);
        let wide = s.n * p.gates() as usize;
        let work = s.tokens() * wide * s.k;
        if work > REFERENCE_LIMIT {
            let why = format!("{work} multiply-adds are more than {REFERENCE_LIMIT}");
            return Ok(told(json!({"reference": null, "why": why}), path));
        }
        let numbers = |name| numbers(inputs, name);
        let (a, b, bias, residual) = (numbers("a")?, weights(inputs)?, numbers("bias")?, numbers("residual")?);
        let (mut a_scale, b_scale) = (numbers("a_scale")?, numbers("b_scale")?);
        let blocks = |x: usize| x.div_ceil(BLOCK as usize);
        // Factors of a row of a and of an expert.
        let of_a = if p.a_scale == Scale::Block { blocks(s.k) } else { 1 };
        let of_b = if p.b_scale == Scale::Block { blocks(wide) * blocks(s.k) } else { wide };
        if s.rows.is_some() && matches!(p.a_scale, Scale::Row | Scale::Block) {
            a_scale = gathered(&a_scale, &ints(inputs, "gather"), of_a);
        }
        let a = if s.rows.is_some() { gathered(&a, &ints(inputs, "gather"), s.k) } else { a };
        let d = outputs.get("d").ok_or_else(|| failure("no output d"))?;
        let found = to_f64(d.dtype, &d.data)?;
        let factors = super::super::case::numbers(outputs, "d_scale")?;
        let (mut worst, mut elements, mut unknown) = (0.0f64, 0, 0);
        for (expert, count) in s.counts.iter().enumerate() {
            let first = s.first(&p, expert);
            let part = |of: &[f64], len: usize, from: usize| of.get(from..from + len).unwrap_or_default().to_vec();
            let o = Operands {
                shape: [1, *count, s.n, s.k],
                a: part(&a, count * s.k, first * s.k),
                b: part(&b, wide * s.k, expert * wide * s.k),
                bias: part(&bias, if p.bias { wide } else { 0 }, expert * wide),
                residual: part(&residual, if p.residual { count * s.n } else { 0 }, first * s.n),
                a_scale: match p.a_scale {
                    Scale::None | Scale::Tensor => a_scale.clone(),
                    _ => part(&a_scale, count * of_a, first * of_a),
                },
                b_scale: match p.b_scale {
                    Scale::None | Scale::Tensor => b_scale.clone(),
                    _ => part(&b_scale, of_b, expert * of_b),
                },
                alpha: f64::from(alpha),
            };
            if [&o.a, &o.b, &o.bias, &o.residual, &o.a_scale, &o.b_scale].iter().any(|v| v.iter().any(|x| !x.is_finite())) {
                unknown += 1;
                continue;
            }
            let want = expected(&p, &o, run);
            let mine = &found[first * s.n..][..count * s.n];
            elements += mine.len();
            if p.quant {
                let per_row = blocks(s.n);
                if let Some(miss) = quant_miss(&want, s.n, mine, &factors[first * per_row..][..count * per_row]) {
                    return failed(format!("expert {expert}: {miss}"));
                }
                continue;
            }
            if let Some((i, x, value, bound)) = want.first_miss(mine) {
                let (row, col) = (first + i / s.n, i % s.n);
                return failed(format!(
                    "expert {expert}: d at row {row}, column {col} is {x}, the f64 reference {value}, the bound {bound:e}"
                ));
            }
            worst = mine.iter().zip(&want.value).map(|(x, y)| (x - y).abs()).fold(worst, f64::max);
        }
        if unknown > 0 && elements == 0 {
            return Ok(told(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}), path));
        }
        let mut verdict = json!({"reference": "f64", "elements": elements, "bound": "2*|lowp-ref| + slack"});
        if !p.quant {
            verdict["max_error"] = json!(worst);
        }
        if unknown > 0 {
            verdict["experts_not_compared"] = json!({"count": unknown, "why": "their inputs hold infinities or NaNs"});
        }
        Ok(told(verdict, path))
    })
}

/// Rows of `k` in the order of an index; a negative number gives zeros.
fn gathered(a: &[f64], index: &[i32], k: usize) -> Vec<f64> {
    let row = |i: &i32| usize::try_from(*i).ok().and_then(|i| a.get(i * k..(i + 1) * k)).map_or(vec![0.0; k], <[f64]>::to_vec);
    index.iter().flat_map(row).collect()
}

/// A tensor's I32 elements; none where it is not given.
pub fn ints(tensors: &Tensors, name: &str) -> Vec<i32> {
    let data = tensors.get(name).map_or(&[][..], |t| &t.data);
    data.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}
