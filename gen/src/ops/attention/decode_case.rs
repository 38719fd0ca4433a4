//! A decode with its data: variables, outputs, the comparison with the reference, what a plan is verified on.

use super::super::ask::safetensors_dtype;
use super::super::case::{Case, Check, Output, Request, Trial};
use super::decode::Decode;
use super::decode_random::{Shape, random};
use super::terms::set;
use crate::error::{Res, failure};
use crate::tensors::Tensors;
use crate::verify::Level;
use safetensors::Dtype;
use tilewright_runtime::expr::Vars;
use tilewright_templates::attention::DecodeProblem;

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
        check: check(f),
    })
}

/// Variables of expressions. Dispatch sees key heads of all sequences as m, the most tokens of a sequence as n and tokens of
/// a page as k.
fn vars(f: &Decode) -> Res<Vars> {
    let s = &f.sizes;
    let n = |x: usize| x as i64;
    let mut v = Vars::new();
    set(&mut v, &[("m", n(s.batch * s.hkv)), ("n", n(s.max_pages * s.page)), ("k", n(s.page))])?;
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
