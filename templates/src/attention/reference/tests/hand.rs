//! Cases done by hand.

use super::super::{
    AttentionOperands, BlockMask, DecodeOperands, MergeOperands, Numerics, Streaming, attention_reference, decode_reference,
    merge_reference,
};
use super::close;
use crate::attention::{AttentionProblem, DecodeProblem, MergeProblem, Select, Sparse};
use tilewright_ir::DType;

const INF: f64 = f64::INFINITY;

/// Heads of one element: scores are `q * k`.
fn tiny() -> AttentionProblem {
    AttentionProblem { d: 1, dv: 1, ..AttentionProblem::plain(DType::F16, 64) }
}

/// One head, queries of 1, keys of the given scores, values 1, 2, 4, ...
fn scores(sq: usize, k: &[f64]) -> AttentionOperands {
    AttentionOperands {
        batch: 1,
        sq,
        sk: k.len(),
        hq: 1,
        hkv: 1,
        q: vec![1.0; sq],
        k: k.to_vec(),
        v: (0..k.len()).map(|j| f64::from(1u32 << j)).collect(),
        scale: 1.0,
        ..AttentionOperands::default()
    }
}

#[track_caller]
fn gives(p: &AttentionProblem, i: &AttentionOperands, o: &[f64], lse: &[f64]) {
    let r = attention_reference(p, i, Numerics::APPROX);
    close(&r.o.value, o);
    close(&r.lse.value, lse);
}

#[test]
fn weights_are_exponentials_of_scores() {
    let (a, b) = (3f64.ln(), 4f64.ln());
    gives(&tiny(), &scores(1, &[0.0, a, b]), &[(1.0 + 3.0 * 2.0 + 4.0 * 4.0) / 8.0], &[8f64.ln()]);
    let halved = AttentionOperands { scale: 0.5, ..scores(1, &[0.0, 2.0 * a, 2.0 * b]) };
    gives(&tiny(), &halved, &[23.0 / 8.0], &[8f64.ln()]);
}

#[test]
fn causal_is_aligned_to_the_last_query() {
    let p = AttentionProblem { causal: true, ..tiny() };
    // Two queries, three keys: the first sees two of them.
    gives(&p, &scores(2, &[0.0, 0.0, 0.0]), &[1.5, 7.0 / 3.0], &[2f64.ln(), 3f64.ln()]);
    // Three queries, one key: the first two see none.
    gives(&p, &scores(3, &[2.0]), &[0.0, 0.0, 1.0], &[-INF, -INF, 2.0]);
    // No keys at all.
    gives(&tiny(), &scores(1, &[]), &[0.0], &[-INF]);
}

#[test]
fn windows_and_chunks_go_by_position() {
    let zeros = [0.0; 5];
    let p = AttentionProblem { window: true, ..tiny() };
    // Positions 3 and 4: keys 2, 3, 4 and 3, 4.
    let i = AttentionOperands { window: [1, 1], ..scores(2, &zeros) };
    gives(&p, &i, &[28.0 / 3.0, 12.0], &[3f64.ln(), 2f64.ln()]);
    let p = AttentionProblem { chunk: true, ..tiny() };
    // Positions 3 and 4 in chunks 2..4 and 4..6.
    gives(&p, &AttentionOperands { chunk: 2, ..scores(2, &zeros) }, &[6.0, 16.0], &[2f64.ln(), 0.0]);
    // Positions -2, -1, 0: the chunk of -2 and -1 holds no key.
    gives(&p, &AttentionOperands { chunk: 2, ..scores(3, &[0.5]) }, &[0.0, 0.0, 1.0], &[-INF, -INF, 0.5]);
}

#[test]
fn softcap_comes_before_alibi_and_bias() {
    let p = AttentionProblem { softcap: true, alibi: true, bias: Some(DType::F32), ..tiny() };
    let i = AttentionOperands {
        softcap: 2.0,
        alibi: vec![0.5],
        bias: Some((vec![1.0, 10.0], [1, 1, 1, 2])),
        ..scores(1, &[4.0, 8.0])
    };
    // The query stands at 1.
    let (a, b) = (2.0 * 2f64.tanh() - 0.5 + 1.0, 2.0 * 4f64.tanh() + 10.0);
    let l = a.exp() + b.exp();
    gives(&p, &i, &[(a.exp() + 2.0 * b.exp()) / l], &[l.ln()]);
}

#[test]
fn bias_is_broadcast_over_what_is_1() {
    let p = AttentionProblem { bias: Some(DType::F32), ..tiny() };
    let (two, three) = (2f64.ln(), 3f64.ln());
    let mut i = AttentionOperands { hq: 2, q: vec![1.0; 4], ..scores(2, &[0.0, 0.0]) };
    // By query.
    let values = vec![0.0, two, three, 0.0];
    i.bias = Some((values.clone(), [1, 1, 2, 2]));
    gives(&p, &i, &[5.0 / 3.0, 5.0 / 3.0, 5.0 / 4.0, 5.0 / 4.0], &[three, 4f64.ln(), three, 4f64.ln()]);
    // By head: o is [query, head], lse [head, query].
    i.bias = Some((values, [1, 2, 1, 2]));
    gives(&p, &i, &[5.0 / 3.0, 5.0 / 4.0, 5.0 / 3.0, 5.0 / 4.0], &[three, three, 4f64.ln(), 4f64.ln()]);
    // -inf hides a key, and all of them a row.
    i.bias = Some((vec![-INF, 0.0, -INF, -INF], [1, 1, 2, 2]));
    gives(&p, &i, &[2.0, 2.0, 0.0, 0.0], &[0.0, -INF, 0.0, -INF]);
}

#[test]
fn a_sink_takes_weight_and_no_place_in_the_lse() {
    let p = AttentionProblem { sink: true, causal: true, ..tiny() };
    let i = AttentionOperands { sink: vec![2f64.ln()], ..scores(2, &[3f64.ln()]) };
    gives(&p, &i, &[0.0, 3.0 / 5.0], &[-INF, 3f64.ln()]);
    gives(&p, &AttentionOperands { sink: vec![-INF], ..i.clone() }, &[0.0, 1.0], &[-INF, 3f64.ln()]);
    gives(&p, &AttentionOperands { sink: vec![2000.0], ..i }, &[0.0, 0.0], &[-INF, 3f64.ln()]);
}

#[test]
fn query_heads_share_key_heads_in_order() {
    let i =
        AttentionOperands { hq: 4, hkv: 2, sk: 1, q: vec![1.0; 4], k: vec![5.0, 6.0], v: vec![1.0, 2.0], ..scores(1, &[0.0]) };
    gives(&tiny(), &i, &[1.0, 1.0, 2.0, 2.0], &[5.0, 5.0, 6.0, 6.0]);
}

#[test]
fn sequences_of_different_lengths() {
    let p = AttentionProblem { varlen: true, causal: true, ..tiny() };
    let i = AttentionOperands {
        batch: 3,
        sq: 2,
        hq: 2,
        hkv: 1,
        q: vec![1.0; 6],
        cu: Some([vec![0, 1, 1, 3], vec![0, 2, 3, 4]]),
        ..scores(0, &[0.0, 0.0, 9.0, 7.0])
    };
    // Sequence 0: one query, keys 0 and 1. Sequence 2: two queries, key 3, which only the second sees.
    gives(&p, &i, &[1.5, 1.5, 0.0, 0.0, 8.0, 8.0], &[2f64.ln(), -INF, 7.0, 2f64.ln(), -INF, 7.0]);
}

#[test]
fn blocks_and_head_types() {
    let p = AttentionProblem { sparse: Some(Sparse { mask: true, heads: true }), ..tiny() };
    let i = AttentionOperands {
        hq: 4,
        q: vec![1.0; 8],
        mask: Some(BlockMask { bits: vec![0, 1, 1, 0, 1, 1, 0, 0], extents: [1, 2, 2, 2], block: [1, 3] }),
        head_type: Some(vec![0, -1, 1, 2]),
        streaming: Streaming { sink: 1, recent: 2 },
        ..scores(2, &[0.0; 5])
    };
    // Dense: 31 / 5. Streaming at 3 and 4: keys 0, 2, 3, 4 (nothing is causal) and 0, 3, 4. Head 0 of the mask: keys
    // 3, 4 for the first query and 0, 1, 2 for the second. Head 1: all, and none.
    let o = [31.0 / 5.0, 29.0 / 4.0, 12.0, 31.0 / 5.0, 31.0 / 5.0, 25.0 / 3.0, 7.0 / 3.0, 0.0];
    let [two, three, four, five] = [2f64, 3.0, 4.0, 5.0].map(f64::ln);
    gives(&p, &i, &o, &[five, five, four, three, two, three, five, -INF]);
    let causal = AttentionProblem { causal: true, ..p };
    let r = attention_reference(&causal, &i, Numerics::APPROX);
    close(&r.o.value[1..2], &[13.0 / 3.0]);
}

#[test]
fn decode_reads_pages_and_no_slot_past_the_end() {
    let p = DecodeProblem { d: 1, dv: 1, causal: true, ..DecodeProblem::plain(DType::F16, 64) };
    let nan = f64::NAN;
    let i = DecodeOperands {
        batch: 3,
        sq: 2,
        hq: 1,
        hkv: 1,
        page: 2,
        q: vec![1.0; 6],
        k_pages: vec![0.0, nan, 0.0, 0.0, 0.0, nan],
        v_pages: vec![16.0, nan, 1.0, 2.0, 64.0, nan],
        page_table: vec![1, 0, 2, -5, 99, 99],
        kv_len: vec![3, 1, 0],
        scale: 1.0,
        ..DecodeOperands::default()
    };
    let r = decode_reference(&p, &i, Numerics::APPROX);
    close(&r.o.value, &[1.5, 19.0 / 3.0, 0.0, 64.0, 0.0, 0.0]);
    close(&r.lse.value, &[2f64.ln(), 3f64.ln(), -INF, 0.0, -INF, -INF]);

    let some = DecodeProblem { select: Select::KvHeads, causal: false, ..p };
    let select = vec![1, -1, -1, -1, -1, -1];
    let r = decode_reference(&some, &DecodeOperands { select, ..i }, Numerics::APPROX);
    close(&r.o.value, &[16.0, 16.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn merging_weighs_by_the_lse() {
    let p = MergeProblem { input: DType::F32, output: DType::BF16, token_major: false, sink: false, align: 1 };
    let i = MergeOperands {
        shape: [3, 1, 1, 2, 1],
        o: vec![1.0, 1.0, 5.0, 3.0, 1e30, 1e30],
        lse: vec![0.0, -INF, 3f64.ln(), -INF, -INF, -INF],
        sink: vec![],
    };
    let r = merge_reference(&p, &i, Numerics::APPROX);
    close(&r.o.value, &[4.0, 0.0]);
    close(&r.lse.value, &[4f64.ln(), -INF]);
    let p = MergeProblem { sink: true, ..p };
    let r = merge_reference(&p, &MergeOperands { sink: vec![4f64.ln(), 0.0], ..i }, Numerics::APPROX);
    close(&r.o.value, &[2.0, 0.0]);
    close(&r.lse.value, &[4f64.ln(), -INF]);
}
