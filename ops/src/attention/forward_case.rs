//! A forward with its data: variables, outputs, the comparison with the reference, what a plan is verified on.

use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Check, More, Output, Request, Trial};
use super::compare::{compare, numbers, numerics, too_much, whole};
use super::forward::Forward;
use super::forward_random::{Shape, random};
use super::terms::{UNLIMITED, set};
use crate::error::{Res, bad_input};
use crate::level::Level;
use crate::tensors::Tensors;
use safetensors::Dtype;
use tilewright_ir::Arch;
use tilewright_runtime::expr::Vars;
use tilewright_templates::attention::{self, AttentionOperands, Streaming, attention_reference};
use tilewright_templates::attention::{AttentionConfig, AttentionProblem, default_configs, forward_plan};
use tilewright_templates::plan::OpPlan;

/// A run's request.
pub fn request(forward: Forward, config: Option<String>, tensors: Tensors) -> Res<Request> {
    let (p, sq, prefix) = (forward.problem, forward.sizes.sq, forward.prefix > 0);
    let config: Option<AttentionConfig> = config.map(|text| text.parse().map_err(bad_input)).transpose()?;
    Ok(Request {
        case: case(forward, tensors)?,
        pinned: config.is_some(),
        plans: Box::new(move |arch| {
            let configs = config.map_or_else(|| default_configs(arch, &p, sq), |c| vec![c]);
            configs.iter().map(|c| plan(arch, &p, c, prefix)).collect()
        }),
    })
}

/// The plan of a class and a config.
pub fn plan(arch: Arch, p: &AttentionProblem, config: &AttentionConfig, prefix: bool) -> Res<OpPlan> {
    forward_plan(arch, p, config, prefix).map_err(|e| bad_input(format!("{}: {e}", class(p, prefix))))
}

/// The class as plans spell it: a shared prefix makes other plans of the same problem.
pub fn class(p: &AttentionProblem, prefix: bool) -> String {
    if prefix { format!("{},prefix=1", p.class()) } else { p.class() }
}

/// The problem of a class, and whether sequences share a prefix.
pub fn problem(class: &str) -> Res<(AttentionProblem, bool)> {
    let (text, prefix) = class.strip_suffix(",prefix=1").map_or((class, false), |text| (text, true));
    Ok((AttentionProblem::from_class(text).map_err(bad_input)?, prefix))
}

/// A forward on its tensors.
pub fn case(f: Forward, inputs: Tensors) -> Res<Case> {
    let (p, s) = (f.problem, f.sizes);
    let (o, lse) = if p.varlen {
        (vec![s.total_q, s.hq, p.dv as usize], vec![s.hq, s.total_q])
    } else {
        (vec![s.batch, s.sq, s.hq, p.dv as usize], vec![s.batch, s.hq, s.sq])
    };
    let mut sizes = format!("batch {} sq {} sk {} hq {} hkv {}", s.batch, s.sq, s.sk, s.hq, s.hkv);
    if f.prefix > 0 {
        sizes += &format!(" prefix {}", f.prefix);
    }
    Ok(Case {
        sizes,
        class: class(&p, f.prefix > 0),
        vars: vars(&f)?,
        scalars: f.terms.scalars(),
        inputs,
        outputs: vec![
            Output { name: "o", dtype: safetensors_dtype(p.output), shape: o },
            Output { name: "lse", dtype: Dtype::F32, shape: lse },
        ],
        unused: Vec::new(),
        more: More::default(),
        check: check(f),
    })
}

/// Variables of expressions. Dispatch sees queries as m, keys as n and heads of all sequences as k.
fn vars(f: &Forward) -> Res<Vars> {
    let s = &f.sizes;
    let n = |x: usize| x as i64;
    let mut v = Vars::new();
    set(&mut v, &[("m", n(s.sq)), ("n", n(s.sk)), ("k", n(s.batch * s.hq))])?;
    set(&mut v, &[("batch", n(s.batch)), ("sq", n(s.sq)), ("sk", n(s.sk)), ("hq", n(s.hq)), ("hkv", n(s.hkv))])?;
    f.terms.set(&mut v)?;
    if f.problem.varlen {
        set(&mut v, &[("total_q", n(s.total_q)), ("total_k", n(s.total_k))])?;
    }
    if f.problem.bias.is_some() {
        let [b, h, q, k] = f.bias.map(n);
        set(&mut v, &[("bias_b", b), ("bias_h", h), ("bias_q", q), ("bias_k", k)])?;
    }
    if let Some(mask) = f.mask {
        let ([b, h, q, k], [bm, bn]) = (mask.extents.map(n), mask.block.map(n));
        set(&mut v, &[("mask_b", b), ("mask_h", h), ("mask_q", q), ("mask_k", k), ("block_m", bm), ("block_n", bn)])?;
    }
    if f.problem.sparse.is_some_and(|s| s.heads) {
        set(&mut v, &[("sink_tokens", n(f.streaming[0])), ("recent_tokens", n(f.streaming[1]))])?;
    }
    if f.prefix > 0 {
        set(&mut v, &[("prefix", n(f.prefix))])?;
    }
    Ok(v)
}

/// Boundary trip counts of the main loop, ragged edges, rows that see nothing.
pub fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let (p, prefix) = problem(&t.plan.class)?;
    // The launch that multiplies: others have no such tile.
    let main = (0..t.plan.launches.len()).find(|l| t.axis(*l, "bn").is_some()).unwrap_or(0);
    let axis = |name: &str, other| t.axis(main, name).unwrap_or(other);
    let (bm, bn, stages) = (axis("bm", 64), axis("bn", 64), axis("stages", 2));
    let mut list = Vec::new();
    for (i, shape) in shapes(t.level, bm, bn, stages).into_iter().enumerate() {
        let prefix = if prefix { 1 + i * (bn + 2) / 2 } else { 0 };
        let (forward, tensors) = random(p, shape, prefix, bn, t.seed + i as u64);
        let case = case(forward, tensors)?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

fn shapes(level: Level, bm: usize, bn: usize, stages: usize) -> Vec<Shape> {
    let mut list = vec![[1, 1, 1, 1, 1], [2, bm + 5, 2 * bn + 9, 4, 2]];
    if level == Level::Full {
        let trips = [stages - 1, stages, stages + 1, 2 * stages + 1];
        list.extend(trips.into_iter().filter(|n| *n > 0).map(|n| [1, 17, n * bn, 2, 1]));
        // More queries than keys: causal rows that see nothing, whole tiles of them.
        list.push([1, 2 * bm + 7, 3, 1, 1]);
        list.push([1, bm - 1, bn - 1, 3, 1]);
        list.push([3, 5, bn + 1, 3, 3]);
    }
    list
}

/// Compares with the reference where that is affordable.
fn check(f: Forward) -> Check {
    Box::new(move |inputs, outputs, run| {
        let (p, s) = (f.problem, f.sizes);
        let keys = s.sk + f.prefix;
        if let Some(why) = too_much(s.total_q * s.hq * keys * (p.d + p.dv) as usize) {
            return Ok(why);
        }
        let given = |name: &str| inputs.contains_key(name);
        let operands = AttentionOperands {
            batch: s.batch,
            sq: s.sq,
            sk: s.sk,
            hq: s.hq,
            hkv: s.hkv,
            q: numbers(inputs, "q")?,
            k: numbers(inputs, "k")?,
            v: numbers(inputs, "v")?,
            prefix: if f.prefix > 0 { Some([numbers(inputs, "k_prefix")?, numbers(inputs, "v_prefix")?]) } else { None },
            cu: p.varlen.then(|| ["cu_q", "cu_k"].map(|name| whole(inputs, name))),
            scale: f64::from(f.terms.scale),
            softcap: f64::from(f.terms.softcap.unwrap_or(0.0)),
            window: f.terms.window.unwrap_or([UNLIMITED; 2]),
            chunk: f.terms.chunk.unwrap_or(1),
            sink: numbers(inputs, "sink")?,
            alibi: numbers(inputs, "alibi")?,
            bias: if given("bias") { Some((numbers(inputs, "bias")?, f.bias)) } else { None },
            mask: f.mask.map(|mask| attention::BlockMask {
                bits: inputs.get("block_mask").map(|t| t.data.clone()).unwrap_or_default(),
                extents: mask.extents,
                block: mask.block,
            }),
            head_type: given("head_type").then(|| whole(inputs, "head_type")),
            streaming: Streaming { sink: f.streaming[0] as i64, recent: f.streaming[1] as i64 },
        };
        compare(outputs, &attention_reference(&p, &operands, numerics(&run.kernels)))
    })
}
