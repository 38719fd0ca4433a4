//! `gen run page_stats` and `gen run page_select`: bounds of the keys of pages, and the pages a query should look at.

use super::super::ask::{Ask, dtype_of, safetensors_dtype};
use super::super::case::{Case, Check, More, Output, Random, Request, Trial};
use super::compare::{numbers, whole};
use super::decode::{check_all_pages, sequences};
use super::forward::same;
use super::forward_random::ints;
use super::terms::{check_groups, dtype_of_q, extents, only, set};
use crate::error::{Fail, Res, bad_input, failed, usage};
use crate::level::Level;
use crate::tensors::{Tensor, Tensors, from_f64};
use safetensors::Dtype;
use serde_json::json;
use tilewright_ir::DType;
use tilewright_runtime::expr::Vars;
use tilewright_templates::attention::{PageOperands, page_select_check, page_stats_reference};
use tilewright_templates::attention::{PageProblem, page_select_plan, page_stats_plan};

/// Sizes of pages.
#[derive(Clone, Copy, Debug)]
struct PageSizes {
    pages: usize,
    /// Tokens of a page.
    page: usize,
    hkv: usize,
    d: usize,
    /// Logical pages of a page.
    sub: usize,
}

/// Checks keys and tensors of `page_stats`.
pub fn stats_request(ask: Ask) -> Res<Request> {
    only(&ask, &["sub", "bounds"], &["k_pages"], &[])?;
    let [pages, page, hkv, d] = extents(&ask, "k_pages", "[pages, page, hkv, d]")?;
    let dtype = dtype_of("k_pages", ask.need("k_pages")?, &[DType::BF16, DType::F16])?;
    let sub: Option<usize> = ask.value("sub", "a whole number from 1", |n| *n >= 1)?;
    if let Some(sub) = sub.filter(|n| !page.is_multiple_of(*n)) {
        return usage(format!("sub = {sub} logical pages: a page of {page} tokens is no multiple of it"));
    }
    let bounds = ask.value("bounds", "f32 or the dtype of k_pages", |b| [DType::F32, dtype].contains(b))?.unwrap_or(dtype);
    let problem = PageProblem { dtype, bounds, d: d as u32, logical: sub.is_some() };
    problem.check().map_err(bad_input)?;
    let sizes = PageSizes { pages, page, hkv, d, sub: sub.unwrap_or(1) };
    Ok(Request {
        case: stats_case(problem, sizes, ask.tensors)?,
        pinned: false,
        plans: Box::new(move |arch| Ok(vec![page_stats_plan(arch, &problem).map_err(bad_input)?])),
    })
}

fn stats_case(p: PageProblem, s: PageSizes, inputs: Tensors) -> Res<Case> {
    let n = |x: usize| x as i64;
    let mut vars = Vars::new();
    set(&mut vars, &[("m", n(s.pages)), ("n", n(s.page)), ("k", n(s.d))])?;
    set(&mut vars, &[("pages", n(s.pages)), ("page", n(s.page)), ("hkv", n(s.hkv)), ("sub", n(s.sub))])?;
    let shape = if p.logical { vec![s.pages, s.sub, s.hkv, s.d] } else { vec![s.pages, s.hkv, s.d] };
    let outputs = ["page_min", "page_max"].map(|name| Output { name, dtype: safetensors_dtype(p.bounds), shape: shape.clone() });
    let check: Check = Box::new(move |inputs, outputs, _| {
        let keys = numbers(inputs, "k_pages")?;
        if keys.iter().any(|x| !x.is_finite()) {
            return Ok(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}));
        }
        // A bound is one of the keys, which both dtypes hold.
        for (name, want) in
            ["page_min", "page_max"].into_iter().zip(page_stats_reference(&p, &keys, [s.pages, s.page, s.hkv, s.sub]))
        {
            let found = numbers(outputs, name)?;
            if let Some(i) = (0..want.len()).find(|i| found[*i] != want[*i]) {
                return failed(format!("element {i} of {name} is {}, the reference {}", found[i], want[i]));
            }
        }
        Ok(json!({"reference": "f64", "elements": 2 * s.pages * s.sub * s.hkv * s.d, "max_error": 0.0, "bound": "exact"}))
    });
    Ok(Case {
        sizes: format!("pages {} page {} hkv {} sub {}", s.pages, s.page, s.hkv, s.sub),
        class: p.class(),
        vars,
        scalars: Vec::new(),
        inputs,
        outputs: outputs.into(),
        unused: Vec::new(),
        more: More::default(),
        check,
    })
}

/// Pages of one token and more, heads that fill no tile.
pub fn stats_cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let p = PageProblem::from_class(&t.plan.class).map_err(bad_input)?;
    let mut shapes = vec![[1, 1, 1, 1], [7, 16, 3, 4]];
    if t.level == Level::Full {
        shapes.extend([[3, 64, 2, 4], [40, 5, 1, 5], [2, 6, 9, 3]]);
    }
    let mut list = Vec::new();
    for (i, [pages, page, hkv, sub]) in shapes.into_iter().enumerate() {
        let s = PageSizes { pages, page, hkv, d: p.d as usize, sub: if p.logical { sub } else { 1 } };
        let mut r = Random::new(t.seed + i as u64);
        let k = random(&mut r, p.dtype, vec![pages, page, hkv, s.d]);
        let case = stats_case(p, s, Tensors::from([("k_pages".to_string(), k)]))?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

/// Sizes of a selection besides those of its pages.
#[derive(Clone, Copy, Debug)]
struct Selection {
    pages: PageSizes,
    batch: usize,
    hq: usize,
    max_pages: usize,
    top: usize,
}

/// Checks keys and tensors of `page_select`.
pub fn select_request(mut ask: Ask) -> Res<Request> {
    only(&ask, &["page", "top"], &["q", "page_min", "page_max", "page_table", "kv_len"], &[])?;
    let dtype = dtype_of_q(&ask)?;
    let q = ask.need("q")?;
    let (batch, hq, d) = match q.shape[..] {
        [b, 1, hq, d] | [b, hq, d] if b * hq * d > 0 => (b, hq, d),
        _ => return usage(format!("tensor `q` is {}: expected [b, 1, hq, d] or [b, hq, d]", q.describe())),
    };
    let low = ask.need("page_min")?;
    let bounds = dtype_of("page_min", low, &[dtype, DType::F32])?;
    let (logical, [pages, sub, hkv, dk]) = match low.shape[..] {
        [pages, hkv, d] => (false, [pages, 1, hkv, d]),
        [pages, sub, hkv, d] => (true, [pages, sub, hkv, d]),
        _ => return usage(format!("tensor `page_min` is {}: expected [pages, hkv, d] or [pages, sub, hkv, d]", low.describe())),
    };
    if low.shape.contains(&0) {
        return usage(format!("tensor `page_min` is {}: every size must be at least 1", low.describe()));
    }
    ask.expect("page_max", safetensors_dtype(bounds), &low.shape)?;
    same("d", &[("q", d), ("page_min", dk)])?;
    check_groups(hq, hkv)?;
    let count = |name: &str| -> Res<usize> {
        let value = ask.value(name, "a whole number from 1", |n| (1..=1 << 24).contains(n))?;
        value.ok_or_else(|| Fail::Usage(format!("key `{name}` is missing: page_select needs page and top")))
    };
    let (page, top) = (count("page")?, count("top")?);
    let (max_pages, lengths) = sequences(&ask, batch, page)?;
    check_all_pages(&ask, pages, page, max_pages, &lengths)?;
    let problem = PageProblem { dtype, bounds, d: d as u32, logical };
    problem.check().map_err(bad_input)?;
    if let Some(q) = ask.tensors.get_mut("q") {
        q.shape = vec![batch, 1, hq, d];
    }
    let s = Selection { pages: PageSizes { pages, page, hkv, d, sub }, batch, hq, max_pages, top };
    Ok(Request {
        case: select_case(problem, s, ask.tensors)?,
        pinned: false,
        plans: Box::new(move |arch| Ok(vec![page_select_plan(arch, &problem).map_err(bad_input)?])),
    })
}

fn select_case(p: PageProblem, s: Selection, inputs: Tensors) -> Res<Case> {
    let n = |x: usize| x as i64;
    let z = s.pages;
    let mut vars = Vars::new();
    set(&mut vars, &[("m", n(s.batch * s.hq)), ("n", n(s.max_pages)), ("k", n(z.d))])?;
    set(&mut vars, &[("batch", n(s.batch)), ("hq", n(s.hq)), ("hkv", n(z.hkv)), ("pages", n(z.pages)), ("page", n(z.page))])?;
    set(&mut vars, &[("max_pages", n(s.max_pages)), ("top", n(s.top)), ("sub", n(z.sub))])?;
    Ok(Case {
        sizes: format!("batch {} hq {} hkv {} page {} max_pages {} top {}", s.batch, s.hq, z.hkv, z.page, s.max_pages, s.top),
        class: p.class(),
        vars,
        scalars: Vec::new(),
        inputs,
        outputs: vec![Output { name: "select", dtype: Dtype::I32, shape: vec![s.batch, s.hq, s.top] }],
        unused: Vec::new(),
        more: More::default(),
        check: Box::new(move |inputs, outputs, _| check_selection(p, s, inputs, outputs)),
    })
}

/// The pages selected must be the best ones, as far as an f32 sum can tell, with the last page among them.
fn check_selection(p: PageProblem, s: Selection, inputs: &Tensors, outputs: &Tensors) -> Res<serde_json::Value> {
    let operands = PageOperands {
        batch: s.batch,
        hq: s.hq,
        hkv: s.pages.hkv,
        page: s.pages.page,
        sub: s.pages.sub,
        top: s.top,
        q: numbers(inputs, "q")?,
        page_min: numbers(inputs, "page_min")?,
        page_max: numbers(inputs, "page_max")?,
        page_table: whole(inputs, "page_table"),
        kv_len: whole(inputs, "kv_len"),
    };
    if [&operands.q, &operands.page_min, &operands.page_max].iter().any(|v| v.iter().any(|x| !x.is_finite())) {
        return Ok(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}));
    }
    let select = whole(outputs, "select");
    match page_select_check(&p, &operands, &select) {
        Ok(()) => Ok(json!({"reference": "f64", "elements": select.len(), "bound": "scores may be rounded"})),
        Err(why) => failed(format!("select: {why}")),
    }
}

/// Sequences without tokens and with more pages than are asked for, and with fewer.
pub fn select_cases(t: &Trial<'_>) -> Res<Vec<Case>> {
    let p = PageProblem::from_class(&t.plan.class).map_err(bad_input)?;
    let mut shapes: Vec<([usize; 4], Vec<usize>)> = vec![([2, 1, 16, 3], vec![1, 0, 100]), ([6, 3, 4, 5], vec![90, 19])];
    if t.level == Level::Full {
        shapes.extend([([1, 1, 1, 150], vec![300]), ([4, 4, 64, 1], vec![640, 63]), ([5, 1, 3, 40], vec![100, 400])]);
    }
    let mut list = Vec::new();
    for (i, ([hq, hkv, page, top], lengths)) in shapes.into_iter().enumerate() {
        let mut r = Random::new(t.seed + i as u64);
        let used: Vec<usize> = lengths.iter().map(|n| n.div_ceil(page)).collect();
        let (pages, max_pages) = (used.iter().sum::<usize>() + 1, used.iter().max().map_or(1, |n| n + 1));
        let mut free: Vec<i32> = (0..pages as i32).collect();
        let mut table = Vec::new();
        for n in &used {
            table.extend((0..max_pages).map(|i| if i < *n { free.swap_remove(r.below(free.len())) } else { i32::MAX }));
        }
        let (batch, d, sub) = (lengths.len(), p.d as usize, if p.logical { 3 } else { 1 });
        let shape = if p.logical { vec![pages, sub, hkv, d] } else { vec![pages, hkv, d] };
        let lengths: Vec<i32> = lengths.iter().map(|n| *n as i32).collect();
        let tensors = [
            ("q", random(&mut r, p.dtype, vec![batch, 1, hq, d])),
            ("page_min", random(&mut r, p.bounds, shape.clone())),
            ("page_max", random(&mut r, p.bounds, shape)),
            ("page_table", ints(vec![batch, max_pages], &table)),
            ("kv_len", ints(vec![batch], &lengths)),
        ];
        let s = Selection { pages: PageSizes { pages, page, hkv, d, sub }, batch, hq, max_pages, top };
        let case = select_case(p, s, tensors.map(|(name, t)| (name.to_string(), t)).into())?;
        if (t.fits)(&case.vars) {
            list.push(case);
        }
    }
    Ok(list)
}

fn random(r: &mut Random, dtype: DType, shape: Vec<usize>) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor { dtype: safetensors_dtype(dtype), shape, data: from_f64(dtype, (0..count).map(|_| r.unit())) }
}
