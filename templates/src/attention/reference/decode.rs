//! Attention over a paged cache.

use super::AttentionReference;
use super::bound::{Expected, Numerics};
use super::forward::masks;
use super::row::{Key, Terms};
use crate::attention::decode_problem::{DecodeProblem, Select};

/// Data of a paged decode, row-major; what the class does not have is left empty.
#[derive(Clone, Debug, Default)]
pub struct DecodeOperands {
    /// Sequences.
    pub batch: usize,
    /// New tokens of each.
    pub sq: usize,
    /// Query heads.
    pub hq: usize,
    /// Key and value heads.
    pub hkv: usize,
    /// Tokens of a page.
    pub page: usize,
    /// `[batch, sq, hq, d]`.
    pub q: Vec<f64>,
    /// `[pages, page, hkv, d]`.
    pub k_pages: Vec<f64>,
    /// As k_pages, with dv.
    pub v_pages: Vec<f64>,
    /// `[batch, max_pages]`.
    pub page_table: Vec<i32>,
    /// `[batch]`.
    pub kv_len: Vec<i32>,
    /// `[batch, heads, n_select]`, -1 for unused entries.
    pub select: Vec<i32>,
    /// Factor of the products.
    pub scale: f64,
    /// Cap of the scaled score.
    pub softcap: f64,
    /// Left and right.
    pub window: [i64; 2],
    /// Tokens of a chunk.
    pub chunk: i64,
    /// Learned logits `[hq]`.
    pub sink: Vec<f64>,
    /// Slopes `[hq]`.
    pub alibi: Vec<f64>,
}

/// `o [batch, sq, hq, dv]` and `lse [batch, hq, sq]` with their bounds, whatever the splits.
///
/// # Panics
/// If the operands' sizes contradict each other.
pub fn decode_reference(p: &DecodeProblem, x: &DecodeOperands, numerics: Numerics) -> AttentionReference {
    let (d, dv, group) = (p.d as usize, p.dv as usize, x.hq / x.hkv);
    let terms = Terms { scale: x.scale, softcap: p.softcap.then_some(x.softcap), dtype: p.dtype, output: p.output, numerics };
    let masks = masks(p.causal, p.window.then_some(x.window), p.chunk.then_some(x.chunk));
    let rows = x.batch * x.sq * x.hq;
    let (mut o, mut lse) = (Expected::zeros(rows * dv), Expected::zeros(rows));
    let max_pages = x.page_table.len() / x.batch.max(1);
    let lists = if p.select == Select::Heads { x.hq } else { x.hkv };
    let n_select = x.select.len() / (x.batch * lists).max(1);
    for (b, i, h) in (0..x.batch).flat_map(|b| (0..x.sq).flat_map(move |i| (0..x.hq).map(move |h| (b, i, h)))) {
        let (length, g) = (x.kv_len[b].max(0) as usize, h / group);
        let pos = i as i64 + length as i64 - x.sq as i64;
        // In the order of visits, which for selected pages is that of the list.
        let tokens: Vec<usize> = if p.select == Select::None {
            (0..length).collect()
        } else {
            let list = b * lists + if p.select == Select::Heads { h } else { g };
            let pages = x.select[list * n_select..][..n_select].iter().filter_map(|s| usize::try_from(*s).ok());
            pages.flat_map(|s| (s * x.page..(s + 1) * x.page).filter(|t| *t < length)).collect()
        };
        let keys: Vec<Key<'_>> = tokens
            .into_iter()
            .filter(|j| masks.sees(pos, *j as i64))
            .map(|j| {
                let page = x.page_table[b * max_pages + j / x.page] as usize;
                let row = (page * x.page + j % x.page) * x.hkv + g;
                let alibi = if p.alibi { -x.alibi[h] * (pos - j as i64).abs() as f64 } else { 0.0 };
                Key { k: &x.k_pages[row * d..][..d], v: &x.v_pages[row * dv..][..dv], alibi, bias: 0.0 }
            })
            .collect();
        let row = (b * x.sq + i) * x.hq + h;
        let sink = p.sink.then(|| x.sink[h]);
        terms.row(&x.q[row * d..][..d], &keys, sink, (&mut o, row * dv, dv), (&mut lse, (b * x.hq + h) * x.sq + i));
    }
    AttentionReference { o, lse }
}
