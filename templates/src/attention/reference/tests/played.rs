//! A kernel played in f32, with the roundings and approximations a GPU has: whatever its tiles, its direction and its
//! splits, the bound lets it through.

use super::super::bound::{ROUND, round};
use super::super::{AttentionOperands, MergeOperands, Numerics, attention_reference, merge_reference};
use crate::attention::{AttentionProblem, MergeProblem};
use proptest::prelude::*;
use tilewright_ir::DType;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// In -1..1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    }

    /// n numbers in -size..size that the dtype holds.
    fn numbers(&mut self, n: usize, size: f64, d: DType) -> Vec<f64> {
        (0..n).map(|_| round((self.unit() * size) as f32, d)).collect()
    }
}

/// Random operands of a class with scale, softcap, alibi and sink.
pub fn inputs(p: &AttentionProblem, [batch, sq, sk, hq, hkv]: [usize; 5], seed: u64) -> AttentionOperands {
    let mut r = Random::new(seed);
    let (d, dv) = (p.d as usize, p.dv as usize);
    AttentionOperands {
        batch,
        sq,
        sk,
        hq,
        hkv,
        scale: f64::from(1.0f32 / (d as f32).sqrt()),
        softcap: 1.5,
        q: r.numbers(batch * sq * hq * d, 2.0, p.dtype),
        k: r.numbers(batch * sk * hkv * d, 2.0, p.dtype),
        v: r.numbers(batch * sk * hkv * dv, 2.0, p.dtype),
        sink: r.numbers(hq, 2.0, DType::F32),
        alibi: r.numbers(hq, 0.25, DType::F32).iter().map(|x| x.abs()).collect(),
        ..AttentionOperands::default()
    }
}

/// How a kernel goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// Keys of a tile.
    pub tile: usize,
    pub backwards: bool,
    /// Parts of the keys, merged by their LSE.
    pub parts: usize,
    pub numerics: Numerics,
}

/// The state of one row.
struct Row {
    max: f32,
    sum: f32,
    o: Vec<f32>,
}

/// A tensor core's sum: 8 products at a time onto the accumulator, everything cut off towards zero.
fn mma(acc: f32, products: impl Iterator<Item = f64>) -> f32 {
    let mut acc = f64::from(acc);
    for eight in products.collect::<Vec<_>>().chunks(8) {
        let largest = eight.iter().fold(acc.abs(), |m, x| m.max(x.abs()));
        if largest == 0.0 {
            continue;
        }
        let grid = 2f64.powi(largest.log2().floor() as i32 - 24);
        let sum: f64 = eight.iter().chain([&acc]).map(|x| (x / grid).trunc() * grid).sum();
        // To 24 significant bits, towards zero.
        let near = sum as f32;
        let cut = f64::from(near).abs() > sum.abs();
        acc = f64::from(if cut { f32::from_bits(near.to_bits() - 1) } else { near });
    }
    acc as f32
}

/// o and LSE of an attention without masks by position: scale, softcap, alibi and sink.
pub fn play(p: &AttentionProblem, i: &AttentionOperands, how: Play, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut r = Random::new(seed);
    let mut off = |x: f32, error: f64| (f64::from(x) * (1.0 + error * r.unit())) as f32;
    let (d, dv) = (p.d as usize, p.dv as usize);
    let rows = i.batch * i.sq * i.hq;
    let (mut o, mut lse) = (vec![0.0; how.parts * rows * dv], vec![0.0; how.parts * rows]);
    let log2e = std::f32::consts::LOG2_E;
    for (part, row) in (0..how.parts).flat_map(|s| (0..rows).map(move |r| (s, r))) {
        let (head, b) = (row % i.hq, row / i.hq / i.sq);
        let position = (row / i.hq % i.sq + i.sk) as i64 - i.sq as i64;
        let share = i.sk.div_ceil(how.parts);
        let mut tiles: Vec<Vec<usize>> =
            (part * share..((part + 1) * share).min(i.sk)).collect::<Vec<_>>().chunks(how.tile).map(<[usize]>::to_vec).collect();
        if how.backwards {
            tiles.reverse();
        }
        let mut state = Row { max: f32::NEG_INFINITY, sum: 0.0, o: vec![0.0; dv] };
        for tile in tiles {
            let at = |j: usize| (b * i.sk + j) * i.hkv + head / (i.hq / i.hkv);
            let s: Vec<f32> = (tile.iter())
                .map(|j| {
                    let dot = mma(0.0, (0..d).map(|e| i.q[row * d + e] * i.k[at(*j) * d + e]));
                    let mut s = dot * i.scale as f32;
                    if p.softcap {
                        let c = i.softcap as f32;
                        let e = off((2.0 * log2e * (s / c)).exp2(), how.numerics.exp2);
                        s = c * (1.0 - 2.0 * off(1.0 / (1.0 + e), 2.0 * ROUND));
                    }
                    if p.alibi {
                        s -= i.alibi[head] as f32 * (position - *j as i64).abs() as f32;
                    }
                    s * log2e
                })
                .collect();
            let max = s.iter().copied().fold(state.max, f32::max);
            let shrink = off((state.max - max).exp2(), if state.max == max { 0.0 } else { how.numerics.exp2 });
            state.sum *= shrink;
            state.o.iter_mut().for_each(|o| *o *= shrink);
            let weights: Vec<f32> = s.iter().map(|s| off((s - max).exp2(), how.numerics.exp2)).collect();
            state.sum += weights.iter().sum::<f32>();
            let low: Vec<f64> = weights.iter().map(|w| round(*w, p.dtype)).collect();
            for c in 0..dv {
                state.o[c] = mma(state.o[c], tile.iter().zip(&low).map(|(j, w)| w * i.v[at(*j) * dv + c]));
            }
            state.max = max;
        }
        let empty = state.sum == 0.0;
        // The sink joins where the row ends; merged parts take it in the merge.
        let sink =
            if p.sink && how.parts == 1 { off((i.sink[head] as f32 * log2e - state.max).exp2(), how.numerics.exp2) } else { 0.0 };
        let inverse = off(1.0 / (state.sum + sink), 2.0 * ROUND);
        let log2 = state.sum.log2();
        let log2 = log2 + off(4.0 * ROUND as f32 * log2.abs().max(1.0), 0.0);
        let natural = (state.max + log2) * std::f32::consts::LN_2;
        let (token, heads) = (row / i.hq, i.hq);
        let at_lse = part * rows + (token / i.sq * heads + head) * i.sq + token % i.sq;
        lse[at_lse] = if empty { f64::NEG_INFINITY } else { f64::from(natural) };
        let output = if how.parts == 1 { p.output } else { DType::F32 };
        for c in 0..dv {
            o[(part * rows + row) * dv + c] = if empty { 0.0 } else { round(state.o[c] * inverse, output) };
        }
    }
    if how.parts == 1 {
        return (o, lse);
    }
    let merge = MergeProblem { input: DType::F32, output: p.output, token_major: false, sink: p.sink, align: 1 };
    let operands = MergeOperands { shape: [how.parts, i.batch, i.sq, i.hq, dv], o, lse, sink: i.sink.clone() };
    let merged = merge_reference(&merge, &operands, how.numerics);
    (merged.o.lowp, merged.lse.lowp)
}

#[track_caller]
fn accepted(p: &AttentionProblem, i: &AttentionOperands, how: Play, seed: u64) {
    let expected = attention_reference(p, i, how.numerics);
    let (o, lse) = play(p, i, how, seed);
    assert_eq!(expected.o.first_miss(&o), None, "{} {how:?}", p.slug());
    assert_eq!(expected.lse.first_miss(&lse), None, "{} {how:?}", p.slug());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_way_is_accepted(
        seed: u64, sq in 1usize..4, sk in 1usize..200, tile in 1usize..40, parts in 1usize..4, backwards: bool, cubic: bool,
        bits in 0u32..8, f16: bool, f32_out: bool, wide in 0usize..3,
    ) {
        let dtype = if f16 { DType::F16 } else { DType::BF16 };
        let on = |n: u32| bits >> n & 1 == 1;
        let p = AttentionProblem {
            softcap: on(0),
            alibi: on(1),
            sink: on(2),
            output: if f32_out { DType::F32 } else { dtype },
            ..AttentionProblem::plain(dtype, [16, 64, 128][wide])
        };
        let p = AttentionProblem { dv: 16, sink: p.sink && !f32_out, ..p };
        let i = inputs(&p, [1, sq, sk, 2, 1], seed);
        let numerics = if cubic { Numerics::CUBIC } else { Numerics::APPROX };
        accepted(&p, &i, Play { tile, backwards, parts, numerics }, seed ^ 1);
    }
}

/// Scores that rise from key to key, so that every tile rescales; few different values, so that roundings repeat.
#[test]
fn rising_and_repeated_scores_are_accepted() {
    for dtype in [DType::BF16, DType::F16] {
        let p = AttentionProblem { dv: 8, ..AttentionProblem::plain(dtype, 16) };
        for (seed, step) in [(1, 0.001), (2, 0.05), (3, 0.7), (4, 0.0)] {
            let mut i = inputs(&p, [1, 1, 300, 1, 1], seed);
            i.scale = 1.0;
            i.q = vec![0.0; 16];
            (i.q[0], i.q[1]) = (1.0, 1.0);
            for j in 0..300 {
                // Two addends, since neither dtype holds 0.001 j.
                let s = f64::from(j as u32 / 3) * step;
                i.k[j * 16] = round(s as f32, dtype);
                i.k[j * 16 + 1] = round((s - i.k[j * 16]) as f32, dtype);
            }
            for v in [1.0, -1.0] {
                i.v.iter_mut().step_by(2).for_each(|x| *x = v);
                for (tile, backwards, parts) in [(1, false, 1), (7, true, 1), (32, false, 1), (16, true, 3), (300, false, 1)] {
                    accepted(&p, &i, Play { tile, backwards, parts, numerics: Numerics::APPROX }, seed);
                }
            }
        }
    }
}
