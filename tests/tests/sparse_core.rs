//! The core of sparse convolution on the emulator: every source and exit against f64.

#[path = "common/sparse_core.rs"]
mod common;

use common::{Map, Numbers};
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::Act;
use tilewright_templates::sparse_conv::core::{CoreClass, CoreConfig, EpilogueClass, Exit, MmaConfig, Source, core_kernel};
use tilewright_tests::{Built, Runner};

fn build(arch: Arch, class: &CoreClass, c: &MmaConfig) -> Built {
    let kernel = core_kernel(arch, class, &CoreConfig::Mma(*c)).unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build(&kernel.kernel).unwrap_or_else(|e| panic!("{}: {e}", kernel.id))
}

fn class(dtype: DType, source: Source, exit: Exit) -> CoreClass {
    CoreClass { dtype, source, exit, epilogue: EpilogueClass::NONE, n_align: 16 / dtype.bytes() }
}

#[test]
fn tiles_with_no_tap_and_with_taps_around_the_depth() {
    let class = class(DType::BF16, Source::Tiles, Exit::Store);
    for (arch, stages) in [(Arch::Sm80, 2), (Arch::Sm90a, 4)] {
        let c = MmaConfig::new([32, 32, 16], stages);
        let built = build(arch, &class, &c);
        for cin in [8, 16, 48] {
            let map = Map::stairs(32, 5, 40);
            let numbers = Numbers::new(map, [cin, 40], class.dtype, class.epilogue, 1);
            for seed in 0..3 {
                numbers.run(&built, &class, 32, 1, false, seed);
            }
        }
    }
}

/// Every source with every exit that takes it.
const WAYS: [(Source, Exit); 5] = [
    (Source::Tiles, Exit::Store),
    (Source::Tiles, Exit::Slab),
    (Source::Pairs, Exit::PairRows),
    (Source::Tap, Exit::AddPlain),
    (Source::Rows, Exit::PairRows),
];

fn every_way(arch: Arch, dtype: DType, tile: [u32; 3], [cin, cout]: [usize; 2], sizes: [usize; 4]) {
    for (i, (source, exit)) in WAYS.into_iter().enumerate() {
        let c = MmaConfig::new(tile, 3);
        let vec = 16 / dtype.bytes() as usize;
        let n_align = [vec, 2, 1].into_iter().find(|a| cout.is_multiple_of(*a)).unwrap() as u32;
        let class = CoreClass { n_align, ..class(dtype, source, exit) };
        let built = build(arch, &class, &c);
        let numbers = Numbers::new(Map::random(sizes, 100, i as u64), [cin, cout], dtype, class.epilogue, i as u64);
        let splits = if exit == Exit::Slab { 3 } else { 1 };
        for seed in 0..2 {
            numbers.run(&built, &class, tile[0] as usize, splits, seed == 1, seed);
        }
    }
}

#[test]
fn every_way_in_bf16_with_few_channels() {
    every_way(Arch::Sm80, DType::BF16, [64, 32, 16], [4, 20], [70, 66, 65, 8]);
}

#[test]
fn every_way_in_f16_with_odd_channels() {
    every_way(Arch::Sm90a, DType::F16, [32, 16, 32], [3, 1], [50, 40, 33, 27]);
}

#[test]
fn every_way_in_bf16_with_ragged_tiles() {
    every_way(Arch::Sm90a, DType::BF16, [128, 96, 32], [40, 104], [200, 140, 127, 4]);
}

#[test]
fn epilogues() {
    let none = EpilogueClass::NONE;
    for (dtype, cout, epilogue) in [
        (DType::BF16, 32, EpilogueClass { bias: Some(DType::BF16), act: Act::Relu, ..none }),
        (DType::F16, 24, EpilogueClass { bn: Some(DType::F32), act: Act::Gelu, residual: true, ..none }),
        (DType::F16, 19, EpilogueClass { bias: Some(DType::F32), bn: Some(DType::F16), act: Act::Silu, residual: true }),
    ] {
        let n_align = if cout % 8 == 0 { 8 } else { 1 };
        let class = CoreClass { epilogue, n_align, ..class(dtype, Source::Tiles, Exit::Store) };
        let built = build(Arch::Sm80, &class, &MmaConfig::new([64, 32, 16], 2));
        let numbers = Numbers::new(Map::random([60, 80, 70, 3], 90, 5), [16, cout], dtype, epilogue, 5);
        numbers.run(&built, &class, 64, 1, true, 0);
    }
}

#[test]
fn nothing_to_do() {
    for (source, exit) in WAYS {
        let class = class(DType::F16, source, exit);
        let built = build(Arch::Sm80, &class, &MmaConfig::new([64, 64, 32], 2));
        // Outputs without a pair, and no output at all.
        for sizes in [[5, 9, 9, 3], [5, 9, 0, 3]] {
            let numbers = Numbers::new(Map::random(sizes, 0, 1), [32, 64], DType::F16, class.epilogue, 1);
            numbers.run(&built, &class, 64, 1, false, 0);
        }
    }
}

#[test]
fn refusals_say_why() {
    let pairs = class(DType::BF16, Source::Pairs, Exit::Store);
    let c = CoreConfig::Mma(MmaConfig::new([64, 64, 32], 3));
    let refused = |class: &CoreClass, c: &CoreConfig| core_kernel(Arch::Sm80, class, c).unwrap_err().to_string();
    assert!(refused(&pairs, &c).contains("a pair is one part"));
    let swiglu = EpilogueClass { act: Act::Swiglu, ..EpilogueClass::NONE };
    let tiles = class(DType::BF16, Source::Tiles, Exit::Store);
    assert!(refused(&CoreClass { epilogue: swiglu, ..tiles }, &c).contains("swiglu"));
    let vector = EpilogueClass { bias: Some(DType::F16), ..EpilogueClass::NONE };
    assert!(refused(&CoreClass { epilogue: vector, ..tiles }, &c).contains("bf16 or f32, not f16"));
    assert!(refused(&class(DType::I8, Source::Tiles, Exit::Store), &c).contains("not i8"));
    let wgmma = "wgmma_128x64x64_s4".parse().unwrap();
    assert!(refused(&tiles, &wgmma).contains("needs sm90"));
}
