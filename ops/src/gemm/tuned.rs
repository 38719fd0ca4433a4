//! A GEMM at the sizes of a tuner's task: random data, and some elements of large products against the reference.

use super::super::case::{Check, Random};
use super::super::tuned::{Sizes, Tuned};
use super::case::{Shape, Weights, case_of, expected, numbers, random_inputs};
use super::weight_case::made;
use crate::error::{Res, bad_input, failed, failure, usage};
use crate::tensors::{Tensor, to_f64};
use serde_json::json;
use std::rc::Rc;
use tilewright_ir::DType;
use tilewright_runtime::expr::VarId;
use tilewright_templates::gemm::weight::WeightClass;
use tilewright_templates::gemm::{BLOCK, BLayout, GemmProblem, Operands, Scale, Weight};

/// Rows and columns of d that are looked at, the first and the last among them.
const ROWS: usize = 16;
const COLS: usize = 64;

/// The problem of a class.
pub fn tuned(class: &str, sizes: &Sizes<'_>, seed: u64) -> Res<Tuned> {
    let class = WeightClass::from_class(class).map_err(bad_input)?;
    let p = class.problem;
    let shape = [sizes.or("batch", 1)?, sizes.get("m")?, sizes.get("n")?, sizes.get("k")?];
    let alpha = if p.output == DType::I32 { 1.0 } else { 0.75 };
    let mut inputs = random_inputs(&p, shape, seed);
    let Weight::Packed(packed) = p.weight else {
        let weights: Weights = Rc::new(|inputs| numbers(inputs, "b"));
        let case = case_of(p, shape, true, alpha, inputs, weights)?;
        return Ok(Tuned { case, sample: sampled(p, shape, alpha, seed) });
    };
    if class.pack().is_some() {
        return usage(format!("{}: weights that come as a checkpoint has them are packed first: tune source=none", p.class()));
    }
    inputs.remove("b");
    let (group, k) = (packed.group as usize, shape[3]);
    let group = if k.is_multiple_of(group) { group } else { k };
    let (more, weights) = made(&p, packed, shape, group, 0, class.perm, seed);
    inputs.extend(more);
    let mut case = case_of(p, shape, true, alpha, inputs, weights)?;
    case.vars.set(VarId::of("group"), group as i64).map_err(failure)?;
    Ok(Tuned { case, sample: None })
}

/// Dot products of some rows and columns of the first matrix; none where an element needs more than its row and its column.
fn sampled(p: GemmProblem, shape: Shape, alpha: f32, seed: u64) -> Option<Check> {
    let blocked = p.b_scale == Scale::Block;
    if p.quant || (blocked && p.gates() > 1) {
        return None;
    }
    let [_, m, n, k] = shape;
    let mut random = Random::new(seed ^ 0x5A17);
    let mut some = |of: usize, count: usize| {
        let mut list: Vec<usize> = [0, of - 1].into_iter().chain((2..count).map(|_| random.below(of))).collect();
        list.sort_unstable();
        list.dedup();
        list
    };
    let rows = some(m, ROWS);
    // A factor of b belongs to a block of columns: then the columns are one block.
    let block = BLOCK as usize;
    let cols = if blocked {
        let first = some(n.div_ceil(block), 3)[0] * block;
        (first..n.min(first + block)).collect()
    } else {
        some(n, COLS)
    };
    Some(Box::new(move |inputs, outputs, run| {
        let wide = n * p.gates() as usize;
        let gates: Vec<usize> = (0..p.gates() as usize).flat_map(|g| cols.iter().map(move |c| g * n + c)).collect();
        let pick = |name: &str, at: Vec<usize>| inputs.get(name).map_or(Ok(Vec::new()), |t| picked(t, &at));
        let lines = |list: &[usize], len: usize| list.iter().flat_map(|i| i * len..(i + 1) * len).collect::<Vec<_>>();
        let grid = |of: usize| rows.iter().flat_map(|r| cols.iter().map(move |c| r * of + c)).collect::<Vec<_>>();
        let blocks = k.div_ceil(block);
        let b = match p.b {
            BLayout::Nk => lines(&gates, k),
            BLayout::Kn => (0..k).flat_map(|i| gates.iter().map(move |c| i * wide + c)).collect(),
        };
        let scale = |name: &str, scale: Scale, each: &[usize], blocked: Vec<usize>| match scale {
            Scale::None | Scale::Tensor => pick(name, vec![0]),
            Scale::Row => pick(name, each.to_vec()),
            Scale::Block => pick(name, blocked),
        };
        let o = Operands {
            shape: [1, rows.len(), cols.len(), k],
            a: pick("a", lines(&rows, k))?,
            b: pick("b", b)?,
            bias: pick("bias", gates.clone())?,
            residual: pick("residual", grid(n))?,
            a_scale: scale("a_scale", p.a_scale, &rows, lines(&rows, blocks))?,
            b_scale: scale("b_scale", p.b_scale, &gates, lines(&[cols[0] / block], blocks))?,
            alpha: f64::from(alpha),
        };
        let reference = expected(&p, &o, run);
        let d = outputs.get("d").ok_or_else(|| failure("no output d"))?;
        let found = picked(d, &grid(n))?;
        if let Some((i, x, want, bound)) = reference.first_miss(&found) {
            let (row, col) = (rows[i / cols.len()], cols[i % cols.len()]);
            return failed(format!("d at row {row}, column {col} is {x}, the f64 reference {want}, the bound {bound:e}"));
        }
        Ok(json!({"reference": "f64", "elements": found.len(), "of": m * n, "bound": "2*|lowp-ref| + slack"}))
    }))
}

/// Elements of a tensor as numbers.
fn picked(t: &Tensor, at: &[usize]) -> Res<Vec<f64>> {
    let count: usize = t.shape.iter().product();
    let bytes = t.data.len() / count.max(1);
    let mut data = Vec::with_capacity(at.len() * bytes);
    for i in at {
        data.extend_from_slice(t.data.get(i * bytes..(i + 1) * bytes).ok_or_else(|| failure("an element past the end"))?);
    }
    to_f64(t.dtype, &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Run;
    use crate::tensors::{Tensors, from_f64};
    use crate::tuned::tuned as of;
    use tilewright_templates::gemm::reference;

    /// The reference itself as the output, and whether a sample sees an element that is off.
    #[test]
    fn a_sample_agrees_with_the_whole_reference_and_sees_a_wrong_corner() {
        let plain = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
        for class in [
            plain.to_string(),
            plain.replace("b=nk", "b=kn"),
            plain.replace("act=none,bias=0,residual=0", "act=swiglu,bias=1,residual=1"),
            plain.replace("a=bf16", "a=e4m3") + ",a_scale=block,b_scale=block",
            plain.replace("a=bf16", "a=e4m3") + ",a_scale=row,b_scale=row",
        ] {
            let p = WeightClass::from_class(&class).unwrap().problem;
            let (m, n, k) = (21, 200, 272);
            let sizes = [("m", m), ("n", n), ("k", k)].map(|(s, v)| (s.to_string(), v as i64)).into();
            let Tuned { case, sample } = of("gemm", &class, &sizes, 3).unwrap();
            let number = |name: &str| numbers(&case.inputs, name).unwrap();
            let o = Operands {
                shape: [1, m, n, k],
                a: number("a"),
                b: number("b"),
                bias: number("bias"),
                residual: number("residual"),
                a_scale: number("a_scale"),
                b_scale: number("b_scale"),
                alpha: 0.75,
            };
            let mut d = reference(&p, &o).lowp;
            let output = &case.outputs[0];
            let run = Run { plan: "", kernels: Vec::new(), gpu: false };
            let verdict = |d: &[f64]| {
                let data = from_f64(p.output, d.iter().copied());
                let t = Tensor { dtype: output.dtype, shape: output.shape.clone(), data };
                sample.as_ref().unwrap()(&case.inputs, &Tensors::from([("d".to_string(), t)]), &run)
            };
            let told = verdict(&d).unwrap();
            assert!(told["elements"].as_u64() > Some(100) && told["reference"] == "f64", "{class}: {told}");
            let last = d.len() - n;
            d[last] += d[last].abs() + 1.0;
            let error = verdict(&d);
            assert!(error.as_ref().is_err_and(|e| e.to_string().starts_with("d at row 20, column 0")), "{class}: {error:?}");
        }
    }

    #[test]
    fn sizes_that_are_none_are_named() {
        let class = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
        let error = |op: &str, list: &[(&str, i64)]| {
            let sizes = list.iter().map(|(s, v)| (s.to_string(), *v)).collect();
            of(op, class, &sizes, 0).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(error("gemm", &[("m", 1), ("n", 8)]), "gemm: size `k` is missing: it takes batch, m, n, k");
        assert_eq!(error("gemm", &[("m", 0), ("n", 8), ("k", 8)]), "gemm: m = 0: expected 1 to 2147483647");
        assert_eq!(error("gemm", &[("sq", 1)]), "gemm: no size `sq`: expected batch, m, n, k");
        assert!(error("page_stats", &[]).contains("op `page_stats` is not tuned: expected gemm, gemm_grouped"));
    }
}
