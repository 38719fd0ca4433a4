//! `gen run quantize`: numbers as 8-bit codes with factors.

use super::ask::{Ask, dtype_of, safetensors_dtype};
use super::case::{Case, Check, More, Output, Random, Request, Trial};
use super::{About, Family};
use crate::error::{Res, bad_input, failed, failure, usage};
use crate::level::Level;
use crate::tensors::{Tensor, Tensors, from_f64, to_f64};
use safetensors::Dtype;
use serde_json::json;
use tilewright_ir::DType;
use tilewright_runtime::dispatch::Dispatch;
use tilewright_runtime::expr::Vars;
use tilewright_templates::quantize::{QuantBlock, QuantizeProblem, quantize_plan, quantize_reference};

/// The row of `quantize`.
pub const FAMILY: Family = Family {
    op: "quantize",
    about,
    configs: |_| Vec::new(),
    class: "in=bf16,to=e4m3,block=128,align=8",
    request,
    plans: |arch, entry| {
        let problem = QuantizeProblem::from_class(&entry.class).map_err(bad_input)?;
        Ok(vec![quantize_plan(arch, &problem).map_err(bad_input)?])
    },
    kernel: |arch, class, _| {
        let problem = QuantizeProblem::from_class(class).map_err(bad_input)?;
        let plan = quantize_plan(arch, &problem).map_err(bad_input)?;
        plan.kernels.into_iter().next().ok_or_else(|| failure("a quantiser has a kernel"))
    },
    table: |_, class, plans| Ok(Dispatch::single("quantize", class, plans.iter().map(|p| p.0).collect())),
    cases,
};

fn about() -> About {
    About {
        templates: vec!["quantize"],
        inputs: vec!["bf16", "f16", "f32"],
        outputs: vec!["e4m3", "i8"],
        keys: vec![("to", json!(["e4m3", "int8"])), ("block", json!(["row", "128"]))],
    }
}

/// Checks keys and tensors against each other.
fn request(ask: Ask) -> Res<Request> {
    ask.only_keys(&["to", "block"])?;
    if let Some(name) = ask.tensors.keys().find(|n| *n != "x") {
        return usage(format!("unknown tensor `{name}`: expected x"));
    }
    let x = ask.need("x")?;
    let input = dtype_of("x", x, &[DType::BF16, DType::F16, DType::F32])?;
    let [m, k] = x.shape[..] else { return usage(format!("tensor `x` is {}: expected [m, k]", x.describe())) };
    if m == 0 || k == 0 || m.max(k) > i32::MAX as usize / 4 {
        return usage(format!("tensor `x` is {}: sizes go from 1 to {}", x.describe(), i32::MAX / 4));
    }
    let to = match ask.key("to") {
        None | Some("e4m3") => DType::E4M3,
        Some("int8") => DType::I8,
        Some(other) => return usage(format!("to = `{other}`: expected e4m3 or int8")),
    };
    let block = ask.parsed("block")?.unwrap_or(QuantBlock::Row);
    let problem = QuantizeProblem::of(input, to, block, k);
    Ok(Request {
        case: case(problem, [m, k], ask.tensors)?,
        pinned: false,
        plans: Box::new(move |arch| Ok(vec![quantize_plan(arch, &problem).map_err(bad_input)?])),
    })
}

fn case(p: QuantizeProblem, [m, k]: [usize; 2], inputs: Tensors) -> Res<Case> {
    let block = if p.block == QuantBlock::Row { k } else { 128 };
    let scale = if p.block == QuantBlock::Row { vec![m] } else { vec![m, k.div_ceil(128)] };
    let check: Check = Box::new(move |inputs, outputs, _| {
        let numbers = |tensors: &Tensors, name: &str| {
            let t = tensors.get(name).ok_or_else(|| failure(format!("no tensor {name}")))?;
            to_f64(t.dtype, &t.data)
        };
        let x = numbers(inputs, "x")?;
        if x.iter().any(|v| !v.is_finite()) {
            return Ok(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}));
        }
        let (q, scale) = (numbers(outputs, "q")?, numbers(outputs, "scale")?);
        match quantize_reference(&x, k, block, p.to).first_miss(&x, k, block, p.to, &q, &scale) {
            Some(why) => failed(why),
            None => Ok(json!({"reference": "f64", "elements": q.len(), "bound": "the nearest code, factors within an ulp"})),
        }
    });
    Ok(Case {
        sizes: format!("m {m} k {k}"),
        class: p.class(),
        vars: Vars::gemm(m as i64, 1, k as i64),
        scalars: Vec::new(),
        inputs,
        outputs: vec![
            Output { name: "q", dtype: safetensors_dtype(p.to), shape: vec![m, k] },
            Output { name: "scale", dtype: Dtype::F32, shape: scale },
        ],
        unused: Vec::new(),
        more: More::default(),
        check,
    })
}

/// One element and more, blocks that are not full; among the rows some of zeros, of tiny and of huge numbers.
fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let p = QuantizeProblem::from_class(&t.plan.class).map_err(bad_input)?;
    let align = p.align as usize;
    let mut shapes = vec![[1, align], [7, 200]];
    if t.level == Level::Full {
        shapes.extend([[33, 128], [3, 1024 + align], [2, 2880], [17, 3 * align]]);
    }
    let mut list = Vec::new();
    for (i, [m, k]) in shapes.into_iter().enumerate() {
        let mut r = Random::new(t.seed + i as u64);
        let values = (0..m * k).map(|i| r.unit() * [1.0, 0.0, 1e-12, 3e4][i / k % 4]);
        let data = from_f64(p.input, values);
        let x = Tensor { dtype: safetensors_dtype(p.input), shape: vec![m, k], data };
        let case = case(p, [m, k], Tensors::from([("x".to_string(), x)]))?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}
