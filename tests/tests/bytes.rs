//! 8-bit elements in tiles: casts, loads and stores of single bytes, pairs and words, and tensor cores on them, through LLVM
//! and on the emulator.

use tilewright_ir::layout::{blocked, wgmma_acc};
use tilewright_ir::tile::{Dim, Kernel, KernelBuilder, RegTile, Unit};
use tilewright_ir::{Arch, DType};
use tilewright_tests::Runner;
use tilewright_tests::numbers::{decode, encode, random};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

/// One warpgroup: `x [rows, cols]` f32 as `to` in `y`, and `y_in` as f32 in `z`.
fn casts(to: DType, acc: bool, shape: [u32; 2], vec: u32) -> Kernel {
    let mut k = KernelBuilder::new("casts", Arch::Sm90a);
    for name in ["m", "n"] {
        k.shape(name);
    }
    let dims = || [Dim::param("m"), Dim::param("n")];
    let x = k.tensor("x", DType::F32, dims());
    let y_in = k.tensor("y_in", to, dims());
    let (y, z) = (k.tensor("y", to, dims()), k.tensor("z", DType::F32, dims()));
    k.grid(["1".into(), "1".into(), "1".into()]);
    let layout = if acc { wgmma_acc(shape[0], shape[1], 1) } else { blocked(128, shape, vec) }.unwrap();
    k.role("main", 4, None, Unit::Role, |r| {
        let zero = r.int(0);
        let like = |dtype| RegTile { dtype, shape, layout: layout.clone() };
        let tile = r.load_tile(&x, like(DType::F32), &[zero, zero], &[0, 1], vec);
        let bytes = r.cast(tile, to);
        r.store_tile(&y, bytes, &[zero, zero], vec);
        let tile = r.load_tile(&y_in, like(to), &[zero, zero], &[0, 1], vec);
        let wide = r.cast(tile, DType::F32);
        r.store_tile(&z, wide, &[zero, zero], vec);
    });
    k.finish()
}

#[test]
fn casts_in_every_layout_and_width() {
    let runner = runner();
    for to in [DType::E4M3, DType::E5M2, DType::I8] {
        for (acc, shape, vec) in [
            (true, [64, 16], 1),
            (true, [128, 24], 2),
            (false, [32, 64], 1),
            (false, [16, 64], 2),
            (false, [16, 64], 4),
            (false, [16, 128], 16),
        ] {
            let built = runner.build(&casts(to, acc, shape, vec)).unwrap();
            let [rows, cols] = shape.map(|s| s as usize);
            // Ragged, as far as the width allows.
            let (m, n) = (rows - 3, cols - vec as usize);
            let scale = if to == DType::E5M2 { 40_000.0 } else { 300.0 };
            let mut x: Vec<f64> = random(m * n, DType::F32, 7).iter().map(|v| f64::from((scale * v.powi(5)) as f32)).collect();
            let odd =
                [f64::NAN, f64::INFINITY, -1e30, 0.0, -0.0, 449.0, 464.0, -463.9, 0.5, 1.5, -2.5, 126.5, 2f64.powi(-10), 1e-20];
            x[..odd.len()].copy_from_slice(&odd);
            let codes: Vec<u8> = (0..m * n).map(|i| (i % 256) as u8).collect();
            let inputs = [("x", &encode(DType::F32, &x)[..]), ("y_in", &codes)];
            let ran = built.run(&[("m", m as i64), ("n", n as i64)], &[], &inputs, &[("y", m * n), ("z", 4 * m * n)], 0).unwrap();
            assert!(ran.errors.is_empty(), "{}", ran.errors[0]);
            assert_eq!(ran.unwritten, [0, 0]);
            // As i8 a NaN is 0.
            let x: Vec<f64> = x.iter().map(|v| if to == DType::I8 && v.is_nan() { 0.0 } else { *v }).collect();
            assert_eq!(ran.outputs[0], encode(to, &x), "{to} {shape:?} {vec}");
            let (found, want) = (decode(DType::F32, &ran.outputs[1]), decode(to, &codes));
            assert!(
                found.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()),
                "{to} {shape:?}"
            );
        }
    }
}

/// `d [m, n] = a [m, k] b [n, k]^T`, one tile, a stage of 128 k.
fn product(a: DType, b: DType, [bm, bn]: [u32; 2]) -> Kernel {
    let mut k = KernelBuilder::new("product", Arch::Sm90a);
    for name in ["m", "n", "k"] {
        k.shape(name);
    }
    let (ta, tb) = (k.tensor("a", a, ["m", "k"].map(Dim::param)), k.tensor("b", b, ["n", "k"].map(Dim::param)));
    let d = k.tensor("d", if a == DType::I8 { DType::I32 } else { DType::F32 }, ["m", "n"].map(Dim::param));
    let ring = k.pipe("ab", 2, &[(a, [bm, 128], 1), (b, [bn, 128], 1)]);
    k.grid(["1".into(), "1".into(), "1".into()]);
    k.role("load", 4, Some(40), Unit::Thread, |r| {
        let (kd, zero) = (r.param("k"), r.int(0));
        let trips = r.ceil_div(kd, 128);
        r.for_range(0, trips, 1, |r, i| {
            let at = r.mul(i, 128);
            let s = r.acquire(&ring);
            r.tma_load(&ta, &[zero, at], &ring, s, 0);
            r.tma_load(&tb, &[zero, at], &ring, s, 1);
            r.commit(&ring, s);
        });
    });
    k.role("math", 4, Some(232), Unit::Warpgroup, |r| {
        let (kd, zero) = (r.param("k"), r.int(0));
        let trips = r.ceil_div(kd, 128);
        let acc = r.wgmma_acc_for(a, [bm, bn]).unwrap();
        r.for_range(0, trips, 1, |r, i| {
            let s = r.wait(&ring);
            let (at, bt) = (r.slot(&ring, s, 0), r.slot(&ring, s, 1));
            let first = r.cmp(tilewright_ir::tile::CmpPred::Eq, i, 0);
            r.mma_async(acc, at, bt, first, false);
            r.mma_wait(acc, 0);
            r.release(&ring);
        });
        let out = r.get_tile(acc);
        r.store_tile(&d, out, &[zero, zero], 1);
    });
    k.finish()
}

#[test]
fn wgmma_of_bytes() {
    let runner = runner();
    let types = [
        (DType::E4M3, DType::E4M3),
        (DType::E5M2, DType::E5M2),
        (DType::E4M3, DType::E5M2),
        (DType::E5M2, DType::E4M3),
        (DType::I8, DType::I8),
    ];
    for (at, bt) in types {
        for (tile, [m, n, k]) in
            [([64, 24], [50, 21, 64]), ([128, 128], [128, 121, 400]), ([64, 256], [64, 256, 32]), ([64, 8], [1, 1, 16])]
        {
            let built = runner.build(&product(at, bt, tile)).unwrap_or_else(|e| panic!("{at} {bt} {tile:?}: {e}"));
            let (a, b) = (random(m * k, at, 1), random(n * k, bt, 2));
            let ints = [("m", m as i64), ("n", n as i64), ("k", k as i64)];
            for seed in 0..3 {
                let inputs = [("a", &encode(at, &a)[..]), ("b", &encode(bt, &b))];
                let ran = built.run(&ints, &[], &inputs, &[("d", 4 * m * n)], seed).unwrap();
                assert!(ran.errors.is_empty(), "{}", ran.errors[0]);
                let d = decode(if at == DType::I8 { DType::I32 } else { DType::F32 }, &ran.outputs[0]);
                for (i, d) in d.iter().enumerate() {
                    let (row, col) = (i / n, i % n);
                    let terms = (0..k).map(|j| a[row * k + j] * b[col * k + j]);
                    let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                    let slack = if at == DType::I8 { 0.0 } else { size * 2f64.powi(-20) };
                    assert!((d - sum).abs() <= slack, "{at} {bt} {tile:?} [{row}, {col}]: {d}, not {sum}");
                }
            }
        }
    }
}

#[test]
fn what_bytes_cannot_do_is_refused() {
    let refused = |kernel: Kernel, why: &str| match runner().build(&kernel) {
        Ok(_) => panic!("built: {why}"),
        Err(e) => assert!(e.to_string().contains(why), "{e}"),
    };
    refused(product(DType::I8, DType::I8, [64, 40]), "8, 16, 24, 32, then steps of 16");
    refused(product(DType::I8, DType::E4M3, [64, 32]), "do not fit");
    let mut sm80 = casts(DType::E4M3, false, [16, 64], 4);
    sm80.arch = Arch::Sm80;
    refused(sm80, "needs compute capability 89");
}
