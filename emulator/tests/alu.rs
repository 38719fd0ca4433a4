//! Every arithmetic family against plain Rust, on random and awkward operands.

mod common;

use common::kernel::{bytes32, bytes64, doubles, module, run, words};

const LANES: usize = 256;

fn random(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    }
}

/// Awkward values first, then random ones, then random small floats.
fn operands(seed: u32) -> Vec<u32> {
    let awkward = [
        0,
        1,
        2,
        3,
        31,
        32,
        33,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX,
        0x3f80_0000,
        0xbf80_0000,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x0000_0001,
        0x0080_0000,
        0x7f7f_ffff,
    ];
    let mut next = random(seed);
    let rotate = seed as usize * 7;
    (0..LANES)
        .map(|i| match i {
            0..=99 => awkward[(i + rotate + i / 25 * seed as usize) % awkward.len()],
            100..=179 => next(),
            _ => (((next() % 4001) as f32 - 2000.0) / 64.0).to_bits(),
        })
        .collect()
}

fn operands64(seed: u32) -> Vec<u64> {
    let (low, high) = (operands(seed), operands(seed + 50));
    let mut next = random(seed + 9);
    (0..LANES)
        .map(|i| match i {
            0..=129 => u64::from(low[i]) | (u64::from(high[i]) << 32),
            130..=199 => u64::from(low[i]),
            _ => ((f64::from(next() % 4001) - 2000.0) / 64.0).to_bits(),
        })
        .collect()
}

const LOAD: &str = "mov.u32 %r60, %tid.x;\n";

fn address(param: &str, bytes: u32, to: u32) -> String {
    format!("ld.param.u64 %d20, [{param}];\nmul.wide.u32 %d21, %r60, {bytes};\nadd.s64 %d{to}, %d20, %d21;\n")
}

/// Runs `%r4 = f(%r1, %r2, %r3)` for all lanes and compares the bits.
fn check32(instruction: &str, f: impl Fn(u32, u32, u32) -> u32) {
    let inputs = [operands(1), operands(2), operands(3)];
    let mut body = String::from(LOAD);
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        body += &address(name, 4, 10);
        body += &format!("ld.global.b32 %r{}, [%d10];\n", i + 1);
    }
    body += &format!("{instruction}\n{}st.global.b32 [%d10], %r4;\nret;", address("y", 4, 10));
    let text = module("sm_90a", &["a", "b", "c", "y"], &body);
    let mut buffers: Vec<Vec<u8>> = inputs.iter().map(|values| bytes32(values)).collect();
    buffers.push(vec![0; 4 * LANES]);
    let (out, report) = run(&text, LANES as u32, &buffers);
    assert!(report.findings.is_empty(), "{instruction}: {:?}", report.findings);
    for (lane, got) in words(&out[3]).into_iter().enumerate() {
        let [a, b, c] = [0, 1, 2].map(|i| inputs[i][lane]);
        let want = f(a, b, c);
        assert_eq!(got, want, "{instruction} of {a:#x}, {b:#x}, {c:#x}: {got:#x}, expected {want:#x}");
    }
}

/// The same for `%d4 = f(%d1, %d2, %r3)`.
fn check64(instruction: &str, f: impl Fn(u64, u64, u32) -> u64) {
    let (a, b, c) = (operands64(1), operands64(2), operands(3));
    let mut body = String::from(LOAD);
    for (i, name) in ["a", "b"].iter().enumerate() {
        body += &address(name, 8, 10);
        body += &format!("ld.global.b64 %d{}, [%d10];\n", i + 1);
    }
    body += &address("c", 4, 10);
    body += "ld.global.b32 %r3, [%d10];\n";
    body += &format!("{instruction}\n{}st.global.b64 [%d10], %d4;\nret;", address("y", 8, 10));
    let text = module("sm_90a", &["a", "b", "c", "y"], &body);
    let buffers = [bytes64(&a), bytes64(&b), bytes32(&c), vec![0; 8 * LANES]];
    let (out, report) = run(&text, LANES as u32, &buffers);
    assert!(report.findings.is_empty(), "{instruction}: {:?}", report.findings);
    for (lane, got) in doubles(&out[3]).into_iter().enumerate() {
        let want = f(a[lane], b[lane], c[lane]);
        assert_eq!(got, want, "{instruction} of {:#x}, {:#x}, {:#x}: {got:#x}, expected {want:#x}", a[lane], b[lane], c[lane]);
    }
}

fn f(x: u32) -> f32 {
    f32::from_bits(x)
}

fn bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
}

fn ftz(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

fn bits64(x: f64) -> u64 {
    if x.is_nan() { 0x7ff8_0000_0000_0000 } else { x.to_bits() }
}

#[test]
fn integers() {
    check32("add.s32 %r4, %r1, %r2;", |a, b, _| a.wrapping_add(b));
    check32("sub.u32 %r4, %r1, %r2;", |a, b, _| a.wrapping_sub(b));
    check32("mul.lo.u32 %r4, %r1, %r2;", |a, b, _| a.wrapping_mul(b));
    check32("mul.hi.u32 %r4, %r1, %r2;", |a, b, _| ((u64::from(a) * u64::from(b)) >> 32) as u32);
    check32("mul.hi.s32 %r4, %r1, %r2;", |a, b, _| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32);
    check32("mad.lo.s32 %r4, %r1, %r2, %r3;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check32("mad.hi.s32 %r4, %r1, %r2, %r3;", |a, b, c| {
        (((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32).wrapping_add(c)
    });
    check32("mul24.lo.s32 %r4, %r1, %r2;", |a, b, _| {
        let x = |v: u32| i64::from((v << 8) as i32 >> 8);
        (x(a) * x(b)) as u32
    });
    check32("add.sat.s32 %r4, %r1, %r2;", |a, b, _| (a as i32).saturating_add(b as i32) as u32);
    check32("min.s32 %r4, %r1, %r2;", |a, b, _| (a as i32).min(b as i32) as u32);
    check32("max.u32 %r4, %r1, %r2;", |a, b, _| a.max(b));
    check32("min.relu.s32 %r4, %r1, %r2;", |a, b, _| (a as i32).min(b as i32).max(0) as u32);
    check32("abs.s32 %r4, %r1;", |a, _, _| (a as i32).wrapping_abs() as u32);
    check32("neg.s32 %r4, %r1;", |a, _, _| a.wrapping_neg());
    check32("sad.s32 %r4, %r1, %r2, %r3;", |a, b, c| c.wrapping_add((a as i32).abs_diff(b as i32)));
    check32("div.s32 %r4, %r1, %r2;", |a, b, _| if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 });
    check32("rem.u32 %r4, %r1, %r2;", |a, b, _| if b == 0 { a } else { a % b });
    check32("cvt.u16.u32 %h1, %r1;\ncvt.u16.u32 %h2, %r2;\nmul.wide.s16 %r4, %h1, %h2;", |a, b, _| {
        (i32::from(a as i16) * i32::from(b as i16)) as u32
    });
    check32("cvt.u16.u32 %h1, %r1;\ncvt.u16.u32 %h2, %r2;\nsub.s16 %h3, %h1, %h2;\ncvt.s32.s16 %r4, %h3;", |a, b, _| {
        i32::from((a as i16).wrapping_sub(b as i16)) as u32
    });
    check32("cvt.u16.u32 %h1, %r1;\ncvt.u16.u32 %h2, %r2;\nmin.s16 %h3, %h1, %h2;\ncvt.u32.u16 %r4, %h3;", |a, b, _| {
        u32::from((a as i16).min(b as i16) as u16)
    });
    check32("cvt.u16.u32 %h1, %r1;\nshr.s16 %h3, %h1, %r2;\ncvt.u32.u16 %r4, %h3;", |a, b, _| {
        u32::from((i32::from(a as i16) >> b.min(31)) as u16)
    });
}

#[test]
fn bits_and_bytes() {
    check32("and.b32 %r4, %r1, %r2;", |a, b, _| a & b);
    check32("not.b32 %r4, %r1;", |a, _, _| !a);
    check32("cnot.b32 %r4, %r1;", |a, _, _| u32::from(a == 0));
    check32("lop3.b32 %r4, %r1, %r2, %r3, 0xe8;", |a, b, c| (a & b) | (a & c) | (b & c));
    check32("lop3.b32 %r4, %r1, %r2, %r3, 0x96;", |a, b, c| a ^ b ^ c);
    check32("lop3.b32 %r4, %r1, %r2, %r3, 0xca;", |a, b, c| (a & b) | (!a & c));
    check32("shl.b32 %r4, %r1, %r2;", |a, b, _| if b > 31 { 0 } else { a << b });
    check32("shr.u32 %r4, %r1, %r2;", |a, b, _| if b > 31 { 0 } else { a >> b });
    check32("shr.s32 %r4, %r1, %r2;", |a, b, _| (a as i32 >> b.min(31)) as u32);
    check32("shf.l.wrap.b32 %r4, %r1, %r2, %r3;", |a, b, c| ((((u64::from(b) << 32) | u64::from(a)) << (c & 31)) >> 32) as u32);
    check32("shf.r.clamp.b32 %r4, %r1, %r2, %r3;", |a, b, c| (((u64::from(b) << 32) | u64::from(a)) >> c.min(32)) as u32);
    check32("prmt.b32 %r4, %r1, %r2, 0x7531;", |a, b, _| {
        let pool = (u64::from(b) << 32) | u64::from(a);
        [1, 3, 5, 7].iter().enumerate().fold(0, |out, (i, s)| out | (((pool >> (8 * s)) as u8 as u32) << (8 * i)))
    });
    check32("prmt.b32 %r4, %r1, %r2, 0x80;", |a, _, _| {
        (a & 0xff) | if a & 0x80 != 0 { 0xff00 } else { 0 } | ((a & 0xff) << 16) | ((a & 0xff) << 24)
    });
    check32("popc.b32 %r4, %r1;", |a, _, _| a.count_ones());
    check32("clz.b32 %r4, %r1;", |a, _, _| a.leading_zeros());
    check32("brev.b32 %r4, %r1;", |a, _, _| a.reverse_bits());
    check32("bfind.u32 %r4, %r1;", |a, _, _| if a == 0 { u32::MAX } else { 31 - a.leading_zeros() });
    check32("bfe.u32 %r4, %r1, 4, 9;", |a, _, _| (a >> 4) & 0x1ff);
    check32("bfe.s32 %r4, %r1, 28, 9;", |a, _, _| (a as i32 >> 28) as u32);
    check32("bfi.b32 %r4, %r1, %r2, 8, 12;", |a, b, _| (b & !0xf_ff00) | ((a << 8) & 0xf_ff00));
    check32("bmsk.clamp.b32 %r4, 3, 7;", |_, _, _| 0x3f8);
    check32("dp4a.u32.s32 %r4, %r1, %r2, %r3;", |a, b, c| {
        (0..4).fold(c, |sum, i| {
            let (x, y) = ((a >> (8 * i)) as u8, (b >> (8 * i)) as i8);
            sum.wrapping_add((i32::from(x) * i32::from(y)) as u32)
        })
    });
    check32("mov.b32 {%h1, %h2}, %r1;\nmov.b32 %r4, {%h2, %h1};", |a, _, _| a.rotate_left(16));
}

#[test]
fn carries() {
    check32("add.cc.u32 %r5, %r1, %r2;\naddc.u32 %r4, %r3, 0;", |a, b, c| c.wrapping_add(u32::from(a.checked_add(b).is_none())));
    check32("sub.cc.u32 %r5, %r1, %r2;\nsubc.u32 %r4, %r3, 0;", |a, b, c| c.wrapping_sub(u32::from(a < b)));
    check32("mad.lo.cc.u32 %r5, %r1, %r2, %r3;\nmadc.hi.u32 %r4, %r1, %r2, 0;", |a, b, c| {
        ((u64::from(a) * u64::from(b) + u64::from(c)) >> 32) as u32
    });
}

#[test]
fn floats() {
    check32("add.f32 %r4, %r1, %r2;", |a, b, _| bits(f(a) + f(b)));
    check32("sub.rn.f32 %r4, %r1, %r2;", |a, b, _| bits(f(a) - f(b)));
    check32("mul.f32 %r4, %r1, %r2;", |a, b, _| bits(f(a) * f(b)));
    check32("mul.ftz.f32 %r4, %r1, %r2;", |a, b, _| bits(ftz(ftz(f(a)) * ftz(f(b)))));
    check32("fma.rn.f32 %r4, %r1, %r2, %r3;", |a, b, c| bits(f(a).mul_add(f(b), f(c))));
    check32("div.rn.f32 %r4, %r1, %r2;", |a, b, _| bits(f(a) / f(b)));
    check32("add.sat.f32 %r4, %r1, %r2;", |a, b, _| {
        let sum = f(a) + f(b);
        if sum.is_nan() { 0 } else { (sum.clamp(0.0, 1.0) + 0.0).to_bits() }
    });
    check32("rcp.rn.f32 %r4, %r1;", |a, _, _| bits(1.0 / f(a)));
    check32("sqrt.rn.f32 %r4, %r1;", |a, _, _| bits(f(a).sqrt()));
    check32("neg.f32 %r4, %r1;", |a, _, _| a ^ 0x8000_0000);
    check32("abs.f32 %r4, %r1;", |a, _, _| a & 0x7fff_ffff);
    check32("copysign.f32 %r4, %r1, %r2;", |a, b, _| (b & 0x7fff_ffff) | (a & 0x8000_0000));
    let min = |a: u32, b: u32| match (f(a).is_nan(), f(b).is_nan()) {
        (true, true) => 0x7fff_ffff,
        (true, false) => b,
        (false, true) => a,
        _ if f(a) == f(b) => a | b,
        _ if f(a) < f(b) => a,
        _ => b,
    };
    check32("min.f32 %r4, %r1, %r2;", move |a, b, _| min(a, b));
    check32("max.f32 %r4, %r1, %r2;", move |a, b, _| {
        let flip = |x: u32| x ^ 0x8000_0000;
        let m = min(flip(a), flip(b));
        if f(m).is_nan() { 0x7fff_ffff } else { flip(m) }
    });
    check32("max.NaN.f32 %r4, %r1, %r2;", |a, b, _| match (f(a).is_nan() || f(b).is_nan(), f(a) == f(b)) {
        (true, _) => 0x7fff_ffff,
        (_, true) => a & b,
        _ => {
            if f(a) > f(b) {
                a
            } else {
                b
            }
        }
    });
}

#[test]
fn directed_rounding() {
    // Exact in f64 for these operands, so that rounding once is easy.
    let down = |x: f64| {
        let near = x as f32;
        bits(if f64::from(near) > x { near.next_down() } else { near })
    };
    let up = |x: f64| {
        let near = x as f32;
        bits(if f64::from(near) < x { near.next_up() } else { near })
    };
    let product = |a: u32, b: u32| f64::from(f(a)) * f64::from(f(b));
    check32("mul.rm.f32 %r4, %r1, %r2;", move |a, b, _| down(product(a, b)));
    check32("mul.rp.f32 %r4, %r1, %r2;", move |a, b, _| up(product(a, b)));
    check32(
        "mul.rz.f32 %r4, %r1, %r2;",
        move |a, b, _| if product(a, b) < 0.0 { up(product(a, b)) } else { down(product(a, b)) },
    );
}

#[test]
fn approximations_are_correctly_rounded() {
    check32("ex2.approx.f32 %r4, %r1;", |a, _, _| bits(f64::from(f(a)).exp2() as f32));
    check32("ex2.approx.ftz.f32 %r4, %r1;", |a, _, _| bits(ftz(f64::from(ftz(f(a))).exp2() as f32)));
    check32("lg2.approx.f32 %r4, %r1;", |a, _, _| bits(f64::from(f(a)).log2() as f32));
    check32("rsqrt.approx.f32 %r4, %r1;", |a, _, _| bits((1.0 / f64::from(f(a)).sqrt()) as f32));
    check32("tanh.approx.f32 %r4, %r1;", |a, _, _| bits(f64::from(f(a)).tanh() as f32));
    check32("div.full.f32 %r4, %r1, %r2;", |a, b, _| bits(f(a) / f(b)));
    check32("rcp.approx.ftz.f32 %r4, %r1;", |a, _, _| bits(ftz(1.0 / ftz(f(a)))));
}

#[test]
fn comparisons_and_selections() {
    check32("setp.lt.s32 %p1, %r1, %r2;\nselp.b32 %r4, 1, 0, %p1;", |a, b, _| u32::from((a as i32) < b as i32));
    check32("setp.hs.u32 %p1|%p2, %r1, %r2;\nselp.b32 %r4, %r3, 0, %p2;", |a, b, c| if a < b { c } else { 0 });
    for (name, test) in [
        ("eq", (|a, b| a == b) as fn(f32, f32) -> bool),
        ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
        ("gtu", |a, b| a > b || a.is_nan() || b.is_nan()),
        ("equ", |a, b| a == b || a.is_nan() || b.is_nan()),
        ("le", |a, b| a <= b),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
        ("neu", |a, b| a != b),
    ] {
        check32(
            &format!("setp.{name}.f32 %p1, %r1, %r2;\nselp.b32 %r4, 7, 9, %p1;"),
            |a, b, _| if test(f(a), f(b)) { 7 } else { 9 },
        );
        check32(&format!("set.{name}.u32.f32 %r4, %r1, %r2;"), |a, b, _| if test(f(a), f(b)) { u32::MAX } else { 0 });
    }
    check32("setp.gt.s32 %p1, %r3, 0;\nsetp.eq.or.s32 %p2, %r1, %r2, !%p1;\nselp.b32 %r4, 1, 0, %p2;", |a, b, c| {
        u32::from(a == b || c as i32 <= 0)
    });
    check32("slct.b32.s32 %r4, %r1, %r2, %r3;", |a, b, c| if c as i32 >= 0 { a } else { b });
    check32("testp.infinite.f32 %p1, %r1;\nselp.b32 %r4, 1, 0, %p1;", |a, _, _| u32::from(f(a).is_infinite()));
    check32(
        "setp.ne.s32 %p1, %r1, %r2;\nsetp.lt.u32 %p2, %r1, %r3;\nxor.pred %p3, %p1, %p2;\nnot.pred %p4, %p3;\nselp.b32 %r4, 1, 0, %p4;",
        |a, b, c| u32::from((a != b) == (a < c)),
    );
}

#[test]
fn halves() {
    use half::{bf16, f16};
    let h = |x: u32| f16::from_bits(x as u16);
    let nan16 = |x: f16| if x.is_nan() { 0x7fff } else { u32::from(x.to_bits()) };
    let two = move |a: u32, b: u32, op: fn(f64, f64) -> f64| {
        let low = nan16(f16::from_f64(op(h(a).to_f64(), h(b).to_f64())));
        let high = nan16(f16::from_f64(op(h(a >> 16).to_f64(), h(b >> 16).to_f64())));
        low | (high << 16)
    };
    check32("add.f16x2 %r4, %r1, %r2;", move |a, b, _| two(a, b, |x, y| x + y));
    check32("mul.rn.f16x2 %r4, %r1, %r2;", move |a, b, _| two(a, b, |x, y| x * y));
    let b = |x: u32| bf16::from_bits(x as u16);
    let nanb = |x: bf16| if x.is_nan() { 0x7fff } else { u32::from(x.to_bits()) };
    check32("cvt.u16.u32 %h1, %r1;\ncvt.u16.u32 %h2, %r2;\nmul.bf16 %h3, %h1, %h2;\ncvt.u32.u16 %r4, %h3;", move |x, y, _| {
        nanb(bf16::from_f32(b(x).to_f32() * b(y).to_f32()))
    });
    check32("neg.bf16x2 %r4, %r1;", |a, _, _| a ^ 0x8000_8000);
    check32("cvt.rn.bf16x2.f32 %r4, %r1, %r2;", move |x, y, _| (nanb(bf16::from_f32(f(x))) << 16) | nanb(bf16::from_f32(f(y))));
    check32("cvt.rn.f16x2.f32 %r4, %r1, %r2;", move |x, y, _| {
        let n = |v: u32| nan16(f16::from_f32(f(v)));
        (n(x) << 16) | n(y)
    });
    check32("cvt.u16.u32 %h1, %r1;\ncvt.f32.bf16 %r4, %h1;", |a, _, _| bits(f(a << 16)));
    check32("cvt.u16.u32 %h1, %r1;\ncvt.f32.f16 %r4, %h1;", move |a, _, _| bits(h(a).to_f32()));
}

#[test]
fn conversions() {
    check32("cvt.rn.f32.s32 %r4, %r1;", |a, _, _| (a as i32 as f32).to_bits());
    check32("cvt.rn.f32.u32 %r4, %r1;", |a, _, _| (a as f32).to_bits());
    check32("cvt.rzi.s32.f32 %r4, %r1;", |a, _, _| f(a) as i32 as u32);
    check32("cvt.rni.u32.f32 %r4, %r1;", |a, _, _| f(a).round_ties_even() as u32);
    check32("cvt.rmi.f32.f32 %r4, %r1;", |a, _, _| bits(f(a).floor()));
    check32("cvt.sat.s8.s32 %r4, %r1;", |a, _, _| (a as i32).clamp(-128, 127) as u32);
    check32("cvt.s32.s8 %r4, %r1;", |a, _, _| i32::from(a as i8) as u32);
    check32("cvt.u32.u8 %r4, %r1;", |a, _, _| a & 0xff);
    check32("cvt.rna.tf32.f32 %r4, %r1;", |a, _, _| {
        if f(a).is_nan() {
            0x7fff_e000
        } else if f(a).is_infinite() {
            a
        } else {
            (a + 0x1000) & !0x1fff
        }
    });
    check64("cvt.s64.s32 %d4, %r3;", |_, _, c| i64::from(c as i32) as u64);
    check64("cvt.u64.u32 %d4, %r3;", |_, _, c| u64::from(c));
    check64("cvt.f64.f32 %d4, %r3;", |_, _, c| bits64(f64::from(f(c))));
    check64("cvt.rn.f64.s64 %d4, %d1;", |a, _, _| (a as i64 as f64).to_bits());
    check64("cvt.rzi.s64.f64 %d4, %d1;", |a, _, _| {
        let x = f64::from_bits(a);
        if x.is_nan() { 1 << 63 } else { x as i64 as u64 }
    });
    check64("cvt.rn.f32.f64 %r5, %d1;\nmov.b64 %d4, {%r5, %r3};", |a, _, c| {
        u64::from(bits(f64::from_bits(a) as f32)) | (u64::from(c) << 32)
    });
}

#[test]
fn doubles_and_longs() {
    check64("add.s64 %d4, %d1, %d2;", |a, b, _| a.wrapping_add(b));
    check64("mul.lo.s64 %d4, %d1, %d2;", |a, b, _| a.wrapping_mul(b));
    check64("mul.hi.s64 %d4, %d1, %d2;", |a, b, _| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64);
    check64("mad.lo.s64 %d4, %d1, %d2, %d1;", |a, b, _| a.wrapping_mul(b).wrapping_add(a));
    check64("mul.wide.s32 %d4, %r3, -3;", |_, _, c| (i64::from(c as i32) * -3) as u64);
    check64("mad.wide.u32 %d4, %r3, 5, %d1;", |a, _, c| (u64::from(c) * 5).wrapping_add(a));
    check64("shl.b64 %d4, %d1, %r3;", |a, _, c| if c > 63 { 0 } else { a << c });
    check64("shr.s64 %d4, %d1, %r3;", |a, _, c| (a as i64 >> c.min(63)) as u64);
    check64("div.u64 %d4, %d1, %d2;", |a, b, _| a.checked_div(b).unwrap_or(u64::MAX));
    check64("rem.s64 %d4, %d1, %d2;", |a, b, _| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 });
    check64("setp.lt.s64 %p1, %d1, %d2;\nselp.b64 %d4, %d1, %d2, %p1;", |a, b, _| if (a as i64) < b as i64 { a } else { b });
    check64("max.u64 %d4, %d1, %d2;", |a, b, _| a.max(b));
    check64("bfe.u64 %d4, %d1, 20, 30;", |a, _, _| (a >> 20) & 0x3fff_ffff);
    check64("bfi.b64 %d4, %d1, %d2, 40, 8;", |a, b, _| (b & !(0xff << 40)) | ((a & 0xff) << 40));
    check64("popc.b64 %r5, %d1;\ncvt.u64.u32 %d4, %r5;", |a, _, _| u64::from(a.count_ones()));
    check64("mov.b64 {%r5, %r6}, %d1;\nmov.b64 %d4, {%r6, %r5};", |a, _, _| a.rotate_left(32));
    check64("add.f64 %d4, %d1, %d2;", |a, b, _| bits64(f64::from_bits(a) + f64::from_bits(b)));
    check64("fma.rn.f64 %d4, %d1, %d2, %d1;", |a, b, _| {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        bits64(x.mul_add(y, x))
    });
    check64("div.rn.f64 %d4, %d1, %d2;", |a, b, _| bits64(f64::from_bits(a) / f64::from_bits(b)));
    check64("setp.gt.f64 %p1, %d1, %d2;\nselp.b64 %d4, %d1, %d2, %p1;", |a, b, _| {
        if f64::from_bits(a) > f64::from_bits(b) { a } else { b }
    });
    check64("add.cc.u64 %d5, %d1, %d2;\naddc.u64 %d4, 0, 0;", |a, b, _| u64::from(a.checked_add(b).is_none()));
    check64("brev.b64 %d4, %d1;", |a, _, _| a.reverse_bits());
}

#[test]
fn narrow_and_wide_integers() {
    let low =
        |m: &str| format!("cvt.u16.u32 %h1, %r1;\ncvt.u16.u32 %h2, %r2;\ncvt.u16.u32 %h3, %r3;\n{m}\ncvt.u32.u16 %r4, %h4;");
    let s = |x: u32| i32::from(x as i16);
    let u = |x: u32| x & 0xffff;
    check32(&low("mul.hi.s16 %h4, %h1, %h2;"), |a, b, _| u(((s(a) * s(b)) >> 16) as u32));
    check32(&low("mul.hi.u16 %h4, %h1, %h2;"), |a, b, _| u(a) * u(b) >> 16);
    check32(&low("mad.lo.u16 %h4, %h1, %h2, %h3;"), |a, b, c| u(u(a).wrapping_mul(u(b)).wrapping_add(c)));
    check32(&low("mad.hi.s16 %h4, %h1, %h2, %h3;"), |a, b, c| u(((s(a) * s(b)) >> 16).wrapping_add(s(c)) as u32));
    check32(&low("div.s16 %h4, %h1, %h2;"), |a, b, _| match s(b) {
        0 => 0xffff,
        b => u(s(a).wrapping_div(b) as u32),
    });
    check32(&low("rem.u16 %h4, %h1, %h2;"), |a, b, _| if u(b) == 0 { u(a) } else { u(a) % u(b) });
    check32(&low("sad.s16 %h4, %h1, %h2, %h3;"), |a, b, c| u((s(a).abs_diff(s(b))).wrapping_add(c)));
    check32(&low("abs.s16 %h4, %h1;"), |a, _, _| u((a as i16).wrapping_abs() as u32));
    check32(&low("shl.b16 %h4, %h1, %r2;"), |a, b, _| if b > 15 { 0 } else { u(u(a) << b) });
    check32(
        "mad.wide.u16 %r4, %h1, %h2, %r3;".replace("mad", "cvt.u16.u32 %h1, %r1;\ncvt.u16.u32 %h2, %r2;\nmad").as_str(),
        |a, b, c| u(a).wrapping_mul(u(b)).wrapping_add(c),
    );
    check32("add.u16x2 %r4, %r1, %r2;", |a, b, _| u(a.wrapping_add(b)) | ((a >> 16).wrapping_add(b >> 16) << 16));
    check32("max.relu.s16x2 %r4, %r1, %r2;", |a, b, _| {
        let half = |a: u32, b: u32| u(s(a).max(s(b)).max(0) as u32);
        half(a, b) | (half(a >> 16, b >> 16) << 16)
    });
    let high = |a: u32, b: u32| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as i32;
    check32("mad.hi.sat.s32 %r4, %r1, %r2, %r3;", |a, b, c| high(a, b).saturating_add(c as i32) as u32);
    let high24 = |a: u32, b: u32| {
        let x = |v: u32| i64::from((v << 8) as i32 >> 8);
        ((x(a) * x(b)) >> 16) as i32
    };
    check32("mul24.hi.s32 %r4, %r1, %r2;", |a, b, _| high24(a, b) as u32);
    check32("mad24.hi.sat.s32 %r4, %r1, %r2, %r3;", |a, b, c| high24(a, b).saturating_add(c as i32) as u32);
    check64("mad.hi.s64 %d4, %d1, %d2, %d1;", |a, b, _| {
        (((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64).wrapping_add(a)
    });
    check64("mad.lo.cc.u64 %d5, %d1, %d2, %d1;\nmadc.hi.u64 %d4, %d1, %d2, 0;", |a, b, _| {
        ((u128::from(a) * u128::from(b) + u128::from(a)) >> 64) as u64
    });
    check64("mad.lo.cc.s64 %d5, %d1, %d2, %d2;\nmadc.hi.cc.s64 %d4, %d1, %d2, %d1;\naddc.u64 %d4, %d4, 0;", |a, b, _| {
        let product = i128::from(a as i64) * i128::from(b as i64);
        let carry = u64::from((product as u64).checked_add(b).is_none());
        let sum = u128::from((product >> 64) as u64) + u128::from(a) + u128::from(carry);
        (sum as u64).wrapping_add((sum >> 64) as u64)
    });
}

#[test]
fn fields_and_permutes() {
    check32("bfe.s32 %r4, %r1, %r2, %r3;", |a, b, c| {
        let (start, count) = (b & 0xff, c & 0xff);
        let sign = if count == 0 { 0 } else { a >> (start + count - 1).min(31) & 1 };
        (0..32).fold(0, |out, i| out | (if i < count && start + i < 32 { a >> (start + i) & 1 } else { sign }) << i)
    });
    check32("bfi.b32 %r4, %r1, %r1, %r2, %r3;", |a, b, c| {
        let (start, count) = (b & 0xff, c & 0xff);
        (0..32)
            .filter(|i| *i < count && start + i < 32)
            .fold(a, |out, i| (out & !(1 << (start + i))) | ((a >> i & 1) << (start + i)))
    });
    let modes: [(&str, [[u32; 4]; 4]); 6] = [
        ("f4e", [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
        ("b4e", [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]]),
        ("rc8", [[0; 4], [1; 4], [2; 4], [3; 4]]),
        ("ecl", [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]]),
        ("ecr", [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]]),
        ("rc16", [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]),
    ];
    for (mode, bytes) in modes {
        check32(&format!("prmt.b32.{mode} %r4, %r1, %r2, %r3;"), |a, b, c| {
            let pool = (u64::from(b) << 32) | u64::from(a);
            let byte = |i: usize| (pool >> (8 * bytes[(c & 3) as usize][i])) as u32 & 0xff;
            byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24
        });
    }
    check32("bmsk.clamp.b32 %r4, %r1, %r2;", |a, b, _| {
        (0..32u64).filter(|i| *i >= u64::from(a) && *i < u64::from(a) + u64::from(b)).fold(0, |out, i| out | 1 << i)
    });
    check32("szext.clamp.s32 %r4, %r1, %r2;", |a, b, _| match b {
        0 => 0,
        1..=31 => ((a << (32 - b)) as i32 >> (32 - b)) as u32,
        _ => a,
    });
    check32("szext.wrap.u32 %r4, %r1, %r2;", |a, b, _| a & ((1u64 << (b & 31)) - 1) as u32);
    check32("dp2a.hi.s32.u32 %r4, %r1, %r2, %r3;", |a, b, c| {
        let part = |i: u32| (i32::from((a >> (16 * i)) as i16)).wrapping_mul(i32::from((b >> (16 + 8 * i)) as u8));
        (c as i32).wrapping_add(part(0)).wrapping_add(part(1)) as u32
    });
    check32("lop3.or.b32 %r4|%p1, %r1, %r2, %r3, 0x80, 0;\nselp.b32 %r4, 1, %r4, %p1;", |a, b, c| u32::from(a & b & c != 0));
    check32("setp.lt.s32 %p2, %r3, 5;\nlop3.and.b32 _|%p1, %r1, %r2, %r3, 0x3c, !%p2;\nselp.b32 %r4, 7, 9, %p1;", |a, b, c| {
        if a != b && c as i32 >= 5 { 7 } else { 9 }
    });
}

#[test]
fn sets_and_packs() {
    check32("setp.gt.u32 %p1, %r3, 40;\nset.lt.xor.u32.s32 %r4, %r1, %r2, !%p1;", |a, b, c| {
        if ((a as i32) < b as i32) != (c <= 40) { u32::MAX } else { 0 }
    });
    check32(
        "set.leu.f32.f32 %r4, %r1, %r2;",
        |a, b, _| {
            if f(a) <= f(b) || f(a).is_nan() || f(b).is_nan() { 0x3f80_0000 } else { 0 }
        },
    );
    check32("set.lt.f16x2.f16x2 %r4, %r1, %r2;", |a, b, _| {
        let half = |x: u32, y: u32| {
            let less = half::f16::from_bits(x as u16).to_f32() < half::f16::from_bits(y as u16).to_f32();
            if less { 0x3c00 } else { 0 }
        };
        half(a, b) | half(a >> 16, b >> 16) << 16
    });
    check32(
        "cvt.u64.u32 %d1, %r1;\ncvt.u64.u32 %d2, %r2;\nset.ge.s32.u64 %r4, %d1, %d2;",
        |a, b, _| {
            if a >= b { u32::MAX } else { 0 }
        },
    );
    check32("slct.u32.f32 %r4, %r1, %r2, %r3;", |a, b, c| if f(c) >= 0.0 { a } else { b });
    check32("cvt.pack.sat.s4.s32.b32 %r4, %r1, %r2, %r3;", |a, b, c| {
        let x = |v: u32| (v as i32).clamp(-8, 7) as u32 & 15;
        c << 8 | x(a) << 4 | x(b)
    });
    check32("cvt.pack.sat.u2.s32.b32 %r4, %r1, %r2, %r3;", |a, b, c| {
        let x = |v: u32| (v as i32).clamp(0, 3) as u32;
        c << 4 | x(a) << 2 | x(b)
    });
    check32("cvt.pack.sat.s16.s32 %r4, %r1, %r2;", |a, b, _| {
        let x = |v: u32| (v as i32).clamp(-0x8000, 0x7fff) as u32 & 0xffff;
        x(a) << 16 | x(b)
    });
    check32("neg.ftz.f16x2 %r4, %r1;", |a, _, _| {
        let half = |x: u32| if x & 0x7c00 == 0 { (x ^ 0x8000) & 0x8000 } else { (x ^ 0x8000) & 0xffff };
        half(a) | half(a >> 16) << 16
    });
}
