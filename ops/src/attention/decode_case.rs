//! A decode with its data: variables, outputs, the comparison with the reference, what a plan is verified on.

use super::super::Indexed;
use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Check, More, Output, Request, Trial};
use super::compare::{compare, numbers, numerics, too_much, whole};
use super::decode::Decode;
use super::decode_random::{Shape, random};
use super::terms::{UNLIMITED, set};
use crate::error::{Res, bad_input, failure};
use crate::level::Level;
use crate::library::Entry;
use crate::tensors::Tensors;
use safetensors::Dtype;
use tilewright_ir::Arch;
use tilewright_runtime::dispatch::{ChosenBy, Dispatch, TableBuilder};
use tilewright_runtime::expr::Vars;
use tilewright_templates::attention::{DecodeConfig, DecodeProblem, Select, decode_plan, default_decode_configs};
use tilewright_templates::attention::{DecodeOperands, decode_reference};
use tilewright_templates::plan::OpPlan;

/// A run's request.
pub fn request(decode: Decode, config: Option<String>, tensors: Tensors) -> Res<Request> {
    let (p, s) = (decode.problem, decode.sizes);
    let config: Option<DecodeConfig> = config.map(|text| text.parse().map_err(bad_input)).transpose()?;
    let lists = if p.select == Select::Heads { s.hq } else { s.hkv };
    let rows = s.sq * s.hq / lists;
    // As dispatch decides where neither key is given.
    let tokens = if s.n_select > 0 { s.n_select } else { s.max_pages } * s.page;
    let few = s.batch * s.hkv <= FEW_HEADS as usize && tokens > SHORT as usize;
    let split = decode.split_size > 0 || decode.splits > 1 || (decode.splits == 0 && few);
    Ok(Request {
        case: case(decode, tensors)?,
        pinned: config.is_some(),
        plans: Box::new(move |arch| {
            let configs = config.map_or_else(|| default_decode_configs(arch, &p, rows, s.page), |c| vec![c]);
            configs.iter().map(|c| decode_plan(arch, &p, c, split).map_err(bad_input)).collect()
        }),
    })
}

/// Both plans of each config, one launch and parts.
pub fn plans(arch: Arch, entry: &Entry) -> Res<Vec<OpPlan>> {
    let p = DecodeProblem::from_class(&entry.class).map_err(bad_input)?;
    let mut list = Vec::new();
    for text in &entry.configs {
        let config = text.parse().map_err(bad_input)?;
        for split in [false, true] {
            list.push(decode_plan(arch, &p, &config, split).map_err(|e| bad_input(format!("{}: {e}", entry.class)))?);
        }
    }
    Ok(list)
}

/// Parts first where key heads of all sequences are few and sequences may be long: one launch would leave most of the device
/// idle. Which of the two is asked for otherwise, `requires` says.
pub fn table(_: Arch, class: &str, plans: &[Indexed<'_>]) -> Res<Dispatch> {
    let order = |parts_first: bool| {
        let mut list: Vec<&Indexed<'_>> = plans.iter().collect();
        list.sort_by_key(|(_, p)| (p.plan.launches.len() > 1) != parts_first);
        list.into_iter().map(|p| p.0).collect::<Vec<_>>()
    };
    let table = TableBuilder::new("attention_decode", class).axis("m", &[FEW_HEADS]).axis("n", &[SHORT]);
    table.build(ChosenBy::Model, |s| order(s[0] <= FEW_HEADS && s[1] > SHORT)).map_err(failure)
}

/// Key heads of all sequences up to which long ones are cut into parts: half the multiprocessors of a large GPU.
const FEW_HEADS: i64 = 64;
/// Tokens up to which parts do not pay.
const SHORT: i64 = 1024;

/// A decode on its tensors.
pub fn case(f: Decode, inputs: Tensors) -> Res<Case> {
    let (p, s) = (f.problem, f.sizes);
    let most = s.max_pages * s.page;
    let mut sizes = format!("batch {} sq {} hq {} hkv {} page {} at most {most} tokens", s.batch, s.sq, s.hq, s.hkv, s.page);
    if f.splits > 0 {
        sizes += &format!(" splits {}", f.splits);
    }
    if f.split_size > 0 {
        sizes += &format!(" split_size {}", f.split_size);
    }
    Ok(Case {
        sizes,
        class: p.class(),
        vars: vars(&f)?,
        scalars: f.terms.scalars(),
        inputs,
        outputs: vec![
            Output { name: "o", dtype: safetensors_dtype(p.output), shape: vec![s.batch, s.sq, s.hq, p.dv as usize] },
            Output { name: "lse", dtype: Dtype::F32, shape: vec![s.batch, s.hq, s.sq] },
        ],
        unused: Vec::new(),
        more: More::default(),
        check: check(f),
    })
}

/// Variables of expressions. Dispatch sees key heads of all sequences as m, the most tokens a head reads as n and tokens of a
/// page as k.
fn vars(f: &Decode) -> Res<Vars> {
    let s = &f.sizes;
    let n = |x: usize| x as i64;
    let mut v = Vars::new();
    let tokens = if s.n_select > 0 { s.n_select } else { s.max_pages } * s.page;
    set(&mut v, &[("m", n(s.batch * s.hkv)), ("n", n(tokens)), ("k", n(s.page))])?;
    set(&mut v, &[("batch", n(s.batch)), ("sq", n(s.sq)), ("hq", n(s.hq)), ("hkv", n(s.hkv))])?;
    set(&mut v, &[("pages", n(s.pages)), ("page", n(s.page)), ("max_pages", n(s.max_pages)), ("n_select", n(s.n_select))])?;
    set(&mut v, &[("splits", n(f.splits)), ("split_size", n(f.split_size))])?;
    f.terms.set(&mut v)?;
    Ok(v)
}

/// Empty, short and long sequences, pages of several sizes, groups of heads, several parts.
pub fn cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let p = DecodeProblem::from_class(&t.plan.class).map_err(failure)?;
    let (bn, stages) = (t.axis(0, "bn").unwrap_or(64), t.axis(0, "stages").unwrap_or(2));
    let mut list = Vec::new();
    for (i, shape) in shapes(t.level, bn, stages).iter().enumerate() {
        let (decode, tensors) = random(p, shape, t.seed + i as u64);
        let case = case(decode, tensors)?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

fn shapes(level: Level, bn: usize, stages: usize) -> Vec<Shape> {
    let shape = |heads, page, lengths: &[usize]| Shape { heads, page, lengths: lengths.to_vec(), splits: 0, split_size: 0 };
    let long = (2 * stages + 1) * bn;
    let mut list = vec![shape([1, 4, 2], 16, &[1, 0, bn + 3]), shape([3, 8, 1], 1, &[7, 2 * bn])];
    if level == Level::Full {
        list.push(shape([8, 2, 2], 64, &[long, 5, (stages - 1) * bn]));
        list.push(shape([2, 6, 3], 128, &[stages * bn, (stages + 1) * bn - 1]));
        list.push(shape([1, 5, 1], 5, &[bn, bn - 1, bn + 1]));
    }
    let whole = list.len();
    for i in 0..whole {
        list.push(Shape { splits: 1, ..list[i].clone() });
        list.push(Shape { splits: 3, ..list[i].clone() });
        list.push(Shape { split_size: 2 * bn, ..list[i].clone() });
    }
    list
}

/// Compares with the reference where that is affordable.
fn check(f: Decode) -> Check {
    Box::new(move |inputs, outputs, run| {
        let (p, s) = (f.problem, f.sizes);
        let lengths = whole(inputs, "kv_len");
        let tokens: usize = lengths.iter().map(|n| *n as usize).sum();
        if let Some(why) = too_much(tokens * s.sq * s.hq * (p.d + p.dv) as usize) {
            return Ok(why);
        }
        let operands = DecodeOperands {
            batch: s.batch,
            sq: s.sq,
            hq: s.hq,
            hkv: s.hkv,
            page: s.page,
            q: numbers(inputs, "q")?,
            k_pages: numbers(inputs, "k_pages")?,
            v_pages: numbers(inputs, "v_pages")?,
            page_table: whole(inputs, "page_table"),
            kv_len: lengths,
            select: whole(inputs, "select"),
            scale: f64::from(f.terms.scale),
            softcap: f64::from(f.terms.softcap.unwrap_or(0.0)),
            window: f.terms.window.unwrap_or([UNLIMITED; 2]),
            chunk: f.terms.chunk.unwrap_or(1),
            sink: numbers(inputs, "sink")?,
            alibi: numbers(inputs, "alibi")?,
        };
        compare(outputs, &decode_reference(&p, &operands, numerics(&run.kernels)))
    })
}
