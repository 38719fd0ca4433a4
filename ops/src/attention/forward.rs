//! `gen run attention`: its keys and tensors.

use super::super::ask::{Ask, safetensors_dtype};
use super::super::case::Request;
use super::terms::{KEYS, Terms, check_groups, dtype_of_q, extents, ints, only};
use crate::error::{Res, bad_input, usage};
use safetensors::Dtype;
use tilewright_ir::DType;
use tilewright_templates::attention::{AttentionProblem, Sparse};

/// A forward apart from its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The class.
    pub problem: AttentionProblem,
    /// Sizes.
    pub sizes: Sizes,
    /// Masks and score terms.
    pub terms: Terms,
    /// Tokens of the prefix that all sequences share; 0 where there is none.
    pub prefix: usize,
    /// Extents of bias: `[batch, hq, sq, sk]`, each may be 1.
    pub bias: [usize; 4],
    /// The block mask, where there is one.
    pub mask: Option<BlockMask>,
    /// Tokens a streaming head sees: the first ones, the last ones.
    pub streaming: [usize; 2],
}

/// Sizes of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sequences.
    pub batch: usize,
    /// Queries of a sequence; of the longest where they differ.
    pub sq: usize,
    /// Keys of a sequence; of the longest where they differ.
    pub sk: usize,
    /// Query heads.
    pub hq: usize,
    /// Key and value heads.
    pub hkv: usize,
    /// Queries of all sequences.
    pub total_q: usize,
    /// Keys of all sequences.
    pub total_k: usize,
}

/// A mask over blocks of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMask {
    /// `[batch or 1, heads, blocks of queries, blocks of keys]`.
    pub extents: [usize; 4],
    /// Queries and keys of a block.
    pub block: [usize; 2],
}

const TENSORS: [&str; 12] =
    ["q", "k", "v", "sink", "alibi", "bias", "cu_q", "cu_k", "block_mask", "head_type", "k_prefix", "v_prefix"];

const SPARSE_KEYS: [&str; 5] = ["block_m", "block_n", "sink_tokens", "recent_tokens", "config"];

const UNBUILT: [(&str, &str); 6] = [
    ("q_scale", "8-bit attention is not built yet"),
    ("k_scale", "8-bit attention is not built yet"),
    ("v_scale", "8-bit attention is not built yet"),
    ("na_*", "neighbourhood attention is not built yet"),
    ("shape", "neighbourhood attention is not built yet"),
    ("var_*", "variable blocks are not built yet"),
];

/// Checks keys and tensors against each other.
pub fn request(ask: Ask) -> Res<Request> {
    only(&ask, &[&KEYS[..], &SPARSE_KEYS].concat(), &TENSORS, &UNBUILT)?;
    let forward = read(&ask)?;
    let config = ask.key("config").map(str::to_string);
    super::forward_case::request(forward, config, ask.tensors)
}

fn read(ask: &Ask) -> Res<Forward> {
    let dtype = dtype_of_q(ask)?;
    let given = |name: &str| ask.tensors.contains_key(name);
    let varlen = given("cu_q") || given("cu_k");
    let (sizes, d, dv) = if varlen { varlen_sizes(ask)? } else { dense_sizes(ask)? };
    for name in ["k", "v"] {
        let t = ask.need(name)?;
        if t.dtype != safetensors_dtype(dtype) {
            return usage(format!("tensor `{name}` is {}: expected q's dtype, {:?}", t.describe(), safetensors_dtype(dtype)));
        }
    }
    check_groups(sizes.hq, sizes.hkv)?;
    let terms = Terms::read(ask, d as u32, sizes.hq)?;
    let bias = if given("bias") { Some(bias(ask, dtype, &sizes)?) } else { None };
    let (mask, streaming) = sparsity(ask, &sizes)?;
    let heads = given("head_type");
    let problem = AttentionProblem {
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
        bias: bias.map(|b| b.0),
        varlen,
        sparse: (mask.is_some() || heads).then_some(Sparse { mask: mask.is_some(), heads }),
    };
    problem.check().map_err(bad_input)?;
    let prefix = prefix(ask, &problem, &sizes)?;
    Ok(Forward { problem, sizes, terms, prefix, bias: bias.map_or([1; 4], |b| b.1), mask, streaming })
}

/// Sizes, d and dv where every sequence has the same length.
fn dense_sizes(ask: &Ask) -> Res<(Sizes, usize, usize)> {
    let [batch, sq, hq, d] = extents(ask, "q", "[b, sq, hq, d]; with cu_q and cu_k [total, hq, d]")?;
    let [bk, sk, hkv, dk] = extents(ask, "k", "[b, sk, hkv, d]")?;
    let [bv, sv, hv, dv] = extents(ask, "v", "[b, sk, hkv, dv]")?;
    same("b", &[("q", batch), ("k", bk), ("v", bv)])?;
    same("d", &[("q", d), ("k", dk)])?;
    same("sk", &[("k", sk), ("v", sv)])?;
    same("hkv", &[("k", hkv), ("v", hv)])?;
    Ok((Sizes { batch, sq, sk, hq, hkv, total_q: batch * sq, total_k: batch * sk }, d, dv))
}

/// Sizes, d and dv of sequences that follow each other.
fn varlen_sizes(ask: &Ask) -> Res<(Sizes, usize, usize)> {
    let [total_q, hq, d] = extents(ask, "q", "[total, hq, d], since cu_q or cu_k is given")?;
    let [total_k, hkv, dk] = extents(ask, "k", "[total, hkv, d], since cu_q or cu_k is given")?;
    let [total_v, hv, dv] = extents(ask, "v", "[total, hkv, dv], since cu_q or cu_k is given")?;
    same("d", &[("q", d), ("k", dk)])?;
    same("total", &[("k", total_k), ("v", total_v)])?;
    same("hkv", &[("k", hkv), ("v", hv)])?;
    let (nq, sq) = starts(ask, "cu_q", total_q, "q")?;
    let (nk, sk) = starts(ask, "cu_k", total_k, "k")?;
    same("b + 1", &[("cu_q", nq), ("cu_k", nk)])?;
    Ok((Sizes { batch: nq - 1, sq, sk, hq, hkv, total_q, total_k }, d, dv))
}

/// Checks where sequences start; gives how many numbers there are and the longest sequence.
fn starts(ask: &Ask, name: &str, total: usize, of: &str) -> Res<(usize, usize)> {
    let [count] = extents(ask, name, "I32 [b + 1]")?;
    let cu = ints(ask, name)?;
    if count < 2 {
        return usage(format!("tensor `{name}` has {count} number: expected b + 1 of them, for at least one sequence"));
    }
    if cu[0] != 0 {
        return usage(format!("tensor `{name}` starts with {}: expected 0", cu[0]));
    }
    if let Some(i) = (1..count).find(|i| cu[*i] < cu[i - 1]) {
        return usage(format!("tensor `{name}` falls from {} to {} at {i}: expected ascending numbers", cu[i - 1], cu[i]));
    }
    if cu[count - 1] as usize != total {
        return usage(format!("tensor `{name}` ends with {}: expected {total}, the tokens of {of}", cu[count - 1]));
    }
    let longest = cu.windows(2).map(|w| (w[1] - w[0]) as usize).max().unwrap_or(0);
    Ok((count, longest))
}

/// Refuses sizes that differ between tensors.
pub fn same(what: &str, sizes: &[(&str, usize)]) -> Res<()> {
    if sizes.windows(2).any(|w| w[0].1 != w[1].1) {
        let list: Vec<String> = sizes.iter().map(|(name, size)| format!("{size} in {name}")).collect();
        return usage(format!("{what} differs: {}", list.join(", ")));
    }
    Ok(())
}

/// Dtype and extents of a bias.
fn bias(ask: &Ask, dtype: DType, s: &Sizes) -> Res<(DType, [usize; 4])> {
    let t = ask.need("bias")?;
    let full = [s.batch, s.hq, s.sq, s.sk];
    let found = [DType::F32, dtype].into_iter().find(|d| safetensors_dtype(*d) == t.dtype);
    let mut shape = [1; 4];
    let fits = t.shape.len() <= 4 && {
        shape[4 - t.shape.len()..].copy_from_slice(&t.shape);
        shape.iter().zip(full).all(|(have, want)| *have == 1 || *have == want)
    };
    match found.filter(|_| fits) {
        Some(d) => Ok((d, shape)),
        None => usage(format!(
            "tensor `bias` is {}: expected F32 or {:?}, broadcastable to [b, hq, sq, sk] = {full:?}",
            t.describe(),
            safetensors_dtype(dtype)
        )),
    }
}

/// The block mask, and what streaming heads see.
fn sparsity(ask: &Ask, s: &Sizes) -> Res<(Option<BlockMask>, [usize; 2])> {
    let given = |name: &str| ask.tensors.contains_key(name);
    let types = if given("head_type") {
        ask.expect("head_type", Dtype::I32, &[s.hq])?;
        Some(ints(ask, "head_type")?)
    } else {
        None
    };
    let block = |name: &str| ask.value::<usize>(name, "a whole number from 1", |n| (1..=1 << 30).contains(n));
    let block = [block("block_m")?, block("block_n")?];
    let mask = match (given("block_mask"), block) {
        (false, [None, None]) => None,
        (false, _) => return usage("keys `block_m`, `block_n`: tensor `block_mask` is missing from the input"),
        (true, [Some(bm), Some(bn)]) => Some(block_mask(ask, s, [bm, bn], types.is_some())?),
        (true, _) => return usage("tensor `block_mask` needs keys `block_m` and `block_n`: the tokens of a block"),
    };
    let tokens = |name: &str| ask.value::<usize>(name, "a number of tokens from 0", |n| *n <= 1 << 30);
    let stream = [tokens("sink_tokens")?, tokens("recent_tokens")?];
    let Some(types) = types else {
        if stream.iter().any(Option::is_some) {
            return usage("keys `sink_tokens`, `recent_tokens`: tensor `head_type` is missing from the input");
        }
        return Ok((mask, [0; 2]));
    };
    let rows = mask.map_or(0, |m| m.extents[1]);
    for (head, t) in types.iter().enumerate() {
        if *t < -1 {
            return usage(format!(
                "head_type {t} of head {head}: expected -1 (streaming), 0 (dense) or a row of block_mask from 1"
            ));
        }
        if *t > 0 && mask.is_none() {
            return usage(format!("head_type {t} of head {head}: tensor `block_mask` is missing from the input"));
        }
        if *t > rows as i32 {
            return usage(format!("head_type {t} of head {head} is beyond block_mask's head dim, which is {rows}"));
        }
    }
    match stream {
        [Some(sink), Some(recent)] => Ok((mask, [sink, recent])),
        _ if types.contains(&-1) => usage("head_type -1 needs keys `sink_tokens` and `recent_tokens`"),
        [sink, recent] => Ok((mask, [sink.unwrap_or(0), recent.unwrap_or(0)])),
    }
}

fn block_mask(ask: &Ask, s: &Sizes, block: [usize; 2], typed: bool) -> Res<BlockMask> {
    let form = "U8 [b or 1, hq or 1, ceil(sq / block_m), ceil(sk / block_n)]";
    let extents: [usize; 4] = extents(ask, "block_mask", form)?;
    let t = ask.need("block_mask")?;
    let want = [s.sq.div_ceil(block[0]), s.sk.div_ceil(block[1])];
    // With head types, the head dim is a list of masks to choose from.
    let heads = typed || extents[1] == 1 || extents[1] == s.hq;
    let batch = extents[0] == 1 || extents[0] == s.batch;
    if t.dtype != Dtype::U8 || !batch || !heads || extents[2..] != want {
        let heads = if typed { "any".to_string() } else { format!("{} or 1", s.hq) };
        return usage(format!(
            "tensor `block_mask` is {}: expected U8 [{} or 1, {heads}, {}, {}] for blocks of {} x {}",
            t.describe(),
            s.batch,
            want[0],
            want[1],
            block[0],
            block[1]
        ));
    }
    Ok(BlockMask { extents, block })
}

/// Tokens of the shared prefix.
fn prefix(ask: &Ask, p: &AttentionProblem, s: &Sizes) -> Res<usize> {
    if !ask.tensors.contains_key("k_prefix") && !ask.tensors.contains_key("v_prefix") {
        return Ok(0);
    }
    let [sp, _, _] = extents(ask, "k_prefix", "[sp, hkv, d]")?;
    let dtype = safetensors_dtype(p.dtype);
    ask.expect("k_prefix", dtype, &[sp, s.hkv, p.d as usize])?;
    ask.expect("v_prefix", dtype, &[sp, s.hkv, p.dv as usize])?;
    // What counts positions would have to count the prefix too.
    for (on, what) in [
        (p.window, "window_left, window_right"),
        (p.chunk, "chunk"),
        (p.alibi, "alibi"),
        (p.bias.is_some(), "bias"),
        (p.varlen, "cu_q, cu_k"),
        (p.sparse.is_some(), "block_mask, head_type"),
    ] {
        if on {
            return usage(format!("tensor `k_prefix` does not go with {what} yet: append the prefix to k and v instead"));
        }
    }
    Ok(sp)
}
