//! The kernels between a checkpoint and the multiplication, against the host's packing: every source, ragged sizes, gate and
//! up, columns in another order, several schedules.

use half::{bf16, f16};
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::Packed;
use tilewright_templates::gemm::weight::source::order;
use tilewright_templates::gemm::weight::{self, Blocks, PackProblem, Source, Stored, UnpackProblem};
use tilewright_tests::numbers::{Random, decode, encode, i32s};
use tilewright_tests::{Built, Ran, Runner};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

/// A weight of a source with random bits everywhere: every code and zero point there is, scales of any size and sign.
struct Made {
    codes: Vec<u8>,
    scales: Vec<u8>,
    zeros: Option<Vec<u8>>,
    g_idx: Option<Vec<i32>>,
}

impl Made {
    fn new(source: Source, dtype: DType, e: usize, rows: usize, k: usize, group: usize, shuffled: bool, seed: u64) -> Made {
        let mut random = Random::new(seed);
        let groups = k.div_ceil(group);
        let mut bytes = |n: usize| (0..n).map(|_| random.bits() as u8).collect::<Vec<u8>>();
        let bits = source.bits() as usize;
        let codes = bytes(e * rows * k * bits / 8);
        let zeros =
            source.zero().then(|| bytes(e * rows * groups * if matches!(source, Source::Raw { .. }) { 8 } else { bits } / 8));
        let zeros = zeros.map(|z| match source {
            Source::Raw { bits: 4, .. } => z.iter().map(|z| z & 15).collect(),
            _ => z,
        });
        let dtype = if matches!(source, Source::Raw { .. }) { dtype } else { DType::F16 };
        // Any finite number, subnormal ones and zeros of both signs among them.
        let mut scale = |i: usize| match i % 11 {
            0 => 0.0,
            1 => -0.0,
            2 => {
                if dtype == DType::F16 {
                    2f64.powi(-24) * 5.0
                } else {
                    2f64.powi(-133)
                }
            }
            3 => {
                if dtype == DType::F16 {
                    65504.0
                } else {
                    3e38
                }
            }
            _ => random.unit() * 0.1,
        };
        let scales = encode(dtype, &(0..e * rows * groups).map(&mut scale).collect::<Vec<_>>());
        // Column i belongs to group i * step mod groups: every group full, none contiguous.
        let g_idx = shuffled.then(|| (0..k).map(|i| (i * 7 % groups) as i32).collect());
        Made { codes, scales, zeros, g_idx }
    }

    /// Matrix `i` of `e`.
    fn part(&self, i: usize, e: usize, source: Source, dtype: DType, rows: usize, k: usize, group: usize) -> Stored<'_> {
        fn of(v: &[u8], i: usize, e: usize) -> &[u8] {
            &v[v.len() / e * i..][..v.len() / e]
        }
        Stored {
            source,
            scale_dtype: dtype,
            rows,
            k,
            group,
            codes: of(&self.codes, i, e),
            scales: of(&self.scales, i, e),
            zeros: self.zeros.as_deref().map(|z| of(z, i, e)),
            g_idx: self.g_idx.as_deref(),
        }
    }
}

/// Codes, scales and zero points of a weight, columns in the packed order.
fn plain(s: &Stored<'_>, perm: &[i32]) -> (Vec<u8>, Vec<f32>, Option<Vec<u8>>) {
    let (rows, k, groups) = (s.rows, s.k, s.groups());
    let codes = (0..rows * k).map(|i| s.code(i / k, perm[i % k] as usize) as u8).collect();
    let scales = (0..rows * groups).map(|i| s.scale(i / groups, i % groups) as f32).collect();
    let zeros = s.source.zero().then(|| (0..rows * groups).map(|i| s.zero(i / groups, i % groups) as u8).collect());
    (codes, scales, zeros)
}

fn clean(ran: &Ran, what: &str) {
    assert!(ran.errors.is_empty(), "{what}: {}", ran.errors.join("\n"));
    assert!(ran.lints.is_empty(), "{what}: {}", ran.lints.join("\n"));
    assert_eq!(ran.unwritten.iter().sum::<u64>(), 0, "{what}: bytes never written");
}

/// Variables of a launch, the sources' extents worked out.
fn vars(source: Source, dtype: DType, e: usize, n: usize, k: usize, gates: usize, group: usize) -> Vec<(String, i64)> {
    let mut list = vec![("e", e), ("n", n), ("k", k), ("group", group), ("wide", n * gates), ("groups", k.div_ceil(group))]
        .into_iter()
        .map(|(name, v)| (name.to_string(), v as i64))
        .collect::<Vec<_>>();
    let mut known = tilewright_runtime::expr::Vars::new();
    for (name, value) in &list {
        known.set(tilewright_runtime::expr::VarId::of(name), *value).unwrap();
    }
    for (name, expr) in source.sets(dtype) {
        list.push((name, expr.parse::<tilewright_runtime::expr::Expr>().unwrap().eval(&known).unwrap()));
    }
    list.push(("blocks_n".into(), (gates * n.div_ceil(64)) as i64));
    list.push(("blocks_k".into(), k.div_ceil(128) as i64));
    list
}

/// The pack kernel binds one tensor twice; on the runner the halves are a tensor of their own, of which only scales and zero
/// points are written, and the words only where codes are.
struct Packer {
    problem: PackProblem,
    built: Built,
}

impl Packer {
    fn new(runner: &Runner, problem: PackProblem) -> Packer {
        let mut k = KernelBuilder::new("pack", Arch::Sm80);
        weight::pack_kernel(&mut k, &problem).unwrap();
        Packer { problem, built: runner.build(&k.finish()).unwrap() }
    }

    fn check(&self, e: usize, n: usize, k: usize, group: usize, seed: u64) {
        let PackProblem { source, dtype, packed, gates, perm } = self.problem;
        let rows = n * gates as usize;
        let what = format!("{source} {dtype} {packed:?} e {e} n {n} k {k} gates {gates} group {group} perm {perm} seed {seed}");
        let made = Made::new(source, dtype, e, rows, k, group, perm, seed + 1);
        let columns = made.g_idx.as_deref().map_or_else(|| (0..k as i32).collect(), |g| order(g, group).unwrap());
        let blocks = Blocks { packed, n, k, gates: gates as usize };
        let bytes = e * blocks.len() * 4;
        let vars = vars(source, dtype, e, n, k, gates as usize, group);
        let ints: Vec<(&str, i64)> = vars.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let raw = matches!(source, Source::Raw { .. });
        let perm_bytes = i32s(&columns);
        let mut inputs = vec![
            (if raw { "q" } else { "qweight" }, &made.codes[..]),
            (if raw { "scale" } else { "scales" }, &made.scales[..]),
            ("perm", &perm_bytes[..]),
        ];
        if let Some(z) = &made.zeros {
            inputs.push((if raw { "zero" } else { "qzeros" }, z));
        }
        let ran = self.built.run(&ints, &[], &inputs, &[("packed", bytes), ("packed_halves", bytes)], seed).unwrap();
        assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{what}: {:?} {:?}", ran.errors, ran.lints);
        // Each tensor's part is written and nothing of the other's.
        let codes = e * blocks.along_n() * blocks.along_k() * weight::code_words(packed) as usize * 4;
        assert_eq!(ran.unwritten, vec![(bytes - codes) as u64, codes as u64], "{what}");
        for i in 0..e {
            let stored = made.part(i, e, source, dtype, rows, k, group);
            let (codes, scales, zeros) = plain(&stored, &columns);
            let want = weight::pack(packed, dtype, n, k, gates as usize, group, &codes, &scales, zeros.as_deref());
            let (per, head) = (weight::words(packed) as usize, weight::code_words(packed) as usize);
            for (at, want) in want.iter().enumerate() {
                let from = &ran.outputs[usize::from(at % per >= head)][(i * blocks.len() + at) * 4..][..4];
                let found = i32::from_le_bytes(from.try_into().unwrap());
                assert_eq!(found, *want, "{what}: weight {i}, word {} of block {}", at % per, at / per);
            }
            // The definition of the source is that of the packed form, whose columns come in another order.
            let dense = weight::unpack(packed, dtype, n, k, gates as usize, &want);
            let exact = stored.weights(dtype);
            for at in 0..rows * k {
                let (found, want) = (dense[at], exact[at / k * k + columns[at % k] as usize]);
                assert!(found == want, "{what}: weight {at} is {found}, not {want}");
            }
        }
    }
}

fn packed(source: Source, group: u32) -> Packed {
    Packed { bits: source.bits(), group, zero: source.zero() }
}

#[test]
fn rows_of_codes_are_packed_as_the_host_packs_them() {
    let runner = runner();
    for (bits, zero, group, dtype, gates) in [
        (4, true, 32, DType::BF16, 1),
        (4, false, 128, DType::F16, 2),
        (8, true, 64, DType::F16, 1),
        (8, false, 128, DType::BF16, 2),
    ] {
        let source = Source::Raw { bits, zero };
        let packer = Packer::new(&runner, PackProblem { source, dtype, packed: packed(source, group), gates, perm: false });
        packer.check(1, 66, 2 * group as usize, group as usize, 0);
        packer.check(2, 5, 6 * group as usize, 2 * group as usize, 1);
        packer.check(1, 130, 384, 384, 2);
    }
    // One group a row, as long as k: it reaches past it in the last block.
    for (bits, k) in [(4, 172), (8, 133), (8, 1)] {
        let source = Source::Raw { bits, zero: true };
        let problem = PackProblem { source, dtype: DType::BF16, packed: packed(source, 128), gates: 1, perm: false };
        Packer::new(&runner, problem).check(1, 70, k, k, 3);
    }
}

#[test]
fn checkpoints_are_packed_as_the_host_packs_them() {
    let runner = runner();
    let gptq = |bits, version| Source::Gptq { bits, version };
    for (source, dtype, group, gates, perm) in [
        (Source::Awq, DType::F16, 128, 1, false),
        (Source::Awq, DType::BF16, 32, 2, false),
        (gptq(4, 1), DType::F16, 64, 1, false),
        (gptq(4, 2), DType::BF16, 128, 1, true),
        (gptq(4, 1), DType::F16, 32, 2, true),
        (gptq(8, 1), DType::BF16, 32, 1, true),
        (gptq(8, 2), DType::F16, 16, 1, false),
    ] {
        let packer = Packer::new(&runner, PackProblem { source, dtype, packed: packed(source, group), gates, perm });
        packer.check(1, 72, 3 * group as usize, group as usize, 0);
        packer.check(if perm { 1 } else { 2 }, 8, 4 * group as usize, 2 * group as usize, 1);
    }
}

#[test]
fn unpacked_weights_are_the_definition_s() {
    let runner = runner();
    for (bits, zero, group, dtype, gates, k_align) in [
        (4, true, 32, DType::BF16, 1, 8),
        (4, false, 128, DType::F16, 2, 4),
        (4, true, 16, DType::F16, 2, 8),
        (8, true, 64, DType::F16, 1, 8),
        (8, false, 128, DType::BF16, 1, 1),
        (8, true, 128, DType::BF16, 2, 2),
    ] {
        let packed = Packed { bits, group, zero };
        let mut k = KernelBuilder::new("unpack", Arch::Sm80);
        weight::unpack_kernel(&mut k, &UnpackProblem { packed, dtype, gates, k_align }).unwrap();
        let built = runner.build(&k.finish()).unwrap();
        for (seed, (e, n, columns)) in
            [(1, 66, 256), (2, 3, 384), (1, 64, if k_align == 1 { 133 } else { 132 })].into_iter().enumerate()
        {
            let (columns, real) = if columns < 256 {
                // Only a group as long as k leaves k ragged.
                if group != 128 { continue } else { (columns / k_align as usize * k_align as usize, usize::MAX) }
            } else {
                (columns, group as usize)
            };
            let source = Source::Raw { bits, zero };
            let group = real.min(columns);
            let rows = n * gates as usize;
            let made = Made::new(Source::Raw { bits: 8, zero }, dtype, e, rows, columns, group, false, seed as u64 + 5);
            let mask = |v: &[u8]| v.iter().map(|c| u32::from(*c) as u8 & ((1u32 << bits) - 1) as u8).collect::<Vec<u8>>();
            let (codes, zeros) = (mask(&made.codes), made.zeros.as_deref().map(mask));
            let scales: Vec<f32> = decode(dtype, &made.scales).iter().map(|s| *s as f32).collect();
            let (mut words, mut want) = (Vec::new(), Vec::new());
            for i in 0..e {
                let (c, s) = (&codes[i * rows * columns..][..rows * columns], scales.len() / e);
                let (s, z) = (&scales[i * s..][..s], zeros.as_deref().map(|z| &z[i * s..][..s]));
                words.extend(weight::pack(packed, dtype, n, columns, gates as usize, group, c, s, z));
                want.extend(weight::dequantised(packed, dtype, n, columns, gates as usize, group, c, s, z));
            }
            let words = i32s(&words);
            let vars = vars(source, dtype, e, n, columns, gates as usize, group);
            let ints: Vec<(&str, i64)> = vars.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            let inputs = [("packed", &words[..])];
            let ran = built.run(&ints, &[], &inputs, &[("b", want.len() * 2)], seed as u64).unwrap();
            let what = format!("{packed:?} {dtype} e {e} n {n} k {columns} gates {gates}");
            clean(&ran, &what);
            // Bit for bit: zeros keep their sign, subnormal numbers theirs.
            for (i, (found, want)) in ran.outputs[0].chunks(2).zip(&want).enumerate() {
                let found = u16::from_le_bytes([found[0], found[1]]);
                let want = if dtype == DType::BF16 { bf16::from_f64(*want).to_bits() } else { f16::from_f64(*want).to_bits() };
                assert_eq!(found, want, "{what}: weight {i}");
            }
        }
    }
}

#[test]
fn columns_are_gathered() {
    let runner = runner();
    for dtype in [DType::BF16, DType::F16] {
        let mut k = KernelBuilder::new("gather", Arch::Sm80);
        weight::gather_kernel(&mut k, dtype).unwrap();
        let built = runner.build(&k.finish()).unwrap();
        for (seed, (batch, m, columns)) in [(1usize, 1usize, 1usize), (2, 9, 300), (1, 17, 512)].into_iter().enumerate() {
            let a = encode(dtype, &tilewright_tests::numbers::random(batch * m * columns, dtype, 3));
            let perm: Vec<i32> = (0..columns).map(|i| ((i * 77 + 5) % columns) as i32).collect();
            let ints = [("batch", batch as i64), ("m", m as i64), ("k", columns as i64)];
            let ran = built.run(&ints, &[], &[("a", &a), ("perm", &i32s(&perm))], &[("a_perm", a.len())], seed as u64).unwrap();
            // Loads go where perm says: the lint about that is right.
            assert!(ran.errors.is_empty() && ran.unwritten == [0], "{dtype} {batch} {m} {columns}: {:?}", ran.errors);
            for i in 0..batch * m * columns {
                let from = i / columns * columns + perm[i % columns] as usize;
                assert_eq!(ran.outputs[0][2 * i..][..2], a[2 * from..][..2], "element {i}");
            }
        }
    }
}
