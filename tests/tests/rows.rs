//! Memory by index, from the DSL to the emulator: elements, gathered and scattered rows, copies of gathered rows.

use tilewright_ir::layout::{Dim as Axis, blocked, mma_acc};
use tilewright_ir::tile::{CmpPred, Dim, Kernel, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, TileRef, Unit};
use tilewright_ir::{Arch, DType, tile};
use tilewright_tests::numbers::i32s;
use tilewright_tests::{Built, Ran, Runner};

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

/// Builds a kernel whose text reads back to itself.
fn build(runner: &Runner, k: &Kernel) -> Built {
    let built = runner.build(k).unwrap();
    let text = built.lowered.tile.to_string();
    assert_eq!(tile::parse(&text).unwrap().to_string(), text);
    built
}

fn clean(ran: &Ran, what: &str) {
    assert!(ran.errors.is_empty(), "{what}: {}", ran.errors.join("\n"));
    assert!(ran.lints.is_empty(), "{what}: {}", ran.lints.join("\n"));
}

/// Row numbers with neighbours, repeats, negative ones, the first and the last row.
fn row_numbers(m: usize, n: i32) -> Vec<i32> {
    (0..m as i32).map(|i| if i % 5 == 3 { -1 - i } else { [i, 7 * i + 3, n - 1, 0][i as usize % 4].rem_euclid(n) }).collect()
}

/// Elements that tell each byte of a tensor apart: 16-bit patterns that are no NaN, floats, integers.
fn elements(d: DType, count: usize) -> Vec<u8> {
    let one = |i: usize| match d {
        DType::F32 => ((i % 9973) as f32 - 5000.0).to_le_bytes().to_vec(),
        DType::I32 => (i as i32 * 7 - 1000).to_le_bytes().to_vec(),
        DType::U8 => vec![(i * 37 % 256) as u8],
        _ => ((i * 13 % 0x3C00) as u16).to_le_bytes().to_vec(),
    };
    (0..count).flat_map(one).collect()
}

/// Rows of `x` by number; zeros for a negative one and past the columns.
fn gathered(x: &[u8], numbers: &[i32], bytes: usize, cols: usize, from: usize, width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for &n in numbers {
        for c in from..from + width {
            match usize::try_from(n) {
                Ok(n) if c < cols => out.extend_from_slice(&x[(n * cols + c) * bytes..][..bytes]),
                _ => out.extend(vec![0; bytes]),
            }
        }
    }
    out
}

/// The numbers of a tile's rows from `index [m]`, -1 past its end.
fn numbers_of(
    r: &mut RoleBuilder,
    t: &tilewright_ir::tile::TensorRef,
    first: tilewright_ir::tile::Scalar,
    ty: &RegTile,
) -> TileRef {
    let row = r.iota(0, ty.clone());
    let first = r.splat(first, ty.clone());
    let row = r.binary("add", row, first);
    let m = r.param("m");
    let m = r.splat(m, ty.clone());
    let inside = r.compare(CmpPred::Lt, row, m);
    let loaded = r.load_elems(t, &[], row, Some(inside));
    let none = r.int(-1);
    let none = r.splat(none, ty.clone());
    r.choose(inside, loaded, none)
}

/// `y[i] = x[index[i]]` where it is not negative, through registers in the layout of `like`.
fn through_registers(
    d: DType,
    lead: bool,
    shape: [u32; 2],
    layout: tilewright_ir::layout::Layout,
    warps: u32,
    vec: u32,
) -> Kernel {
    let mut k = KernelBuilder::new("gather", Arch::Sm80);
    for name in ["n", "m", "cols", "heads"] {
        k.shape(name);
    }
    let dims = if lead {
        vec![Dim::param("n"), Dim::param("heads"), Dim::param("cols")]
    } else {
        vec![Dim::param("n"), Dim::param("cols")]
    };
    let x = k.tensor("x", d, dims);
    let index = k.tensor("index", DType::I32, [Dim::param("m")]);
    let y = k.tensor("y", d, [Dim::param("m"), Dim::param("cols")]);
    k.grid([format!("ceil_div(m,{})", shape[0]), format!("ceil_div(cols,{})", shape[1]), "1".into()]);
    k.role("main", warps, None, Unit::Role, |r| {
        let like = RegTile { dtype: d, shape, layout };
        let ty = r.row_vec(&like, DType::I32);
        let (i, j) = (r.cta_id(0), r.cta_id(1));
        let (first, col) = (r.mul(i, shape[0]), r.mul(j, shape[1]));
        let from = numbers_of(r, &index, first, &ty);
        let tile = r.load_rows(&x, like, from, col, vec);
        let row = r.iota(0, ty.clone());
        let first = r.splat(first, ty.clone());
        let row = r.binary("add", row, first);
        let m = r.param("m");
        let m = r.splat(m, ty.clone());
        let inside = r.compare(CmpPred::Lt, row, m);
        let none = r.int(-1);
        let none = r.splat(none, ty);
        let to = r.choose(inside, row, none);
        r.store_rows(&y, tile, to, col, vec);
    });
    k.finish()
}

#[test]
fn rows_gathered_through_registers() {
    let runner = runner();
    let acc = |rows, cols, warps| mma_acc(rows, cols, warps, 1).unwrap();
    let blocked = |warps: u32, rows, cols, vec| blocked(warps * 32, [rows, cols], vec).unwrap();
    for (d, lead, shape, layout, warps, vec, cols, m) in [
        (DType::BF16, false, [32, 64], blocked(4, 32, 64, 8), 4, 8, 64, 70),
        (DType::BF16, true, [32, 96], blocked(4, 32, 96, 8), 4, 8, 96, 33),
        (DType::F16, false, [64, 64], acc(64, 64, 4), 4, 2, 50, 64),
        (DType::F16, false, [16, 64], acc(16, 64, 1), 1, 1, 77, 21),
        (DType::F32, true, [32, 128], blocked(2, 32, 128, 4), 2, 4, 132, 40),
        (DType::F32, false, [64, 24], acc(64, 24, 2), 2, 1, 23, 65),
        (DType::I32, false, [8, 32], blocked(1, 8, 32, 2), 1, 2, 34, 9),
    ] {
        let built = build(&runner, &through_registers(d, lead, shape, layout, warps, vec));
        let (n, bytes) = (60usize, d.bytes() as usize);
        let x = elements(d, n * cols);
        let numbers = row_numbers(m, n as i32);
        let want = gathered(&x, &numbers, bytes, cols, 0, cols);
        // With a leading pair of extents the rows are those of their product.
        let (heads, rows) = if lead { (4, n / 4) } else { (1, n) };
        for seed in 0..3 {
            let vars = [("n", rows as i64), ("m", m as i64), ("cols", cols as i64), ("heads", heads)];
            let ran = built.run(&vars, &[], &[("x", &x), ("index", &i32s(&numbers))], &[("y", want.len())], seed).unwrap();
            let what = format!("{d} {shape:?} vec {vec}, schedule {seed}");
            clean(&ran, &what);
            assert_eq!(ran.unwritten, [0], "{what}");
            assert!(ran.outputs[0] == want, "{what}");
        }
    }
}

/// Copies gathered rows of `tile` into shared memory and writes what the warps' A fragments hold.
fn through_shared_memory(tile: [u32; 2], warps: u32, vec: u32, helpers: bool) -> Kernel {
    let mut k = KernelBuilder::new("copy", Arch::Sm80);
    for name in ["n", "m", "cols", "from"] {
        k.shape(name);
    }
    let x = k.tensor("x", DType::BF16, [Dim::param("n"), Dim::param("cols")]);
    let index = k.tensor("index", DType::I32, [Dim::param("m")]);
    let y = k.tensor("y", DType::BF16, [Dim::param("m"), Dim { param: None, factor: tile[1] }]);
    let buffer = k.buffer("rows", DType::BF16, tile, 1);
    k.grid([format!("ceil_div(m,{})", tile[0]), "1".into(), "1".into()]);
    if helpers {
        k.role("other", 4, None, Unit::Role, |r| r.sync());
    }
    k.role("main", warps, None, Unit::Role, |r| {
        let cta = r.cta_id(0);
        let first = r.mul(cta, tile[0]);
        let to = r.staging(&buffer, 0);
        let ty = r.copy_rows_index(to, vec);
        let from = numbers_of(r, &index, first, &ty);
        let col = r.param("from");
        r.copy_rows(&x, to, from, col, vec);
        r.copy_commit();
        r.copy_wait(0);
        r.sync();
        for step in 0..tile[1] / 16 {
            let part = r.load_a(to, step, [warps, 1]).unwrap();
            let at = r.int(i64::from(16 * step));
            r.store_tile(&y, part, &[first, at], 2);
        }
    });
    k.finish()
}

#[test]
fn rows_gathered_into_shared_memory() {
    let runner = runner();
    for (tile, warps, vec, helpers, cols, from) in [
        ([64, 64], 4, 8, false, 64, 0),
        ([64, 96], 4, 8, false, 96, 0),
        ([16, 128], 1, 8, false, 128, 0),
        ([32, 192], 2, 8, false, 200, 16),
        ([64, 256], 4, 8, true, 256, 0),
        ([64, 96], 2, 4, false, 92, 4),
        ([64, 64], 4, 2, true, 50, 0),
        ([16, 64], 1, 1, false, 61, 3),
    ] {
        let built = build(&runner, &through_shared_memory(tile, warps, vec, helpers));
        let (n, m) = (40usize, tile[0] as usize + 9);
        let x = elements(DType::BF16, n * cols);
        let numbers = row_numbers(m, n as i32);
        let want = gathered(&x, &numbers, 2, cols, from, tile[1] as usize);
        for seed in 0..3 {
            let vars = [("n", n as i64), ("m", m as i64), ("cols", cols as i64), ("from", from as i64)];
            let ran = built.run(&vars, &[], &[("x", &x), ("index", &i32s(&numbers))], &[("y", want.len())], seed).unwrap();
            let what = format!("{tile:?} {warps} warps vec {vec}, schedule {seed}");
            clean(&ran, &what);
            assert!(ran.outputs[0] == want && ran.unwritten == [0], "{what}");
        }
    }
}

/// `y[b, p] = x[b, p]` reversed within the batch, through elements in registers, where `keep[b, p]` is not 0; 9 elsewhere.
fn elementwise(d: DType, row_vector: bool) -> Kernel {
    let mut k = KernelBuilder::new("elements", Arch::Sm80);
    for name in ["batch", "n"] {
        k.shape(name);
    }
    let dims = || [Dim::param("batch"), Dim::param("n")];
    let (x, keep, y) = (k.tensor("x", d, dims()), k.tensor("keep", DType::U8, dims()), k.tensor("y", d, dims()));
    k.grid(["batch".into(), "ceil_div(n,64)".into(), "1".into()]);
    k.role("main", 4, None, Unit::Role, |r| {
        // A row vector of an accumulator: four lanes hold each element. Or the whole of a blocked tile.
        let ty = if row_vector {
            RegTile { dtype: DType::I32, shape: [64, 1], layout: mma_acc(64, 8, 4, 1).unwrap().collapsed(Axis::Col).unwrap() }
        } else {
            RegTile { dtype: DType::I32, shape: [2, 64], layout: blocked(128, [2, 64], 1).unwrap() }
        };
        let (b, j) = (r.cta_id(0), r.cta_id(1));
        let first = r.mul(j, 64);
        let at = r.iota(if row_vector { 0 } else { 1 }, ty.clone());
        let first = r.splat(first, ty.clone());
        let at = r.binary("add", at, first);
        let n = r.param("n");
        let n = r.splat(n, ty.clone());
        let mut inside = r.compare(CmpPred::Lt, at, n);
        if !row_vector {
            let row = r.iota(0, ty.clone());
            let zero = r.int(0);
            let zero = r.splat(zero, ty.clone());
            let first = r.compare(CmpPred::Eq, row, zero);
            inside = r.binary("and", inside, first);
        }
        let kept = r.load_elems(&keep, &[b], at, Some(inside));
        let zero = r.int(0);
        let zero = r.splat(zero, ty.clone());
        let kept = r.compare(CmpPred::Ne, kept, zero);
        let one = r.int(1);
        let one = r.splat(one, ty.clone());
        let last = r.binary("sub", n, one);
        let mirror = r.binary("sub", last, at);
        let value = r.load_elems(&x, &[b], mirror, Some(kept));
        let nine = if r.tile_type(value).dtype == DType::I32 { r.int(9) } else { r.float(9.0) };
        let nine = r.splat(nine, r.tile_type(value));
        let value = r.choose(kept, value, nine);
        r.store_elems(&y, &[b], at, value, Some(inside));
    });
    k.finish()
}

#[test]
fn elements_by_index_under_masks() {
    let runner = runner();
    for d in [DType::F32, DType::I32, DType::BF16, DType::F16, DType::U8] {
        for row_vector in [false, true] {
            let built = build(&runner, &elementwise(d, row_vector));
            let (batch, n, bytes) = (3usize, 101usize, d.bytes() as usize);
            let x = elements(d, batch * n);
            let keep: Vec<u8> = (0..batch * n).map(|i| (i % 3) as u8).collect();
            let nine: &[u8] = match d {
                DType::F32 => &9f32.to_le_bytes(),
                DType::I32 => &9i32.to_le_bytes(),
                DType::BF16 => &0x4110u16.to_le_bytes(),
                DType::F16 => &0x4880u16.to_le_bytes(),
                _ => &[9],
            };
            let mut want = Vec::new();
            for b in 0..batch {
                for p in 0..n {
                    let from = (b * n + n - 1 - p) * bytes;
                    want.extend_from_slice(if keep[b * n + p] != 0 { &x[from..from + bytes] } else { nine });
                }
            }
            for seed in 0..3 {
                let vars = [("batch", batch as i64), ("n", n as i64)];
                let ran = built.run(&vars, &[], &[("x", &x), ("keep", &keep)], &[("y", want.len())], seed).unwrap();
                clean(&ran, d.name());
                assert!(ran.outputs[0] == want && ran.unwritten == [0], "{d}, row vector: {row_vector}");
            }
        }
    }
}

/// `y[b] = sum of x[b, 0..len[b]] * scale[b]` (a byte) with the length read on the device, and nothing read past the end.
fn lengths() -> Kernel {
    let mut k = KernelBuilder::new("lengths", Arch::Sm80);
    for name in ["batch", "most"] {
        k.shape(name);
    }
    let b = || Dim::param("batch");
    let x = k.tensor("x", DType::F32, [b(), Dim::param("most")]);
    let len = k.tensor("len", DType::I32, [b()]);
    let scale = k.tensor("scale", DType::U8, [b()]);
    let y = k.tensor("y", DType::F32, [b()]);
    k.grid(["batch+1".into(), "1".into(), "1".into()]);
    k.probe("len", 1, ProbeAxis::Trips);
    k.role("main", 4, None, Unit::Role, |r| {
        let batch = r.param("batch");
        let cta = r.cta_id(0);
        let mine = r.cmp(CmpPred::Lt, cta, batch);
        // The last CTA has no length to read.
        r.if_then(mine, |r| {
            let length = r.load_scalar(&len, &[cta]);
            let factor = r.load_scalar(&scale, &[cta]);
            let ty = RegTile { dtype: DType::I32, shape: [1, 128], layout: blocked(128, [1, 128], 1).unwrap() };
            let zero = r.float(0.0);
            let zero = r.splat(zero, RegTile { dtype: DType::F32, ..ty.clone() });
            let sum = r.tile_cell(zero);
            r.for_range(0, length, 1, |r, i| {
                let v = r.load_scalar(&x, &[cta, i]);
                let v = r.splat(v, RegTile { dtype: DType::F32, ..ty.clone() });
                let before = r.get_tile(sum);
                let after = r.binary("add", before, v);
                r.set_tile(sum, after);
            });
            let factor = r.splat(factor, ty.clone());
            let factor = r.cast(factor, DType::F32);
            let sum = r.get_tile(sum);
            let sum = r.binary("mul", sum, factor);
            let column = r.iota(1, ty.clone());
            let none = r.int(0);
            let none = r.splat(none, ty.clone());
            let first = r.compare(CmpPred::Eq, column, none);
            let at = r.splat(cta, ty);
            r.store_elems(&y, &[], at, sum, Some(first));
        });
    });
    k.finish()
}

#[test]
fn lengths_are_read_on_the_device() {
    let runner = runner();
    let built = build(&runner, &lengths());
    let (batch, most) = (4usize, 7usize);
    let len = [3, 0, 7, 1];
    let scale = [2u8, 200, 1, 3];
    let x: Vec<f32> = (0..batch * most).map(|i| i as f32 + 0.5).collect();
    // The memory ends with the last sequence's last element: reading past a length there would be a finding.
    let used = (batch - 1) * most + len[batch - 1] as usize;
    let bytes: Vec<u8> = x[..used].iter().flat_map(|v| v.to_le_bytes()).collect();
    let want: Vec<u8> = (0..batch)
        .flat_map(|b| (x[b * most..][..len[b] as usize].iter().fold(0.0, |sum, v| sum + v) * f32::from(scale[b])).to_le_bytes())
        .collect();
    for seed in 0..3 {
        let vars = [("batch", batch as i64), ("most", most as i64)];
        let inputs: [(&str, &[u8]); 3] = [("x", &bytes[..]), ("len", &i32s(&len)), ("scale", &scale)];
        let ran = built.run(&vars, &[], &inputs, &[("y", want.len())], seed).unwrap();
        clean(&ran, "lengths");
        assert_eq!(ran.outputs[0], want);
    }
}

/// `y[i] = x[i]`, then `y[i] += 1` for each `i` of a list with repeats, one after the other.
#[test]
fn what_a_kernel_writes_it_reads_coherently() {
    let mut k = KernelBuilder::new("in_place", Arch::Sm80);
    for name in ["n", "cols"] {
        k.shape(name);
    }
    let dims = || [Dim::param("n"), Dim::param("cols")];
    let (x, y) = (k.tensor("x", DType::F32, dims()), k.tensor("y", DType::F32, dims()));
    k.role("main", 1, None, Unit::Role, |r| {
        let like = RegTile { dtype: DType::F32, shape: [1, 32], layout: blocked(32, [1, 32], 1).unwrap() };
        let ty = r.row_vec(&like, DType::I32);
        let one = r.float(1.0);
        let one = r.splat(one, like.clone());
        for (from, row) in [(&x, 0), (&x, 1), (&y, 1), (&y, 0), (&y, 1)] {
            let row = r.int(row);
            let row = r.splat(row, ty.clone());
            let mut v = r.load_rows(from, like.clone(), row, 0, 1);
            if from == &y {
                v = r.binary("add", v, one);
            }
            r.store_rows(&y, v, row, 0, 1);
            r.sync();
        }
    });
    let built = build(&runner(), &k.finish());
    let loads = |what: &str| built.compiled.ptx.matches(what).count();
    assert_eq!((loads("ld.global.nc"), loads("ld.global.b32")), (2, 3), "{}", built.compiled.ptx);
    let x: Vec<u8> = (0..60).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let want: Vec<u8> = (0..60).flat_map(|i| (i as f32 + if i < 30 { 1.0 } else { 2.0 }).to_le_bytes()).collect();
    let ran = built.run(&[("n", 2), ("cols", 30)], &[], &[("x", &x)], &[("y", want.len())], 1).unwrap();
    clean(&ran, "in place");
    assert_eq!(ran.outputs[0], want);
}
