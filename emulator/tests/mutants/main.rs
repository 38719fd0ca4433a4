//! Mutants: every fence, wait and arrival of good kernels is deleted in turn, every parity flipped, every count, stage,
//! descriptor and tensor map changed. Each mutant must be reported, or give wrong values, on one of eight schedules;
//! the kernels themselves must be silent on all of them.

#[path = "../common/mod.rs"]
mod common;
mod equivalent;
mod good;
mod operators;
mod score;
mod shipped;
mod text;

use common::gemm;
use good::{Good, Source};
use shipped::Problem;

/// Least share of the mutants that differ from their kernel which must be seen.
const MIN_SCORE: f64 = 0.98;

/// Most of the mutants that may be listed as equivalent.
const MAX_EQUIVALENT: f64 = 0.04;

fn llvm() -> Vec<Good> {
    let specs = [
        (gemm::sm90(gemm::SM90, [128, 128, 520], 1), 4),
        (gemm::sm90(gemm::SM90_CLUSTER, [128, 256, 520], 2), 4),
        (gemm::sm80(gemm::SM80, [64, 64, 168]), 3),
        (gemm::softmax(gemm::SOFTMAX, 2, 260), 0),
    ];
    let good = |(spec, stages): (common::spec::Spec, i64)| Good {
        name: spec.name.clone(),
        source: Source::Spec(Box::new(spec)),
        stages: if stages > 0 { vec![stages] } else { Vec::new() },
        sms: 132,
    };
    specs.into_iter().map(good).collect()
}

fn sm90() -> Vec<Good> {
    let problem = |id, batch, shape, splits, sms| Problem { id, batch, shape, splits, sms };
    let problems = [
        // Half as many k-blocks again as stages: the stage index wraps within a tile, and where a tile ends.
        problem("gemm_bf16_bf16_nk_wgmma_64x64x64_s8_w1_coop_1x1_g8_a8", 2, [64, 192, 744], 1, 2),
        problem("gemm_bf16_bf16_nk_wgmma_128x128x64_s6_w2_pp_2x1_g8_a8", 1, [256, 512, 680], 1, 2),
        problem("gemm_bf16_bf16_nk_wgmma_128x192x64_s4_w2_coop_2x1_g8_a8", 1, [256, 576, 360], 1, 2),
        problem("gemm_bf16_bf16_nk_swiglu_wgmma_64x64x64_s8_w1_coop_1x1_g8_a8", 1, [64, 96, 744], 1, 1),
        problem("gemm_bf16_f32_nk_wgmma_64x64x64_s8_w1_coop_1x1_g8_a8_split", 1, [64, 128, 1512], 2, 1),
        problem("gemm_bf16_bf16_kn_wgmma_128x128x64_s6_w2_coop_1x1_g8_a8", 1, [128, 384, 552], 1, 1),
        problem("gemm_bf16_bf16_nk_reduce_8x256_a4", 1, [16, 264, 8], 3, 1),
    ];
    problems.map(|problem| shipped::kernel("sm90", problem)).into()
}

fn sm80() -> Vec<Good> {
    let problem = |id, shape| Problem { id, batch: 1, shape, splits: 1, sms: 8 };
    vec![
        shipped::kernel("sm80", problem("gemm_bf16_bf16_nk_mma_64x64x32_s4_w2x2_g8_l8_a2", [64, 64, 232])),
        shipped::kernel("sm80", problem("gemm_bf16_bf16_kn_mma_128x128x32_s4_w2x4_g8_l8_a2", [128, 128, 232])),
    ]
}

/// The cases in `mutants/ptx`. A comment `// stages: 3` names what a stage index is compared with.
fn small() -> Vec<Good> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mutants/ptx");
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let good = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).expect("text");
        let stages = text.lines().filter_map(|line| line.strip_prefix("// stages: ")?.parse().ok()).collect();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Good { name, source: Source::Case(text), stages, sms: 132 }
    };
    paths.into_iter().map(good).collect()
}

fn check_silence(kernels: &[Good]) {
    let noise: Vec<String> = kernels.iter().flat_map(score::noise).collect();
    assert!(noise.is_empty(), "good kernels are not silent:\n{}", noise.join("\n"));
}

fn check_mutants(kernels: &[Good]) {
    let mutants = score::mutants(kernels);
    let score = score::score(&mutants, &equivalent::list());
    println!("{}", score.report);
    assert!(score.wrong_entries.is_empty(), "equivalent.txt is wrong:\n{}", score.wrong_entries.join("\n"));
    assert!(score.equal_share <= MAX_EQUIVALENT, "{:.1} % are listed as equivalent", 100.0 * score.equal_share);
    assert!(score.share >= MIN_SCORE, "only {:.2} % of the mutants are seen", 100.0 * score.share);
}

#[test]
fn compiled_kernels_are_silent() {
    check_silence(&llvm());
}

#[test]
fn mutants_of_compiled_kernels_are_seen() {
    check_mutants(&llvm());
}

#[test]
fn shipped_kernels_are_silent() {
    check_silence(&sm90());
    check_silence(&sm80());
}

#[test]
fn mutants_of_shipped_hopper_kernels_are_seen() {
    check_mutants(&sm90());
}

#[test]
fn mutants_of_shipped_ampere_kernels_are_seen() {
    check_mutants(&sm80());
}

#[test]
fn small_kernels_are_silent() {
    check_silence(&small());
}

#[test]
fn mutants_of_small_kernels_are_seen() {
    check_mutants(&small());
}
