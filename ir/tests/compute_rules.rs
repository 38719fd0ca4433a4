//! The verifier refuses arithmetic on register tiles that does not fit, and says why.

use tilewright_ir::layout::{Layout, mma_a, mma_acc, wgmma_acc};
use tilewright_ir::passes::lower;
use tilewright_ir::tile::{CmpPred, KernelBuilder, RegTile, RoleBuilder, TileRef, Unit};
use tilewright_ir::{Arch, DType};

fn tile(dtype: DType, shape: [u32; 2], layout: Layout) -> RegTile {
    RegTile { dtype, shape, layout }
}

fn acc(dtype: DType) -> RegTile {
    tile(dtype, [64, 96], wgmma_acc(64, 96, 1).unwrap())
}

fn verdict(record: impl FnOnce(&mut RoleBuilder) -> TileRef) -> Result<(), String> {
    let mut k = KernelBuilder::new("k", Arch::Sm90a);
    k.role("main", 4, None, Unit::Role, |r| {
        let result = record(r);
        // A result that nobody takes would be dropped before it is looked at.
        r.tile_cell(result);
    });
    lower(k.finish()).map(drop).map_err(|e| e.to_string())
}

fn refused(because: &str, record: impl FnOnce(&mut RoleBuilder) -> TileRef) {
    let e = verdict(record).expect_err(because);
    assert!(e.contains(because), "`{because}` is not in: {e}");
    assert!(e.contains("tests/compute_rules.rs:"), "{e}");
}

#[test]
fn functions_are_refused_by_name_and_type() {
    refused("binary `div` of f32:", |r| {
        let one = r.float(1.0);
        let a = r.splat(one, acc(DType::F32));
        r.binary("div", a, a)
    });
    refused("unary `neg` of i1:", |r| {
        let a = r.iota(0, acc(DType::I32));
        let m = r.compare(CmpPred::Lt, a, a);
        r.unary("neg", m)
    });
    refused("binary `max` of bf16:", |r| {
        let one = r.float(1.0);
        let a = r.splat(one, acc(DType::F32));
        let a = r.cast(a, DType::BF16);
        r.binary("max", a, a)
    });
    refused("no conversion from f32 to i32", |r| {
        let one = r.float(1.0);
        let a = r.splat(one, acc(DType::F32));
        r.cast(a, DType::I32)
    });
    refused("a i32 does not fill a tile of f32", |r| {
        let one = r.int(1);
        r.splat(one, acc(DType::F32))
    });
    refused("there are no u8 register tiles", |r| {
        let one = r.int(1);
        r.splat(one, acc(DType::U8))
    });
    refused("axis 2: 0 for rows, 1 for columns", |r| r.iota(2, acc(DType::I32)));
}

#[test]
fn tiles_of_one_operation_have_one_type() {
    refused("compares i32 with f32", |r| {
        let a = r.iota(0, acc(DType::I32));
        let one = r.float(1.0);
        let b = r.splat(one, acc(DType::F32));
        r.compare(CmpPred::Lt, a, b)
    });
    refused("tiles differ: [64, 96]", |r| {
        let a = r.iota(0, acc(DType::I32));
        let b = r.iota(0, tile(DType::I32, [64, 96], mma_acc(64, 96, 4, 1).unwrap()));
        r.binary("add", a, b)
    });
    refused("which share registers: cast to f32 first", |r| {
        let i = r.iota(0, acc(DType::I32));
        let m = r.compare(CmpPred::Lt, i, i);
        let f = r.cast(i, DType::F32);
        let h = r.cast(f, DType::F16);
        r.choose(m, h, h)
    });
    refused("dtypes i32, i32, i32 do not fit", |r| {
        let i = r.iota(0, acc(DType::I32));
        r.choose(i, i, i)
    });
}

#[test]
fn vectors_belong_to_their_tiles() {
    refused("do not hold what those of", |r| {
        let other = tile(DType::I32, [64, 96], mma_acc(64, 96, 4, 1).unwrap());
        let like = r.row_vec(&tile(DType::I32, [64, 96], mma_acc(64, 96, 2, 2).unwrap()), DType::I32);
        let v = r.iota(0, like);
        r.broadcast(v, other)
    });
    refused("[64, 96] is no column", |r| {
        let a = r.iota(0, acc(DType::I32));
        r.reduce_lanes("max", a)
    });
    verdict(|r| {
        // The same columns in other registers: vectors of one row are the same.
        let wide = tile(DType::I32, [64, 176], wgmma_acc(64, 176, 1).unwrap());
        let a = r.iota(0, acc(DType::I32));
        let v = r.reduce("max", a);
        r.broadcast(v, wide)
    })
    .unwrap();
}

#[test]
fn a_reduction_stays_in_its_warp() {
    refused("lie in several warps: a row is reduced inside one", |r| {
        let a = r.iota(0, tile(DType::I32, [64, 96], mma_acc(64, 96, 2, 2).unwrap()));
        r.reduce("max", a)
    });
    refused("reduction `mul` of i32: add, min, max of f32 or i32", |r| {
        let a = r.iota(0, acc(DType::I32));
        r.reduce("mul", a)
    });
    verdict(|r| {
        // Warps that hold the same rows in full each reduce their own copy.
        let copies = tile(DType::I32, [32, 16], mma_a(32, 16, 2, 2).unwrap());
        let a = r.iota(1, copies);
        r.reduce("add", a)
    })
    .unwrap();
}
