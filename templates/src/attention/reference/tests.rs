//! Small cases by hand and identities; a kernel played in f32, which the bound lets through, and mistakes, which it does not.

mod hand;
mod played;
mod sensitivity;

use super::*;
use crate::attention::{AttentionProblem, DecodeProblem, MergeProblem, PageProblem, Select};
use tilewright_ir::DType;

const D: usize = 64;

fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as f64 / 128.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn operands(sq: usize, sk: usize, hq: usize, hkv: usize) -> AttentionOperands {
    let (q, k, v) = (random(sq * hq * D, 1), random(sk * hkv * D, 2), random(sk * hkv * D, 3));
    AttentionOperands { batch: 1, sq, sk, hq, hkv, q, k, v, scale: 0.125, softcap: 1.0, ..Default::default() }
}

fn plain() -> AttentionProblem {
    AttentionProblem::plain(DType::BF16, D as u32)
}

fn values(p: &AttentionProblem, x: &AttentionOperands) -> (Vec<f64>, Vec<f64>) {
    let r = attention_reference(p, x, Numerics::APPROX);
    (r.o.value, r.lse.value)
}

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(a == b || (a - b).abs() < 1e-12, "{i}: {a} and {b}");
    }
}

#[test]
fn two_keys_by_hand() {
    let mut x = operands(1, 2, 1, 1);
    x.q = vec![0.0; D];
    x.q[0] = 8.0;
    x.k = vec![0.0; 2 * D];
    x.k[0] = 1.0;
    x.scale = 1.0;
    let (o, lse) = values(&plain(), &x);
    let weight = 8f64.exp() / (8f64.exp() + 1.0);
    assert!((o[5] - (weight * x.v[5] + (1.0 - weight) * x.v[D + 5])).abs() < 1e-14);
    assert!((lse[0] - (8f64.exp() + 1.0).ln()).abs() < 1e-14);
    // A sink joins the denominator only; a cap bends the score.
    let p = AttentionProblem { sink: true, softcap: true, ..plain() };
    (x.sink, x.softcap) = (vec![2.0], 5.0);
    let s = 5.0 * (8f64 / 5.0).tanh();
    let (o, lse) = values(&p, &x);
    assert!((o[5] - (s.exp() * x.v[5] + x.v[D + 5]) / (s.exp() + 1.0 + 2f64.exp())).abs() < 1e-14);
    assert!((lse[0] - (s.exp() + 1.0).ln()).abs() < 1e-14);
}

#[test]
fn rows_that_see_nothing() {
    let (o, lse) = values(&AttentionProblem { causal: true, ..plain() }, &operands(5, 2, 2, 1));
    assert!(o[..3 * 2 * D].iter().all(|x| *x == 0.0) && o[3 * 2 * D..].iter().any(|x| *x != 0.0));
    // Heads come before queries in the LSE.
    assert!(lse[..3].iter().chain(&lse[5..8]).all(|x| *x == f64::NEG_INFINITY));
    assert!(lse[3..5].iter().chain(&lse[8..]).all(|x| x.is_finite()));
}

#[test]
fn a_mask_of_ones_hides_nothing_and_streaming_is_a_mask() {
    let sparse =
        |mask, heads| AttentionProblem { sparse: Some(crate::attention::Sparse { mask, heads }), causal: true, ..plain() };
    let mut x = operands(9, 12, 2, 1);
    let dense = values(&AttentionProblem { causal: true, ..plain() }, &x);
    x.mask = Some(BlockMask { bits: vec![1; 3 * 3], extents: [1, 1, 3, 3], block: [4, 5] });
    let (o, lse) = values(&sparse(true, false), &x);
    close(&dense.0, &o);
    close(&dense.1, &lse);
    // Blocks of one token spell out what a streaming head sees.
    let seen = |i: usize, j: usize| j < 2 || i + 3 < j + 4;
    let bits = (0..9).flat_map(|i| (0..12).map(move |j| u8::from(seen(i, j)))).collect();
    x.mask = Some(BlockMask { bits, extents: [1, 1, 9, 12], block: [1, 1] });
    let masked = values(&sparse(true, false), &x);
    (x.mask, x.head_type, x.streaming) = (None, Some(vec![-1, -1]), Streaming { sink: 2, recent: 4 });
    let (o, lse) = values(&sparse(false, true), &x);
    close(&masked.0, &o);
    close(&masked.1, &lse);
}

#[test]
fn halves_merge_to_the_whole_and_a_prefix_is_keys() {
    let x = operands(3, 10, 2, 2);
    let whole = attention_reference(&plain(), &x, Numerics::APPROX);
    let cut = 4 * 2 * D;
    let half = |k: &[f64], v: &[f64], sk| {
        let x = AttentionOperands { k: k.to_vec(), v: v.to_vec(), sk, ..x.clone() };
        attention_reference(&AttentionProblem { output: DType::F32, ..plain() }, &x, Numerics::APPROX)
    };
    let (a, b) = (half(&x.k[..cut], &x.v[..cut], 4), half(&x.k[cut..], &x.v[cut..], 6));
    let p = MergeProblem { input: DType::F32, output: DType::BF16, token_major: false, sink: false, align: 4 };
    let o = [a.o.value, b.o.value].concat();
    let lse = [a.lse.value, b.lse.value].concat();
    let merged = merge_reference(&p, &MergeOperands { shape: [2, 1, 3, 2, D], o, lse, sink: Vec::new() }, Numerics::APPROX);
    close(&merged.o.value, &whole.o.value);
    close(&merged.lse.value, &whole.lse.value);
    let with_prefix = AttentionOperands {
        prefix: Some([x.k[..cut].to_vec(), x.v[..cut].to_vec()]),
        k: x.k[cut..].to_vec(),
        v: x.v[cut..].to_vec(),
        sk: 6,
        ..x.clone()
    };
    close(&values(&plain(), &with_prefix).0, &whole.o.value);
}

#[test]
fn pages_in_any_order_are_the_same_sequence() {
    let (x, page) = (operands(2, 7, 2, 1), 3);
    let whole = values(&AttentionProblem { causal: true, ..plain() }, &x);
    let table = [2, 0, 3];
    let mut pages = [vec![0.0; 4 * page * D], vec![0.0; 4 * page * D]];
    for j in 0..7 {
        let to = (table[j / page] * page + j % page) * D;
        pages[0][to..to + D].copy_from_slice(&x.k[j * D..][..D]);
        pages[1][to..to + D].copy_from_slice(&x.v[j * D..][..D]);
    }
    let [k_pages, v_pages] = pages;
    let mut y = DecodeOperands {
        batch: 1,
        sq: 2,
        hq: 2,
        hkv: 1,
        page,
        q: x.q.clone(),
        k_pages,
        v_pages,
        page_table: table.map(|t| t as i32).to_vec(),
        kv_len: vec![7],
        scale: 0.125,
        ..Default::default()
    };
    let p = DecodeProblem { causal: true, ..DecodeProblem::plain(DType::BF16, D as u32) };
    close(&decode_reference(&p, &y, Numerics::APPROX).o.value, &whole.0);
    // All pages selected, in another order and with a gap, are all pages.
    y.select = vec![1, -1, 2, 0];
    let p = DecodeProblem { select: Select::KvHeads, ..p };
    close(&decode_reference(&p, &y, Numerics::APPROX).o.value, &whole.0);
}

#[test]
fn selections_are_judged_by_their_scores() {
    let p = PageProblem::plain(DType::BF16, D as u32);
    let k = random(4 * 2 * D, 9);
    let [page_min, page_max] = page_stats_reference(&p, &k, [4, 2, 1, 1]);
    assert_eq!((page_min[D], page_max[D]), (k[2 * D].min(k[3 * D]), k[2 * D].max(k[3 * D])));
    let mut q = vec![0.0; D];
    q[0] = 1.0;
    let x = PageOperands {
        batch: 1,
        hq: 1,
        hkv: 1,
        page: 2,
        sub: 1,
        top: 2,
        q,
        page_min,
        page_max,
        page_table: vec![3, 1, 2, 0],
        kv_len: vec![7],
    };
    let best = (0..3).max_by(|a, b| x.page_max[[3, 1, 2][*a] * D].total_cmp(&x.page_max[[3, 1, 2][*b] * D])).unwrap() as i32;
    assert_eq!(page_select_check(&p, &x, &[best, 3]), Ok(()));
    assert_eq!(page_select_check(&p, &x, &[3, best]), Ok(()));
    for (wrong, why) in [([best, best], "stands twice"), ([best, -1], "1 pages"), ([best, 4], "page 4 of 4")] {
        assert!(page_select_check(&p, &x, &wrong).unwrap_err().contains(why));
    }
    assert!(page_select_check(&p, &x, &[(best + 1) % 3, 3]).unwrap_err().contains("left out"));
    assert!(page_select_check(&p, &x, &[best, (best + 1) % 3]).unwrap_err().contains("the last page"));
}

#[test]
fn a_result_of_the_kernels_precision_is_within_its_bound() {
    let x = operands(20, 70, 2, 1);
    let p = AttentionProblem { causal: true, ..plain() };
    let r = attention_reference(&p, &x, Numerics::APPROX);
    assert_eq!(r.o.first_miss(&r.o.lowp), None);
    assert_eq!(r.lse.first_miss(&r.lse.lowp), None);
    // An output that is off by a twentieth of its size is not.
    let wrong: Vec<f64> = r.o.value.iter().map(|v| v * 1.05).collect();
    assert!(r.o.first_miss(&wrong).is_some());
}
