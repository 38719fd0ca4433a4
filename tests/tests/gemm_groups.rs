//! Grouped GEMM, kernel by kernel: lists of tiles and gathered rows against loops, the products against sums in f64.

use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::weight::{WeightMmaConfig, WeightWgmmaConfig};
use tilewright_templates::gemm::{
    Act, BLOCK, BLayout, Cluster, GemmConfig, GemmProblem, Groups, MmaConfig, Operands, Packed, Scale, Schedule, Weight,
    WgmmaConfig, build, gather_rows, group_tiles, reference, weight,
};
use tilewright_tests::numbers::{Random, decode, encode, i32s, random};
use tilewright_tests::{Built, Runner};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

fn numbers(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn offsets(counts: &[usize]) -> Vec<i32> {
    let mut total = 0;
    let ends = counts.iter().map(|c| {
        total += *c as i32;
        total
    });
    [0].into_iter().chain(ends).collect()
}

/// Few, all and no rows for an expert, whole tiles and one more or less, and as routers spread them.
fn patterns(bm: usize) -> Vec<Vec<usize>> {
    let zipf = |e: usize, tokens: usize| (1..=e).map(|i| tokens / (i * 3)).collect::<Vec<_>>();
    let mut alone = vec![0; 20];
    alone[13] = 3 * bm + 2;
    vec![
        vec![0, 1, bm - 1, bm, bm + 1, 0, 0, 2 * bm, 5],
        vec![bm + 3],
        vec![1; 37],
        vec![0, 0, 0],
        alone,
        zipf(17, 4 * bm),
        vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    ]
}

fn tiles(groups: Groups, bm: u32, arch: Arch) -> Built {
    let mut k = KernelBuilder::new("tiles", arch);
    group_tiles(&mut k, groups, bm).unwrap();
    runner().build(&k.finish()).unwrap()
}

/// Runs the list's kernel; gives the entries and whether nothing behind them was written.
fn run_tiles(built: &Built, groups: Groups, bm: usize, lengths: &[i32], extent: usize, seed: u64) -> Vec<[i32; 3]> {
    let (e, name, size) = match groups {
        Groups::Offsets => (lengths.len() - 1, "offsets", "tokens"),
        _ => (lengths.len(), "counts", "max_m"),
    };
    let most = if groups == Groups::Offsets { extent / bm + e.min(extent) } else { e * extent.div_ceil(bm) };
    if most == 0 {
        return Vec::new();
    }
    let ints = [("e", e as i64), (size, extent as i64)];
    let outputs = [("tiles", 12 * most), ("tile_count", 4)];
    let ran = built.run(&ints, &[], &[(name, &i32s(lengths))], &outputs, seed).unwrap();
    assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{:?} {:?}", ran.errors, ran.lints);
    let count = numbers(&ran.outputs[1])[0] as usize;
    assert!(count <= most, "{count} tiles, there can be {most}");
    assert_eq!(ran.unwritten, [12 * (most - count) as u64, 0]);
    numbers(&ran.outputs[0])[..3 * count].chunks(3).map(|t| [t[0], t[1], t[2]]).collect()
}

/// The same list, naively.
fn expected(groups: Groups, bm: usize, counts: &[usize]) -> Vec<[i32; 3]> {
    let mut list = Vec::new();
    let mut first = 0;
    for (e, count) in counts.iter().enumerate() {
        let from = if groups == Groups::Offsets { first } else { 0 };
        for row in (0..*count).step_by(bm) {
            list.push([e as i32, (from + row) as i32, (count - row).min(bm) as i32]);
        }
        first += count;
    }
    list
}

#[test]
fn lists_of_tiles() {
    for (groups, bm, arch) in [
        (Groups::Offsets, 64, Arch::Sm90a),
        (Groups::Offsets, 192, Arch::Sm80),
        (Groups::Counts, 128, Arch::Sm90a),
        (Groups::Counts, 16, Arch::Sm80),
    ] {
        let built = tiles(groups, bm, arch);
        let bm = bm as usize;
        for (seed, counts) in patterns(bm).into_iter().enumerate() {
            let want = expected(groups, bm, &counts);
            let found = if groups == Groups::Offsets {
                run_tiles(&built, groups, bm, &offsets(&counts), counts.iter().sum(), seed as u64 % 4)
            } else {
                let lengths: Vec<i32> = counts.iter().map(|c| *c as i32).collect();
                // An expert may have all rows there are, or there are more than any has.
                let most = counts.iter().max().unwrap() + seed % 2 * 3;
                run_tiles(&built, groups, bm, &lengths, most, seed as u64 % 4)
            };
            assert_eq!(found, want, "{groups} {bm} {counts:?}");
        }
    }
}

/// What the device finds is not checked by anybody: nothing past a tensor is named, whatever stands there.
#[test]
fn numbers_out_of_range_stay_in_range() {
    let (e, tokens, bm) = (9, 200, 64);
    let built = tiles(Groups::Offsets, bm as u32, Arch::Sm90a);
    let lists = [
        vec![-5, 10, 1000, i32::MIN, 50, 40, 30, i32::MAX, 7, 199],
        vec![200, 0, 200, 0, 200, 0, 200, 0, 200, 0],
        vec![0; 10],
        vec![500; 10],
    ];
    for lengths in lists {
        for [expert, row, rows] in run_tiles(&built, Groups::Offsets, bm, &lengths, tokens, 1) {
            assert!((0..e).contains(&expert) && row >= 0 && rows > 0 && row + rows <= tokens as i32, "{expert} {row} {rows}");
        }
    }
    let built = tiles(Groups::Counts, bm as u32, Arch::Sm90a);
    let found = run_tiles(&built, Groups::Counts, bm, &[-3, i32::MAX, 0, 70, i32::MIN, 71], 70, 2);
    assert_eq!(found, expected(Groups::Counts, bm, &[0, 70, 0, 70, 0, 70]));
}

#[test]
fn rows_are_gathered() {
    for (dtype, align, k, arch) in [
        (DType::BF16, 8, 264, Arch::Sm90a),
        (DType::F16, 2, 70, Arch::Sm80),
        (DType::BF16, 1, 301, Arch::Sm90a),
        (DType::E4M3, 16, 272, Arch::Sm90a),
        (DType::I8, 1, 45, Arch::Sm90a),
        (DType::F32, 1, 3, Arch::Sm90a),
    ] {
        let mut b = KernelBuilder::new("gather", arch);
        gather_rows(&mut b, dtype, align).unwrap();
        let row_bytes = k * dtype.bytes() as usize;
        let built = runner().build(&b.finish()).unwrap();
        for (seed, (rows, tokens)) in [(5, 40), (30, 1), (1, 16)].into_iter().enumerate() {
            let a: Vec<u8> = (0..rows * row_bytes).map(|i| (i * 7 % 251) as u8).collect();
            // Every third number is no row of a.
            let wrong = [-1, rows as i32, i32::MIN, i32::MAX];
            let index: Vec<i32> = (0..tokens).map(|i| if i % 3 == 2 { wrong[i % 4] } else { (i * 13 % rows) as i32 }).collect();
            let ints = [("tokens", tokens as i64), ("rows", rows as i64), ("k", k as i64)];
            let inputs = [("a", &a[..]), ("gather", &i32s(&index))];
            let ran = built.run(&ints, &[], &inputs, &[("sorted", tokens * row_bytes)], seed as u64).unwrap();
            assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{:?} {:?}", ran.errors, ran.lints);
            let want = index.iter().flat_map(|row| match usize::try_from(*row) {
                Ok(row) if row < rows => a[row * row_bytes..][..row_bytes].to_vec(),
                _ => vec![0; row_bytes],
            });
            assert_eq!(ran.unwritten, [0]);
            assert!(ran.outputs[0] == want.collect::<Vec<u8>>(), "{dtype} align {align}, {rows} rows to {tokens}");
        }
    }
}

/// A GEMM with the kernel that lists its tiles.
struct Grouped {
    p: GemmProblem,
    bm: usize,
    list: Built,
    product: Built,
}

impl Grouped {
    fn new(arch: Arch, p: GemmProblem, c: GemmConfig) -> Self {
        let bm = match c {
            GemmConfig::Wgmma(c) => c.bm,
            GemmConfig::Mma(c) => c.bm,
            GemmConfig::WeightWgmma(c) => c.bm,
            GemmConfig::WeightMma(c) => c.bm,
        };
        let kernel = build(arch, &p, &c).unwrap_or_else(|e| panic!("{c}: {e}")).kernel;
        let product = runner().build(&kernel).unwrap_or_else(|e| panic!("{c}: {e}"));
        Grouped { p, bm: bm as usize, list: tiles(p.groups, bm, arch), product }
    }

    /// Every expert's rows against the reference; rows that are nobody's must stay as they were.
    fn check(&self, counts: &[usize], [n, k]: [usize; 2], seed: u64) {
        let p = &self.p;
        let (e, wide, bm) = (counts.len(), n * p.gates() as usize, self.bm);
        let sorted = p.groups == Groups::Offsets;
        // Masked matrices have rows that no expert uses.
        let max_m = counts.iter().max().unwrap() + 3;
        let tokens: usize = counts.iter().sum();
        let (rows, extent) = if sorted { (tokens, tokens) } else { (e * max_m, max_m) };
        let lengths = if sorted { offsets(counts) } else { counts.iter().map(|c| *c as i32).collect() };
        let list = run_tiles(&self.list, p.groups, bm, &lengths, extent, seed);
        assert_eq!(list, expected(p.groups, bm, counts));
        if rows == 0 || list.is_empty() {
            return;
        }
        let a = random(rows * k, p.input, 10 + seed);
        let (b, packed) = match p.weight {
            Weight::Same => (random(e * wide * k, p.input, 20 + seed), Vec::new()),
            Weight::Packed(packed) => pack(p, packed, e, [n, k], seed),
        };
        let bias = random(if p.bias { e * wide } else { 0 }, p.bias_dtype(), 30 + seed);
        let residual = random(if p.residual { rows * n } else { 0 }, p.output, 40 + seed);
        // Factors of one row of a and of one matrix of b.
        let blocks = |x: usize| x.div_ceil(BLOCK as usize);
        let count = |scale, row: usize, block: usize| match scale {
            Scale::None => 0,
            Scale::Tensor => panic!("one factor is no expert's"),
            Scale::Row => row,
            Scale::Block => block,
        };
        let of_a = count(p.a_scale, 1, blocks(k));
        let of_b = count(p.b_scale, wide, blocks(wide) * blocks(k));
        let factors = |n: usize, seed| -> Vec<f64> { random(n, DType::F32, seed).iter().map(|x| 1.0 + x).collect() };
        let (a_scale, b_scale) = (factors(rows * of_a, 60 + seed), factors(e * of_b, 70 + seed));
        let (a_factors, b_factors) = (encode(DType::F32, &a_scale), encode(DType::F32, &b_scale));
        let ints: Vec<(&str, i64)> = [("e", e), ("tokens", tokens), ("max_m", max_m), ("n", n), ("k", k)]
            .into_iter()
            .map(|(name, v)| (name, v as i64))
            .collect();
        let entries: Vec<i32> = list.iter().flatten().copied().collect();
        let (tiles, count) = (i32s(&entries), i32s(&[list.len() as i32]));
        let (a_bytes, b_bytes) = (encode(p.input, &a), encode(p.input, &b));
        let (bias_bytes, residual_bytes) = (encode(p.bias_dtype(), &bias), encode(p.output, &residual));
        let inputs = [
            ("a", &a_bytes[..]),
            (if p.weight == Weight::Same { "b" } else { "packed" }, if packed.is_empty() { &b_bytes } else { &packed }),
            ("a_scale", &a_factors),
            ("b_scale", &b_factors),
            ("bias", &bias_bytes),
            ("residual", &residual_bytes),
            ("tiles", &tiles),
            ("tile_count", &count),
        ];
        let bytes = p.output.bytes() as usize;
        let ran = self.product.run(&ints, &[("alpha", 0.75)], &inputs, &[("d", rows * n * bytes)], seed).unwrap();
        assert!(ran.errors.is_empty(), "{counts:?} n {n} k {k}, schedule {seed}: {}", ran.errors[0]);
        // Known: odd rows are read element by element, packed words by ordinary loads before the next copy, and the sums of
        // half blocks meet in shared memory with conflicts.
        let packed = p.weight != Weight::Same;
        let known = |l: &str| match l.split_once(']').map(|(kind, _)| kind) {
            Some("lint[uncoalesced") => !n.is_multiple_of(8),
            Some("lint[proxy" | "lint[bank-conflict") => packed,
            _ => false,
        };
        let lint = ran.lints.iter().find(|l| !known(l));
        assert_eq!(lint, None);
        assert_eq!(ran.unwritten, [((rows - tokens) * n * bytes) as u64], "{counts:?}");
        let d = decode(p.output, &ran.outputs[0]);
        for (expert, count) in counts.iter().enumerate() {
            let first = if sorted { counts[..expert].iter().sum() } else { expert * max_m };
            let part = |of: &[f64], rows: usize, row: usize| of.get(row..row + rows).unwrap_or_default().to_vec();
            let o = Operands {
                shape: [1, *count, n, k],
                a: part(&a, count * k, first * k),
                b: part(&b, wide * k, expert * wide * k),
                bias: part(&bias, if p.bias { wide } else { 0 }, expert * wide * usize::from(p.bias)),
                residual: part(&residual, if p.residual { count * n } else { 0 }, first * n * usize::from(p.residual)),
                a_scale: part(&a_scale, count * of_a, first * of_a),
                b_scale: part(&b_scale, of_b, expert * of_b),
                alpha: 0.75,
            };
            let miss = reference(&GemmProblem { weight: Weight::Same, ..*p }, &o).first_miss(&d[first * n..][..count * n]);
            assert_eq!(miss, None, "expert {expert} of {counts:?}, n {n} k {k}, schedule {seed}");
        }
    }
}

/// Codes of every expert as numbers, and packed.
fn pack(p: &GemmProblem, packed: Packed, e: usize, [n, k]: [usize; 2], seed: u64) -> (Vec<f64>, Vec<u8>) {
    let gates = p.gates() as usize;
    let (rows, group) = (n * gates, packed.group as usize);
    let groups = k.div_ceil(group);
    let mut random = Random::new(seed + 50);
    let (mut b, mut words) = (Vec::new(), Vec::new());
    for _ in 0..e {
        let codes =
            |random: &mut Random, n: usize| -> Vec<u8> { (0..n).map(|_| (random.bits() % (1 << packed.bits)) as u8).collect() };
        let code = codes(&mut random, rows * k);
        let zero = packed.zero.then(|| codes(&mut random, rows * groups));
        let scale: Vec<f32> = (0..rows * groups).map(|_| (1.0 + (random.bits() % 64) as f32) / 256.0).collect();
        b.extend(weight::dequantised(packed, p.input, n, k, gates, group, &code, &scale, zero.as_deref()));
        words.extend(i32s(&weight::pack(packed, p.input, n, k, gates, group, &code, &scale, zero.as_deref())));
    }
    (b, words)
}

fn hopper(bm: u32, bn: u32, stages: u32, math_wgs: u32) -> WgmmaConfig {
    WgmmaConfig::new([bm, bn, 64], stages, math_wgs)
}

fn with(groups: Groups) -> GemmProblem {
    GemmProblem { groups, ..GemmProblem::plain(DType::BF16) }
}

#[test]
fn hopper_by_offsets_and_by_counts() {
    for groups in [Groups::Offsets, Groups::Counts] {
        for c in [hopper(64, 64, 3, 1), hopper(128, 128, 4, 2)] {
            let x = Grouped::new(Arch::Sm90a, with(groups), GemmConfig::Wgmma(c));
            for (seed, counts) in patterns(c.bm as usize).into_iter().enumerate() {
                let trips = [1, 2, 3, 4, 5][seed % 5];
                x.check(&counts, [72, 64 * trips - seed % 2 * 24], seed as u64 % 4);
            }
        }
    }
}

#[test]
fn hopper_schedules_clusters_and_epilogues() {
    let swiglu = GemmProblem { act: Act::Swiglu, bias: true, residual: true, ..with(Groups::Offsets) };
    let silu = GemmProblem { act: Act::Silu, bias: true, residual: true, ..with(Groups::Counts) };
    let wide = GemmProblem { output: DType::F32, residual: true, ..with(Groups::Offsets) };
    let half = GemmProblem { groups: Groups::Counts, ..GemmProblem::plain(DType::F16) };
    let kn = GemmProblem { b: BLayout::Kn, ..with(Groups::Offsets) };
    let two = |c| WgmmaConfig { cluster: Cluster::TwoN, ..c };
    let turns = |c| WgmmaConfig { schedule: Schedule::PingPong, ..c };
    for (p, c, n) in [
        (swiglu, hopper(128, 256, 3, 2), 136),
        (GemmProblem { groups: Groups::Counts, ..swiglu }, hopper(64, 128, 4, 1), 72),
        (silu, two(hopper(128, 192, 3, 2)), 200),
        (wide, WgmmaConfig { n_align: 1, ..hopper(192, 96, 3, 3) }, 67),
        (half, turns(hopper(64, 128, 4, 2)), 136),
        (with(Groups::Offsets), turns(two(hopper(128, 128, 3, 2))), 264),
        (with(Groups::Offsets), WgmmaConfig { n_align: 2, ..hopper(256, 64, 3, 2) }, 62),
        (kn, hopper(128, 112, 3, 1), 120),
    ] {
        let x = Grouped::new(Arch::Sm90a, p, GemmConfig::Wgmma(c));
        let bm = c.bm as usize;
        for (seed, counts) in [vec![bm - 1, 0, bm + 1, 1, 0], vec![5, 65, 2 * bm, 3], vec![1; 9]].into_iter().enumerate() {
            x.check(&counts, [n, 64 * [1, 4, 7][seed] - 8], seed as u64 + 1);
        }
    }
}

#[test]
fn bytes_of_experts_with_factors_of_rows_and_blocks() {
    use Scale::{Block, Row};
    let class = |input, groups, a_scale, b_scale| GemmProblem {
        output: DType::BF16,
        a_scale,
        b_scale,
        groups,
        ..GemmProblem::plain(input)
    };
    let bytes = |c: WgmmaConfig, promote| WgmmaConfig { bk: 128, promote, ..c };
    let deepseek = class(DType::E4M3, Groups::Offsets, Block, Block);
    let swiglu = GemmProblem { act: Act::Swiglu, bias: true, groups: Groups::Counts, ..deepseek };
    for (i, (p, c, size)) in [
        (deepseek, bytes(hopper(128, 128, 3, 2), true), [136, 272]),
        (GemmProblem { groups: Groups::Counts, ..deepseek }, bytes(hopper(64, 64, 3, 1), true), [200, 400]),
        (swiglu, bytes(hopper(64, 128, 3, 1), true), [72, 144]),
        (class(DType::E5M2, Groups::Offsets, Row, Row), bytes(hopper(128, 128, 3, 2), false), [72, 160]),
        (GemmProblem { output: DType::E4M3, ..deepseek }, bytes(hopper(64, 128, 3, 1), true), [80, 144]),
        (class(DType::I8, Groups::Counts, Row, Row), bytes(hopper(64, 128, 3, 1), false), [136, 256]),
    ]
    .into_iter()
    .enumerate()
    {
        let x = Grouped::new(Arch::Sm90a, p, GemmConfig::Wgmma(c));
        for (seed, counts) in patterns(c.bm as usize).into_iter().enumerate().skip(i % 2).step_by(2) {
            x.check(&counts, size, seed as u64 % 4);
        }
    }
}

fn ampere(bm: u32, bn: u32, warps: [u32; 2], load_align: u32, n_align: u32) -> GemmConfig {
    let [warps_m, warps_n] = warps;
    GemmConfig::Mma(MmaConfig { bm, bn, bk: 32, stages: 3, warps_m, warps_n, raster: 4, load_align, n_align, split: false })
}

#[test]
fn ampere_and_sizes_that_tma_cannot_address() {
    let swiglu = GemmProblem { act: Act::Swiglu, bias: true, ..with(Groups::Offsets) };
    let kn = GemmProblem { b: BLayout::Kn, residual: true, ..with(Groups::Counts) };
    for (arch, p, c, size) in [
        (Arch::Sm80, with(Groups::Offsets), ampere(128, 128, [2, 4], 8, 2), [136, 200]),
        (Arch::Sm80, with(Groups::Counts), ampere(16, 64, [1, 4], 8, 2), [70, 64]),
        (Arch::Sm80, swiglu, ampere(64, 64, [2, 2], 2, 1), [37, 70]),
        (Arch::Sm90a, kn, ampere(64, 64, [2, 2], 1, 1), [67, 33]),
    ] {
        let x = Grouped::new(arch, p, c);
        for (seed, counts) in patterns(x.bm).into_iter().enumerate() {
            x.check(&counts, size, seed as u64 % 4);
        }
    }
}

#[test]
fn packed_weights_of_experts() {
    let weight = |bits, group, zero| Weight::Packed(Packed { bits, group, zero });
    let int4 = GemmProblem { weight: weight(4, 128, false), ..with(Groups::Offsets) };
    let masked = GemmProblem { weight: weight(4, 32, true), groups: Groups::Counts, ..int4 };
    let swiglu = GemmProblem { weight: weight(4, 64, true), act: Act::Swiglu, bias: true, residual: true, ..int4 };
    let int8 = GemmProblem { weight: weight(8, 128, true), groups: Groups::Counts, ..GemmProblem::plain(DType::F16) };
    let config = |bm, bn, n_align| WeightWgmmaConfig { bm, bn, stages: 3, raster: 8, n_align, stream: false };
    for (p, c, size) in [
        (int4, config(8, 128, 8), [136, 256]),
        (masked, config(16, 64, 8), [72, 384]),
        (swiglu, config(64, 128, 8), [136, 192]),
        (int8, config(128, 128, 1), [67, 128]),
        (int4, config(128, 128, 8), [72, 128]),
    ] {
        let x = Grouped::new(Arch::Sm90a, p, GemmConfig::WeightWgmma(c));
        for (seed, counts) in patterns(c.bm as usize).into_iter().enumerate() {
            x.check(&counts, size, seed as u64 % 4);
        }
    }
}

#[test]
fn packed_weights_of_experts_with_few_tokens() {
    let weight = |bits, group, zero| Weight::Packed(Packed { bits, group, zero });
    let int4 = GemmProblem { weight: weight(4, 128, false), ..with(Groups::Offsets) };
    let masked = GemmProblem { weight: weight(4, 32, true), groups: Groups::Counts, ..int4 };
    let swiglu = GemmProblem { weight: weight(8, 64, true), act: Act::Swiglu, bias: true, residual: true, ..int4 };
    let config =
        |bm, bn, wgs, load_align| WeightMmaConfig { bm, bn, wgs, stages: 2, depth: 1, load_align, ctas: 1, split: false };
    for (arch, p, c, size) in [
        (Arch::Sm80, int4, config(8, 64, 2, 8), [136, 392]),
        (Arch::Sm80, int4, config(8, 32, 2, 8), [104, 392]),
        (Arch::Sm90a, masked, config(16, 128, 1, 4), [72, 196]),
        (Arch::Sm80, swiglu, config(32, 128, 2, 8), [67, 256]),
    ] {
        let x = Grouped::new(arch, p, GemmConfig::WeightMma(c));
        for (seed, counts) in patterns(c.bm as usize).into_iter().enumerate() {
            x.check(&counts, size, seed as u64 % 4);
        }
    }
    let split = GemmConfig::WeightMma(WeightMmaConfig { split: true, ..config(8, 64, 2, 8) });
    assert!(split.check(&int4).unwrap_err().to_string().contains("does not split k"));
}

/// A list with the tiles of one expert: no other row of d is touched, full tiles and parts alike.
#[test]
fn rows_of_the_next_expert_are_not_touched() {
    let counts = [70usize, 128, 1, 130];
    let (n, k, tokens) = (72usize, 64usize, 329usize);
    let offsets = offsets(&counts);
    // What the others' rows hold must not be felt either.
    let (clean, b) = (random(tokens * k, DType::BF16, 1), encode(DType::BF16, &random(4 * n * k, DType::BF16, 2)));
    for (arch, c) in [
        (Arch::Sm90a, GemmConfig::Wgmma(hopper(64, 64, 3, 1))),
        (Arch::Sm90a, GemmConfig::Wgmma(hopper(128, 128, 3, 2))),
        (Arch::Sm90a, GemmConfig::Wgmma(WgmmaConfig { n_align: 1, ..hopper(128, 64, 3, 1) })),
        (Arch::Sm80, ampere(64, 64, [2, 2], 8, 2)),
    ] {
        let x = Grouped::new(arch, with(Groups::Offsets), c);
        for expert in 0..counts.len() {
            let rows = offsets[expert] as usize..offsets[expert + 1] as usize;
            let all = expected(Groups::Offsets, x.bm, &counts);
            let mine: Vec<i32> = all.into_iter().filter(|t| t[0] == expert as i32).flatten().collect();
            let mut poisoned = vec![f64::NAN; tokens * k];
            poisoned[rows.start * k..rows.end * k].copy_from_slice(&clean[rows.start * k..rows.end * k]);
            let d = [&clean, &poisoned].map(|a| {
                let ints = [("e", 4), ("tokens", tokens as i64), ("n", n as i64), ("k", k as i64)];
                let inputs = [
                    ("a", &encode(DType::BF16, a)[..]),
                    ("b", &b),
                    ("tiles", &i32s(&mine)),
                    ("tile_count", &i32s(&[mine.len() as i32 / 3])),
                ];
                let ran = x.product.run(&ints, &[("alpha", 1.0)], &inputs, &[("d", 2 * tokens * n)], 2).unwrap();
                assert!(ran.errors.is_empty(), "{}", ran.errors[0]);
                assert_eq!(ran.unwritten, [2 * ((tokens - counts[expert]) * n) as u64], "{c}, expert {expert}");
                ran.outputs[0][2 * n * rows.start..2 * n * rows.end].to_vec()
            });
            assert!(d[0] == d[1], "{c}, expert {expert}");
        }
    }
}

#[test]
fn configs_that_mix_experts_are_refused() {
    let why = |c| GemmConfig::Wgmma(c).check(&with(Groups::Offsets)).unwrap_err().to_string();
    assert!(why(WgmmaConfig { cluster: Cluster::TwoM, ..hopper(128, 128, 3, 2) }).contains("two experts"));
    assert!(why(WgmmaConfig { split: true, ..hopper(128, 128, 3, 2) }).contains("does not split k"));
}
