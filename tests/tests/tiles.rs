//! Arithmetic on register tiles against plain Rust: every operation, on accumulators of wgmma and mma and on blocked tiles,
//! through LLVM and on the emulator.

use std::rc::Rc;
use tilewright_ir::layout::{Layout, blocked, mma_acc, wgmma_acc};
use tilewright_ir::tile::{self, CmpPred, Dim, Kernel, KernelBuilder, RegTile, RoleBuilder, TensorRef, TileRef, Unit};
use tilewright_ir::{Arch, DType};
use tilewright_tests::Runner;

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"))
}

/// Inputs of one tile: `x` quarters of integers, whose sums are exact; `y` anything, infinities and NaN too; `p` positive;
/// `i` any integer, `j` from 0 to 999.
struct Data {
    cols: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    p: Vec<f32>,
    i: Vec<i32>,
    j: Vec<i32>,
}

impl Data {
    fn new(rows: usize, cols: usize) -> Data {
        let mut state = (rows * 1000 + cols) as u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let n = rows * cols;
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e30];
        let mut draw = || next();
        Data {
            cols,
            x: (0..n).map(|_| (draw() % 801) as f32 * 0.25 - 100.0).collect(),
            y: (0..n).map(|_| if draw() % 8 == 0 { odd[draw() as usize % 6] } else { draw() as f32 / 1e9 - 1.0 }).collect(),
            p: (0..n).map(|_| (draw() % 100_000 + 1) as f32 / 1000.0).collect(),
            i: (0..n).map(|_| (draw() << 1 ^ draw()) as i32).collect(),
            j: (0..n).map(|_| (draw() % 1000) as i32).collect(),
        }
    }

    fn row(&self, at: usize) -> std::ops::Range<usize> {
        let first = at / self.cols * self.cols;
        first..first + self.cols
    }
}

/// What a result must be.
enum Want {
    /// These bits.
    Bits(u32),
    /// This f32, or any NaN where it is one.
    Float(f32),
    /// Within this relative or absolute distance.
    Near(f64, f64),
    /// Within this relative distance.
    Ratio(f64, f64),
}

/// What a case records with.
struct Rec<'a, 'k> {
    r: &'a mut RoleBuilder<'k>,
    tensors: &'a [TensorRef; 5],
    float: RegTile,
}

impl Rec<'_, '_> {
    fn load(&mut self, at: usize) -> TileRef {
        let zero = self.r.int(0);
        let like = RegTile { dtype: self.tensors[at].dtype, ..self.float.clone() };
        self.r.load_tile(&self.tensors[at], like, &[zero, zero], &[0, 1], 1)
    }
    fn x(&mut self) -> TileRef {
        self.load(0)
    }
    fn y(&mut self) -> TileRef {
        self.load(1)
    }
    fn p(&mut self) -> TileRef {
        self.load(2)
    }
    fn i(&mut self) -> TileRef {
        self.load(3)
    }
    fn j(&mut self) -> TileRef {
        self.load(4)
    }
    fn ints(&self) -> RegTile {
        RegTile { dtype: DType::I32, ..self.float.clone() }
    }
    fn number(&mut self, v: i64) -> TileRef {
        let v = self.r.int(v);
        self.r.splat(v, self.ints())
    }
    fn masked(&mut self, a: TileRef, mask: i64) -> TileRef {
        let m = self.number(mask);
        self.r.binary("and", a, m)
    }
    /// 1 where the mask holds.
    fn count(&mut self, mask: TileRef) -> TileRef {
        self.r.cast(mask, DType::I32)
    }
}

type Record = dyn Fn(&mut Rec) -> TileRef;
type Expect = dyn Fn(&Data, usize) -> Want;

struct Case {
    name: String,
    dtype: DType,
    record: Rc<Record>,
    want: Rc<Expect>,
}

fn case(
    name: impl Into<String>,
    dtype: DType,
    record: impl Fn(&mut Rec) -> TileRef + 'static,
    want: impl Fn(&Data, usize) -> Want + 'static,
) -> Case {
    Case { name: name.into(), dtype, record: Rc::new(record), want: Rc::new(want) }
}

const PREDS: [CmpPred; 6] = [CmpPred::Eq, CmpPred::Ne, CmpPred::Lt, CmpPred::Le, CmpPred::Gt, CmpPred::Ge];

fn holds<T: PartialOrd>(pred: CmpPred, a: T, b: T) -> bool {
    match pred {
        CmpPred::Eq => a == b,
        // Ordered: false with a NaN.
        CmpPred::Ne => a.partial_cmp(&b).is_some_and(|o| o.is_ne()),
        CmpPred::Lt => a < b,
        CmpPred::Le => a <= b,
        CmpPred::Gt => a > b,
        CmpPred::Ge => a >= b,
    }
}

fn elementwise() -> Vec<Case> {
    use DType::{F32, I32};
    type F = fn(f32, f32) -> f32;
    type I = fn(i32, i32) -> i32;
    type U = fn(f32) -> f32;
    type A = fn(f64) -> f64;
    let mut list = Vec::new();
    let floats: [(&'static str, F); 5] =
        [("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b), ("min", f32::min), ("max", f32::max)];
    for (f, want) in floats {
        let record = move |c: &mut Rec| {
            let (x, y) = (c.x(), c.y());
            c.r.binary(f, x, y)
        };
        list.push(case(format!("f32 {f}"), F32, record, move |d, at| Want::Float(want(d.x[at], d.y[at]))));
    }
    let ints: [(&'static str, I); 8] = [
        ("add", i32::wrapping_add),
        ("sub", i32::wrapping_sub),
        ("mul", i32::wrapping_mul),
        ("min", |a, b| a.min(b)),
        ("max", |a, b| a.max(b)),
        ("and", |a, b| a & b),
        ("or", |a, b| a | b),
        ("xor", |a, b| a ^ b),
    ];
    for (f, want) in ints {
        let record = move |c: &mut Rec| {
            let (i, j) = (c.i(), c.j());
            c.r.binary(f, i, j)
        };
        list.push(case(format!("i32 {f}"), I32, record, move |d, at| Want::Bits(want(d.i[at], d.j[at]) as u32)));
    }
    let divisions: [(&'static str, I); 2] = [("div", |a, b| a / b), ("rem", |a, b| a % b)];
    for (f, want) in divisions {
        let record = move |c: &mut Rec| {
            let (i, j) = (c.i(), c.j());
            let i = c.masked(i, 0x7FFF_FFFF);
            let one = c.number(1);
            let j = c.r.binary("add", j, one);
            c.r.binary(f, i, j)
        };
        list.push(case(
            format!("i32 {f}"),
            I32,
            record,
            move |d, at| Want::Bits(want(d.i[at] & 0x7FFF_FFFF, d.j[at] + 1) as u32),
        ));
    }
    let shifts: [(&'static str, I); 2] = [("shl", |a, b| a << b), ("shr", |a, b| a >> b)];
    for (f, want) in shifts {
        let record = move |c: &mut Rec| {
            let (i, j) = (c.i(), c.j());
            let j = c.masked(j, 31);
            c.r.binary(f, i, j)
        };
        list.push(case(format!("i32 {f}"), I32, record, move |d, at| Want::Bits(want(d.i[at], d.j[at] & 31) as u32)));
    }
    let unaries: [(&'static str, U); 2] = [("neg", |a| -a), ("abs", f32::abs)];
    for (f, want) in unaries {
        let record = move |c: &mut Rec| {
            let y = c.y();
            c.r.unary(f, y)
        };
        list.push(case(f, F32, record, move |d, at| Want::Float(want(d.y[at]))));
    }
    // PTX ISA 9.7.3: ex2 within 2^-22 relative, lg2 within 2^-22 (absolute for arguments near 1), rcp within 1 ulp.
    let approximate: [(&'static str, A); 3] = [("exp2", f64::exp2), ("log2", f64::log2), ("rcp", |a| 1.0 / a)];
    for (f, want) in approximate {
        let record = move |c: &mut Rec| {
            let p = c.p();
            c.r.unary(f, p)
        };
        list.push(case(f, F32, record, move |d, at| Want::Near(want(f64::from(d.p[at])), 4e-7)));
    }
    // Twelve bits cleared: half of the numbers lie in the middle between two of tf32.
    for keep in [-1, -0x1000] {
        let record = move |c: &mut Rec| {
            let y = c.y();
            let bits = RegTile { dtype: DType::I32, ..c.r.tile_type(y) };
            let bits = c.r.reinterpret(&[y], bits);
            let bits = c.masked(bits, keep);
            let float = RegTile { dtype: DType::F32, ..c.r.tile_type(bits) };
            let y = c.r.reinterpret(&[bits], float);
            c.r.unary("tf32", y)
        };
        list.push(case("tf32", F32, record, move |d, at| {
            // Away from zero at the middle.
            let bits = d.y[at].to_bits() & keep as u32;
            Want::Float(f32::from_bits((bits + 0x1000) & !0x1FFF))
        }));
    }
    for share in [4, 16] {
        let record = move |c: &mut Rec| {
            let x = c.x();
            c.r.exp2(x, share)
        };
        list.push(case(format!("exp2, {share}/16 as FMA"), F32, record, |d, at| Want::Ratio(f64::from(d.x[at]).exp2(), 9e-5)));
    }
    let record = |c: &mut Rec| {
        let (x, p, y) = (c.x(), c.p(), c.y());
        c.r.fma(x, p, y)
    };
    list.push(case("fma", F32, record, |d, at| Want::Float(d.x[at].mul_add(d.p[at], d.y[at]))));
    let record = |c: &mut Rec| {
        let i = c.i();
        c.r.cast(i, DType::F32)
    };
    list.push(case("i32 to f32", F32, record, |d, at| Want::Float(d.i[at] as f32)));
    list
}

fn masks() -> Vec<Case> {
    use DType::{F32, I32};
    let mut list = Vec::new();
    for pred in PREDS {
        let record = move |c: &mut Rec| {
            let (x, y) = (c.x(), c.y());
            let m = c.r.compare(pred, x, y);
            c.count(m)
        };
        list.push(case(format!("f32 {}", pred.name()), I32, record, move |d, at| {
            Want::Bits(u32::from(holds(pred, d.x[at], d.y[at])))
        }));
        let record = move |c: &mut Rec| {
            let (i, j) = (c.i(), c.j());
            let i = c.masked(i, -0x7FFF_FC01); // a sign and ten bits: equal sometimes
            let m = c.r.compare(pred, i, j);
            c.count(m)
        };
        list.push(case(format!("i32 {}", pred.name()), I32, record, move |d, at| {
            Want::Bits(u32::from(holds(pred, d.i[at] & -0x7FFF_FC01, d.j[at])))
        }));
    }
    type B = fn(bool, bool) -> bool;
    let booleans: [(&'static str, B); 3] = [("and", |a, b| a & b), ("or", |a, b| a | b), ("xor", |a, b| a ^ b)];
    for (f, want) in booleans {
        let record = move |c: &mut Rec| {
            let (x, p, i) = (c.x(), c.p(), c.i());
            let zero = c.number(0);
            let (m, n) = (c.r.compare(CmpPred::Lt, x, p), c.r.compare(CmpPred::Gt, i, zero));
            let m = c.r.binary(f, m, n);
            c.count(m)
        };
        list.push(case(format!("i1 {f}"), I32, record, move |d, at| Want::Bits(u32::from(want(d.x[at] < d.p[at], d.i[at] > 0)))));
    }
    let record = |c: &mut Rec| {
        let (x, p) = (c.x(), c.p());
        let m = c.r.compare(CmpPred::Lt, x, p);
        let m = c.r.unary("not", m);
        c.count(m)
    };
    list.push(case("not", I32, record, |d, at| Want::Bits(u32::from(d.x[at] >= d.p[at]))));
    let record = |c: &mut Rec| {
        let (x, p) = (c.x(), c.p());
        let m = c.r.compare(CmpPred::Lt, x, p);
        c.r.choose(m, x, p)
    };
    list.push(case("choose f32", F32, record, |d, at| Want::Float(if d.x[at] < d.p[at] { d.x[at] } else { d.p[at] })));
    let record = |c: &mut Rec| {
        let (i, j) = (c.i(), c.j());
        let m = c.r.compare(CmpPred::Ge, i, j);
        c.r.choose(m, i, j)
    };
    list.push(case("choose i32", I32, record, |d, at| Want::Bits(d.i[at].max(d.j[at]) as u32)));
    let record = |c: &mut Rec| {
        let (x, p, i, j) = (c.x(), c.p(), c.i(), c.j());
        let (m, n) = (c.r.compare(CmpPred::Lt, x, p), c.r.compare(CmpPred::Lt, i, j));
        let not = c.r.unary("not", n);
        let m = c.r.choose(m, n, not);
        c.count(m)
    };
    list.push(case("choose i1", I32, record, |d, at| Want::Bits(u32::from((d.x[at] < d.p[at]) == (d.i[at] < d.j[at])))));
    // Integer and truth-value cells carried by a loop whose length is known at run time only.
    let record = |c: &mut Rec| {
        let (i, j) = (c.i(), c.j());
        let m = c.r.compare(CmpPred::Lt, i, j);
        let (sum, flag) = (c.r.tile_cell(j), c.r.tile_cell(m));
        let trips = c.r.param("trips");
        c.r.for_range(0, trips, 1, |r, k| {
            let (s, f) = (r.get_tile(sum), r.get_tile(flag));
            let k = r.splat(k, r.tile_type(s));
            let more = r.binary("add", s, k);
            let s = r.choose(f, more, s);
            let f = r.unary("not", f);
            r.set_tile(sum, s);
            r.set_tile(flag, f);
        });
        c.r.get_tile(sum)
    };
    list.push(case("cells in a loop", I32, record, |d, at| {
        // 0 to 6: the even ones, or the odd ones.
        Want::Bits((d.j[at] + if d.i[at] < d.j[at] { 12 } else { 9 }) as u32)
    }));
    list
}

fn vectors() -> Vec<Case> {
    use DType::I32;
    let mut list = Vec::new();
    for axis in [0, 1] {
        let index = move |d: &Data, at: usize| Want::Bits((if axis == 0 { at / d.cols } else { at % d.cols }) as u32);
        let record = move |c: &mut Rec| c.r.iota(axis, c.float.clone());
        list.push(case(format!("iota {axis}"), I32, record, index));
        let record = move |c: &mut Rec| {
            let like = if axis == 0 { c.r.row_vec(&c.float, DType::I32) } else { c.r.col_vec(&c.float, DType::I32) };
            let v = c.r.iota(axis, like);
            c.r.broadcast(v, c.float.clone())
        };
        list.push(case(format!("iota {axis} of a vector"), I32, record, index));
        for pred in PREDS {
            // Any number, those close to the ends of i32 and to the tile's own numbers among them.
            let near = |i: i32| {
                if i & 1 == 0 {
                    (i >> 1 & 0x7FFF_FFFF) % 20
                } else if i & 2 == 0 {
                    i32::MIN + (i >> 2 & 7)
                } else {
                    i
                }
            };
            let record = move |c: &mut Rec| {
                let i = c.i();
                let half = c.number(1);
                let half = c.r.binary("shr", i, half);
                // `%` of numbers that are not negative.
                let sign = c.number(0x7FFF_FFFF);
                let half = c.r.binary("and", half, sign);
                let twenty = c.number(20);
                let small = c.r.binary("rem", half, twenty);
                let two = c.number(2);
                let low = c.r.binary("shr", i, two);
                let low = c.masked(low, 7);
                let least = c.number(i64::from(i32::MIN));
                let low = c.r.binary("add", least, low);
                let (one, zero) = (c.number(1), c.number(0));
                let bit = c.r.binary("and", i, two);
                let second = c.r.compare(CmpPred::Eq, bit, zero);
                let big = c.r.choose(second, low, i);
                let bit = c.r.binary("and", i, one);
                let even = c.r.compare(CmpPred::Eq, bit, zero);
                let n = c.r.choose(even, small, big);
                let at = c.r.iota(axis, c.float.clone());
                let m = c.r.compare(pred, at, n);
                c.count(m)
            };
            list.push(case(format!("iota {axis} {} anything", pred.name()), I32, record, move |d, at| {
                let own = if axis == 0 { at / d.cols } else { at % d.cols } as i32;
                Want::Bits(u32::from(holds(pred, own, near(d.i[at]))))
            }));
        }
    }
    list
}

fn reductions() -> Vec<Case> {
    use DType::{F32, I32};
    type F = fn(f32, f32) -> f32;
    type I = fn(i32, i32) -> i32;
    let mut list = Vec::new();
    let floats: [(&'static str, F); 3] = [("max", f32::max), ("min", f32::min), ("add", |a, b| a + b)];
    let ints: [(&'static str, I); 3] = [("max", |a, b| a.max(b)), ("min", |a, b| a.min(b)), ("add", i32::wrapping_add)];
    for (f, fold) in floats {
        let record = move |c: &mut Rec| {
            let x = c.x();
            let v = c.r.reduce(f, x);
            c.r.broadcast(v, c.float.clone())
        };
        let want = move |d: &Data, at: usize| Want::Float(d.x[d.row(at)].iter().copied().reduce(fold).expect("a row"));
        list.push(case(format!("reduce f32 {f}"), F32, record, want));
        let record = move |c: &mut Rec| {
            let x = c.x();
            let v = c.r.reduce_thread(f, x);
            let v = c.r.reduce_lanes(f, v);
            c.r.broadcast(v, c.float.clone())
        };
        list.push(case(format!("reduce f32 {f} in two steps"), F32, record, want));
    }
    for (f, fold) in ints {
        let record = move |c: &mut Rec| {
            let i = c.i();
            let v = c.r.reduce(f, i);
            c.r.broadcast(v, c.ints())
        };
        list.push(case(format!("reduce i32 {f}"), I32, record, move |d, at| {
            Want::Bits(d.i[d.row(at)].iter().copied().reduce(fold).expect("a row") as u32)
        }));
    }
    // A NaN loses, so only rows of nothing else give one.
    let record = |c: &mut Rec| {
        let y = c.y();
        let v = c.r.reduce("max", y);
        c.r.broadcast(v, c.float.clone())
    };
    list.push(case("reduce with NaN", F32, record, |d, at| {
        Want::Float(d.y[d.row(at)].iter().copied().reduce(f32::max).expect("a row"))
    }));
    list
}

fn kernel(name: &str, arch: Arch, warps: u32, shape: [u32; 2], layout: &Layout, cases: &[Case]) -> Kernel {
    let mut k = KernelBuilder::new(name, arch);
    k.shape("trips");
    let dims = || shape.map(|n| Dim { param: None, factor: n });
    let tensors = [("x", DType::F32), ("y", DType::F32), ("p", DType::F32), ("i", DType::I32), ("j", DType::I32)]
        .map(|(n, d)| k.tensor(n, d, dims()));
    let outputs: Vec<_> = cases.iter().enumerate().map(|(n, c)| k.tensor(&format!("out{n}"), c.dtype, dims())).collect();
    k.role("main", warps, None, Unit::Role, |r| {
        for (n, (case, out)) in cases.iter().zip(&outputs).enumerate() {
            // A block of its own for each, always taken: together their operands would not fit the registers.
            let trips = r.param("trips");
            let always = r.cmp(CmpPred::Ne, trips, 100 + n as i64);
            r.if_then(always, |r| {
                let float = RegTile { dtype: DType::F32, shape, layout: layout.clone() };
                let tile = (case.record)(&mut Rec { r, tensors: &tensors, float });
                let zero = r.int(0);
                r.store_tile(out, tile, &[zero, zero], 1);
            });
        }
    });
    k.finish()
}

fn bytes<T: Copy, const N: usize>(values: &[T], f: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|v| f(*v)).collect()
}

fn check(name: &str, arch: Arch, warps: u32, shape: [u32; 2], layout: &Layout, cases: &[Case]) {
    let k = kernel(name, arch, warps, shape, layout, cases);
    let text = k.to_string();
    let again = tile::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(again.to_string(), text);
    tile::verify(&again).unwrap();
    let built = runner().build(&k).unwrap_or_else(|e| panic!("{name}: {e}"));
    let d = Data::new(shape[0] as usize, shape[1] as usize);
    let inputs = [
        ("x", bytes(&d.x, f32::to_le_bytes)),
        ("y", bytes(&d.y, f32::to_le_bytes)),
        ("p", bytes(&d.p, f32::to_le_bytes)),
        ("i", bytes(&d.i, i32::to_le_bytes)),
        ("j", bytes(&d.j, i32::to_le_bytes)),
    ];
    let inputs: Vec<(&str, &[u8])> = inputs.iter().map(|(n, b)| (*n, b.as_slice())).collect();
    let names: Vec<String> = (0..cases.len()).map(|n| format!("out{n}")).collect();
    let outputs: Vec<(&str, usize)> = names.iter().map(|n| (n.as_str(), 4 * d.x.len())).collect();
    for seed in 0..2 {
        let ran = built.run(&[("trips", 7)], &[], &inputs, &outputs, seed).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(ran.errors.is_empty(), "{name}: {}", ran.errors.join("\n"));
        for ((case, out), unwritten) in cases.iter().zip(&ran.outputs).zip(&ran.unwritten) {
            assert_eq!(*unwritten, 0, "{name}: {}", case.name);
            for (at, word) in out.chunks(4).enumerate() {
                let bits = u32::from_le_bytes(word.try_into().expect("four bytes"));
                let found = f32::from_bits(bits);
                let (ok, want) = match (case.want)(&d, at) {
                    Want::Bits(want) => (bits == want, want.to_string()),
                    // The sign of a zero is that of neither operand in min and max.
                    Want::Float(want) => (found == want || found.is_nan() && want.is_nan(), want.to_string()),
                    Want::Near(want, most) => {
                        let off = (f64::from(found) - want).abs() / want.abs().max(1.0);
                        (off <= most, want.to_string())
                    }
                    Want::Ratio(want, most) => ((f64::from(found) / want - 1.0).abs() <= most, want.to_string()),
                };
                let (row, col) = (at / d.cols, at % d.cols);
                assert!(ok, "{name}: {} at ({row}, {col}) is {found} ({bits}), not {want}", case.name);
            }
        }
    }
}

fn elementwise_and_vectors() -> Vec<Case> {
    let mut cases = elementwise();
    cases.extend(masks());
    cases.extend(vectors());
    cases
}

#[test]
fn every_operation_on_accumulators_of_wgmma() {
    let mut cases = elementwise_and_vectors();
    cases.extend(reductions());
    check("wgmma_96", Arch::Sm90a, 4, [64, 96], &wgmma_acc(64, 96, 1).unwrap(), &cases);
}

#[test]
fn wide_and_tall_accumulators_of_wgmma() {
    let cases = || {
        let mut cases = reductions();
        cases.extend(vectors());
        cases
    };
    check("wgmma_176", Arch::Sm90a, 4, [64, 176], &wgmma_acc(64, 176, 1).unwrap(), &cases());
    check("wgmma_128x24", Arch::Sm90a, 4, [128, 24], &wgmma_acc(128, 24, 1).unwrap(), &cases());
    check("wgmma_256x16", Arch::Sm90a, 8, [256, 16], &wgmma_acc(256, 16, 2).unwrap(), &cases());
}

#[test]
fn every_operation_on_accumulators_of_mma() {
    let mut cases = elementwise_and_vectors();
    cases.extend(reductions());
    check("mma_96", Arch::Sm80, 2, [64, 96], &mma_acc(64, 96, 2, 1).unwrap(), &cases);
    check("mma_176", Arch::Sm80, 4, [64, 176], &mma_acc(64, 176, 4, 1).unwrap(), &reductions());
    // Warps along the columns: everything but reductions.
    check("mma_grid", Arch::Sm80, 4, [32, 48], &mma_acc(32, 48, 2, 2).unwrap(), &elementwise_and_vectors());
}

#[test]
fn every_operation_on_blocked_tiles() {
    let mut cases = elementwise_and_vectors();
    cases.extend(reductions());
    check("blocked_96", Arch::Sm80, 4, [16, 96], &blocked(128, [16, 96], 4).unwrap(), &cases);
    check("blocked_176", Arch::Sm80, 4, [32, 176], &blocked(128, [32, 176], 1).unwrap(), &reductions());
    check("blocked_1", Arch::Sm80, 2, [64, 1], &blocked(64, [64, 1], 1).unwrap(), &reductions());
}
