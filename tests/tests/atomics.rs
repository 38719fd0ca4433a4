//! Atomic operations, votes and prefix sums, from the DSL to the emulator.

use tilewright_ir::layout::blocked;
use tilewright_ir::tile::{CmpPred, Dim, Kernel, KernelBuilder, RegTile, RoleBuilder, TileRef, Unit};
use tilewright_ir::{Arch, DType};
use tilewright_tests::{Ran, Runner};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

fn bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn clean(ran: &Ran) {
    assert!(ran.errors.is_empty(), "{}", ran.errors.join("\n"));
}

fn column(threads: u32) -> RegTile {
    RegTile { dtype: DType::I32, shape: [threads, 1], layout: blocked(threads, [threads, 1], 1).unwrap() }
}

/// Numbers of the CTA's elements, and which are below `n`.
fn mine(r: &mut RoleBuilder, ty: &RegTile) -> (TileRef, TileRef) {
    let cta = r.cta_id(0);
    let first = r.mul(cta, ty.shape[0]);
    let first = r.splat(first, ty.clone());
    let at = r.iota(0, ty.clone());
    let at = r.binary("add", at, first);
    let n = r.param("n");
    let n = r.splat(n, ty.clone());
    (at, r.compare(CmpPred::Lt, at, n))
}

/// Counts values below 8, and keeps the least, the largest and the bits of all.
fn histogram() -> Kernel {
    let mut k = KernelBuilder::new("histogram", Arch::Sm80);
    k.shape("n");
    let x = k.tensor("x", DType::I32, [Dim::param("n")]);
    let [counts, least, most, bits] =
        ["counts", "least", "most", "bits"].map(|n| k.tensor(n, DType::I32, [Dim { param: None, factor: 8 }]));
    k.grid(["ceil_div(n,128)".into(), "1".into(), "1".into()]);
    k.role("main", 4, None, Unit::Role, |r| {
        let ty = column(128);
        let (at, there) = mine(r, &ty);
        let v = r.load_elems(&x, &[], at, Some(there));
        let one = r.int(1);
        let one = r.splat(one, ty.clone());
        let seven = r.int(7);
        let seven = r.splat(seven, ty);
        let bin = r.binary("and", v, seven);
        r.atomic("add", &counts, &[], bin, one, Some(there));
        r.atomic("min", &least, &[], bin, v, Some(there));
        r.atomic("max", &most, &[], bin, v, Some(there));
        r.atomic("or", &bits, &[], bin, v, Some(there));
    });
    k.finish()
}

#[test]
fn atomic_operations_from_several_ctas_lose_nothing() {
    let built = runner().build(&histogram()).unwrap();
    let x: Vec<i32> = (0..300i32).map(|i| i.wrapping_mul(0x9E37_79B1u32 as i32) >> 3).collect();
    let zeros = bytes(&[0; 8]);
    for seed in 0..3 {
        let inputs: [(&str, &[u8]); 5] = [
            ("x", &bytes(&x)),
            ("counts", &zeros),
            ("least", &bytes(&[i32::MAX; 8])),
            ("most", &bytes(&[i32::MIN; 8])),
            ("bits", &zeros),
        ];
        let ran = built.run(&[("n", 300)], &[], &inputs, &[], seed).unwrap();
        clean(&ran);
        let found: Vec<Vec<i32>> = ran.inputs[1..].iter().map(|b| ints(b)).collect();
        for bin in 0..8 {
            let all: Vec<i32> = x.iter().copied().filter(|v| v & 7 == bin).collect();
            let want =
                [all.len() as i32, *all.iter().min().unwrap(), *all.iter().max().unwrap(), all.iter().fold(0, |a, b| a | b)];
            assert_eq!(found.iter().map(|f| f[bin as usize]).collect::<Vec<_>>(), want, "bin {bin} seed {seed}");
        }
    }
}

/// Puts each distinct value in a slot of its own; the least row of equal ones stays.
fn insert() -> Kernel {
    let mut k = KernelBuilder::new("insert", Arch::Sm90a);
    k.shape("n");
    k.shape("slots");
    let x = k.tensor("x", DType::I32, [Dim::param("n")]);
    let table = k.tensor("table", DType::I32, [Dim::param("slots")]);
    let steps = k.tensor("steps", DType::I32, [Dim::param("n")]);
    k.grid(["ceil_div(n,128)".into(), "1".into(), "1".into()]);
    k.role("main", 4, None, Unit::Role, |r| {
        let ty = column(128);
        let (row, there) = mine(r, &ty);
        let value = r.load_elems(&x, &[], row, Some(there));
        let slots = r.param("slots");
        let slots = r.splat(slots, ty.clone());
        let [empty, zero, one] = [-1, 0, 1].map(|v| {
            let v = r.int(v);
            r.splat(v, ty.clone())
        });
        let first = r.binary("rem", value, slots);
        let (slot, left, count) = (r.tile_cell(first), r.tile_cell(there), r.tile_cell(zero));
        r.while_any(left, |r| {
            let (at, busy) = (r.get_tile(slot), r.get_tile(left));
            let old = r.atomic_cas(&table, &[], at, [empty, row], Some(busy));
            let free = r.compare(CmpPred::Eq, old, empty);
            let taken = r.unary("not", free);
            let taken = r.binary("and", taken, busy);
            let other = r.load_elems(&x, &[], old, Some(taken));
            let same = r.compare(CmpPred::Eq, other, value);
            let same = r.binary("and", same, taken);
            r.atomic("min", &table, &[], at, row, Some(same));
            let differs = r.unary("not", same);
            let go = r.binary("and", taken, differs);
            r.set_tile(left, go);
            let next = r.binary("add", at, one);
            let past = r.compare(CmpPred::Eq, next, slots);
            let next = r.choose(past, zero, next);
            let next = r.choose(go, next, at);
            r.set_tile(slot, next);
            let walked = r.get_tile(count);
            let more = r.cast(go, DType::I32);
            let walked = r.binary("add", walked, more);
            r.set_tile(count, walked);
        });
        let walked = r.get_tile(count);
        r.store_elems(&steps, &[], row, walked, Some(there));
    });
    k.finish()
}

#[test]
fn lanes_walk_a_hash_table_as_far_as_each_needs() {
    let built = runner().build(&insert()).unwrap();
    let x: Vec<i32> = (0..260).map(|i| (i * 37 % 90) * 97).collect();
    for seed in 0..3 {
        let inputs: [(&str, &[u8]); 2] = [("x", &bytes(&x)), ("table", &bytes(&[-1; 97]))];
        let ran = built.run(&[("n", 260), ("slots", 97)], &[], &inputs, &[("steps", 4 * 260)], seed).unwrap();
        clean(&ran);
        let mut rows: Vec<i32> = ints(&ran.inputs[1]).into_iter().filter(|r| *r >= 0).collect();
        rows.sort();
        // Every value begins in slot 0: the longest walk passes all other values.
        assert_eq!(rows, (0..90).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(ints(&ran.outputs[0]).into_iter().max(), Some(89));
    }
}

/// Prefix sums of 128 numbers, their total, and whether one of them is 7.
fn scan() -> Kernel {
    let mut k = KernelBuilder::new("scan", Arch::Sm80);
    let n = || [Dim { param: None, factor: 128 }];
    let (x, sums) = (k.tensor("x", DType::I32, n()), k.tensor("sums", DType::I32, n()));
    let found = k.tensor("found", DType::I32, [Dim { param: None, factor: 2 }]);
    k.grid(["1".into(), "1".into(), "1".into()]);
    k.role("main", 1, None, Unit::Role, |r| {
        let ty = RegTile { dtype: DType::I32, shape: [1, 128], layout: blocked(32, [1, 128], 4).unwrap() };
        let at = r.iota(1, ty.clone());
        let v = r.load_elems(&x, &[], at, None);
        let s = r.scan(v);
        r.store_elems(&sums, &[], at, s, None);
        let seven = r.int(7);
        let seven = r.splat(seven, ty);
        let hit = r.compare(CmpPred::Eq, v, seven);
        let hit = r.any(hit);
        let total = r.reduce("add", v);
        let one = r.tile_type(total);
        let total = r.scalar_of(total);
        // Both numbers through control flow, which only a uniform one may steer.
        let some = r.cmp(CmpPred::Ne, hit, 0);
        let answer = r.scalar_cell(0);
        r.if_then(some, |r| r.set(answer, 1));
        for (i, v) in [r.get(answer), total].into_iter().enumerate() {
            let (i, v) = (r.int(i as i64), r.splat(v, one.clone()));
            let i = r.splat(i, one.clone());
            r.store_elems(&found, &[], i, v, None);
        }
    });
    k.finish()
}

#[test]
fn a_warp_adds_up_and_votes() {
    let built = runner().build(&scan()).unwrap();
    for sevens in [0, 1] {
        let x: Vec<i32> = (0..128).map(|i| if i == 77 && sevens == 1 { 7 } else { i * i % 11 * 8 - 30 }).collect();
        let ran = built.run(&[], &[], &[("x", &bytes(&x))], &[("sums", 512), ("found", 8)], 0).unwrap();
        clean(&ran);
        let want: Vec<i32> = x
            .iter()
            .scan(0, |s, v| {
                *s += v;
                Some(*s)
            })
            .collect();
        assert_eq!(ints(&ran.outputs[0]), want);
        assert_eq!(ints(&ran.outputs[1]), [sevens, want[127]]);
    }
}

/// Adds rows of x to those of y that `rows` names.
fn scatter(arch: Arch, cols: u32) -> Kernel {
    let mut k = KernelBuilder::new("scatter", arch);
    k.shape("n");
    k.shape("m");
    let c = || Dim { param: None, factor: cols };
    let x = k.tensor("x", DType::F32, [Dim::param("n"), c()]);
    let rows = k.tensor("rows", DType::I32, [Dim::param("n")]);
    let y = k.tensor("y", DType::F32, [Dim::param("m"), c()]);
    k.grid(["ceil_div(n,32)".into(), "1".into(), "1".into()]);
    k.role("main", 4, None, Unit::Role, |r| {
        let like = RegTile { dtype: DType::F32, shape: [32, 16], layout: blocked(128, [32, 16], 4).unwrap() };
        let ty = r.row_vec(&like, DType::I32);
        let (at, there) = mine(r, &RegTile { shape: [32, 1], ..ty.clone() });
        let to = r.load_elems(&rows, &[], at, Some(there));
        let none = r.int(-1);
        let none = r.splat(none, ty);
        let (from, to) = (r.choose(there, at, none), r.choose(there, to, none));
        let tile = r.load_rows(&x, like, from, 0, 4);
        r.add_rows(&y, tile, to, 0, 4);
    });
    k.finish()
}

#[test]
fn rows_are_added_where_they_meet() {
    for (arch, cols) in [(Arch::Sm80, 16), (Arch::Sm90a, 16), (Arch::Sm90a, 12)] {
        let built = runner().build(&scatter(arch, cols)).unwrap();
        let (n, m) = (70usize, 5usize);
        let x: Vec<f32> = (0..n * cols as usize).map(|i| (i % 64) as f32).collect();
        let rows: Vec<i32> = (0..n as i32).map(|i| i * 3 % 7 - 1).map(|r| if r >= 5 { -1 } else { r }).collect();
        let floats: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        let zeros = vec![0; m * cols as usize * 4];
        let inputs: [(&str, &[u8]); 3] = [("x", &floats), ("rows", &bytes(&rows)), ("y", &zeros)];
        let ran = built.run(&[("n", n as i64), ("m", m as i64)], &[], &inputs, &[], 1).unwrap();
        clean(&ran);
        let mut want = vec![0f32; m * cols as usize];
        for (i, row) in rows.iter().enumerate().filter(|(_, r)| **r >= 0) {
            for c in 0..cols as usize {
                want[*row as usize * cols as usize + c] += x[i * cols as usize + c];
            }
        }
        let found: Vec<f32> = ran.inputs[2].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(found, want, "{arch:?} {cols}");
    }
}
