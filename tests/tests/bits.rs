//! Bits as they travel: bulk copies into a stage, shared tiles in registers, registers under another type, arithmetic on
//! pairs of 16-bit floats, transposed stores. Each kernel runs through LLVM, ptxas and the emulator.

use half::{bf16, f16};
use tilewright_ir::layout::{self, blocked, row_group_words, row_groups, wgmma_a, wgmma_acc};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, SlotDecl, SmemTile, Unit};
use tilewright_ir::{Arch, DType};
use tilewright_tests::Runner;
use tilewright_tests::numbers::{decode, encode, i32s, random};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

fn tile(dtype: DType, shape: [u32; 2], layout: Result<layout::Layout, layout::LayoutError>) -> RegTile {
    RegTile { dtype, shape, layout: layout.unwrap() }
}

/// A record of 512 words and 2 x 32 words of factors, copied whole; codes of four bits become an A operand times its factors.
fn decode_kernel(arch: Arch, dtype: DType) -> tilewright_ir::tile::Kernel {
    let mut k = KernelBuilder::new("decode", arch);
    let words = k.tensor("words", DType::I32, [Dim::param("count"), Dim { param: None, factor: 576 }]);
    let out = k.tensor("out", dtype, [Dim::param("rows"), Dim { param: None, factor: 64 }]);
    for name in ["count", "rows"] {
        k.shape(name);
    }
    k.grid(["1".into(), "1".into(), "1".into()]);
    let slot = SlotDecl { tile: SmemTile::packed(DType::I32, [1, 576]), multicast: 1 };
    let ring = k.pipe_of("ring", 2, vec![slot]);
    k.role("load", 4, None, Unit::Thread, |r| {
        let count = r.param("count");
        r.for_range(0, count, 1, |r, i| {
            let s = r.acquire(&ring);
            r.bulk_load(&words, &[i], &ring, s, 0);
            r.commit(&ring, s);
        });
    });
    k.role("math", 4, None, Unit::Warpgroup, |r| {
        let count = r.param("count");
        r.for_range(0, count, 1, |r, i| {
            let s = r.wait(&ring);
            let record = r.slot(&ring, s, 0);
            let codes = r.view(record, 0, DType::I32, [128, 4]);
            let codes = r.load_shared(codes, tile(DType::I32, [128, 4], blocked(128, [128, 4], 4)));
            let factors = r.view(record, 2048, DType::I32, [2, 32]);
            let factors = r.load_shared(factors, tile(DType::I32, [2, 32], row_group_words(2)));
            r.release(&ring);
            let factors = r.reinterpret(&[factors], tile(dtype, [64, 2], row_groups(2)));
            let magic = if dtype == DType::BF16 { 0x4300_4300 } else { 0x6400_6400 };
            let parts: Vec<_> = (0..4)
                .map(|j| {
                    let by = r.splat_int(4 * j, codes);
                    let low = r.binary("shr", codes, by);
                    let mask = r.splat_int(0x000F_000F, codes);
                    let low = r.binary("and", low, mask);
                    let magic = r.splat_int(magic, codes);
                    r.binary("or", low, magic)
                })
                .collect();
            let a = tile(dtype, [64, 64], wgmma_a(64, 64, 1));
            let x = r.reinterpret(&parts, a.clone());
            let eight = r.float(if dtype == DType::BF16 { 136.0 } else { 1032.0 });
            let eight = r.splat(eight, a.clone());
            let x = r.binary("sub", x, eight);
            let factors = r.broadcast(factors, a);
            let x = r.binary("mul", x, factors);
            let row = r.mul(i, 64);
            let zero = r.int(0);
            r.store_tile(&out, x, &[row, zero], 2);
        });
    });
    k.finish()
}

#[test]
fn codes_copied_in_bulk_become_an_operand() {
    for dtype in [DType::BF16, DType::F16] {
        let built = runner().build(&decode_kernel(Arch::Sm90a, dtype)).unwrap();
        let a = wgmma_a(64, 64, 1).unwrap();
        for count in [0usize, 1, 2, 3, 5] {
            let codes = |record: usize, row: u32, col: u32| (record as u32 * 7 + row * 5 + col * 3) % 16;
            let factor =
                |record: usize, row: u32, group: u32| f32::from((record as u8 + 1) * (group as u8 + 1)) / (1.0 + row as f32);
            let mut words = vec![0i32; count * 576];
            let mut want = vec![0f64; count * 64 * 64];
            for record in 0..count {
                for (warp, lane) in (0..4).flat_map(|w| (0..32).map(move |l| (w, l))) {
                    for reg in 0..32u32 {
                        let at = a.apply(&[reg, lane, warp]);
                        let nibble = [0, 4, 1, 5, 2, 6, 3, 7][reg as usize % 8];
                        let word = (32 * warp + lane) as usize * 4 + reg as usize / 8;
                        words[record * 576 + word] |= (codes(record, at[0], at[1]) << (4 * nibble)) as i32;
                    }
                }
                let bits = |x: f32| if dtype == DType::BF16 { bf16::from_f32(x).to_bits() } else { f16::from_f32(x).to_bits() };
                let round = |x: f32| if dtype == DType::BF16 { bf16::from_f32(x).to_f64() } else { f16::from_f32(x).to_f64() };
                for group in 0..2u32 {
                    for row in 0..64u32 {
                        let word = 512 + 32 * group + 8 * (row / 16) + row % 8;
                        let half = u32::from(bits(factor(record, row, group))) << (16 * (row / 8 % 2));
                        words[record * 576 + word as usize] |= half as i32;
                        for col in 0..32 {
                            let col = 32 * group + col;
                            let code = f64::from(codes(record, row, col)) - 8.0;
                            let exact = code * round(factor(record, row, group));
                            want[(record * 64 + row as usize) * 64 + col as usize] = round(exact as f32);
                        }
                    }
                }
            }
            for seed in 0..3 {
                let bytes = i32s(&words);
                let ints = [("count", count as i64), ("rows", 64 * count as i64)];
                let ran = built.run(&ints, &[], &[("words", &bytes)], &[("out", want.len() * 2)], seed).unwrap();
                assert_eq!(ran.errors, Vec::<String>::new());
                assert_eq!(decode(dtype, &ran.outputs[0]), want, "{dtype} {count}");
            }
        }
    }
}

/// `x` through registers, transposed, out through shared memory with stmatrix and TMA, and directly.
#[test]
fn an_accumulator_leaves_transposed() {
    for cols in [8u32, 24, 64] {
        let mut k = KernelBuilder::new("turn", Arch::Sm90a);
        let x = k.tensor("x", DType::F32, [Dim { param: None, factor: 64 }, Dim { param: None, factor: cols }]);
        let y = k.tensor("y", DType::BF16, [Dim { param: None, factor: cols }, Dim { param: None, factor: 64 }]);
        let z = k.tensor("z", DType::BF16, [Dim { param: None, factor: cols }, Dim { param: None, factor: 64 }]);
        let staging = k.buffer("staging", DType::BF16, [cols, 64], 1);
        k.role("main", 4, None, Unit::Warpgroup, |r| {
            let zero = r.int(0);
            let like = tile(DType::F32, [64, cols], wgmma_acc(64, cols, 1));
            let v = r.load_tile(&x, like, &[zero, zero], &[0, 1], 2);
            let v = r.transpose(v);
            let v = r.cast(v, DType::BF16);
            let to = r.staging(&staging, zero);
            r.store_matrix(to, v);
            r.sync();
            r.tma_store(&y, to, &[zero, zero]);
            r.store_tile(&z, v, &[zero, zero], 1);
            r.tma_store_wait(0);
        });
        let built = runner().build(&k.finish()).unwrap();
        let data = random(64 * cols as usize, DType::F32, 3);
        let want: Vec<f64> = (0..cols as usize)
            .flat_map(|c| (0..64).map(move |r| (r, c)))
            .map(|(r, c)| bf16::from_f64(data[r * cols as usize + c]).to_f64())
            .collect();
        let bytes = 128 * cols as usize;
        let ran = built.run(&[], &[], &[("x", &encode(DType::F32, &data))], &[("y", bytes), ("z", bytes)], 1).unwrap();
        assert_eq!(ran.errors, Vec::<String>::new());
        for out in &ran.outputs {
            assert_eq!(decode(DType::BF16, out), want, "{cols} columns");
        }
    }
}

/// Shared memory as an ordinary place: swizzled or not, what one thread writes another reads.
#[test]
fn shared_tiles_keep_what_registers_stored() {
    for (arch, dtype, swizzled) in [
        (Arch::Sm80, DType::F32, false),
        (Arch::Sm90a, DType::F32, true),
        (Arch::Sm90a, DType::BF16, true),
        (Arch::Sm80, DType::F16, false),
    ] {
        let mut k = KernelBuilder::new("place", arch);
        let dims = || [Dim { param: None, factor: 32 }, Dim { param: None, factor: 32 }];
        let (x, y) = (k.tensor("x", dtype, dims()), k.tensor("y", dtype, dims()));
        let place = if swizzled { k.buffer("place", dtype, [32, 32], 1) } else { k.scratch("place", dtype, [32, 32], 1) };
        k.role("main", 4, None, Unit::Role, |r| {
            let zero = r.int(0);
            let v = r.load_blocked(&x, [32, 32], &[zero, zero], &[0, 1], 4);
            let doubled = r.binary("add", v, v);
            let doubled = r.binary("mul", doubled, v);
            let to = r.staging(&place, zero);
            r.store_shared(to, doubled);
            r.sync();
            // Another thread reads it: columns run the other way.
            let like = tile(dtype, [32, 32], blocked(128, [32, 32], 8));
            let v = r.load_shared(to, like);
            r.store_tile(&y, v, &[zero, zero], 8);
        });
        let built = runner().build(&k.finish()).unwrap();
        let data: Vec<f64> = (0..1024).map(|i| f64::from(i % 13) - 6.0).collect();
        let ran = built.run(&[], &[], &[("x", &encode(dtype, &data))], &[("y", 1024 * dtype.bytes() as usize)], 2).unwrap();
        assert_eq!(ran.errors, Vec::<String>::new());
        let want: Vec<f64> = data.iter().map(|x| 2.0 * x * x).collect();
        assert_eq!(decode(dtype, &ran.outputs[0]), want, "{arch} {dtype}");
    }
}

#[test]
fn views_and_bits_that_do_not_fit_are_refused() {
    let refused = |f: &dyn Fn(&mut tilewright_ir::tile::RoleBuilder, tilewright_ir::tile::SmemRef)| {
        let mut k = KernelBuilder::new("bad", Arch::Sm90a);
        let place = k.scratch("place", DType::I32, [4, 32], 1);
        k.role("main", 4, None, Unit::Role, |r| {
            let s = r.staging(&place, 0);
            f(r, s);
        });
        tilewright_ir::tile::verify(&k.finish()).unwrap_err().to_string()
    };
    assert!(refused(&|r, s| _ = r.view(s, 256, DType::I32, [4, 32])).contains("512 bytes at 256 of 512"));
    assert!(refused(&|r, s| _ = r.view(s, 8, DType::I32, [1, 4])).contains("from a multiple of 16"));
    let like = || tile(DType::I32, [4, 32], blocked(128, [4, 32], 1));
    let to = tile(DType::BF16, [64, 16], wgmma_a(64, 16, 1));
    assert!(
        refused(&|r, s| {
            let v = r.load_shared(s, like());
            r.reinterpret(&[v], to.clone());
        })
        .contains("1 tiles of 1 registers do not make 4")
    );
}
