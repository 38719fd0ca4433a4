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
