//! The mma.sync attention kernels, kernel by kernel: each config and feature on the emulator against sums in f64.

use tilewright_ir::tile::{CmpPred, KernelBuilder, RoleBuilder, TileRef};
use tilewright_ir::{Arch, DType};
use tilewright_templates::attention::{AttentionProblem, MmaAttentionConfig, Mods, ScoreAt, Sparse, mma_forward};
use tilewright_tests::numbers::{decode, encode, i32s, random};
use tilewright_tests::{Built, Runner};

/// Sizes of a forward; `left`, `right` and `chunk` where the class has them.
#[derive(Clone, Debug)]
struct Size {
    batch: usize,
    sq: usize,
    sk: usize,
    hq: usize,
    hkv: usize,
    /// Where sequences end, for varlen; then sq and sk are the longest.
    ends: Vec<[usize; 2]>,
    left: i64,
    right: i64,
    chunk: i64,
    /// With the mods of [`users_mods`].
    mods: bool,
}

impl Size {
    fn new(batch: usize, [sq, sk]: [usize; 2], [hq, hkv]: [usize; 2]) -> Self {
        Size { batch, sq, sk, hq, hkv, ends: Vec::new(), left: 1 << 30, right: 1 << 30, chunk: 1 << 30, mods: false }
    }
}

fn config(bm: u32, bn: u32, stages: u32, warps: u32) -> MmaAttentionConfig {
    MmaAttentionConfig { bm, bn, stages, warps }
}

fn build(arch: Arch, p: &AttentionProblem, c: &MmaAttentionConfig) -> Built {
    build_with(arch, p, c, &Mods::default())
}

fn build_with(arch: Arch, p: &AttentionProblem, c: &MmaAttentionConfig, mods: &Mods) -> Built {
    c.check(arch, p.dtype, p.d, p.dv).unwrap_or_else(|e| panic!("{c}: {e}"));
    let mut k = KernelBuilder::new("attention", arch);
    mma_forward(&mut k, p, c, mods).unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build(&k.finish()).unwrap_or_else(|e| panic!("{} {c}: {e}", p.slug()))
}

/// Which keys queries of a head see besides the intervals.
#[derive(Clone, Debug, Default)]
struct Pattern {
    /// `[heads, ceil(sq / 24), ceil(sk / 40)]`.
    mask: Vec<u8>,
    head_type: Vec<i32>,
}

/// Queries and keys of a mask's block: no tile is a multiple of them.
const BLOCK: [usize; 2] = [24, 40];
const SINK_TOKENS: i64 = 5;
const RECENT_TOKENS: i64 = 37;

impl Pattern {
    fn new(p: &AttentionProblem, z: &Size, seed: u64) -> Self {
        let Some(sparse) = p.sparse else { return Pattern::default() };
        let blocks = z.hq * z.sq.div_ceil(BLOCK[0]) * z.sk.div_ceil(BLOCK[1]);
        let mask = random(blocks, DType::F32, 6 + seed).into_iter().map(|x| u8::from(x < 0.0)).collect();
        // Dense, streaming, and rows of the mask's heads.
        let head_type = if sparse.heads { (0..z.hq as i32).map(|h| [0, -1, 1, 2][h as usize % 4]).collect() } else { Vec::new() };
        Pattern { mask, head_type }
    }

    fn sees(&self, p: &AttentionProblem, z: &Size, h: usize, i: usize, pos: i64, j: usize) -> bool {
        let blocks = |row: usize| {
            let [rows, cols] = [z.sq.div_ceil(BLOCK[0]), z.sk.div_ceil(BLOCK[1])];
            self.mask[(row * rows + i / BLOCK[0]) * cols + j / BLOCK[1]] != 0
        };
        match (p.sparse, self.head_type.get(h)) {
            (None, _) | (_, Some(0)) => true,
            (Some(_), None) => blocks(h),
            (_, Some(-1)) => (j as i64) < SINK_TOKENS || pos - (j as i64) < RECENT_TOKENS,
            (_, Some(row)) => blocks(*row as usize - 1),
        }
    }
}

/// True where the intervals let a query at `pos` see key `j`.
fn in_interval(p: &AttentionProblem, z: &Size, pos: i64, j: i64) -> bool {
    (!p.causal || j <= pos)
        && (!p.window || (pos - z.left <= j && j <= pos + z.right))
        && (!p.chunk || pos.div_euclid(z.chunk) == j.div_euclid(z.chunk))
}

/// Blocks of keys for each tile of queries of each head: those all rows see whole, then those that some see.
fn lists(p: &AttentionProblem, c: &MmaAttentionConfig, z: &Size, pattern: &Pattern) -> [Vec<i32>; 2] {
    let (bm, bn) = (c.bm as usize, c.bn as usize);
    let width = z.sk.div_ceil(bn);
    let (mut blocks, mut counts) = (Vec::new(), Vec::new());
    for (h, tile) in (0..z.batch * z.hq).flat_map(|h| (0..z.sq.div_ceil(bm)).map(move |t| (h % z.hq, t))) {
        let seen = |block: usize| {
            let rows = tile * bm..z.sq.min((tile + 1) * bm);
            let each = rows.flat_map(|i| (block * bn..(block + 1) * bn).map(move |j| (i, j)));
            let pairs: Vec<bool> = each
                .map(|(i, j)| {
                    let pos = i as i64 + z.sk as i64 - z.sq as i64;
                    j < z.sk && in_interval(p, z, pos, j as i64) && pattern.sees(p, z, h, i, pos, j)
                })
                .collect();
            (pairs.iter().any(|x| *x), pairs.iter().all(|x| *x))
        };
        let seen: Vec<_> = (0..width).map(seen).collect();
        let full = (0..width).filter(|b| seen[*b].1);
        let partial = (0..width).filter(|b| seen[*b].0 && !seen[*b].1);
        let mut list: Vec<i32> = full.chain(partial.clone()).map(|b| b as i32).collect();
        counts.extend([list.len() as i32, partial.count() as i32]);
        // What lies behind a list is never read.
        list.resize(width, i32::MAX);
        blocks.extend(list);
    }
    [blocks, counts]
}

/// The logits that a query sees, by key.
fn row(
    p: &AttentionProblem,
    z: &Size,
    pos: i64,
    sk: usize,
    slope: f64,
    softcap: f64,
    s: impl Fn(usize) -> f64,
) -> Vec<(usize, f64)> {
    (0..sk)
        .filter(|j| in_interval(p, z, pos, *j as i64))
        .map(|j| {
            let mut x = s(j);
            if p.softcap {
                x = softcap * (x / softcap).tanh();
            }
            if p.alibi {
                x -= slope * (pos - j as i64).abs() as f64;
            }
            (j, x)
        })
        .collect()
}

fn check(built: &Built, p: &AttentionProblem, c: &MmaAttentionConfig, z: &Size, seed: u64) {
    let (d, dv) = (p.d as usize, p.dv as usize);
    let starts: Vec<[usize; 2]> = (0..=z.batch)
        .map(|b| if p.varlen { if b == 0 { [0, 0] } else { z.ends[b - 1] } } else { [b * z.sq, b * z.sk] })
        .collect();
    let [total_q, total_k] = starts[z.batch];
    let q = random(total_q * z.hq * d, p.dtype, 1 + seed);
    let k = random(total_k * z.hkv * d, p.dtype, 2 + seed);
    let v = random(total_k * z.hkv * dv, p.dtype, 3 + seed);
    let sinks: Vec<f64> = random(z.hq, DType::F32, 4 + seed);
    let slopes: Vec<f64> = (0..z.hq).map(|h| f64::from(2f32.powi(-(h as i32 % 8) - 2))).collect();
    let pattern = Pattern::new(p, z, seed);
    let [blocks, counts] = if p.sparse.is_some() { lists(p, c, z, &pattern) } else { Default::default() };
    let bias = random(z.hq * z.sq * z.sk, p.bias.unwrap_or(DType::F32), 5 + seed);
    let (scale, softcap) = (2.0 / (d as f64).sqrt(), 1.5);
    let mut ints: Vec<(&str, i64)> = vec![("window_left", z.left), ("window_right", z.right), ("chunk", z.chunk)];
    for (name, value) in [
        ("batch", z.batch),
        ("sq", z.sq),
        ("sk", z.sk),
        ("hq", z.hq),
        ("hkv", z.hkv),
        ("total_q", total_q),
        ("total_k", total_k),
        ("bias_b", 1),
        ("bias_h", z.hq),
        ("bias_q", z.sq),
        ("bias_k", z.sk),
        ("part", 1),
        ("parts", 2),
        ("mask_b", 1),
        ("mask_h", z.hq),
        ("mask_q", z.sq.div_ceil(BLOCK[0])),
        ("mask_k", z.sk.div_ceil(BLOCK[1])),
        ("block_m", BLOCK[0]),
        ("block_n", BLOCK[1]),
        ("sink_tokens", SINK_TOKENS as usize),
        ("recent_tokens", RECENT_TOKENS as usize),
    ] {
        ints.push((name, value as i64));
    }
    let cu = |side: usize| starts.iter().flat_map(|s| (s[side] as i32).to_le_bytes()).collect::<Vec<u8>>();
    let encoded: Vec<(&str, Vec<u8>)> = vec![
        ("q", encode(p.dtype, &q)),
        ("k", encode(p.dtype, &k)),
        ("v", encode(p.dtype, &v)),
        ("sink", encode(DType::F32, &sinks)),
        ("alibi", encode(DType::F32, &slopes)),
        ("bias", encode(p.bias.unwrap_or(DType::F32), &bias)),
        ("cu_q", cu(0)),
        ("cu_k", cu(1)),
        ("blocks", i32s(&blocks)),
        ("block_count", i32s(&counts)),
        ("block_mask", pattern.mask.clone()),
        ("head_type", i32s(&pattern.head_type)),
    ];
    let inputs: Vec<(&str, &[u8])> = encoded.iter().map(|(n, b)| (*n, &b[..])).collect();
    // A partial result goes behind that of part 0, which stays as it is.
    let parts = if p.partial() { 2 } else { 1 };
    let (n_o, n_lse) = (total_q * z.hq * dv, total_q * z.hq);
    let outputs = [("o", parts * n_o * p.output.bytes() as usize), ("lse", parts * 4 * n_lse)];
    let floats = [("scale", scale as f32), ("softcap", softcap as f32)];
    let ran = built.run(&ints, &floats, &inputs, &outputs, seed).unwrap();
    let what = format!("{} {z:?}", p.slug());
    assert!(ran.errors.is_empty(), "{what}: {}", ran.errors[0]);
    // A bias is read where the accumulator wants it: four lanes a row, whatever its extents.
    let known = |lint: &String| p.bias.is_some() && lint.starts_with("lint[uncoalesced]");
    assert!(ran.lints.iter().all(known), "{what}: {}", ran.lints[0]);
    assert_eq!(
        ran.unwritten,
        [(parts - 1) * n_o * p.output.bytes() as usize, (parts - 1) * 4 * n_lse].map(|n| n as u64),
        "{what}"
    );
    let o = &decode(p.output, &ran.outputs[0])[(parts - 1) * n_o..];
    let lse = &decode(DType::F32, &ran.outputs[1])[(parts - 1) * n_lse..];
    for b in 0..z.batch {
        let [q0, k0] = starts[b];
        let [sq, sk] = [0, 1].map(|side| starts[b + 1][side] - starts[b][side]);
        for (i, h) in (0..sq).flat_map(|i| (0..z.hq).map(move |h| (i, h))) {
            let g = h / (z.hq / z.hkv);
            let query = &q[((q0 + i) * z.hq + h) * d..][..d];
            let pos = i as i64 + sk as i64 - sq as i64;
            let mut seen = row(p, z, pos, sk, slopes[h], softcap, |j| {
                let key = &k[((k0 + j) * z.hkv + g) * d..][..d];
                scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>()
            });
            seen.retain(|(j, _)| pattern.sees(p, z, h, i, pos, *j) && !(z.mods && j % 3 == 1));
            if z.mods {
                seen.iter_mut().for_each(|(j, s)| *s += *j as f64 / 64.0);
            }
            if p.bias.is_some() {
                seen.iter_mut().for_each(|(j, s)| *s += bias[(h * z.sq + i) * z.sk + *j]);
            }
            let top = seen.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = seen.iter().map(|s| (s.1 - top).exp()).sum();
            let want_lse = if seen.is_empty() { f64::NEG_INFINITY } else { top + sum.ln() };
            let at = match (p.partial(), p.varlen) {
                (true, _) => (q0 + i) * z.hq + h,
                (false, true) => h * total_q + q0 + i,
                (false, false) => (b * z.hq + h) * z.sq + i,
            };
            let got = lse[at];
            assert!(got == want_lse || (got - want_lse).abs() < 1e-5, "{what}: lse b {b} i {i} h {h}: {got}, not {want_lse}");
            let total = sum + if p.sink { (sinks[h] - top).exp() } else { 0.0 };
            // Weights and the output are rounded to the dtype, sums to f32.
            let eps = if p.dtype == DType::BF16 { 1.0 / 256.0 } else { 1.0 / 2048.0 };
            for c in 0..dv {
                let value = |j: usize| v[((k0 + j) * z.hkv + g) * dv + c];
                let want: f64 = seen.iter().map(|(j, s)| (s - top).exp() / total * value(*j)).sum();
                let size: f64 = seen.iter().map(|(j, s)| (s - top).exp() / total * value(*j).abs()).sum();
                let got = o[((q0 + i) * z.hq + h) * dv + c];
                let ok = (got - want).abs() <= eps * (size + want.abs()) + 1e-5 || (seen.is_empty() && got == 0.0);
                assert!(ok, "{what}: o b {b} i {i} h {h} c {c}: {got}, not {want}");
            }
        }
    }
}

/// (sq, sk) where tiles, rows or keys end in the middle, or there are fewer keys than queries.
const SIZES: [[usize; 2]; 11] =
    [[1, 1], [64, 128], [128, 192], [113, 203], [113, 128], [128, 217], [108, 256], [70, 1], [100, 3], [1, 130], [5, 0]];

#[test]
fn full_and_causal_with_groups_of_heads() {
    for (causal, dtype) in [(false, DType::BF16), (true, DType::F16)] {
        let p = AttentionProblem { causal, ..AttentionProblem::plain(dtype, 128) };
        let c = config(64, 64, 2, 4);
        let built = build(Arch::Sm80, &p, &c);
        for (i, size) in SIZES.into_iter().enumerate() {
            let heads = [[2, 2], [4, 2], [3, 1]][i % 3];
            check(&built, &p, &c, &Size::new(1 + i % 2, size, heads), i as u64);
        }
    }
}

#[test]
fn head_dims() {
    for (d, dv, c) in [
        (64, 64, config(64, 64, 2, 4)),
        (64, 64, config(128, 64, 1, 4)),
        (96, 96, config(64, 64, 2, 4)),
        (128, 128, config(128, 64, 2, 8)),
        (128, 128, config(16, 32, 3, 1)),
        (128, 128, config(128, 32, 2, 4)),
        (192, 128, config(64, 64, 1, 4)),
        (192, 192, config(64, 32, 2, 4)),
        (256, 256, config(64, 32, 2, 4)),
    ] {
        let p = AttentionProblem { causal: d != 192, d, dv, ..AttentionProblem::plain(DType::BF16, d) };
        let built = build(Arch::Sm80, &p, &c);
        for (i, size) in [[1, 1], [65, 200], [113, 50]].into_iter().enumerate() {
            check(&built, &p, &c, &Size::new(1, size, [2, 1]), i as u64);
        }
    }
}

/// Every feature alone, and pairs that meet in the same code.
#[test]
fn features() {
    let plain = AttentionProblem::plain(DType::BF16, 64);
    let window = AttentionProblem { window: true, ..plain };
    for p in [
        window,
        AttentionProblem { causal: true, ..window },
        AttentionProblem { chunk: true, ..plain },
        AttentionProblem { chunk: true, causal: true, ..plain },
        AttentionProblem { softcap: true, ..plain },
        AttentionProblem { alibi: true, causal: true, ..plain },
        AttentionProblem { sink: true, causal: true, ..plain },
        AttentionProblem { sink: true, ..window },
        AttentionProblem { bias: Some(DType::BF16), ..plain },
        AttentionProblem { bias: Some(DType::F32), causal: true, softcap: true, ..plain },
        AttentionProblem { output: DType::F32, causal: true, ..plain },
    ] {
        let c = config(64, 64, 2, 4);
        let built = build(Arch::Sm80, &p, &c);
        for (i, (size, left, right, chunk)) in [
            ([1, 1], 0, 0, 1),
            ([70, 200], 20, 0, 64),
            ([113, 203], 3, 70, 50),
            ([150, 90], 100, 1 << 30, 17),
            ([60, 190], 1 << 30, 5, 1 << 30),
        ]
        .into_iter()
        .enumerate()
        {
            check(&built, &p, &c, &Size { left, right, chunk, ..Size::new(1 + i % 2, size, [2, 1]) }, i as u64);
        }
    }
}

#[test]
fn sequences_of_different_lengths() {
    for (causal, window) in [(false, false), (true, false), (true, true)] {
        let p = AttentionProblem { causal, window, varlen: true, ..AttentionProblem::plain(DType::F16, 64) };
        let c = config(64, 64, 2, 4);
        let built = build(Arch::Sm80, &p, &c);
        // Longest 130 and 140; empty sequences, sequences without keys, one of one token.
        let ends = vec![[70, 10], [70, 150], [200, 150], [201, 151], [217, 291]];
        let size = Size { ends, left: 30, right: 0, ..Size::new(5, [130, 140], [2, 2]) };
        for seed in 0..3 {
            check(&built, &p, &c, &size, seed);
        }
    }
}

/// Blocks from lists: full ones without a mask, partial ones element by element.
#[test]
fn block_sparse() {
    let plain = AttentionProblem { causal: true, ..AttentionProblem::plain(DType::BF16, 64) };
    for (p, c) in [
        (AttentionProblem { sparse: Some(Sparse { mask: true, heads: false }), ..plain }, config(64, 64, 2, 4)),
        (AttentionProblem { sparse: Some(Sparse { mask: true, heads: false }), causal: false, ..plain }, config(32, 32, 1, 2)),
        (AttentionProblem { sparse: Some(Sparse { mask: false, heads: true }), ..plain }, config(64, 32, 2, 4)),
        (AttentionProblem { sparse: Some(Sparse { mask: true, heads: true }), window: true, ..plain }, config(64, 64, 2, 4)),
    ] {
        let built = build(Arch::Sm80, &p, &c);
        for (seed, size) in [[1, 1], [150, 260], [113, 50], [64, 128]].into_iter().enumerate() {
            // Without a mask every head is dense or streams.
            let heads = if p.sparse.is_some_and(|s| s.mask) { [4, 2] } else { [2, 1] };
            let size = Size { left: 100, right: 0, ..Size::new(2, size, heads) };
            check(&built, &p, &c, &size, seed as u64);
        }
    }
}

/// Adds a 64th of the key's position, and hides every third key.
#[test]
fn a_users_own_mods() {
    let score = |r: &mut RoleBuilder, s: TileRef, at: &ScoreAt| {
        let key = at.wide(r, at.key);
        let key = r.cast(key, DType::F32);
        let rate = at.float(r, 1.0 / 64.0);
        r.fma(key, rate, s)
    };
    let mask = |r: &mut RoleBuilder, at: &ScoreAt| {
        let (key, three, one) = (at.wide(r, at.key), at.int(r, 3), at.int(r, 1));
        let rest = r.binary("rem", key, three);
        r.compare(CmpPred::Ne, rest, one)
    };
    let mods = Mods { score: Some(&score), mask: Some(&mask) };
    for arch in [Arch::Sm80, Arch::Sm90a] {
        let p = AttentionProblem { causal: true, ..AttentionProblem::plain(DType::BF16, 64) };
        let c = config(64, 64, 2, 4);
        let built = build_with(arch, &p, &c, &mods);
        for (seed, size) in [[1, 1], [100, 200], [80, 2]].into_iter().enumerate() {
            check(&built, &p, &c, &Size { mods: true, ..Size::new(1, size, [2, 1]) }, seed as u64);
        }
    }
}
