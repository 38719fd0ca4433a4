//! A GEMM with its data: random operands, the comparison with the reference, the shapes a plan is verified on.

use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Check, More, Output, Random, Run, Trial};
use crate::error::{Res, failed, failure};
use crate::level::Level;
use crate::tensors::{Tensor, Tensors, from_f64, to_f64};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::rc::Rc;
use tilewright_ir::DType;
use tilewright_runtime::expr::{VarId, Vars};
use tilewright_runtime::manifest::Kernel;
use tilewright_templates::gemm::weight::WeightClass;
use tilewright_templates::gemm::{BLOCK, GemmProblem, Operands, Reference, Scale, Weight, quant_miss, reference};

/// Sizes of a GEMM: batch, m, n, k.
pub type Shape = [usize; 4];

/// Work (multiply-adds) up to which the result is compared with the reference.
const REFERENCE_LIMIT: usize = 1 << 29;

/// The weights `[batch, n, k]` that inputs stand for.
pub type Weights = Rc<dyn Fn(&Tensors) -> Res<Vec<f64>>>;

/// A problem of these sizes on these inputs; `batched` says whether d has a batch dimension.
pub fn case(problem: GemmProblem, shape: Shape, batched: bool, alpha: f32, inputs: Tensors) -> Res<Case> {
    case_of(problem, shape, batched, alpha, inputs, Rc::new(|inputs| numbers(inputs, "b")))
}

/// As [`case`] with weights that are more than the numbers of a tensor `b`.
pub fn case_of(problem: GemmProblem, shape: Shape, batched: bool, alpha: f32, inputs: Tensors, weights: Weights) -> Res<Case> {
    let [batch, m, n, k] = shape;
    let matrix = |cols: usize| if batched { vec![batch, m, cols] } else { vec![m, cols] };
    let mut outputs = vec![Output { name: "d", dtype: safetensors_dtype(problem.output), shape: matrix(n) }];
    if problem.quant {
        outputs.push(Output { name: "d_scale", dtype: Dtype::F32, shape: matrix(n.div_ceil(BLOCK as usize)) });
    }
    Ok(Case {
        sizes: format!("batch {batch} m {m} n {n} k {k}"),
        class: problem.class(),
        vars: vars(shape)?,
        // Bare sums have no factor.
        scalars: if problem.output == DType::I32 { Vec::new() } else { vec![("alpha", alpha)] },
        outputs,
        unused: Vec::new(),
        more: More::default(),
        check: check(problem, shape, alpha, weights),
        inputs,
    })
}

/// The variables of expressions for a shape.
pub fn vars([batch, m, n, k]: Shape) -> Res<Vars> {
    let mut v = Vars::gemm(m as i64, n as i64, k as i64);
    v.set(VarId::BATCH, batch as i64).map_err(failure)?;
    Ok(v)
}

/// Compares with the f64 reference where that is affordable.
fn check(p: GemmProblem, shape: Shape, alpha: f32, weights: Weights) -> Check {
    Box::new(move |inputs, outputs, run| {
        let path = path(&p, &run.kernels);
        let [batch, m, n, k] = shape;
        let work = batch * m * n * k * p.gates() as usize;
        if work > REFERENCE_LIMIT {
            let why = format!("{work} multiply-adds are more than {REFERENCE_LIMIT}");
            return Ok(told(json!({"reference": null, "why": why}), path));
        }
        let o = Operands {
            shape,
            a: numbers(inputs, "a")?,
            b: weights(inputs)?,
            bias: numbers(inputs, "bias")?,
            residual: numbers(inputs, "residual")?,
            a_scale: numbers(inputs, "a_scale")?,
            b_scale: numbers(inputs, "b_scale")?,
            alpha: f64::from(alpha),
        };
        if [&o.a, &o.b, &o.bias, &o.residual, &o.a_scale, &o.b_scale].iter().any(|v| v.iter().any(|x| !x.is_finite())) {
            return Ok(told(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}), path));
        }
        let reference = expected(&p, &o, run);
        let d = outputs.get("d").ok_or_else(|| failure("no output d"))?;
        let found = to_f64(d.dtype, &d.data)?;
        if p.quant {
            return match quant_miss(&reference, n, &found, &numbers(outputs, "d_scale")?) {
                Some(why) => failed(why),
                None => Ok(told(
                    json!({"reference": "f64", "elements": found.len(), "bound": "half a code + bound of the sums"}),
                    path,
                )),
            };
        }
        if let Some((i, x, want, bound)) = reference.first_miss(&found) {
            return failed(format!("element {i} of d is {x}, the f64 reference {want}, the bound {bound:e}"));
        }
        let worst = found.iter().zip(&reference.value).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        let verdict = json!({"reference": "f64", "elements": found.len(), "max_error": worst, "bound": "2*|lowp-ref| + slack"});
        Ok(told(verdict, path))
    })
}

/// What d should be, and how far off it may be where it was computed.
pub fn expected(p: &GemmProblem, o: &Operands, run: &Run<'_>) -> Reference {
    // A quantised output is compared before its codes are made.
    let compared = if p.quant { GemmProblem { output: DType::F32, quant: false, ..*p } } else { *p };
    let expected = reference(&compared, o);
    if run.gpu { expected.on_tensor_cores(p) } else { expected }
}

/// The elements of an input as numbers; none where it is not there.
pub fn numbers(inputs: &Tensors, name: &str) -> Res<Vec<f64>> {
    inputs.get(name).map_or(Ok(Vec::new()), |t| to_f64(t.dtype, &t.data))
}

/// Which way a packed weight went: kernels that unpack it come before a dense multiplication.
pub fn path(p: &GemmProblem, kernels: &[&Kernel]) -> Option<&'static str> {
    let unpacks = kernels.iter().any(|k| k.config.get("kind").is_some_and(|kind| kind == "unpack"));
    (p.weight != Weight::Same).then_some(if unpacks { "dequantised" } else { "packed" })
}

/// A verdict with the path where there is a choice of them.
pub fn told(mut verdict: Value, path: Option<&str>) -> Value {
    if let Some(path) = path {
        verdict["path"] = path.into();
    }
    verdict
}

/// Random numbers in -1..1 that the dtypes hold exactly, of I8 in its whole range, factors from 0 to 2: the same in every run.
pub fn random_inputs(p: &GemmProblem, [batch, m, n, k]: Shape, seed: u64) -> Tensors {
    let mut random = Random::new(seed);
    let wide = n * p.gates() as usize;
    let blocks = |x: usize| x.div_ceil(BLOCK as usize);
    let scale = |scale: Scale, rows: usize, blocked: usize| match scale {
        Scale::None | Scale::Tensor => vec![1],
        Scale::Row => vec![batch, rows],
        Scale::Block => vec![batch, blocked, blocks(k)],
    };
    let all: [(&str, DType, bool, Vec<usize>); 6] = [
        ("a", p.input, true, vec![batch, m, k]),
        ("b", p.b_dtype(), true, vec![batch, wide, k]),
        ("bias", p.bias_dtype(), p.bias, vec![wide]),
        ("a_scale", DType::F32, p.a_scale != Scale::None, scale(p.a_scale, m, m)),
        ("b_scale", DType::F32, p.b_scale != Scale::None, scale(p.b_scale, wide, blocks(wide))),
        ("residual", p.output, p.residual, vec![batch, m, n]),
    ];
    drawn(&mut random, all)
}

/// Random tensors of names, dtypes and shapes, those that are given.
pub fn drawn<const N: usize>(random: &mut Random, all: [(&str, DType, bool, Vec<usize>); N]) -> Tensors {
    let draw = |(name, d, _, shape): (&str, DType, bool, Vec<usize>)| {
        let (range, middle) = match name {
            "a_scale" | "b_scale" => (1.0, 1.0),
            _ => (if d == DType::I8 { 127.0 } else { 1.0 }, 0.0),
        };
        let values = (0..shape.iter().product::<usize>()).map(|_| middle + range * random.unit());
        (name.to_string(), Tensor { dtype: safetensors_dtype(d), data: from_f64(d, values), shape })
    };
    all.into_iter().filter(|(_, _, given, _)| *given).map(draw).collect()
}

/// Boundary trip counts of the main loop and ragged edges, rounded to what the plan requires.
pub fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    // The first launches may only copy.
    let axis = |name: &str| (0..t.plan.launches.len()).find_map(|l| t.axis(l, name)).unwrap_or(64);
    let (bm, bn, bk, stages) = (axis("bm"), axis("bn"), axis("bk"), axis("stages"));
    let class = WeightClass::from_class(&t.plan.class).map_err(failure)?;
    let p = class.problem;
    if let Some(packed) = class.packed() {
        return super::weight_case::cases(t, &class, packed);
    }
    let mut list = Vec::new();
    for wanted in shapes(t.level, bm, bn / p.gates() as usize, bk, stages) {
        if let Some(shape) = nearest(t, wanted)? {
            let alpha = if p.output == DType::I32 { 1.0 } else { 0.75 };
            list.push(case(p, shape, true, alpha, random_inputs(&p, shape, t.seed))?);
        }
    }
    Ok(list)
}

/// Shapes to try, before they are rounded to what a plan requires.
pub fn shapes(level: Level, bm: usize, bn: usize, bk: usize, stages: usize) -> Vec<Shape> {
    let mut list = vec![[1, 1, 8, 8], [2, bm + 5, bn + 9, bk + 9]];
    if level == Level::Full {
        let trips = [1, stages - 1, stages, stages + 1, 2 * stages + 1];
        list.extend(trips.into_iter().filter(|t| *t > 0).map(|t| [1, 17, 24, t * bk]));
        list.push([1, 3 * bm, bn, bk * 2 - 3]);
        list.push([1, bm - 1, 2 * bn + 1, 2 * bk + 5]);
    }
    list
}

/// The wanted shape with n and k rounded up to the first that the plan takes: exact sizes first, then alignments.
fn nearest(t: &Trial<'_>, [batch, m, n, k]: Shape) -> Res<Option<Shape>> {
    for step_k in [1usize, 2, 4, 8, 16, 64, 256, 512, 1024] {
        for step_n in [1usize, 2, 8] {
            let shape = [batch, m, n.next_multiple_of(step_n), k.next_multiple_of(step_k)];
            if (t.fits)(&vars(shape)?) {
                return Ok(Some(shape));
            }
        }
    }
    Ok(None)
}
