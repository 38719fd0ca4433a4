//! The mma.sync kernel for packed weights against the reference, in the emulator.

#[path = "common/weight.rs"]
mod common;

use common::{Case, Codes, Launches};
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::weight::WeightMmaConfig;
use tilewright_templates::gemm::{Act, GemmConfig, GemmProblem, Groups, Packed, ReduceConfig, Weight, build, reduce_kernel};
use tilewright_tests::{Built, Runner};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

fn config(bm: u32, bn: u32, wgs: u32) -> WeightMmaConfig {
    WeightMmaConfig { bm, bn, wgs, stages: 3, depth: 1, load_align: 8, ctas: 1, split: false }
}

fn class(bits: u32, group: u32, zero: bool, dtype: DType) -> GemmProblem {
    GemmProblem { weight: Weight::Packed(Packed { bits, group, zero }), ..GemmProblem::plain(dtype) }
}

fn built(arch: Arch, p: &GemmProblem, c: WeightMmaConfig) -> Built {
    let kernel = build(arch, p, &GemmConfig::WeightMma(c)).unwrap();
    runner().build(&kernel.kernel).unwrap_or_else(|e| panic!("{}: {e}", kernel.id))
}

fn split_kernels(arch: Arch, p: &GemmProblem, c: WeightMmaConfig) -> (Built, Built) {
    let part = GemmProblem { output: DType::F32, bias: false, residual: false, ..*p };
    let sum = reduce_kernel(arch, p, &ReduceConfig { rows: 8, cols: 256, n_align: 1 }).unwrap();
    (built(arch, &part, WeightMmaConfig { split: true, ..c }), runner().build(&sum.kernel).unwrap())
}

#[test]
fn few_tokens_on_both_targets() {
    for arch in [Arch::Sm80, Arch::Sm89, Arch::Sm90a] {
        let p = class(4, 128, false, DType::BF16);
        let kernel = built(arch, &p, config(8, 64, 4));
        for (seed, [m, n, k]) in [[1, 64, 128], [8, 72, 640], [3, 100, 1160], [5, 200, 2880]].into_iter().enumerate() {
            let case = Case { p, shape: [1, m, n, k], group: 128, codes: Codes::Random, seed: seed as u64 };
            case.holds(&Launches::One(&kernel));
        }
    }
}

#[test]
fn formats_at_ragged_sizes() {
    for (i, (bits, group, zero, dtype)) in [
        (4, 128, false, DType::F16),
        (4, 128, true, DType::BF16),
        (4, 64, true, DType::F16),
        (4, 32, false, DType::BF16),
        (4, 16, true, DType::BF16),
        (8, 128, true, DType::BF16),
        (8, 32, false, DType::BF16),
        (8, 64, true, DType::F16),
        (8, 16, false, DType::F16),
    ]
    .into_iter()
    .enumerate()
    {
        let p = class(bits, group, zero, dtype);
        let arch = [Arch::Sm80, Arch::Sm90a][i % 2];
        let (bm, wgs) = [(8, 4), (16, 2), (8, 8), (32, 1)][i % 4];
        let kernel = built(arch, &p, WeightMmaConfig { depth: 1 + i as u32 % 2, ..config(bm, 64, wgs) });
        let g = group as usize;
        for codes in [Codes::Random, Codes::Extreme, Codes::Constant] {
            Case { p, shape: [1, 3, 72, 384], group: g, codes, seed: i as u64 % 3 }.holds(&Launches::One(&kernel));
        }
        Case { p, shape: [1, 17, 100, 2 * g.max(200)], group: 2 * g, codes: Codes::Random, seed: 1 }
            .holds(&Launches::One(&kernel));
        if group == 128 {
            // One scale a row.
            Case { p, shape: [1, 2, 130, 1000], group: 1000, codes: Codes::Random, seed: 2 }.holds(&Launches::One(&kernel));
        }
    }
}

#[test]
fn blocks_around_the_number_of_warpgroups_and_stages() {
    for (wgs, depth) in [(1, 1), (2, 2), (4, 1), (8, 2)] {
        let p = class(4, 128, true, DType::BF16);
        let kernel = built(Arch::Sm80, &p, WeightMmaConfig { depth, ..config(8, 64, wgs) });
        for blocks in [1, 2, 3, 4, 5, 9, 17, 33] {
            for seed in 0..3 {
                let case = Case { p, shape: [1, 4, 24, 128 * blocks], group: 128, codes: Codes::Random, seed };
                case.holds(&Launches::One(&kernel));
            }
        }
    }
}

#[test]
fn any_k_with_narrow_copies() {
    let p = class(8, 128, false, DType::F16);
    for (align, ks) in [(4, [100, 3884]), (2, [2, 386]), (1, [1, 299])] {
        let kernel = built(Arch::Sm90a, &p, WeightMmaConfig { load_align: align, ..config(16, 64, 2) });
        for k in ks {
            let shape = [1, 17, if k == 3884 { 2880 } else { 66 }, k];
            Case { p, shape, group: k.max(128), codes: Codes::Random, seed: 0 }.holds(&Launches::One(&kernel));
        }
    }
}

#[test]
fn every_epilogue_and_more_rows() {
    for (i, (act, bias, residual, output, bm, bn)) in [
        (Act::None, true, true, DType::BF16, 64, 128),
        (Act::Silu, true, false, DType::F32, 16, 64),
        (Act::Swiglu, true, true, DType::BF16, 8, 128),
        (Act::Swiglu, true, false, DType::BF16, 32, 256),
        (Act::Gelu, false, true, DType::BF16, 32, 128),
        (Act::Relu, false, false, DType::F16, 8, 64),
    ]
    .into_iter()
    .enumerate()
    {
        let p = GemmProblem { act, bias, residual, output, ..class(4, 64, true, DType::BF16) };
        let arch = [Arch::Sm90a, Arch::Sm80][i % 2];
        let c = config(bm, bn, if bm >= 32 { 2 } else { 4 });
        let kernel = built(arch, &p, c);
        let (partial, sum) = split_kernels(arch, &p, c);
        let case = |m, n| Case { p, shape: [2, m, n, 320], group: 64, codes: Codes::Random, seed: i as u64 % 3 };
        case(bm as usize + 1, 203).holds(&Launches::One(&kernel));
        case(7, 320).holds(&Launches::One(&kernel));
        case(bm as usize + 1, 130).holds(&Launches::Split(&partial, &sum, 2));
        case(1, 65).holds(&Launches::Split(&partial, &sum, 3));
    }
}

#[test]
fn half_blocks_of_rows() {
    for (i, (bits, group, zero, dtype, act, wgs)) in [
        (4, 128, false, DType::BF16, Act::None, 1),
        (4, 64, true, DType::F16, Act::None, 4),
        (4, 16, true, DType::BF16, Act::Swiglu, 2),
        (8, 128, true, DType::BF16, Act::Swiglu, 4),
        (8, 32, false, DType::F16, Act::None, 8),
    ]
    .into_iter()
    .enumerate()
    {
        let p = GemmProblem { act, bias: i > 1, ..class(bits, group, zero, dtype) };
        let arch = [Arch::Sm80, Arch::Sm90a][i % 2];
        let c = config(if i == 1 { 16 } else { 8 }, 32 * p.gates(), wgs);
        let kernel = built(arch, &p, c);
        let (partial, sum) = split_kernels(arch, &p, c);
        let g = group as usize;
        for (seed, [m, n, k]) in [[1, 40, 128], [8, 100, 1096], [17, 64, 384], [3, 200, 1920]].into_iter().enumerate() {
            let case = Case { p, shape: [2, m, n, k], group: g, codes: Codes::Random, seed: seed as u64 };
            case.holds(&Launches::One(&kernel));
            if k > 384 {
                case.holds(&Launches::Split(&partial, &sum, 3));
            }
        }
        let case = Case { p, shape: [1, 4, 33, 640], group: g, codes: Codes::Extreme, seed: 2 };
        case.holds(&Launches::One(&kernel));
        Case { codes: Codes::Constant, ..case }.holds(&Launches::One(&kernel));
    }
}

#[test]
fn points_that_do_not_work_are_refused() {
    let p = class(4, 128, false, DType::BF16);
    let refused = |p: &GemmProblem, c: WeightMmaConfig| GemmConfig::WeightMma(c).check(p).unwrap_err().to_string();
    assert!(refused(&GemmProblem::plain(DType::BF16), config(8, 64, 4)).contains("takes a packed weight"));
    assert!(refused(&p, config(24, 64, 4)).contains("bm = 24: 8, 16, 32 or 64 tokens"));
    assert!(refused(&p, config(8, 96, 4)).contains("bn = 96: 32 rows or whole blocks of 64"));
    let swiglu = GemmProblem { act: Act::Swiglu, ..p };
    assert!(refused(&swiglu, config(8, 32, 4)).contains("bn = 32: 32 rows or whole blocks of 64 for each gate"));
    assert!(refused(&p, config(8, 64, 3)).contains("3 warpgroups: 1, 2, 4 or 8"));
    assert!(refused(&p, config(64, 128, 8)).contains("registers a thread, 1 CTAs of 8 warpgroups leave 60"));
    assert!(refused(&p, WeightMmaConfig { ctas: 4, ..config(8, 64, 4) }).contains("more than 1536 threads"));
    let split = WeightMmaConfig { split: true, ..config(8, 64, 4) };
    assert!(refused(&GemmProblem { groups: Groups::Counts, ..p }, split).contains("split"));
}
