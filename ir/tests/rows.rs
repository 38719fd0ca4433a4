//! Operations on memory by index refuse what they cannot do, in words.

use tilewright_ir::layout::{blocked, mma_acc};
use tilewright_ir::passes::{lower, prepare};
use tilewright_ir::tile::{Dim, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, Staging, TensorRef, Unit};
use tilewright_ir::{Arch, DType, tile};

/// Tensors x [n, m] BF16, f [n, m] F32, b [n] U8; a role of four warps.
fn kernel(body: impl FnOnce(&mut RoleBuilder, [&TensorRef; 3])) -> tile::Kernel {
    let mut k = KernelBuilder::new("rows", Arch::Sm80);
    for name in ["n", "m"] {
        k.shape(name);
    }
    let dims = || [Dim::param("n"), Dim::param("m")];
    let x = k.tensor("x", DType::BF16, dims());
    let f = k.tensor("f", DType::F32, dims());
    let b = k.tensor("b", DType::U8, [Dim::param("n")]);
    k.buffer("rows", DType::BF16, [64, 64], 2);
    k.role("main", 4, None, Unit::Role, |r| body(r, [&x, &f, &b]));
    k.finish()
}

fn like(dtype: DType) -> RegTile {
    RegTile { dtype, shape: [64, 64], layout: mma_acc(64, 64, 4, 1).unwrap() }
}

#[track_caller]
fn refused(words: &str, body: impl FnOnce(&mut RoleBuilder, [&TensorRef; 3])) {
    let error = prepare(kernel(body)).expect_err(words).to_string();
    assert!(error.contains(words) && error.contains("tests/rows.rs:"), "`{words}` is not in: {error}");
}

#[test]
fn refusals_name_the_rule() {
    refused("1 coordinates for 2 extents of f", |r, [_, f, _]| {
        let zero = r.int(0);
        r.load_scalar(f, &[zero]);
    });
    refused("no elements of bf16: i32, f32, u8", |r, [x, ..]| {
        let zero = r.int(0);
        r.load_scalar(x, &[zero, zero]);
    });
    refused("leave none of the 1 extents of b to the index", |r, [_, _, b]| {
        let zero = r.int(0);
        let at = r.iota(0, like(DType::I32));
        r.load_elems(b, &[zero], at, None);
    });
    refused("tiles differ", |r, [_, f, _]| {
        let at = r.iota(0, like(DType::I32));
        let other = RegTile { dtype: DType::F32, shape: [64, 64], layout: blocked(128, [64, 64], 2).unwrap() };
        let zero = r.float(0.0);
        let value = r.splat(zero, other);
        r.store_elems(f, &[], at, value, None);
    });
    refused("elements of u8 are i32 in registers, not f32", |r, [_, _, b]| {
        let at = r.iota(0, like(DType::I32));
        let zero = r.float(0.0);
        let value = r.splat(zero, like(DType::F32));
        r.store_elems(b, &[], at, value, None);
    });
    refused("a tile of f32 and a tensor of bf16: cast first", |r, [x, ..]| {
        let rows = r.row_vec(&like(DType::F32), DType::I32);
        let rows = r.iota(0, rows);
        let zero = r.float(0.0);
        let value = r.splat(zero, like(DType::F32));
        r.store_rows(x, value, rows, 0, 2);
    });
    refused("row numbers are", |r, [x, ..]| {
        let other = RegTile { dtype: DType::BF16, shape: [64, 64], layout: blocked(128, [64, 64], 8).unwrap() };
        let rows = r.row_vec(&like(DType::F32), DType::I32);
        let rows = r.iota(0, rows);
        r.load_rows(x, other, rows, 0, 8);
    });
    refused("copies of 32 bytes", |r, [x, ..]| {
        let to = r.staging(&Staging { name: "rows".into(), copies: 2 }, 0);
        let rows = r.copy_rows_index(to, 8);
        let rows = r.iota(0, rows);
        r.copy_rows(x, to, rows, 0, 16);
    });
}

/// A ring whose trip count is read from memory, as a length or between the ends of two sequences. `wait` is what makes the
/// copies land, `sync` what keeps a stage from being overwritten while it is read.
fn ring(wait: bool, sync: bool, ends: bool) -> tile::Kernel {
    let mut k = KernelBuilder::new("ring", Arch::Sm80);
    k.shape("n");
    let x = k.tensor("x", DType::BF16, [Dim::param("n"), Dim { param: None, factor: 64 }]);
    let len = k.tensor("len", DType::I32, [Dim::param("n")]);
    let buffer = k.buffer("rows", DType::BF16, [64, 64], 1);
    k.probe("len", 1, ProbeAxis::Trips);
    k.role("main", 4, None, Unit::Role, |r| {
        let zero = r.int(0);
        let mut length = r.load_scalar(&len, &[zero]);
        if ends {
            let one = r.int(1);
            let next = r.load_scalar(&len, &[one]);
            length = r.sub(next, length);
        }
        let to = r.staging(&buffer, 0);
        let rows = r.copy_rows_index(to, 8);
        let rows = r.iota(0, rows);
        r.for_range(0, length, 1, |r, _| {
            r.copy_rows(&x, to, rows, 0, 8);
            r.copy_commit();
            if wait {
                r.copy_wait(0);
            }
            r.sync();
            r.load_a(to, 0, [4, 1]).unwrap();
            if sync {
                r.sync();
            }
        });
    });
    k.finish()
}

#[test]
fn the_protocol_check_follows_a_length_in_memory() {
    for ends in [false, true] {
        lower(ring(true, true, ends)).unwrap();
        let error = lower(ring(true, false, ends)).unwrap_err().to_string();
        assert!(error.contains("overwritten before all threads are past reading it"), "{error}");
        let error = lower(ring(false, true, ends)).unwrap_err().to_string();
        assert!(error.contains("read before it has landed"), "{error}");
    }
}
