//! Forwards that verification makes up: every feature of a class with numbers of its own.

use super::super::ask::safetensors_dtype;
use super::super::case::Random;
use super::forward::{BlockMask, Forward, Sizes};
use super::terms::{Terms, UNLIMITED};
use crate::tensors::{Tensor, Tensors, from_f64};
use safetensors::Dtype;
use tilewright_ir::DType;
use tilewright_templates::attention::AttentionProblem;

/// Sizes to try: batch, sq, sk, hq, hkv.
pub type Shape = [usize; 5];

/// A forward of a class at these sizes, and its tensors. `bn` is the number of keys of a kernel's block: windows, chunks and
/// block masks end near its edges.
pub fn random(p: AttentionProblem, [batch, sq, sk, hq, hkv]: Shape, prefix: usize, bn: usize, seed: u64) -> (Forward, Tensors) {
    let mut r = Random::new(seed);
    let mut tensors = Tensors::new();
    let (d, dv) = (p.d as usize, p.dv as usize);
    let mut sizes = Sizes { batch, sq, sk, hq, hkv, total_q: batch * sq, total_k: batch * sk };
    if p.varlen {
        // The first sequence is the longest, others may be empty.
        let mut starts = |longest: usize| {
            let mut cu = vec![0, longest as i32];
            (1..batch).for_each(|i| cu.push(cu[i] + r.below(longest + 1) as i32));
            cu
        };
        let (cu_q, cu_k) = (starts(sq), starts(sk));
        (sizes.total_q, sizes.total_k) = (cu_q[batch] as usize, cu_k[batch] as usize);
        tensors.insert("cu_q".into(), ints(vec![batch + 1], &cu_q));
        tensors.insert("cu_k".into(), ints(vec![batch + 1], &cu_k));
    }
    let tokens = |dense: usize, total: usize, rest: [usize; 2]| {
        if p.varlen { [&[total][..], &rest].concat() } else { [&[batch, dense][..], &rest].concat() }
    };
    let mut numbers = |name: &str, d: DType, shape: Vec<usize>, size: f64| {
        let count: usize = shape.iter().product();
        let data = from_f64(d, (0..count).map(|_| r.unit() * size));
        tensors.insert(name.into(), Tensor { dtype: safetensors_dtype(d), shape, data });
    };
    // Queries large enough that the weights of keys differ.
    numbers("q", p.dtype, tokens(sq, sizes.total_q, [hq, d]), 4.0);
    numbers("k", p.dtype, tokens(sk, sizes.total_k, [hkv, d]), 1.0);
    numbers("v", p.dtype, tokens(sk, sizes.total_k, [hkv, dv]), 1.0);
    if p.alibi {
        numbers("alibi", DType::F32, vec![hq], 0.25);
    }
    if p.sink {
        numbers("sink", DType::F32, vec![hq], 3.0);
    }
    if prefix > 0 {
        numbers("k_prefix", p.dtype, vec![prefix, hkv, d], 1.0);
        numbers("v_prefix", p.dtype, vec![prefix, hkv, dv], 1.0);
    }
    let mut bias = [1; 4];
    if let Some(dtype) = p.bias {
        // Heads repeat the bias in one seed, sequences in the next.
        bias = if seed.is_multiple_of(2) { [batch, 1, sq, sk] } else { [1, hq, sq, sk] };
        numbers("bias", dtype, bias.to_vec(), 2.0);
    }
    let mut mask = None;
    let (mut types, mut streaming) = (None, [0; 2]);
    if let Some(sparse) = p.sparse {
        let block = [48, bn / 2 + 8];
        let heads = if sparse.heads { 2 } else { hq };
        if sparse.mask {
            let extents = [batch, heads, sq.div_ceil(block[0]), sk.div_ceil(block[1])];
            let data: Vec<u8> = (0..extents.iter().product()).map(|_| r.below(2) as u8).collect();
            tensors.insert("block_mask".into(), Tensor { dtype: Dtype::U8, shape: extents.to_vec(), data });
            mask = Some(BlockMask { extents, block });
        }
        if sparse.heads {
            let kinds: &[i32] = if sparse.mask { &[-1, 1, 0, 2] } else { &[-1, 0] };
            types = Some((0..hq).map(|h| kinds[(h + seed as usize) % kinds.len()]).collect::<Vec<i32>>());
            streaming = [3, bn / 3];
        }
    }
    if let Some(types) = types {
        tensors.insert("head_type".into(), ints(vec![hq], &types));
    }
    let right = if seed.is_multiple_of(2) { 5 } else { UNLIMITED };
    let terms = Terms {
        causal: p.causal,
        window: p.window.then_some([bn as i64 / 2 + 3, right]),
        chunk: p.chunk.then_some(bn as i64 + 7),
        softcap: p.softcap.then_some(5.0),
        scale: 1.0 / (p.d as f32).sqrt(),
        alibi: p.alibi,
        sink: p.sink,
    };
    (Forward { problem: p, sizes, terms, prefix, bias, mask, streaming }, tensors)
}

/// An I32 tensor.
pub fn ints(shape: Vec<usize>, values: &[i32]) -> Tensor {
    Tensor { dtype: Dtype::I32, shape, data: values.iter().flat_map(|x| x.to_le_bytes()).collect() }
}
