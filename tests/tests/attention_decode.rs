//! Decode over a paged cache, on the emulator against sums in f64: page sizes, lengths, splits, selected pages.

use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::attention::{
    DecodeProblem, MmaAttentionConfig, Mods, Select, WgmmaDecodeConfig, mma_decode, wgmma_decode,
};
use tilewright_tests::numbers::{Random, decode, encode, i32s, random};
use tilewright_tests::{Built, Runner};

/// Sizes of a decode.
#[derive(Clone, Debug)]
struct Size {
    sq: usize,
    hq: usize,
    hkv: usize,
    page: usize,
    lengths: Vec<i32>,
    splits: usize,
    split_size: usize,
    /// Selected pages of a head, unused ones among them.
    n_select: usize,
    left: i64,
    right: i64,
    chunk: i64,
}

impl Size {
    fn new(sq: usize, [hq, hkv]: [usize; 2], page: usize, lengths: &[i32]) -> Self {
        let (splits, split_size, n_select, none) = (1, 0, 0, 1 << 30);
        Size { sq, hq, hkv, page, lengths: lengths.to_vec(), splits, split_size, n_select, left: none, right: none, chunk: none }
    }
}

fn build(arch: Arch, p: &DecodeProblem, c: &MmaAttentionConfig) -> Built {
    c.check(arch, p.dtype, p.d, p.dv).unwrap_or_else(|e| panic!("{c}: {e}"));
    let mut k = KernelBuilder::new("decode", arch);
    mma_decode(&mut k, p, c, &Mods::default()).unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    let built = runner.build(&k.finish()).unwrap_or_else(|e| panic!("{} {c}: {e}", p.slug()));
    eprintln!("{} {c}: {:?}", p.slug(), built.compiled.ptxas.as_ref().map(|x| (x.registers, x.spill_stores)));
    built
}

/// Tokens of the sequence, a first and a last one.
fn part(z: &Size, total: usize, split: usize, bn: usize) -> std::ops::Range<usize> {
    let size = if z.split_size > 0 { z.split_size } else { total.div_ceil(z.splits).div_ceil(bn) * bn };
    let start = (split * size).min(total);
    start..if split + 1 == z.splits { total } else { (start + size).min(total) }
}

/// `bn` is the kernel's block of keys, to which even splits are rounded.
fn check(built: &Built, p: &DecodeProblem, bn: u32, z: &Size, seed: u64) {
    let (d, dv, batch) = (p.d as usize, p.dv as usize, z.lengths.len());
    let longest = z.lengths.iter().copied().max().unwrap_or(0).max(1) as usize;
    let max_pages = longest.div_ceil(z.page) + 1;
    // Pages lie in the cache in no order; more of them than are used.
    let pages = batch * max_pages + 3;
    let mut order: Vec<i32> = (0..pages as i32).collect();
    let mut random_bits = Random::new(77 + seed);
    let mut next = || random_bits.bits();
    for i in (1..pages).rev() {
        order.swap(i, next() as usize % (i + 1));
    }
    let page_of = |b: usize, j: usize| order[b * max_pages + j / z.page] as usize;
    let row = |b: usize, j: usize, g: usize| (page_of(b, j) * z.page + j % z.page) * z.hkv + g;
    let length = |b: usize| z.lengths[b].max(0) as usize;
    // Table entries behind the length and slots that no token has are poison.
    let table: Vec<i32> = (0..batch * max_pages)
        .map(|i| if (i % max_pages) * z.page < length(i / max_pages) { order[i] } else { i32::MAX })
        .collect();
    let q = random(batch * z.sq * z.hq * d, p.dtype, 1 + seed);
    let mut k = random(pages * z.page * z.hkv * d, p.dtype, 2 + seed);
    let mut v = random(pages * z.page * z.hkv * dv, p.dtype, 3 + seed);
    let mut used = vec![false; pages * z.page * z.hkv];
    (0..batch).for_each(|b| (0..length(b)).for_each(|j| (0..z.hkv).for_each(|g| used[row(b, j, g)] = true)));
    for (i, _) in used.iter().enumerate().filter(|u| !u.1) {
        k[i * d..(i + 1) * d].fill(f64::NAN);
        v[i * dv..(i + 1) * dv].fill(f64::NAN);
    }
    let sinks = random(z.hq, DType::F32, 4 + seed);
    let slopes: Vec<f64> = (0..z.hq).map(|h| f64::from(2f32.powi(-(h as i32 % 8) - 2))).collect();
    let units = if p.select == Select::Heads { z.hq } else { z.hkv };
    // Each list: some of the sequence's pages, in any order, and unused entries.
    let select: Vec<Vec<i32>> = (0..batch * units)
        .map(|i| {
            let filled = length(i / units).div_ceil(z.page);
            let mut list: Vec<i32> = (0..filled as i32).filter(|_| next().is_multiple_of(2)).collect();
            (1..list.len()).rev().for_each(|i| list.swap(i, next() as usize % (i + 1)));
            list.truncate(z.n_select);
            while list.len() < z.n_select {
                list.insert(next() as usize % (list.len() + 1), -1);
            }
            list
        })
        .collect();
    let (scale, softcap) = (2.0 / (d as f64).sqrt(), 1.5);
    let mut ints: Vec<(&str, i64)> = vec![("window_left", z.left), ("window_right", z.right), ("chunk", z.chunk)];
    for (name, value) in [
        ("batch", batch),
        ("sq", z.sq),
        ("hq", z.hq),
        ("hkv", z.hkv),
        ("pages", pages),
        ("page", z.page),
        ("max_pages", max_pages),
        ("splits", z.splits),
        ("split_size", z.split_size),
        ("n_select", z.n_select),
    ] {
        ints.push((name, value as i64));
    }
    let encoded: Vec<(&str, Vec<u8>)> = vec![
        ("q", encode(p.dtype, &q)),
        ("k_pages", encode(p.dtype, &k)),
        ("v_pages", encode(p.dtype, &v)),
        ("page_table", i32s(&table)),
        ("kv_len", i32s(&z.lengths)),
        ("select", i32s(&select.concat())),
        ("sink", encode(DType::F32, &sinks)),
        ("alibi", encode(DType::F32, &slopes)),
    ];
    let inputs: Vec<(&str, &[u8])> = encoded.iter().map(|(n, b)| (*n, &b[..])).collect();
    let n_lse = z.splits * batch * z.sq * z.hq;
    let outputs = [("o", n_lse * dv * p.output.bytes() as usize), ("lse", 4 * n_lse)];
    let ran = built.run(&ints, &[("scale", scale as f32), ("softcap", softcap as f32)], &inputs, &outputs, seed).unwrap();
    let what = format!("{} {z:?}", p.slug());
    assert!(ran.errors.is_empty(), "{what}: {}", ran.errors[0]);
    assert!(ran.lints.is_empty(), "{what}: {}", ran.lints[0]);
    assert_eq!(ran.unwritten, [0, 0], "{what}");
    let (o, lse) = (decode(p.output, &ran.outputs[0]), decode(DType::F32, &ran.outputs[1]));
    let eps = if p.dtype == DType::BF16 { 1.0 / 256.0 } else { 1.0 / 2048.0 };
    for (split, b) in (0..z.splits).flat_map(|s| (0..batch).map(move |b| (s, b))) {
        for (i, h) in (0..z.sq).flat_map(|i| (0..z.hq).map(move |h| (i, h))) {
            let g = h / (z.hq / z.hkv);
            let tokens: Vec<usize> = match p.select {
                Select::None => part(z, length(b), split, bn as usize).collect(),
                _ => {
                    let list = &select[b * units + if p.select == Select::Heads { h } else { g }];
                    part(z, z.n_select * z.page, split, bn as usize)
                        .filter(|u| list[u / z.page] >= 0)
                        .map(|u| list[u / z.page] as usize * z.page + u % z.page)
                        .filter(|j| *j < length(b))
                        .collect()
                }
            };
            let pos = i as i64 + length(b) as i64 - z.sq as i64;
            let query = &q[((b * z.sq + i) * z.hq + h) * d..][..d];
            let seen: Vec<(usize, f64)> = tokens
                .into_iter()
                .filter(|j| {
                    let j = *j as i64;
                    (!p.causal || j <= pos)
                        && (!p.window || (pos - z.left <= j && j <= pos + z.right))
                        && (!p.chunk || pos.div_euclid(z.chunk) == j.div_euclid(z.chunk))
                })
                .map(|j| {
                    let key = &k[row(b, j, g) * d..][..d];
                    let mut s = scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>();
                    if p.softcap {
                        s = softcap * (s / softcap).tanh();
                    }
                    if p.alibi {
                        s -= slopes[h] * (pos - j as i64).abs() as f64;
                    }
                    (j, s)
                })
                .collect();
            let top = seen.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = seen.iter().map(|s| (s.1 - top).exp()).sum();
            let want = if seen.is_empty() { f64::NEG_INFINITY } else { top + sum.ln() };
            let token_head = ((split * batch + b) * z.sq + i) * z.hq + h;
            let got = lse[if p.partial() { token_head } else { (b * z.hq + h) * z.sq + i }];
            assert!(got == want || (got - want).abs() < 1e-5, "{what}: lse split {split} b {b} i {i} h {h}: {got}, not {want}");
            let total = sum + if p.sink { (sinks[h] - top).exp() } else { 0.0 };
            for col in 0..dv {
                let value = |j: usize| v[row(b, j, g) * dv + col];
                let want: f64 = seen.iter().map(|(j, s)| (s - top).exp() / total * value(*j)).sum();
                let size: f64 = seen.iter().map(|(j, s)| (s - top).exp() / total * value(*j).abs()).sum();
                let got = o[token_head * dv + col];
                let ok = (got - want).abs() <= eps * (size + want.abs()) + 1e-5 || (seen.is_empty() && got == 0.0);
                assert!(ok, "{what}: o split {split} b {b} i {i} h {h} c {col}: {got}, not {want}");
            }
        }
    }
}

/// The kernel that TMA feeds.
fn build_wgmma(p: &DecodeProblem, c: &WgmmaDecodeConfig) -> Built {
    c.check(p).unwrap_or_else(|e| panic!("{c}: {e}"));
    let mut k = KernelBuilder::new("decode", Arch::Sm90a);
    wgmma_decode(&mut k, p, c, &Mods::default()).unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build(&k.finish()).unwrap_or_else(|e| panic!("{} {c}: {e}", p.slug()))
}

fn config(bm: u32, bn: u32, stages: u32, warps: u32) -> MmaAttentionConfig {
    MmaAttentionConfig { bm, bn, stages, warps }
}

#[test]
fn page_sizes_and_lengths() {
    for (arch, dtype, c) in [(Arch::Sm80, DType::BF16, config(16, 64, 2, 1)), (Arch::Sm90a, DType::F16, config(64, 64, 3, 4))] {
        let p = DecodeProblem::plain(dtype, 128);
        let built = build(arch, &p, &c);
        for (seed, page) in [1, 5, 16, 64, 128].into_iter().enumerate() {
            let lengths = [1, 0, 130, 64, -3, 203];
            check(&built, &p, c.bn, &Size::new(1, [8, 2], page, &lengths), seed as u64);
        }
    }
}

#[test]
fn several_queries_and_groups() {
    let p = DecodeProblem { causal: true, ..DecodeProblem::plain(DType::BF16, 64) };
    let c = config(32, 64, 2, 2);
    let built = build(Arch::Sm80, &p, &c);
    for (seed, (sq, heads)) in [(1, [1, 1]), (4, [16, 1]), (8, [6, 2]), (3, [15, 3])].into_iter().enumerate() {
        check(&built, &p, c.bn, &Size::new(sq, heads, 16, &[2, 70, 129]), seed as u64);
    }
}

#[test]
fn head_dims() {
    for (d, dv, c) in [
        (64, 64, config(16, 128, 2, 1)),
        (96, 96, config(16, 64, 2, 1)),
        (96, 96, config(64, 64, 2, 4)),
        (192, 128, config(64, 64, 2, 4)),
        (192, 192, config(32, 32, 2, 2)),
        (256, 256, config(64, 32, 2, 4)),
        (256, 256, config(16, 16, 2, 1)),
    ] {
        let p = DecodeProblem { d, dv, ..DecodeProblem::plain(DType::BF16, d) };
        let built = build(Arch::Sm80, &p, &c);
        check(&built, &p, c.bn, &Size::new(2, [4, 2], 16, &[150, 3]), u64::from(d));
    }
}

#[test]
fn splits_in_number_and_in_size() {
    for (window, causal) in [(false, false), (true, true)] {
        let p = DecodeProblem { output: DType::F32, window, causal, ..DecodeProblem::plain(DType::BF16, 64) };
        let c = config(16, 64, 2, 1);
        let built = build(Arch::Sm90a, &p, &c);
        for (seed, (splits, split_size)) in [(1, 0), (3, 0), (7, 0), (3, 100), (5, 64)].into_iter().enumerate() {
            let size = Size { splits, split_size, left: 90, right: 0, ..Size::new(2, [4, 2], 16, &[1, 300, 0, 64]) };
            check(&built, &p, c.bn, &size, seed as u64);
        }
    }
}

#[test]
fn selected_pages() {
    for (select, output, causal) in
        [(Select::KvHeads, DType::BF16, true), (Select::Heads, DType::F32, false), (Select::Heads, DType::BF16, true)]
    {
        let p = DecodeProblem { select, output, causal, ..DecodeProblem::plain(DType::BF16, 64) };
        let c = config(16, 64, 2, 1);
        let built = build(Arch::Sm80, &p, &c);
        for (seed, page) in [1, 16, 64].into_iter().enumerate() {
            let splits = if p.partial() { 3 } else { 1 };
            let size = Size { n_select: if page == 1 { 100 } else { 7 }, splits, ..Size::new(2, [4, 2], page, &[150, 0, 33]) };
            check(&built, &p, c.bn, &size, seed as u64);
        }
    }
}

#[test]
fn features() {
    let plain = DecodeProblem::plain(DType::BF16, 64);
    let window = DecodeProblem { window: true, ..plain };
    for p in [
        window,
        DecodeProblem { causal: true, ..window },
        DecodeProblem { chunk: true, ..plain },
        DecodeProblem { softcap: true, causal: true, ..plain },
        DecodeProblem { alibi: true, ..plain },
        DecodeProblem { alibi: true, select: Select::KvHeads, ..window },
        DecodeProblem { sink: true, causal: true, ..plain },
    ] {
        let c = config(16, 64, 2, 1);
        let built = build(Arch::Sm80, &p, &c);
        for (seed, (left, right, chunk)) in [(20, 0, 64), (3, 70, 50), (1 << 30, 2, 17)].into_iter().enumerate() {
            let n_select = if p.select == Select::None { 0 } else { 12 };
            let size = Size { left, right, chunk, n_select, ..Size::new(4, [4, 2], 16, &[150, 2, 203]) };
            check(&built, &p, c.bn, &size, seed as u64);
        }
    }
}

#[test]
fn pages_as_boxes_of_tma() {
    let boxes = |bn, box_rows| WgmmaDecodeConfig { bn, stages: 3, box_rows, ctas: 2 };
    let plain = DecodeProblem::plain(DType::BF16, 128);
    let small = DecodeProblem::plain(DType::F16, 64);
    for (p, c, pages) in [
        (plain, boxes(64, 16), [16, 64]),
        (DecodeProblem { causal: true, ..small }, boxes(64, 64), [64, 192]),
        (DecodeProblem { causal: true, window: true, softcap: true, ..small }, boxes(32, 8), [8, 16]),
        (DecodeProblem { sink: true, alibi: true, chunk: true, ..small }, boxes(48, 16), [16, 32]),
        (DecodeProblem { d: 192, ..plain }, boxes(32, 32), [32, 64]),
        (DecodeProblem { d: 256, dv: 256, ..plain }, WgmmaDecodeConfig { ctas: 1, ..boxes(32, 32) }, [32, 64]),
    ] {
        let built = build_wgmma(&p, &c);
        for (seed, page) in pages.into_iter().enumerate() {
            let lengths = [1, 0, 130, 64, -3, 203];
            let size = Size { left: 70, right: 0, chunk: 50, ..Size::new(1, [8, 2], page, &lengths) };
            check(&built, &p, c.bn, &size, seed as u64);
            check(&built, &p, c.bn, &Size { sq: 5, hq: 30, ..size }, 7 + seed as u64);
        }
    }
    let p = DecodeProblem { output: DType::F32, ..small };
    let built = build_wgmma(&p, &boxes(64, 16));
    for (seed, (splits, split_size)) in [(1, 0), (3, 0), (7, 0), (3, 64), (2, 128)].into_iter().enumerate() {
        let size = Size { splits, split_size, ..Size::new(2, [4, 2], 16, &[1, 300, 0, 64]) };
        check(&built, &p, 64, &size, seed as u64);
    }
}
