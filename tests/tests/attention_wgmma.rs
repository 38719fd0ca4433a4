//! The Hopper attention forward, kernel by kernel: each config and feature on the emulator against sums in f64.

use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::attention::{
    AttentionOperands, AttentionProblem, Mods, Numerics, WgmmaAttentionConfig, attention_reference, wgmma_forward,
};
use tilewright_tests::numbers::{decode, encode, i32s, random};
use tilewright_tests::{Built, Runner};

struct Size {
    batch: usize,
    sq: usize,
    sk: usize,
    hq: usize,
    hkv: usize,
}

fn build(p: &AttentionProblem, c: &WgmmaAttentionConfig) -> Built {
    c.check(p).unwrap();
    let mut k = KernelBuilder::new("attention", Arch::Sm90a);
    wgmma_forward(&mut k, p, c, &Mods::default()).unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build(&k.finish()).unwrap_or_else(|e| panic!("{c}: {e}"))
}

fn check(built: &Built, p: &AttentionProblem, exp_fma: bool, z: &Size, seed: u64) {
    let (d, dv) = (p.d as usize, p.dv as usize);
    let q = random(z.batch * z.sq * z.hq * d, DType::BF16, 1 + seed);
    let k = random(z.batch * z.sk * z.hkv * d, DType::BF16, 2 + seed);
    let v = random(z.batch * z.sk * z.hkv * dv, DType::BF16, 3 + seed);
    let scale = 1.0 / (d as f64).sqrt();
    let ints = [("batch", z.batch), ("sq", z.sq), ("sk", z.sk), ("hq", z.hq), ("hkv", z.hkv)];
    let ints: Vec<(&str, i64)> = ints.iter().map(|(n, v)| (*n, *v as i64)).collect();
    let (n_o, n_lse) = (z.batch * z.sq * z.hq * dv, z.batch * z.sq * z.hq);
    let ran = built
        .run(
            &ints,
            &[("scale", scale as f32)],
            &[("q", &encode(DType::BF16, &q)), ("k", &encode(DType::BF16, &k)), ("v", &encode(DType::BF16, &v))],
            &[("o", 2 * n_o), ("lse", 4 * n_lse)],
            seed,
        )
        .unwrap();
    assert!(ran.errors.is_empty(), "{}", ran.errors[0]);
    assert!(ran.lints.is_empty(), "{}", ran.lints[0]);
    assert_eq!(ran.unwritten, [0, 0]);
    let (o, lse) = (decode(DType::BF16, &ran.outputs[0]), decode(DType::F32, &ran.outputs[1]));
    let Size { batch, sq, sk, hq, hkv } = *z;
    let scale = f64::from(scale as f32);
    let operands = AttentionOperands { batch, sq, sk, hq, hkv, q, k, v, scale, ..AttentionOperands::default() };
    let numerics = if exp_fma { Numerics::CUBIC } else { Numerics::APPROX };
    let want = attention_reference(p, &operands, numerics);
    assert_eq!(want.o.first_miss(&o), None, "o of {sq} queries and {sk} keys");
    assert_eq!(want.lse.first_miss(&lse), None, "lse of {sq} queries and {sk} keys");
}

fn config(bn: u32, warpgroups: u32, overlap: bool, ping_pong: bool) -> WgmmaAttentionConfig {
    WgmmaAttentionConfig { bm: 64 * warpgroups, bn, warpgroups, stages: 2, overlap, ping_pong, persistent: true, exp_fma: 0 }
}

#[test]
fn full_and_causal() {
    for (causal, persistent) in [(false, true), (true, true), (false, false), (true, false)] {
        let p = AttentionProblem { causal, ..AttentionProblem::plain(DType::BF16, 128) };
        let c = WgmmaAttentionConfig { persistent, ..config(if causal { 128 } else { 176 }, 2, true, true) };
        let built = build(&p, &c);
        for (i, (sq, sk)) in [(1, 1), (64, 128), (113, 203), (200, 130), (130, 400)].into_iter().enumerate() {
            check(&built, &p, c.exp_fma > 0, &Size { batch: 2, sq, sk, hq: 4, hkv: 2 }, i as u64);
        }
    }
}

#[test]
fn head_dims_and_schedules() {
    let plain = AttentionProblem::plain;
    for (p, c) in [
        (plain(DType::BF16, 64), config(128, 3, true, false)),
        (plain(DType::BF16, 64), WgmmaAttentionConfig { exp_fma: 4, ..config(128, 2, true, true) }),
        (plain(DType::BF16, 96), config(144, 2, true, false)),
        (plain(DType::BF16, 128), WgmmaAttentionConfig { persistent: false, ..config(128, 3, false, false) }),
        (plain(DType::BF16, 128), config(64, 1, true, false)),
        (AttentionProblem { dv: 128, ..plain(DType::BF16, 192) }, config(112, 2, true, true)),
        (plain(DType::BF16, 192), config(96, 2, true, false)),
        (plain(DType::BF16, 256), WgmmaAttentionConfig { persistent: false, ..config(80, 2, true, false) }),
    ] {
        let built = build(&p, &c);
        for (i, (sq, sk)) in [(1, 1), (130, 300)].into_iter().enumerate() {
            check(&built, &p, c.exp_fma > 0, &Size { batch: 1, sq, sk, hq: 2, hkv: 1 }, i as u64);
        }
    }
}

/// What stands behind a sequence's keys belongs to the next one, and must not be felt.
#[test]
fn infinities_of_the_next_sequence_stay_there() {
    let p = AttentionProblem { varlen: true, causal: true, ..AttentionProblem::plain(DType::BF16, 64) };
    let (d, lengths) = (64, [37usize, 150]);
    let total = lengths[0] + lengths[1];
    let cu = i32s(&[0, lengths[0] as i32, total as i32]);
    let (q, k, v) = (random(total * d, DType::BF16, 1), random(total * d, DType::BF16, 2), random(total * d, DType::BF16, 3));
    let ints = ["batch", "sq", "sk", "hq", "hkv", "total_q", "total_k"].into_iter();
    let ints: Vec<(&str, i64)> = ints.zip([2, 150, 150, 1, 1, total as i64, total as i64]).collect();
    for c in [config(128, 2, true, true), config(64, 3, false, false), config(96, 1, true, false)] {
        let built = build(&p, &c);
        let run = |v: &[f64]| {
            let inputs = [
                ("q", &encode(DType::BF16, &q)[..]),
                ("k", &encode(DType::BF16, &k)),
                ("v", &encode(DType::BF16, v)),
                ("cu_q", &cu),
                ("cu_k", &cu),
            ];
            let ran = built.run(&ints, &[("scale", 0.125)], &inputs, &[("o", 2 * total * d), ("lse", 4 * total)], 3).unwrap();
            assert!(ran.errors.is_empty(), "{}", ran.errors[0]);
            ran.outputs[0][..2 * lengths[0] * d].to_vec()
        };
        let mut poisoned = v.clone();
        poisoned[lengths[0] * d..].fill(f64::INFINITY);
        assert!(run(&v) == run(&poisoned), "{c}");
    }
}
