//! `gen run attention_decode`: its keys and tensors.

use super::super::ask::{Ask, safetensors_dtype};
use super::super::case::Request;
use super::forward::same;
use super::terms::{KEYS, Terms, check_groups, dtype_of_q, extents, ints, only};
use crate::error::{Res, bad_input, usage};
use tilewright_templates::attention::{DecodeProblem, Select};

/// Most query tokens of a sequence.
pub const MAX_QUERIES: usize = 8;

/// A decode apart from its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Decode {
    /// The class.
    pub problem: DecodeProblem,
    /// Sizes.
    pub sizes: Sizes,
    /// Masks and score terms.
    pub terms: Terms,
    /// Parts a sequence is cut into; 0 leaves it to the plan.
    pub splits: usize,
    /// Tokens of a part; 0 where `splits` says how many there are.
    pub split_size: usize,
}

/// Sizes of a decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sequences.
    pub batch: usize,
    /// New tokens of a sequence.
    pub sq: usize,
    /// Query heads.
    pub hq: usize,
    /// Key and value heads.
    pub hkv: usize,
    /// Pages of the cache.
    pub pages: usize,
    /// Tokens of a page.
    pub page: usize,
    /// Pages a sequence may have.
    pub max_pages: usize,
    /// Pages a head may select; 0 where all are read.
    pub n_select: usize,
}

const TENSORS: [&str; 8] = ["q", "k_pages", "v_pages", "page_table", "kv_len", "sink", "alibi", "select"];

const UNBUILT: [(&str, &str); 8] = [
    ("k_scale", "a quantised cache is not built yet"),
    ("k_zero", "a quantised cache is not built yet"),
    ("v_scale", "a quantised cache is not built yet"),
    ("v_zero", "a quantised cache is not built yet"),
    ("q_scale", "8-bit attention is not built yet"),
    ("mla", "latent attention is not built yet"),
    ("c_pages", "latent attention is not built yet"),
    ("dv", "latent attention is not built yet"),
];

/// Checks keys and tensors against each other.
pub fn request(ask: Ask) -> Res<Request> {
    only(&ask, &[&KEYS[..], &["splits", "split_size", "config"]].concat(), &TENSORS, &UNBUILT)?;
    let decode = read(&ask)?;
    let config = ask.key("config").map(str::to_string);
    super::decode_case::request(decode, config, ask.tensors)
}

fn read(ask: &Ask) -> Res<Decode> {
    let dtype = dtype_of_q(ask)?;
    let [batch, sq, hq, d] = extents(ask, "q", "[b, sq, hq, d]")?;
    if sq > MAX_QUERIES {
        return usage(format!("q has sq = {sq} tokens: attention_decode takes 1 to {MAX_QUERIES}; use attention for more"));
    }
    let [pages, page, hkv, dk] = extents(ask, "k_pages", "[pages, page, hkv, d]")?;
    let [pages_v, page_v, hv, dv] = extents(ask, "v_pages", "[pages, page, hkv, dv]")?;
    same("d", &[("q", d), ("k_pages", dk)])?;
    same("pages", &[("k_pages", pages), ("v_pages", pages_v)])?;
    same("page", &[("k_pages", page), ("v_pages", page_v)])?;
    same("hkv", &[("k_pages", hkv), ("v_pages", hv)])?;
    for name in ["k_pages", "v_pages"] {
        let t = ask.need(name)?;
        if t.dtype != safetensors_dtype(dtype) {
            return usage(format!(
                "tensor `{name}` is {}: expected q's dtype, {:?}; a quantised cache is not built yet",
                t.describe(),
                safetensors_dtype(dtype)
            ));
        }
    }
    check_groups(hq, hkv)?;
    let (max_pages, lengths) = sequences(ask, batch, page)?;
    let (select, n_select) = select(ask, [batch, hkv, hq], max_pages)?;
    check_pages(ask, pages, page, max_pages, &lengths, n_select)?;
    let terms = Terms::read(ask, d as u32, hq)?;
    let number = |name: &str| ask.value::<usize>(name, "a whole number from 0, which chooses", |n| *n <= 1 << 30);
    let (splits, split_size) = (number("splits")?.unwrap_or(0), number("split_size")?.unwrap_or(0));
    if splits > 0 && split_size > 0 {
        return usage(format!("splits = {splits} and split_size = {split_size}: give one of them"));
    }
    let problem = DecodeProblem {
        dtype,
        output: dtype,
        d: d as u32,
        dv: dv as u32,
        causal: terms.causal,
        window: terms.window.is_some(),
        chunk: terms.chunk.is_some(),
        softcap: terms.softcap.is_some(),
        alibi: terms.alibi,
        sink: terms.sink,
        select,
    };
    problem.check().map_err(bad_input)?;
    let sizes = Sizes { batch, sq, hq, hkv, pages, page, max_pages, n_select };
    Ok(Decode { problem, sizes, terms, splits, split_size })
}

/// Checks `page_table` and `kv_len`; gives the pages a sequence may have and the lengths.
pub fn sequences(ask: &Ask, batch: usize, page: usize) -> Res<(usize, Vec<usize>)> {
    let [rows, max_pages] = extents(ask, "page_table", "I32 [b, max_pages]")?;
    let [lengths] = extents(ask, "kv_len", "I32 [b]")?;
    same("b", &[("q", batch), ("page_table", rows), ("kv_len", lengths)])?;
    let most = max_pages * page;
    let mut list = Vec::new();
    for (b, n) in ints(ask, "kv_len")?.into_iter().enumerate() {
        match usize::try_from(n) {
            Err(_) => return usage(format!("kv_len[{b}] = {n}: a length is not negative")),
            Ok(n) if n > most => {
                return usage(format!(
                    "kv_len[{b}] = {n} tokens, page_table has room for {most}: {max_pages} pages of {page} tokens"
                ));
            }
            Ok(n) => list.push(n),
        }
    }
    Ok((max_pages, list))
}

/// Whose selection `select` is, and how many pages it names.
fn select(ask: &Ask, [batch, hkv, hq]: [usize; 3], max_pages: usize) -> Res<(Select, usize)> {
    if !ask.tensors.contains_key("select") {
        return Ok((Select::None, 0));
    }
    let [b, heads, n] = extents(ask, "select", "I32 [b, hkv or hq, n]")?;
    if b != batch || (heads != hkv && heads != hq) {
        return usage(format!("tensor `select` is {}: expected I32 [{batch}, {hkv} or {hq}, n]", ask.need("select")?.describe()));
    }
    for (i, row) in ints(ask, "select")?.chunks_exact(n).enumerate() {
        let at = format!("select[{}, {}]", i / heads, i % heads);
        for (j, index) in row.iter().enumerate() {
            if *index < -1 || *index >= max_pages as i32 {
                return usage(format!("{at}[{j}] = {index}: expected an index into {max_pages} pages of page_table, or -1"));
            }
            if *index >= 0 && row[..j].contains(index) {
                return usage(format!("{at} names page {index} twice"));
            }
        }
    }
    Ok((if heads == hkv { Select::KvHeads } else { Select::Heads }, n))
}

/// Refuses page ids that will be read and are not there.
fn check_pages(ask: &Ask, pages: usize, page: usize, max_pages: usize, lengths: &[usize], n_select: usize) -> Res<()> {
    let table = ints(ask, "page_table")?;
    let selected = if n_select > 0 { ints(ask, "select")? } else { Vec::new() };
    // Of one sequence: the selections of all its heads.
    let row = selected.len() / lengths.len();
    for (b, length) in lengths.iter().enumerate() {
        let read = |i: &usize| n_select == 0 || selected[b * row..][..row].contains(&(*i as i32));
        for i in (0..length.div_ceil(page)).filter(read) {
            let id = table[b * max_pages + i];
            if id < 0 || id as usize >= pages {
                return usage(format!("page_table[{b}, {i}] = {id}: the cache has pages 0 to {}", pages - 1));
            }
        }
    }
    Ok(())
}

/// Refuses page ids of the tokens that sequences have.
pub fn check_all_pages(ask: &Ask, pages: usize, page: usize, max_pages: usize, lengths: &[usize]) -> Res<()> {
    check_pages(ask, pages, page, max_pages, lengths, 0)
}
