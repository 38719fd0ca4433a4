//! Decodes that verification makes up: pages anywhere in the cache, and what nobody may read filled with NaN.

use super::super::ask::safetensors_dtype;
use super::super::case::Random;
use super::decode::{Decode, Sizes};
use super::forward_random::ints;
use super::terms::{Terms, UNLIMITED};
use crate::tensors::{Tensor, Tensors, from_f64};
use tilewright_ir::DType;
use tilewright_templates::attention::{DecodeProblem, Select};

/// Sizes to try.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Query tokens, query heads, key heads.
    pub heads: [usize; 3],
    /// Tokens of a page.
    pub page: usize,
    /// Tokens of each sequence.
    pub lengths: Vec<usize>,
    /// Parts; 0 leaves it to the plan.
    pub splits: usize,
    /// Tokens of a part, 0 for any.
    pub split_size: usize,
}

/// A decode of a class at these sizes, and its tensors.
pub fn random(p: DecodeProblem, shape: &Shape, seed: u64) -> (Decode, Tensors) {
    let mut r = Random::new(seed);
    let [sq, hq, hkv] = shape.heads;
    let (page, batch) = (shape.page, shape.lengths.len());
    let used: Vec<usize> = shape.lengths.iter().map(|n| n.div_ceil(page)).collect();
    let max_pages = used.iter().max().map_or(1, |n| n + 2);
    // Two pages belong to nobody.
    let pages = used.iter().sum::<usize>() + 2;
    let mut free: Vec<i32> = (0..pages as i32).collect();
    let mut table = Vec::new();
    let mut filled = vec![0; pages];
    for (n, length) in used.iter().zip(&shape.lengths) {
        for i in 0..max_pages {
            if i < *n {
                let id = free.swap_remove(r.below(free.len()));
                filled[id as usize] = page.min(length - i * page);
                table.push(id);
            } else {
                // Past the length: an id that no cache has.
                table.push(if i % 2 == 0 { -9 } else { i32::MAX });
            }
        }
    }
    let mut tensors = Tensors::new();
    let (d, dv) = (p.d as usize, p.dv as usize);
    let mut cache = |name: &str, width: usize| {
        let mut values = Vec::with_capacity(pages * page * hkv * width);
        for n in &filled {
            let slots = (0..page).flat_map(|slot| std::iter::repeat_n(slot < *n, hkv * width));
            values.extend(slots.map(|there| if there { r.unit() } else { f64::NAN }));
        }
        let t = Tensor {
            dtype: safetensors_dtype(p.dtype),
            shape: vec![pages, page, hkv, width],
            data: from_f64(p.dtype, values.into_iter()),
        };
        tensors.insert(name.into(), t);
    };
    cache("k_pages", d);
    cache("v_pages", dv);
    let mut numbers = |name: &str, dtype: DType, shape: Vec<usize>, size: f64| {
        let count: usize = shape.iter().product();
        let data = from_f64(dtype, (0..count).map(|_| r.unit() * size));
        tensors.insert(name.into(), Tensor { dtype: safetensors_dtype(dtype), shape, data });
    };
    numbers("q", p.dtype, vec![batch, sq, hq, d], 4.0);
    if p.alibi {
        numbers("alibi", DType::F32, vec![hq], 0.25);
    }
    if p.sink {
        numbers("sink", DType::F32, vec![hq], 3.0);
    }
    let mut n_select = 0;
    if p.select != Select::None {
        let heads = if p.select == Select::Heads { hq } else { hkv };
        n_select = used.iter().max().map_or(1, |n| n / 2 + 1);
        let mut select = Vec::new();
        for n in &used {
            for _ in 0..heads {
                let mut left: Vec<i32> = (0..*n as i32).collect();
                select.extend(
                    (0..n_select)
                        .map(|_| if left.is_empty() || r.below(5) == 0 { -1 } else { left.swap_remove(r.below(left.len())) }),
                );
            }
        }
        tensors.insert("select".into(), ints(vec![batch, heads, n_select], &select));
    }
    let lengths: Vec<i32> = shape.lengths.iter().map(|n| *n as i32).collect();
    tensors.insert("kv_len".into(), ints(vec![batch], &lengths));
    tensors.insert("page_table".into(), ints(vec![batch, max_pages], &table));
    let right = if seed.is_multiple_of(2) { 2 } else { UNLIMITED };
    let terms = Terms {
        causal: p.causal,
        window: p.window.then_some([37, right]),
        chunk: p.chunk.then_some(29),
        softcap: p.softcap.then_some(5.0),
        scale: 1.0 / (p.d as f32).sqrt(),
        alibi: p.alibi,
        sink: p.sink,
    };
    let sizes = Sizes { batch, sq, hq, hkv, pages, page, max_pages, n_select };
    (Decode { problem: p, sizes, terms, splits: shape.splits, split_size: shape.split_size }, tensors)
}
