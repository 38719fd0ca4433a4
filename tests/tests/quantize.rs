//! The quantisers on the emulator: any sizes, rows of zeros, huge and tiny numbers.

use tilewright_ir::{Arch, DType};
use tilewright_templates::quantize::{QuantBlock, QuantizeProblem, quantize_plan, quantize_reference};
use tilewright_tests::Runner;
use tilewright_tests::numbers::{Random, decode, encode};

fn check(arch: Arch, p: &QuantizeProblem, shapes: &[[usize; 2]]) {
    let plan = quantize_plan(arch, p).unwrap();
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    let built = runner.build(&plan.kernels[0].kernel).unwrap_or_else(|e| panic!("{}: {e}", p.class()));
    for (seed, [m, k]) in shapes.iter().copied().enumerate() {
        let mut r = Random::new(seed as u64);
        // Rows of other sizes, one of zeros, one of numbers below the floor.
        let x: Vec<f64> = (0..m * k)
            .map(|i| match i / k % 5 {
                1 => 0.0,
                2 => 1e-12 * r.unit(),
                3 => 3e4 * r.unit(),
                _ => r.unit().powi(3),
            })
            .collect();
        let bytes = encode(p.input, &x);
        let x = decode(p.input, &bytes);
        let block = if p.block == QuantBlock::Row { k } else { 128 };
        let blocks = k.div_ceil(block);
        let ints = [("m", m as i64), ("k", k as i64)];
        let ran = built.run(&ints, &[], &[("x", &bytes)], &[("q", m * k), ("scale", 4 * m * blocks)], seed as u64).unwrap();
        let name = format!("{} {m} x {k}", p.class());
        assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{name}: {:?} {:?}", ran.errors, ran.lints);
        assert_eq!(ran.unwritten, [0, 0], "{name}");
        let (q, scale) = (decode(p.to, &ran.outputs[0]), decode(DType::F32, &ran.outputs[1]));
        let want = quantize_reference(&x, k, block, p.to);
        assert_eq!(want.first_miss(&x, k, block, p.to, &q, &scale), None, "{name}");
        // The largest of a block is the largest code, or close to it.
        let top = if p.to == DType::I8 { 127.0 } else { 448.0 };
        assert!(q.iter().any(|v| v.abs() == top), "{name}");
    }
}

#[test]
fn rows_and_blocks_of_any_size() {
    for to in [DType::E4M3, DType::I8] {
        for block in [QuantBlock::Row, QuantBlock::Columns] {
            let class = |input, align| QuantizeProblem { input, to, block, align };
            check(Arch::Sm90a, &class(DType::BF16, 8), &[[1, 8], [17, 128], [5, 2880]]);
            check(Arch::Sm90a, &class(DType::F16, 4), &[[3, 132], [2, 3884]]);
            check(Arch::Sm90a, &class(DType::F32, 1), &[[1, 1], [33, 129], [6, 1025]]);
        }
    }
}

#[test]
fn integers_on_ampere() {
    for block in [QuantBlock::Row, QuantBlock::Columns] {
        check(Arch::Sm80, &QuantizeProblem { input: DType::BF16, to: DType::I8, block, align: 8 }, &[[3, 264]]);
    }
    let p = QuantizeProblem { input: DType::BF16, to: DType::E4M3, block: QuantBlock::Row, align: 8 };
    assert!(quantize_plan(Arch::Sm80, &p).unwrap_err().to_string().contains("need sm89"));
}
