//! `gen run attention_merge`: partial results joined by their LSE.

use super::super::ask::{Ask, dtype_of, safetensors_dtype};
use super::super::case::{Case, Check, More, Output, Random, Request, Trial};
use super::compare::{compare, numbers, numerics};
use super::forward::same;
use super::terms::{extents, only, set};
use crate::error::{Res, bad_input};
use crate::level::Level;
use crate::tensors::{Tensor, Tensors, from_f64};
use safetensors::Dtype;
use tilewright_ir::DType;
use tilewright_runtime::expr::Vars;
use tilewright_templates::attention::{MergeOperands, merge_reference};
use tilewright_templates::attention::{MergeProblem, merge_plan};

/// Sizes of a merge: parts, batch, sq, hq, dv.
type Shape = [usize; 5];

/// Checks keys and tensors against each other.
pub fn request(mut ask: Ask) -> Res<Request> {
    only(&ask, &["out"], &["o", "lse", "sink"], &[])?;
    let shape = extents(&ask, "o", "[s, b, sq, hq, d]")?;
    let [parts, batch, sq, hq, dv] = shape;
    let [s, b, h, q] = extents(&ask, "lse", "F32 [s, b, hq, sq]")?;
    same("s", &[("o", parts), ("lse", s)])?;
    same("b", &[("o", batch), ("lse", b)])?;
    same("hq", &[("o", hq), ("lse", h)])?;
    same("sq", &[("o", sq), ("lse", q)])?;
    ask.expect("lse", Dtype::F32, &[parts, batch, hq, sq])?;
    let sink = ask.tensors.contains_key("sink");
    if sink {
        ask.expect("sink", Dtype::F32, &[hq])?;
    }
    let kinds = [DType::F32, DType::BF16, DType::F16];
    let input = dtype_of("o", ask.need("o")?, &kinds)?;
    let output = ask.value("out", "f32, bf16 or f16", |d| kinds.contains(d))?.unwrap_or(input);
    let align = if dv.is_multiple_of(4) { 4 } else { 1 };
    let problem = MergeProblem { input, output, token_major: false, sink, align };
    problem.check().map_err(bad_input)?;
    // The plan gives o and lse, so what it takes has other names.
    for (name, plan) in [("o", "partial_o"), ("lse", "partial_lse")] {
        if let Some(t) = ask.tensors.remove(name) {
            ask.tensors.insert(plan.into(), t);
        }
    }
    Ok(Request {
        case: case(problem, shape, ask.tensors)?,
        pinned: false,
        plans: Box::new(move |arch| Ok(vec![merge_plan(arch, &problem).map_err(bad_input)?])),
    })
}

/// A merge on its tensors.
fn case(p: MergeProblem, shape: Shape, inputs: Tensors) -> Res<Case> {
    let [parts, batch, sq, hq, dv] = shape;
    let n = |x: usize| x as i64;
    let mut vars = Vars::new();
    set(&mut vars, &[("m", n(batch * sq)), ("n", n(hq)), ("k", n(parts))])?;
    set(&mut vars, &[("parts", n(parts)), ("batch", n(batch)), ("sq", n(sq)), ("hq", n(hq)), ("dv", n(dv))])?;
    Ok(Case {
        sizes: format!("parts {parts} batch {batch} sq {sq} hq {hq} dv {dv}"),
        class: p.class(),
        vars,
        scalars: Vec::new(),
        inputs,
        outputs: vec![
            Output { name: "o", dtype: safetensors_dtype(p.output), shape: vec![batch, sq, hq, dv] },
            Output { name: "lse", dtype: Dtype::F32, shape: vec![batch, hq, sq] },
        ],
        unused: Vec::new(),
        more: More::default(),
        check: check(p, shape),
    })
}

/// Parts that weigh alike, much, nothing; rows where none weighs anything.
pub fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let p = MergeProblem::from_class(&t.plan.class).map_err(bad_input)?;
    let mut shapes: Vec<Shape> = vec![[1, 1, 1, 1, 4], [3, 2, 3, 5, 72]];
    if t.level == Level::Full {
        shapes.extend([[2, 1, 17, 3, 128], [9, 3, 1, 8, 64], [128, 1, 2, 2, 256]]);
    }
    let mut list = Vec::new();
    for (i, shape) in shapes.into_iter().enumerate() {
        let case = case(p, shape, random(&p, shape, t.seed + i as u64))?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

fn random(p: &MergeProblem, [parts, batch, sq, hq, dv]: Shape, seed: u64) -> Tensors {
    let mut r = Random::new(seed);
    let rows = batch * sq * hq;
    let lse: Vec<f64> = (0..parts * rows)
        .map(|at| match at % rows % 5 {
            0 | 1 => 3.0 * r.unit(),
            2 => 300.0 * r.unit(),
            3 if r.below(2) == 0 => 40.0 * r.unit(),
            _ => f64::NEG_INFINITY,
        })
        .collect();
    let tensor = |d: DType, shape: Vec<usize>, values: Vec<f64>| Tensor {
        dtype: safetensors_dtype(d),
        shape,
        data: from_f64(d, values.into_iter()),
    };
    let count = parts * rows * dv;
    let o = tensor(p.input, vec![parts, batch, sq, hq, dv], (0..count).map(|_| 4.0 * r.unit()).collect());
    let lse_shape = if p.token_major { vec![parts, batch, sq, hq] } else { vec![parts, batch, hq, sq] };
    let mut tensors = Tensors::from([("partial_o".to_string(), o), ("partial_lse".into(), tensor(DType::F32, lse_shape, lse))]);
    if p.sink {
        tensors.insert("sink".into(), tensor(DType::F32, vec![hq], (0..hq).map(|_| 3.0 * r.unit()).collect()));
    }
    tensors
}

fn check(p: MergeProblem, shape: Shape) -> Check {
    Box::new(move |inputs, outputs, run| {
        let operands = MergeOperands {
            shape,
            o: numbers(inputs, "partial_o")?,
            lse: numbers(inputs, "partial_lse")?,
            sink: numbers(inputs, "sink")?,
        };
        compare(outputs, &merge_reference(&p, &operands, numerics(&run.kernels)))
    })
}
