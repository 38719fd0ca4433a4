//! `gen run attention` against the definition, on both targets: every mask and score term alone and in pairs.

use crate::common::attention::*;
use crate::common::*;
use safetensors::tensor::Dtype;

/// A forward; what is 0 or none is off.
#[derive(Clone)]
struct Case {
    target: &'static str,
    kind: Kind,
    /// batch, sq, sk, hq, hkv.
    shape: [usize; 5],
    d: usize,
    dv: usize,
    causal: bool,
    window: [Option<usize>; 2],
    chunk: usize,
    softcap: f64,
    scale: f64,
    alibi: bool,
    sink: bool,
    bias: Option<[bool; 4]>,
    /// Lengths of sequences: queries, keys.
    varlen: Option<(Vec<usize>, Vec<usize>)>,
    /// Shape of the mask's blocks.
    block: [usize; 2],
    /// Kinds of heads, first tokens, last tokens.
    types: Vec<i32>,
    streaming: [usize; 2],
    /// Tokens of a shared prefix.
    prefix: usize,
}

impl Case {
    fn plain(target: &'static str, shape: [usize; 5], d: usize) -> Case {
        Case {
            target,
            kind: BF16,
            shape,
            d,
            dv: d,
            causal: false,
            window: [None; 2],
            chunk: 0,
            softcap: 0.0,
            scale: 0.0,
            alibi: false,
            sink: false,
            bias: None,
            varlen: None,
            block: [0; 2],
            types: Vec::new(),
            streaming: [0; 2],
            prefix: 0,
        }
    }

    fn name(&self) -> String {
        let c = self;
        format!(
            "{} {:?} {:?} d {} {} causal {} window {:?} chunk {} softcap {} alibi {} sink {} bias {:?} varlen {:?} block {:?} \
             types {:?} prefix {}",
            c.target,
            c.kind.dtype,
            c.shape,
            c.d,
            c.dv,
            c.causal,
            c.window,
            c.chunk,
            c.softcap,
            c.alibi,
            c.sink,
            c.bias,
            c.varlen,
            c.block,
            c.types,
            c.prefix
        )
    }
}

/// Where a mask of random bits lets block (i, j) be seen.
fn bit(b: usize, h: usize, i: usize, j: usize) -> bool {
    !(b * 7 + h * 5 + i * 3 + j * 2 + i * j).is_multiple_of(3)
}

fn check(c: &Case) {
    let [batch, sq, sk, hq, hkv] = c.shape;
    let name = c.name();
    let (lens_q, lens_k) = c.varlen.clone().unwrap_or((vec![sq; batch], vec![sk; batch]));
    let starts = |lens: &[usize]| -> Vec<usize> {
        [0].into_iter()
            .chain(lens.iter().scan(0, |s, n| {
                *s += n;
                Some(*s)
            }))
            .collect()
    };
    let (cu_q, cu_k) = (starts(&lens_q), starts(&lens_k));
    let (total_q, total_k) = (cu_q[batch], cu_k[batch]);
    let (q, q_bytes) = c.kind.random(total_q * hq * c.d, 3.0, 1);
    let (k, k_bytes) = c.kind.random(total_k * hkv * c.d, 1.0, 2);
    let (v, v_bytes) = c.kind.random(total_k * hkv * c.dv, 1.0, 3);
    let shape = |dense: usize, total: usize, heads: usize, last: usize| {
        if c.varlen.is_some() { vec![total, heads, last] } else { vec![batch, dense, heads, last] }
    };
    let mut tensors: Vec<Named> = vec![
        ("q", c.kind.dtype, shape(sq, total_q, hq, c.d), q_bytes),
        ("k", c.kind.dtype, shape(sk, total_k, hkv, c.d), k_bytes),
        ("v", c.kind.dtype, shape(sk, total_k, hkv, c.dv), v_bytes),
    ];
    let mut set = Vec::new();
    let mut key = |name: &str, value: String| set.push(format!("{name}={value}"));
    if c.varlen.is_some() {
        let ints = |cu: &[usize]| i32_bytes(&cu.iter().map(|x| *x as i32).collect::<Vec<_>>());
        tensors.push(("cu_q", Dtype::I32, vec![batch + 1], ints(&cu_q)));
        tensors.push(("cu_k", Dtype::I32, vec![batch + 1], ints(&cu_k)));
    }
    if c.causal {
        key("causal", "true".into());
    }
    for (name, side) in ["window_left", "window_right"].iter().zip(c.window) {
        side.iter().for_each(|n| key(name, n.to_string()));
    }
    if c.chunk > 0 {
        key("chunk", c.chunk.to_string());
    }
    if c.softcap > 0.0 {
        key("softcap", c.softcap.to_string());
    }
    if c.scale > 0.0 {
        key("scale", c.scale.to_string());
    }
    let slopes: Vec<f64> = (0..hq).map(|h| 0.5f64.powi(h as i32 + 2)).collect();
    if c.alibi {
        tensors.push(("alibi", Dtype::F32, vec![hq], f32_bytes(&slopes)));
    }
    let sinks: Vec<f64> = (0..hq).map(|h| 2.0 - h as f64 * 1.5).collect();
    if c.sink {
        tensors.push(("sink", Dtype::F32, vec![hq], f32_bytes(&sinks)));
    }
    let mut bias = (Vec::new(), [1; 4]);
    if let Some(full) = c.bias {
        let extents: Vec<usize> = full.iter().zip([batch, hq, sq, sk]).map(|(f, n)| if *f { n } else { 1 }).collect();
        bias = (random(extents.iter().product(), 4), [extents[0], extents[1], extents[2], extents[3]]);
        tensors.push(("bias", Dtype::F32, extents, f32_bytes(&bias.0)));
    }
    let mask_heads = if c.types.is_empty() { hq } else { c.types.iter().copied().max().unwrap_or(0).max(1) as usize };
    if c.block[0] > 0 {
        let extents = [batch, mask_heads, sq.div_ceil(c.block[0]), sk.div_ceil(c.block[1])];
        let mut bits = Vec::new();
        for (b, h) in (0..batch).flat_map(|b| (0..mask_heads).map(move |h| (b, h))) {
            bits.extend((0..extents[2]).flat_map(|i| (0..extents[3]).map(move |j| u8::from(bit(b, h, i, j)))));
        }
        tensors.push(("block_mask", Dtype::U8, extents.to_vec(), bits));
        key("block_m", c.block[0].to_string());
        key("block_n", c.block[1].to_string());
    }
    if !c.types.is_empty() {
        tensors.push(("head_type", Dtype::I32, vec![hq], i32_bytes(&c.types)));
        key("sink_tokens", c.streaming[0].to_string());
        key("recent_tokens", c.streaming[1].to_string());
    }
    let (kp, kp_bytes) = c.kind.random(c.prefix * hkv * c.d, 1.0, 5);
    let (vp, vp_bytes) = c.kind.random(c.prefix * hkv * c.dv, 1.0, 6);
    if c.prefix > 0 {
        tensors.push(("k_prefix", c.kind.dtype, vec![c.prefix, hkv, c.d], kp_bytes));
        tensors.push(("v_prefix", c.kind.dtype, vec![c.prefix, hkv, c.dv], vp_bytes));
    }
    let (dir, _) = run("attention", c.target, &tensors, &set);
    let (o_shape, o) = output(&dir, "o");
    let (lse_shape, lse) = output(&dir, "lse");
    assert_eq!(o_shape, shape(sq, total_q, hq, c.dv), "{name}");
    assert_eq!(lse_shape, if c.varlen.is_some() { vec![hq, total_q] } else { vec![batch, hq, sq] }, "{name}");
    let scale = if c.scale > 0.0 { c.scale } else { 1.0 / (c.d as f64).sqrt() };
    for b in 0..batch {
        let (nq, nk) = (lens_q[b], lens_k[b]);
        for (h, i) in (0..hq).flat_map(|h| (0..nq).map(move |i| (h, i))) {
            let g = h / (hq / hkv);
            let p = i as i64 + nk as i64 - nq as i64;
            let sees = |j: i64| {
                let back = p - j;
                let typed = match c.types.get(h).copied() {
                    Some(0) => true,
                    Some(-1) => j < c.streaming[0] as i64 || back < c.streaming[1] as i64,
                    Some(t) => bit(b, t as usize - 1, i / c.block[0], j as usize / c.block[1]),
                    None => c.block[0] == 0 || bit(b, h, i / c.block[0], j as usize / c.block[1]),
                };
                (!c.causal || back >= 0)
                    && c.window[0].is_none_or(|n| back <= n as i64)
                    && c.window[1].is_none_or(|n| -back <= n as i64)
                    && (c.chunk == 0 || p.div_euclid(c.chunk as i64) == j.div_euclid(c.chunk as i64))
                    && typed
            };
            let mut keys: Vec<(&[f64], &[f64], f64)> =
                (0..c.prefix).map(|j| (&kp[(j * hkv + g) * c.d..][..c.d], &vp[(j * hkv + g) * c.dv..][..c.dv], 0.0)).collect();
            keys.extend((0..nk).filter(|j| sees(*j as i64)).map(|j| {
                let at = (cu_k[b] + j) * hkv + g;
                let mut add = if c.alibi { -slopes[h] * (p - j as i64).abs() as f64 } else { 0.0 };
                if c.bias.is_some() {
                    let pick = |e: usize, x: usize| if e == 1 { 0 } else { x };
                    let [eb, eh, eq, ek] = bias.1;
                    add += bias.0[((pick(eb, b) * eh + pick(eh, h)) * eq + pick(eq, i)) * ek + pick(ek, j)];
                }
                (&k[at * c.d..][..c.d], &v[at * c.dv..][..c.dv], add)
            }));
            let at = (cu_q[b] + i) * hq + h;
            let want = row(&q[at * c.d..][..c.d], &keys, c.dv, scale, c.softcap, c.sink.then(|| sinks[h]));
            let lse_at = if c.varlen.is_some() { h * total_q + cu_q[b] + i } else { (b * hq + h) * sq + i };
            close(&name, &format!("[{b}, {h}, {i}]"), &o[at * c.dv..][..c.dv], lse[lse_at], &want, c.kind.unit);
        }
    }
}

const TARGETS: [&str; 2] = ["sm90", "sm80"];

/// Query and key counts that FlashAttention's tests use.
const SIZES: [(usize, usize); 19] = [
    (1, 1),
    (64, 128),
    (128, 192),
    (256, 256),
    (239, 1),
    (799, 3),
    (113, 203),
    (113, 128),
    (128, 217),
    (113, 211),
    (108, 256),
    (256, 512),
    (384, 256),
    (640, 128),
    (512, 256),
    (1024, 1024),
    (1023, 1024),
    (1024, 1023),
    (2048, 2048),
];

#[test]
fn full_and_causal_at_many_sizes() {
    for (t, target) in TARGETS.into_iter().enumerate() {
        for (i, (sq, sk)) in SIZES.into_iter().enumerate() {
            let c = Case::plain(target, [1, sq, sk, if sq < 512 { 2 } else { 1 }, 1], 64);
            let causal = Case { causal: i % 2 == 0, ..c.clone() };
            let full = Case { causal: i % 2 == 1, kind: F16, ..c };
            // Long ones add tiles, not edges: each runs one way on each target.
            match (sq * sk < 512 * 512, i % 2 == t) {
                (true, _) => [causal, full].iter().for_each(check),
                (false, true) => check(&causal),
                (false, false) => check(&full),
            }
        }
    }
}

#[test]
fn every_head_dim() {
    for target in TARGETS {
        for (d, dv) in [(64, 64), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256)] {
            check(&Case { dv, causal: true, ..Case::plain(target, [1, 70, 150, 2, 1], d) });
        }
    }
}

#[test]
fn every_feature_alone_and_in_pairs() {
    let on: [fn(&mut Case); 7] = [
        |c| c.causal = true,
        |c| c.window = [Some(40), Some(3)],
        |c| c.chunk = 50,
        |c| c.softcap = 3.0,
        |c| c.alibi = true,
        |c| c.sink = true,
        |c| c.bias = Some([false, true, true, true]),
    ];
    for (t, target) in TARGETS.into_iter().enumerate() {
        for (i, first) in on.iter().enumerate() {
            // Each alone on both targets, each pair on one.
            for (_, second) in on.iter().enumerate().skip(i).filter(|(j, _)| *j == i || (i + j) % 2 == t) {
                let mut c = Case::plain(target, [2, 65, 130, 2, 1], 64);
                first(&mut c);
                second(&mut c);
                check(&c);
            }
        }
    }
}

#[test]
fn one_sided_windows_scales_and_broadcast_biases() {
    for target in TARGETS {
        let c = Case::plain(target, [2, 40, 90, 3, 3], 64);
        check(&Case { window: [Some(0), None], scale: 0.3, ..c.clone() });
        check(&Case { window: [None, Some(0)], ..c.clone() });
        check(&Case { window: [Some(5), Some(0)], causal: true, ..c.clone() });
        for bias in [[true, false, true, true], [false, false, false, true], [true, true, true, false], [false; 4]] {
            check(&Case { bias: Some(bias), ..c.clone() });
        }
    }
}

#[test]
fn sequences_of_different_lengths_some_empty() {
    for target in TARGETS {
        let lens = (vec![70, 0, 1, 33], vec![130, 20, 1, 0]);
        let c = Case { varlen: Some(lens), ..Case::plain(target, [4, 70, 130, 2, 1], 64) };
        check(&c);
        check(&Case { causal: true, alibi: true, ..c.clone() });
        check(&Case { window: [Some(9), Some(2)], sink: true, kind: F16, ..c });
    }
}

#[test]
fn blocks_and_kinds_of_heads() {
    for target in TARGETS {
        let c = Case::plain(target, [2, 150, 300, 4, 2], 64);
        check(&Case { block: [64, 64], ..c.clone() });
        check(&Case { block: [50, 30], causal: true, ..c.clone() });
        check(&Case { types: vec![0, -1, -1, 0], streaming: [4, 37], causal: true, ..c.clone() });
        check(&Case { types: vec![-1; 4], streaming: [4, 60], causal: true, ..c.clone() });
        check(&Case { block: [64, 64], window: [Some(90), None], sink: true, kind: F16, ..c.clone() });
        let lens = Some((vec![150, 20], vec![300, 64]));
        check(&Case { block: [64, 64], types: vec![1, -1, 0, 1], streaming: [3, 50], causal: true, varlen: lens, ..c.clone() });
        check(&Case { types: vec![1, -1, 0, 2], streaming: [10, 64], block: [128, 128], causal: true, ..c });
    }
}

#[test]
fn a_prefix_that_all_sequences_share() {
    for target in TARGETS {
        let c = Case { prefix: 77, ..Case::plain(target, [3, 20, 50, 4, 2], 64) };
        check(&c);
        check(&Case { causal: true, sink: true, ..c.clone() });
        check(&Case { causal: true, softcap: 2.0, shape: [2, 1, 1, 2, 2], kind: F16, ..c });
    }
}
