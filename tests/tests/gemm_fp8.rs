//! GEMM of 8-bit operands, kernel by kernel: dtypes, scale rules, configs and epilogues on the emulator against sums in f64.

use tilewright_emulator::Numerics;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::*;
use tilewright_tests::numbers::{Random, decode, encode, random};
use tilewright_tests::{Built, Runner};

fn config(bm: u32, bn: u32, math_wgs: u32, promote: bool) -> WgmmaConfig {
    WgmmaConfig { n_align: 1, promote, ..WgmmaConfig::new([bm, bn, 128], 3, math_wgs) }
}

fn class(input: DType, output: DType, a_scale: Scale, b_scale: Scale) -> GemmProblem {
    GemmProblem { output, a_scale, b_scale, ..GemmProblem::plain(input) }
}

fn build_for(p: &GemmProblem, c: &WgmmaConfig) -> Built {
    build_on(Arch::Sm90a, p, &GemmConfig::Wgmma(*c))
}

fn build_on(arch: Arch, p: &GemmProblem, c: &GemmConfig) -> Built {
    let kernel = build(arch, p, c).unwrap_or_else(|e| panic!("{e}")).kernel;
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build(&kernel).unwrap_or_else(|e| panic!("{} {c:?}: {e}", p.class()))
}

/// Factors from 1/8 to 8, some of them zero.
fn factors(n: usize, seed: u64) -> Vec<f64> {
    let mut r = Random::new(seed);
    (0..n).map(|_| if r.bits().is_multiple_of(16) { 0.0 } else { f64::from(2f64.powf(3.0 * r.unit()) as f32) }).collect()
}

/// Made-up operands of a class; bytes use the whole range of their dtype.
fn operands(p: &GemmProblem, shape @ [batch, m, n, k]: [usize; 4], seed: u64) -> Operands {
    let wide = n * p.gates() as usize;
    let blocks = |x: usize| x.div_ceil(BLOCK as usize);
    let count = |scale, rows: usize, blocked: usize| match scale {
        Scale::None => 0,
        Scale::Tensor => 1,
        Scale::Row => batch * rows,
        Scale::Block => batch * blocked,
    };
    Operands {
        shape,
        a: random(batch * m * k, p.input, 1 + seed),
        b: random(batch * wide * k, p.b_dtype(), 2 + seed),
        bias: if p.bias { random(wide, p.bias_dtype(), 3 + seed) } else { Vec::new() },
        residual: if p.residual { random(batch * m * n, p.output, 4 + seed) } else { Vec::new() },
        a_scale: factors(count(p.a_scale, m, m * blocks(k)), 5 + seed),
        b_scale: factors(count(p.b_scale, wide, blocks(wide) * blocks(k)), 6 + seed),
        // Bare sums take no factor.
        alpha: if p.output == DType::I32 { 1.0 } else { f64::from(0.37f32) },
    }
}

fn check(built: &Built, p: &GemmProblem, shape: [usize; 4], seed: u64) {
    let [batch, m, n, k] = shape;
    let o = operands(p, shape, 10 * seed);
    let ints = [("batch", batch), ("m", m), ("n", n), ("k", k)].map(|(name, v)| (name, v as i64));
    let f32s = |v: &[f64]| encode(DType::F32, v);
    let tensors = [
        ("a", encode(p.input, &o.a)),
        ("b", encode(p.b_dtype(), &o.b)),
        ("bias", encode(p.bias_dtype(), &o.bias)),
        ("residual", encode(p.output, &o.residual)),
        ("a_scale", f32s(&o.a_scale)),
        ("b_scale", f32s(&o.b_scale)),
    ];
    let inputs: Vec<(&str, &[u8])> = tensors.iter().map(|(n, b)| (*n, &b[..])).collect();
    let bytes = batch * m * n * p.output.bytes() as usize;
    let mut outputs = vec![("d", bytes)];
    if p.quant {
        outputs.push(("d_scale", 4 * batch * m * n.div_ceil(128)));
    }
    let ran = built.run(&ints, &[("alpha", o.alpha as f32)], &inputs, &outputs, seed).unwrap();
    let name = format!("{} {shape:?}", p.class());
    assert!(ran.errors.is_empty(), "{name}: {}", ran.errors[0]);
    // Bytes go out as the accumulator holds them, a few of each of eight rows at once.
    let known = |lint: &&String| p.output.bytes() == 1 && lint.contains("lint[uncoalesced]") && lint.contains("st.global");
    let lint = ran.lints.iter().find(|l| !known(l));
    assert!(lint.is_none(), "{name}: {lint:?}");
    assert!(ran.unwritten.iter().all(|n| *n == 0), "{name}");
    if p.quant {
        let exact = reference(&GemmProblem { output: DType::F32, quant: false, ..*p }, &o);
        let found = quant_miss(&exact, n, &decode(p.output, &ran.outputs[0]), &decode(DType::F32, &ran.outputs[1]));
        assert_eq!(found, None, "{name}");
        return;
    }
    let want = reference(p, &o);
    assert_eq!(want.first_miss(&decode(p.output, &ran.outputs[0])), None, "{name}");
}

#[test]
fn tensor_and_row_scales() {
    use Scale::*;
    for (input, output, a, b, c) in [
        (DType::E4M3, DType::BF16, Tensor, Tensor, config(128, 128, 2, false)),
        (DType::E4M3, DType::BF16, Row, Row, WgmmaConfig { n_align: 8, cluster: Cluster::TwoM, ..config(128, 256, 2, false) }),
        (DType::E4M3, DType::F32, Row, Tensor, config(128, 128, 2, true)),
        (DType::E5M2, DType::F16, None, Row, WgmmaConfig { schedule: Schedule::PingPong, ..config(64, 128, 2, true) }),
        (DType::E4M3, DType::E4M3, Row, Row, WgmmaConfig { n_align: 2, ..config(64, 96, 1, false) }),
        (DType::I8, DType::BF16, Row, Row, config(64, 64, 1, false)),
        (DType::I8, DType::F32, None, Tensor, WgmmaConfig { cluster: Cluster::TwoN, ..config(128, 128, 2, false) }),
    ] {
        let p = class(input, output, a, b);
        let built = build_for(&p, &c);
        let n_step = c.n_align as usize;
        for (i, [m, n, k]) in [[1, 1, 16], [65, 70, 384], [130, 267, 400]].into_iter().enumerate() {
            check(&built, &p, [1, m, n.next_multiple_of(n_step), k], i as u64);
        }
    }
}

#[test]
fn block_scales() {
    use Scale::Block;
    for (input, output, a, b, c) in [
        (DType::E4M3, DType::BF16, Block, Block, WgmmaConfig { n_align: 8, ..config(128, 128, 2, true) }),
        (DType::E4M3, DType::F32, Block, Block, config(64, 64, 1, true)),
        (DType::E5M2, DType::BF16, Scale::Row, Block, WgmmaConfig { schedule: Schedule::PingPong, ..config(64, 64, 2, true) }),
        (DType::E4M3, DType::BF16, Block, Scale::Row, config(64, 160, 1, true)),
        (DType::I8, DType::F16, Block, Block, WgmmaConfig { cluster: Cluster::TwoN, ..config(128, 64, 2, true) }),
    ] {
        let p = class(input, output, a, b);
        let built = build_for(&p, &c);
        let n_step = c.n_align as usize;
        for (i, [m, n, k]) in [[1, 1, 16], [65, 70, 384], [130, 267, 528]].into_iter().enumerate() {
            check(&built, &p, [1, m, n.next_multiple_of(n_step), k], i as u64);
        }
    }
}

#[test]
fn integers_through_mma_sync() {
    let base = MmaConfig {
        bm: 64,
        bn: 64,
        bk: 64,
        stages: 3,
        warps_m: 2,
        warps_n: 2,
        raster: 8,
        load_align: 1,
        n_align: 1,
        split: false,
    };
    let scaled = class(DType::I8, DType::BF16, Scale::Row, Scale::Row);
    for (p, c) in [
        (scaled, base),
        (scaled, MmaConfig { bm: 128, bn: 128, bk: 128, warps_n: 4, load_align: 16, ..base }),
        (scaled, MmaConfig { bm: 16, bk: 32, warps_m: 1, warps_n: 4, load_align: 8, ..base }),
        (GemmProblem { act: Act::Swiglu, bias: true, ..scaled }, MmaConfig { load_align: 4, bn: 96, ..base }),
        (class(DType::I8, DType::I32, Scale::None, Scale::None), MmaConfig { load_align: 4, ..base }),
    ] {
        let built = build_on(Arch::Sm80, &p, &GemmConfig::Mma(c));
        let k_step = c.load_align as usize;
        for (i, [batch, m, n, k]) in [[1, 1, 1, 1], [2, 70, 67, 201], [1, 130, 140, 400]].into_iter().enumerate() {
            check(&built, &p, [batch, m, n, k.next_multiple_of(k_step)], i as u64);
        }
    }
}

#[test]
fn quantised_outputs() {
    let base = |input| GemmProblem { quant: true, ..class(input, DType::E4M3, Scale::None, Scale::None) };
    let scaled = |input, scale| GemmProblem { a_scale: scale, b_scale: scale, ..base(input) };
    for (p, c) in [
        (scaled(DType::E4M3, Scale::Row), config(128, 128, 2, false)),
        (GemmProblem { bias: true, act: Act::Silu, ..scaled(DType::E4M3, Scale::Block) }, config(64, 128, 1, true)),
        (GemmProblem { act: Act::Swiglu, ..scaled(DType::I8, Scale::Row) }, config(64, 256, 1, false)),
        (base(DType::BF16), WgmmaConfig { bk: 64, n_align: 2, ..config(128, 128, 2, false) }),
    ] {
        let built = build_for(&p, &c);
        for (i, [batch, m, n, k]) in [[1, 1, 2, 16], [2, 70, 258, 272]].into_iter().enumerate() {
            check(&built, &p, [batch, m, n, k], i as u64);
        }
    }
}

/// The tensor cores of Hopper keep about 14 bits of a sum: stages that are added in f32 end nearer to f64.
#[test]
fn promotion_keeps_what_the_tensor_cores_drop() {
    let shape @ [batch, m, n, k] = [1, 24, 40, 2048];
    let p = class(DType::E4M3, DType::F32, Scale::None, Scale::None);
    let o = Operands { alpha: 1.0, ..operands(&p, shape, 5) };
    let want = reference(&p, &o);
    let ints = [("batch", batch), ("m", m), ("n", n), ("k", k)].map(|(name, v)| (name, v as i64));
    let [plain, promoted] = [false, true].map(|promote| {
        let built = build_for(&p, &config(64, 64, 1, promote));
        let inputs = [("a", &encode(p.input, &o.a)[..]), ("b", &encode(p.input, &o.b))];
        let ran = built.run_as(&ints, &[("alpha", 1.0)], &inputs, &[("d", 4 * m * n)], 0, Numerics::Exact).unwrap();
        assert!(ran.errors.is_empty(), "{}", ran.errors[0]);
        let d = decode(DType::F32, &ran.outputs[0]);
        // What `gen` allows on a device.
        assert_eq!(want.clone().on_tensor_cores(&p).first_miss(&d), None, "promote={promote}");
        d.iter().zip(&want.value).map(|(d, w)| (d - w).powi(2)).sum::<f64>().sqrt()
    });
    assert!(promoted < 0.4 * plain, "{promoted:e} promoted, {plain:e} not");
    assert!(plain > 0.0);
}

#[test]
fn both_8_bit_floats_and_every_trip_count() {
    let p = GemmProblem { b_input: Some(DType::E5M2), ..class(DType::E4M3, DType::BF16, Scale::Block, Scale::Block) };
    let q = GemmProblem { b_input: Some(DType::E4M3), ..class(DType::E5M2, DType::F32, Scale::Row, Scale::Row) };
    for (p, promote) in [(p, true), (q, false)] {
        // One stage to two more than the ring has.
        let built = build_for(&p, &config(64, 64, 1, promote));
        (1..=5).for_each(|stages| check(&built, &p, [1, 66, 65, 128 * stages], stages as u64 % 4));
    }
}

#[test]
fn a_long_ragged_k() {
    let p = class(DType::E4M3, DType::BF16, Scale::Block, Scale::Block);
    check(&build_for(&p, &config(64, 64, 1, true)), &p, [1, 17, 200, 2880], 1);
    let p = class(DType::I8, DType::I32, Scale::None, Scale::None);
    check(&build_for(&p, &config(64, 64, 1, false)), &p, [1, 17, 100, 2880], 2);
}

#[test]
fn epilogues_and_batches() {
    let (rows, blocks) = ((Scale::Row, Scale::Row, false), (Scale::Block, Scale::Block, true));
    for (input, act, (a, b, promote)) in [
        (DType::E4M3, Act::Swiglu, rows),
        (DType::E4M3, Act::Swiglu, blocks),
        (DType::E4M3, Act::Swiglu, (Scale::Tensor, Scale::Block, true)),
        (DType::E4M3, Act::Gelu, rows),
        (DType::I8, Act::Swiglu, blocks),
        (DType::E5M2, Act::Relu, blocks),
    ] {
        let p = GemmProblem { act, bias: true, residual: true, ..class(input, DType::BF16, a, b) };
        let built = build_for(&p, &config(128, 128, 2, promote));
        // The second half of swiglu's columns starts inside a block, and a tile of it lies in two.
        check(&built, &p, [2, 33, 101, 272], 1);
    }
}
