//! The mma.sync kernel for packed weights against the reference, in the emulator.

#[path = "common/weight.rs"]
mod common;

use common::{Case, Codes, Launches};
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::weight::WeightMmaConfig;
use tilewright_templates::gemm::{GemmConfig, GemmProblem, Packed, Weight, build};
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

#[test]
fn few_tokens_on_both_targets() {
    for arch in [Arch::Sm80, Arch::Sm90a] {
        let p = class(4, 128, false, DType::BF16);
        let kernel = built(arch, &p, config(8, 64, 4));
        for (seed, [m, n, k]) in [[1, 64, 128], [8, 72, 640], [3, 100, 1160], [5, 200, 2880]].into_iter().enumerate() {
            let case = Case { p, shape: [1, m, n, k], group: 128, codes: Codes::Random, seed: seed as u64 };
            case.holds(&Launches::One(&kernel));
        }
    }
}
