//! The emulator sees it when a GEMM kernel's synchronisation breaks: every barrier, fence and wait is taken out of the PTX,
//! one at a time.

use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::weight::{WeightMmaConfig, WeightWgmmaConfig, pack};
use tilewright_templates::gemm::{GemmConfig, GemmProblem, Groups, Packed, Weight, build};
use tilewright_tests::mutants::{Outcome, all_are_seen, outcome};
use tilewright_tests::numbers::{encode, i32s, random};
use tilewright_tests::{Built, Runner};

/// Several tiles for each of the device's 4 multiprocessors, ragged ends, more blocks than stages.
const SHAPE: [usize; 3] = [40, 264, 392];

fn run(built: &Built, seed: u64) -> Outcome {
    let [m, n, k] = SHAPE;
    let codes: Vec<u8> = (0..n * k).map(|i| (i * 7919 % 16) as u8).collect();
    let scales: Vec<f32> = (0..n * k.div_ceil(128)).map(|i| (i % 5 + 1) as f32 / 64.0).collect();
    let packed = Packed { bits: 4, group: 128, zero: false };
    let words = i32s(&pack(packed, DType::BF16, n, k, 1, 128, &codes, &scales, None));
    let a = encode(DType::BF16, &random(m * k, DType::BF16, 5));
    let sizes = [("m", m as i64), ("n", n as i64), ("k", k as i64), ("batch", 1)];
    outcome(built.run(&sizes, &[("alpha", 1.0)], &[("a", &a), ("packed", &words)], &[("d", 2 * m * n)], seed))
}

#[test]
fn broken_synchronisation_of_packed_weights_is_seen() {
    let weight = Weight::Packed(Packed { bits: 4, group: 128, zero: false });
    let p = GemmProblem { weight, ..GemmProblem::plain(DType::BF16) };
    let c = WeightWgmmaConfig { bm: 16, bn: 128, stages: 2, raster: 8, n_align: 8, stream: false };
    let kernel = build(Arch::Sm90a, &p, &GemmConfig::WeightWgmma(c)).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&kernel.kernel).unwrap();
    all_are_seen(&built, 20, run, |_, _| None);
}

#[test]
fn broken_synchronisation_of_few_tokens_is_seen() {
    let weight = Weight::Packed(Packed { bits: 4, group: 128, zero: false });
    let p = GemmProblem { weight, ..GemmProblem::plain(DType::BF16) };
    let c = WeightMmaConfig { bm: 16, bn: 64, wgs: 2, stages: 2, depth: 1, load_align: 8, ctas: 1, split: false };
    let kernel = build(Arch::Sm80, &p, &GemmConfig::WeightMma(c)).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&kernel.kernel).unwrap();
    all_are_seen(&built, 2, run, |_, _| None);
}

/// Runs a grouped kernel: 5 experts, full tiles and cut ones, in the order of a list.
fn run_groups(built: &Built, bm: i32, packed: bool, seed: u64) -> Outcome {
    let [_, n, k] = SHAPE;
    let counts = [3, 2 * bm, bm + 1, 0, bm - 1];
    let (mut tiles, mut tokens) = (Vec::new(), 0);
    for (expert, count) in counts.iter().enumerate() {
        tiles.extend((0..*count).step_by(bm as usize).flat_map(|at| [expert as i32, tokens + at, (count - at).min(bm)]));
        tokens += count;
    }
    let (tokens, e) = (tokens as usize, counts.len());
    let a = encode(DType::BF16, &random(tokens * k, DType::BF16, 5));
    let b = if packed {
        let codes: Vec<u8> = (0..n * k).map(|i| (i * 7919 % 16) as u8).collect();
        let scales: Vec<f32> = (0..n * k.div_ceil(128)).map(|i| (i % 5 + 1) as f32 / 64.0).collect();
        let packed = Packed { bits: 4, group: 128, zero: false };
        i32s(&pack(packed, DType::BF16, n, k, 1, 128, &codes, &scales, None)).repeat(e)
    } else {
        encode(DType::BF16, &random(e * n * k, DType::BF16, 6))
    };
    let sizes = [("tokens", tokens as i64), ("n", n as i64), ("k", k as i64), ("e", e as i64)];
    let (count, tiles) = (i32s(&[tiles.len() as i32 / 3]), i32s(&tiles));
    let inputs = [("a", &a[..]), (if packed { "packed" } else { "b" }, &b), ("tiles", &tiles), ("tile_count", &count)];
    outcome(built.run(&sizes, &[("alpha", 1.0)], &inputs, &[("d", 2 * tokens * n)], seed))
}

#[test]
fn broken_synchronisation_of_experts_is_seen() {
    let p = GemmProblem { groups: Groups::Offsets, ..GemmProblem::plain(DType::BF16) };
    // Two chunks of columns, so that stores are under way while the next chunk is written.
    let c: GemmConfig =
        "kind=wgmma,bm=128,bn=128,bk=64,stages=2,wgs=2,schedule=coop,cluster=1x1,raster=8,n_align=8,split=0".parse().unwrap();
    let kernel = build(Arch::Sm90a, &p, &c).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&kernel.kernel).unwrap();
    all_are_seen(&built, 10, |built, seed| run_groups(built, 128, false, seed), |_, _| None);
}

#[test]
fn broken_synchronisation_of_packed_weights_of_experts_is_seen() {
    let weight = Weight::Packed(Packed { bits: 4, group: 128, zero: false });
    let p = GemmProblem { weight, groups: Groups::Offsets, ..GemmProblem::plain(DType::BF16) };
    let c = WeightWgmmaConfig { bm: 16, bn: 128, stages: 2, raster: 8, n_align: 8, stream: false };
    let kernel = build(Arch::Sm90a, &p, &GemmConfig::WeightWgmma(c)).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&kernel.kernel).unwrap();
    all_are_seen(&built, 20, |built, seed| run_groups(built, 16, true, seed), |_, _| None);
}
