//! The Hopper kernel for packed weights against the reference, in the emulator: formats, epilogues, ragged sizes.

use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::weight::{self, WeightWgmmaConfig};
use tilewright_templates::gemm::{Act, Epilogue, GemmConfig, GemmProblem, Operands, Packed, Weight, build, reference};
use tilewright_tests::numbers::{Random, decode, encode, i32s};
use tilewright_tests::{Built, Runner};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

/// Which codes and scales a weight has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Codes {
    Random,
    /// Codes at both ends of the range, scales far apart.
    Extreme,
    /// Groups that are all one code, and scales that are zero.
    Constant,
}

struct Problem {
    p: GemmProblem,
    packed: Packed,
    shape: [usize; 4],
    /// Neighbours along k that share a scale.
    group: usize,
}

impl Problem {
    fn new(packed: Packed, dtype: DType, shape: [usize; 4], group: usize) -> Self {
        Problem { p: GemmProblem { weight: Weight::Packed(packed), ..GemmProblem::plain(dtype) }, packed, shape, group }
    }

    /// Runs a built kernel and holds what comes out to the reference.
    fn run(&self, built: &Built, codes: Codes, seed: u64) {
        self.run_with(built, None, codes, seed);
    }

    /// As [`Self::run`] where CTAs share tiles: the second kernel, of this config, adds up.
    fn run_with(&self, built: &Built, add_up: Option<(&Built, &WeightWgmmaConfig)>, codes: Codes, seed: u64) -> Vec<u8> {
        let [batch, m, n, k] = self.shape;
        assert_eq!(batch, 1);
        let p = self.p;
        let wide = n * p.gates() as usize;
        let groups = k.div_ceil(self.group);
        let mut random = Random::new(seed + 1);
        let mut below = |n: u64| (random.bits() * n) >> 24;
        let top = (1u64 << self.packed.bits) - 1;
        let code: Vec<u8> = (0..wide * k)
            .map(|i| match codes {
                Codes::Random => below(top + 1) as u8,
                Codes::Extreme => (below(2) * top) as u8,
                Codes::Constant => ((i / k + i % k / self.group) as u64 % (top + 1)) as u8,
            })
            .collect();
        let scale: Vec<f64> = (0..wide * groups)
            .map(|i| match codes {
                Codes::Random => (1.0 + below(64) as f64) / 256.0,
                Codes::Extreme => 2f64.powi(below(20) as i32 - 14),
                Codes::Constant => (i % 3) as f64 / 8.0,
            })
            .collect();
        let zero: Option<Vec<u8>> = self.packed.zero.then(|| (0..wide * groups).map(|_| below(top + 1) as u8).collect());
        let scales: Vec<f32> = scale.iter().map(|s| *s as f32).collect();
        let gates = p.gates() as usize;
        let words = weight::pack(self.packed, p.input, n, k, gates, self.group, &code, &scales, zero.as_deref());
        let mut random = Random::new(seed + 77);
        let a = random.list(p.input, m * k);
        let bias = if p.bias { random.list(p.input, wide) } else { Vec::new() };
        let residual = if p.residual { random.list(p.output, m * n) } else { Vec::new() };
        let b = weight::dequantised(self.packed, p.input, n, k, gates, self.group, &code, &scales, zero.as_deref());
        let dense = GemmProblem { weight: Weight::Same, ..p };
        let want = reference(
            &dense,
            &Operands {
                shape: self.shape,
                a: a.clone(),
                b,
                bias: bias.clone(),
                residual: residual.clone(),
                alpha: 0.75,
                ..Operands::default()
            },
        );
        let bytes = [encode(p.input, &a), i32s(&words), encode(p.input, &bias), encode(p.output, &residual)];
        let mut inputs: Vec<(&str, &[u8])> = vec![("a", &bytes[0]), ("packed", &bytes[1])];
        if p.bias {
            inputs.push(("bias", &bytes[2]));
        }
        if p.residual {
            inputs.push(("residual", &bytes[3]));
        }
        let ints = [("m", m as i64), ("n", n as i64), ("k", k as i64), ("batch", 1)];
        let size = m * n * p.output.bytes() as usize;
        let what = format!("{} {:?} group {} {codes:?} seed {seed}", p.class(), self.shape, self.group);
        let d = match add_up {
            None => {
                let ran = built.run(&ints, &[("alpha", 0.75)], &inputs, &[("d", size)], seed).unwrap();
                assert_eq!(ran.errors, Vec::<String>::new(), "{what}");
                assert_eq!(ran.unwritten, [0], "{what}");
                ran.outputs[0].clone()
            }
            Some((add_up, c)) => {
                let tiles = m.div_ceil(c.bm as usize) * n.div_ceil(c.bn as usize);
                let ctas = (tiles * k.div_ceil(128)).min(SMS);
                let slots = 2 * ctas * gates * (c.bm * c.bn) as usize * 4;
                let ran = built.run(&ints, &[("alpha", 0.75)], &inputs, &[("d", size), ("partial", slots)], seed).unwrap();
                assert_eq!(ran.errors, Vec::<String>::new(), "{what}");
                // What nothing wrote must not be looked at, so both outputs go on as they are.
                let (d, partial) = (&ran.outputs[0], &ran.outputs[1]);
                let mut inputs = inputs[2..].to_vec();
                inputs.extend([("partial", &partial[..]), ("d", &d[..])]);
                let ints = [&ints[..], &[("ctas", ctas as i64)]].concat();
                let ran = add_up.run(&ints, &[("alpha", 0.75)], &inputs, &[], seed).unwrap();
                assert_eq!(ran.errors, Vec::<String>::new(), "{what}");
                ran.inputs[inputs.len() - 1].clone()
            }
        };
        if let Some((i, found, value, bound)) = want.first_miss(&decode(p.output, &d)) {
            panic!("{what}: element ({}, {}) is {found}, the reference {value}, the bound {bound:e}", i / n, i % n);
        }
        d
    }
}

/// SMs of the runner's device.
const SMS: usize = 4;

fn config(bm: u32, bn: u32, stages: u32, n_align: u32) -> WeightWgmmaConfig {
    WeightWgmmaConfig { bm, bn, stages, raster: 8, n_align, stream: false }
}

fn built(p: &GemmProblem, c: WeightWgmmaConfig) -> Built {
    let kernel = build(Arch::Sm90a, p, &GemmConfig::WeightWgmma(c)).unwrap();
    runner().build(&kernel.kernel).unwrap_or_else(|e| panic!("{}: {e}", kernel.id))
}

#[test]
fn formats_at_ragged_sizes() {
    for (bits, group, zero, dtype) in [
        (4, 128, false, DType::BF16),
        (4, 128, true, DType::F16),
        (4, 32, true, DType::BF16),
        (4, 64, false, DType::F16),
        (4, 16, true, DType::BF16),
        (8, 128, true, DType::BF16),
        (8, 32, false, DType::BF16),
        (8, 64, true, DType::F16),
        (8, 16, false, DType::F16),
    ] {
        let packed = Packed { bits, group, zero };
        let g = group as usize;
        let mut p = Problem::new(packed, dtype, [1, 3, 72, 2 * g.max(64)], g);
        let kernel = built(&p.p, config(16, 128, 3, 8));
        p.run(&kernel, Codes::Random, 0);
        p.run(&kernel, Codes::Extreme, 1);
        p.run(&kernel, Codes::Constant, 2);
        // One scale a row, k no multiple of the block or the group.
        for (i, [m, n, k]) in [[1, 8, 8], [17, 136, 200], [33, 200, 392]].into_iter().enumerate() {
            (p.shape, p.group) = ([1, m, n, k], if group == 128 { k } else { 8 * k });
            if group == 128 {
                p.run(&kernel, Codes::Random, i as u64);
            }
        }
    }
}

#[test]
fn trip_counts_around_the_depth_of_the_ring() {
    let packed = Packed { bits: 4, group: 128, zero: false };
    let mut p = Problem::new(packed, DType::BF16, [1, 8, 64, 128], 128);
    let kernel = built(&p.p, config(8, 64, 3, 8));
    for blocks in [1, 2, 3, 4, 7] {
        for seed in 0..4 {
            p.shape = [1, 9, 72, 128 * blocks];
            p.run(&kernel, Codes::Random, seed);
        }
    }
}

#[test]
fn every_epilogue_with_many_tokens() {
    let packed = Packed { bits: 4, group: 64, zero: true };
    for (act, bias, residual, output, bm, bn) in [
        (Act::None, true, true, DType::BF16, 64, 192),
        (Act::Silu, true, false, DType::F32, 24, 64),
        (Act::Swiglu, true, true, DType::BF16, 64, 128),
        (Act::Gelu, false, true, DType::BF16, 256, 128),
        (Act::Relu, false, false, DType::F16, 40, 128),
    ] {
        let mut p = Problem::new(packed, DType::BF16, [1, 70, 203, 320], 64);
        (p.p.act, p.p.bias, p.p.residual, p.p.output) = (act, bias, residual, output);
        let stages = if bm == 256 { 2 } else { 4 };
        let kernel = built(&p.p, config(bm, bn, stages, 1));
        p.run(&kernel, Codes::Random, 1);
        p.shape = [1, 70, 200, 320];
        let kernel = built(&p.p, config(bm, bn, stages, 8));
        p.run(&kernel, Codes::Random, 2);
    }
}

/// Tiles and CTAs in every relation: fewer, as many, more; tiles shared by two, by all, by none.
#[test]
fn ctas_share_the_blocks_of_all_tiles() {
    let packed = Packed { bits: 4, group: 128, zero: false };
    for (act, bias, residual, output) in [(Act::None, false, false, DType::BF16), (Act::Swiglu, true, true, DType::F32)] {
        let mut p = Problem::new(packed, DType::BF16, [1, 1, 64, 128], 128);
        (p.p.act, p.p.bias, p.p.residual, p.p.output) = (act, bias, residual, output);
        let c = WeightWgmmaConfig { stream: true, ..config(16, 128, 3, 8) };
        let kernel = built(&p.p, c);
        let mut k = KernelBuilder::new("add_up", Arch::Sm90a);
        let e = Epilogue::standard(&mut k, &p.p, c.n_align);
        weight::stream::add_up(&mut k, &p.p, &c, &|r, acc, at| e.emit(r, acc, at)).unwrap();
        let add_up = runner().build(&k.finish()).unwrap();
        for (m, n, blocks) in [(1, 64, 1), (3, 128, 3), (17, 136, 5), (16, 256, 2), (16, 200, 9), (33, 264, 3), (5, 520, 4)] {
            p.shape = [1, m, n, 128 * blocks - if blocks > 2 { 8 } else { 0 }];
            p.group = p.shape[3];
            p.run_with(&kernel, Some((&add_up, &c)), Codes::Random, 1);
            p.run_with(&kernel, Some((&add_up, &c)), Codes::Extreme, 2);
        }
    }
}
