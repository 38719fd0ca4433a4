//! Each float instruction in the ring against the functions of `ring`, on random payloads.

mod common;

use common::kernel::{bytes32, bytes64, doubles, module, words};
use tilewright_emulator::ring::{self, Payload};
use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, Launch, Module, Numerics};

const LANES: usize = 256;

/// Small numbers, extremes and the bits of awkward floats first, then random words.
fn operands(seed: u64) -> Vec<u64> {
    let awkward = [0, 1, 2, u64::MAX, 0x3f80_0000, 0x8000_0000, 0x7f80_0000, 0x7fc0_0000, 0x8000_8000, 0x7fff_ffff, 1 << 63];
    let mut state = seed;
    (0..LANES)
        .map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = state ^ state >> 29;
            if i < 121 { awkward[if seed == 1 { i % 11 } else { (i / 11 + seed as usize) % 11 }] } else { word }
        })
        .collect()
}

/// Runs `body` on a, b and c (`%d1..3`, `%r1..3`, `%h1..3`), whose result is in `%d4`, `%r4` or `%h4` by `bits`.
fn results(body: &str, bits: u32) -> Vec<u64> {
    let mut text = String::from("mov.u32 %r60, %tid.x;\nmul.wide.u32 %d20, %r60, 8;\n");
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        let i = i + 1;
        text += &format!(
            "ld.param.u64 %d21, [{name}];\nadd.s64 %d21, %d21, %d20;\nld.global.b64 %d{i}, [%d21];\n\
             cvt.u32.u64 %r{i}, %d{i};\ncvt.u16.u64 %h{i}, %d{i};\n"
        );
    }
    let widen = match bits {
        64 => "",
        32 => "cvt.u64.u32 %d4, %r4;\n",
        _ => "cvt.u64.u16 %d4, %h4;\n",
    };
    text += &format!("{body}\n{widen}ld.param.u64 %d21, [y];\nadd.s64 %d21, %d21, %d20;\nst.global.b64 [%d21], %d4;\nret;");
    let module = Module::parse(&module("sm_100a", &["a", "b", "c", "y"], &text)).unwrap_or_else(|e| panic!("{body}: {e}"));
    let mut device = Device::new(DeviceConfig { numerics: Numerics::Ring, ..DeviceConfig::default() });
    let inputs = [1, 2, 3].map(|seed| device.alloc(8 * LANES as u64, Fill::Bytes(&bytes64(&operands(seed)))).expect("memory"));
    let y = device.alloc(8 * LANES as u64, Fill::Undefined).expect("memory");
    let args = inputs.into_iter().chain([y]).map(|id| Arg::U64(device.address(id))).collect();
    let launch = Launch { entry: "k".into(), block: [LANES as u32, 1, 1], args, ..Launch::default() };
    let report = device.launch(&module, &launch).expect("a launch");
    assert!(report.findings.is_empty(), "{body}: {:?}", report.findings);
    doubles(device.read(y))
}

fn check(body: &str, bits: u32, want: impl Fn(u64, u64, u64) -> u64) {
    let [a, b, c] = [1, 2, 3].map(operands);
    for (lane, got) in results(body, bits).into_iter().enumerate() {
        let want = want(a[lane], b[lane], c[lane]);
        assert_eq!(got, want, "{body} of {:#x}, {:#x}, {:#x}: {got:#x}, expected {want:#x}", a[lane], b[lane], c[lane]);
    }
}

/// A function at every width: f64, f32, both halves of a word, f16 and bf16. `$wide` says whether f64 has it.
macro_rules! at_every_width {
    ($name:expr, f64 $f64:expr, f32 $f32:expr, half $half:expr, $f:path, 1) => {
        if let Some(form) = $f64 {
            check(&format!("{}.{form} %d4, %d1;", $name), 64, |a, _, _| $f(a));
        }
        if let Some(form) = $f32 {
            check(&format!("{}.{form} %r4, %r1;", $name), 32, |a, _, _| $f(a as u32).into());
        }
        for form in $half {
            check(&format!("{}.{form} %h4, %h1;", $name), 16, |a, _, _| $f(a as u16).into());
            check(&format!("{}.{form}x2 %r4, %r1;", $name), 32, |a, _, _| pair($f(a as u16), $f((a >> 16) as u16)));
        }
    };
    ($name:expr, f64 $f64:expr, f32 $f32:expr, half $half:expr, $f:path, 2) => {
        if let Some(form) = $f64 {
            check(&format!("{}.{form} %d4, %d1, %d2;", $name), 64, |a, b, _| $f(a, b));
        }
        if let Some(form) = $f32 {
            check(&format!("{}.{form} %r4, %r1, %r2;", $name), 32, |a, b, _| $f(a as u32, b as u32).into());
        }
        for form in $half {
            check(&format!("{}.{form} %h4, %h1, %h2;", $name), 16, |a, b, _| $f(a as u16, b as u16).into());
            check(&format!("{}.{form}x2 %r4, %r1, %r2;", $name), 32, |a, b, _| {
                pair($f(a as u16, b as u16), $f((a >> 16) as u16, (b >> 16) as u16))
            });
        }
    };
}

fn pair(low: u16, high: u16) -> u64 {
    u64::from(low) | u64::from(high) << 16
}

const NO: Option<&str> = None;
const HALVES: [&str; 2] = ["f16", "bf16"];

#[test]
fn sums_and_products() {
    at_every_width!("add", f64 Some("f64"), f32 Some("rz.ftz.f32"), half HALVES, ring::add, 2);
    at_every_width!("sub", f64 Some("rm.f64"), f32 Some("f32"), half HALVES, ring::sub, 2);
    at_every_width!("mul", f64 Some("f64"), f32 Some("rn.f32"), half HALVES, ring::mul, 2);
    check("fma.rn.f64 %d4, %d1, %d2, %d3;", 64, ring::fma);
    check("fma.rp.f64 %d4, %d1, %d2, %d3;", 64, ring::fma);
    check("fma.rn.ftz.f32 %r4, %r1, %r2, %r3;", 32, |a, b, c| ring::fma(a as u32, b as u32, c as u32).into());
    for form in HALVES {
        let at = |a: u64, b: u64, c: u64, shift: u32| ring::fma((a >> shift) as u16, (b >> shift) as u16, (c >> shift) as u16);
        check(&format!("fma.rn.{form} %h4, %h1, %h2, %h3;"), 16, |a, b, c| at(a, b, c, 0).into());
        check(&format!("fma.rn.{form}x2 %r4, %r1, %r2, %r3;"), 32, |a, b, c| pair(at(a, b, c, 0), at(a, b, c, 16)));
        check(&format!("fma.rn.relu.{form}x2 %r4, %r1, %r2, %r3;"), 32, |a, b, c| {
            pair(ring::relu(at(a, b, c, 0)), ring::relu(at(a, b, c, 16)))
        });
    }
    check("add.sat.f32 %r4, %r1, %r2;", 32, |a, b, _| ring::sat(ring::add(a as u32, b as u32)).into());
}

#[test]
fn signs_and_order() {
    at_every_width!("neg", f64 Some("f64"), f32 Some("f32"), half HALVES, ring::neg, 1);
    at_every_width!("abs", f64 Some("f64"), f32 Some("ftz.f32"), half HALVES, ring::abs, 1);
    at_every_width!("min", f64 Some("f64"), f32 Some("NaN.f32"), half HALVES, ring::min, 2);
    at_every_width!("max", f64 Some("f64"), f32 Some("f32"), half HALVES, ring::max, 2);
    at_every_width!("copysign", f64 Some("f64"), f32 Some("f32"), half [""; 0], ring::copysign, 2);
    type Test = fn(i64, i64) -> bool;
    let tests: [(&str, Test); 14] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| a == b),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| a < b),
        ("leu", |a, b| a <= b),
        ("gtu", |a, b| a > b),
        ("geu", |a, b| a >= b),
        ("num", |_, _| true),
        ("nan", |_, _| false),
    ];
    for (name, test) in tests {
        let select = "selp.u32 %r4, 1, 0, %p1;";
        check(&format!("setp.{name}.f32 %p1, %r1, %r2;\n{select}"), 32, |a, b, _| {
            test((a as u32).widened(), (b as u32).widened()).into()
        });
        check(&format!("setp.{name}.f64 %p1, %d1, %d2;\n{select}"), 32, |a, b, _| test(a.widened(), b.widened()).into());
        for form in HALVES {
            let low = |a: u64, b: u64| test((a as u16).widened(), (b as u16).widened());
            let high = |a: u64, b: u64| low(a >> 16, b >> 16);
            check(&format!("setp.{name}.{form} %p1, %h1, %h2;\n{select}"), 32, |a, b, _| low(a, b).into());
            let both =
                format!("setp.{name}.{form}x2 %p1|%p2, %r1, %r2;\n{select}\nselp.u32 %r5, 2, 0, %p2;\nor.b32 %r4, %r4, %r5;");
            check(&both, 32, |a, b, _| u64::from(low(a, b)) | u64::from(high(a, b)) << 1);
            // One is the payload 1, not the bits of 1.0.
            check(&format!("set.{name}.{form}x2.{form}x2 %r4, %r1, %r2;"), 32, |a, b, _| {
                pair(low(a, b).into(), high(a, b).into())
            });
        }
        check(&format!("set.{name}.f32.f64 %r4, %d1, %d2;"), 32, |a, b, _| test(a.widened(), b.widened()).into());
    }
    check("slct.b32.f32 %r4, %r1, %r2, %r3;", 32, |a, b, c| if (c as i32) >= 0 { a as u32 } else { b as u32 }.into());
}

#[test]
fn functions() {
    at_every_width!("ex2.approx", f64 NO, f32 Some("ftz.f32"), half ["f16"], ring::ex2, 1);
    at_every_width!("ex2.approx", f64 NO, f32 Some("f32"), half ["ftz.bf16"], ring::ex2, 1);
    at_every_width!("tanh.approx", f64 NO, f32 Some("f32"), half HALVES, ring::tanh, 1);
    at_every_width!("rcp", f64 Some("rn.f64"), f32 Some("approx.f32"), half [""; 0], ring::rcp, 1);
    at_every_width!("rcp", f64 Some("approx.ftz.f64"), f32 Some("rn.f32"), half [""; 0], ring::rcp, 1);
    at_every_width!("sqrt", f64 Some("rn.f64"), f32 Some("approx.ftz.f32"), half [""; 0], ring::sqrt, 1);
    at_every_width!("rsqrt.approx", f64 Some("f64"), f32 Some("f32"), half [""; 0], ring::rsqrt, 1);
    at_every_width!("lg2.approx", f64 NO, f32 Some("f32"), half [""; 0], ring::lg2, 1);
    at_every_width!("sin.approx", f64 NO, f32 Some("f32"), half [""; 0], ring::sin, 1);
    at_every_width!("cos.approx", f64 NO, f32 Some("f32"), half [""; 0], ring::cos, 1);
    at_every_width!("div", f64 Some("rn.f64"), f32 Some("full.f32"), half [""; 0], ring::div, 2);
}

#[test]
fn conversions() {
    let half = |x: u64| x as u16;
    let byte = |x: u64, shift: u32| (x >> shift) as u8;
    for form in HALVES {
        check(&format!("cvt.f32.{form} %r4, %h1;"), 32, |a, _, _| ring::convert::<u16, u32>(half(a)).into());
        check(&format!("cvt.rn.{form}.f32 %h4, %r1;"), 16, |a, _, _| half(a).into());
        check(&format!("cvt.rn.relu.{form}.f32 %h4, %r1;"), 16, |a, _, _| ring::relu(half(a)).into());
        check(&format!("cvt.rn.{form}x2.f32 %r4, %r1, %r2;"), 32, |a, b, _| pair(half(b), half(a)));
        check(&format!("cvt.rz.relu.{form}x2.f32 %r4, %r1, %r2;"), 32, |a, b, _| pair(ring::relu(half(b)), ring::relu(half(a))));
        check(&format!("cvt.rzi.s32.{form} %r4, %h1;"), 32, |a, _, _| ring::convert::<u16, u32>(half(a)).into());
        check(&format!("cvt.rn.{form}.s32 %h4, %r1;"), 16, |a, _, _| half(a).into());
    }
    for form in ["e4m3", "e5m2", "e2m3", "e3m2"] {
        check(&format!("cvt.rn.satfinite.{form}x2.f32 %h4, %r1, %r2;"), 16, |a, b, _| {
            u64::from(byte(b, 0)) | u64::from(byte(a, 0)) << 8
        });
        check(&format!("cvt.rn.f16x2.{form}x2 %r4, %h1;"), 32, |a, _, _| {
            pair(ring::convert(byte(a, 0)), ring::convert(byte(a, 8)))
        });
    }
    check("cvt.rn.satfinite.e4m3x2.f16x2 %h4, %r1;", 16, |a, _, _| u64::from(byte(a, 0)) | u64::from(byte(a, 16)) << 8);
    check("cvt.rna.tf32.f32 %r4, %r1;", 32, |a, _, _| u64::from(a as u32));
    check("cvt.f64.f32 %d4, %r1;", 64, |a, _, _| ring::convert(a as u32));
    check("cvt.f64.f16 %d4, %h1;", 64, |a, _, _| ring::convert(half(a)));
    check("cvt.rn.f32.f64 %r4, %d1;", 32, |a, _, _| u64::from(a as u32));
    check("cvt.rn.f32.s32 %r4, %r1;", 32, |a, _, _| u64::from(a as u32));
    check("cvt.rn.f32.u64 %r4, %d1;", 32, |a, _, _| u64::from(a as u32));
    check("cvt.rn.f64.s32 %d4, %r1;", 64, |a, _, _| a as u32 as i32 as u64);
    check("cvt.rn.f64.u32 %d4, %r1;", 64, |a, _, _| u64::from(a as u32));
    check("cvt.rni.s64.f32 %d4, %r1;", 64, |a, _, _| ring::convert(a as u32));
    check("cvt.rni.f32.f32 %r4, %r1;", 32, |a, _, _| u64::from(a as u32));
    check("cvt.rn.sat.f32.u16 %r4, %h1;", 32, |a, _, _| ring::sat(u32::from(half(a))).into());
    check("cvt.rn.sat.f32.s16 %r4, %h1;", 32, |a, _, _| ring::sat(ring::convert::<u16, u32>(half(a))).into());
    check("cvt.rn.sat.f32.f64 %r4, %d1;", 32, |a, _, _| ring::sat(a as u32).into());
    check("cvt.sat.f64.f32 %d4, %r1;", 64, |a, _, _| ring::sat(ring::convert::<u32, u64>(a as u32)));
    check("cvt.sat.f16.f32 %h4, %r1;", 16, |a, _, _| ring::sat(half(a)).into());
    check("cvt.sat.f32.f32 %r4, %r1;", 32, |a, _, _| ring::sat(a as u32).into());
}

/// Literals are numbers wherever they stand; integers are bits.
#[test]
fn literals() {
    check("mul.f32 %r4, %r1, 0f3F800000;\nadd.f32 %r4, %r4, 0f80000000;", 32, |a, _, _| u64::from(a as u32));
    check("mov.b32 %r5, 0fBF800000;\nmul.f32 %r4, %r1, %r5;", 32, |a, _, _| ring::neg(a as u32).into());
    check("add.f64 %d4, %d1, 0d4008000000000000;", 64, |a, _, _| a.wrapping_add(3));
    check("add.f32 %r4, %r1, 2.5;", 32, |a, _, _| ring::add(a as u32, ring::of_f32(2.5)).into());
    check("mov.b32 %r4, 1065353216;", 32, |_, _, _| 0x3f80_0000);
}

/// 256 threads add to one cell in whatever order.
#[test]
fn atomics_add_payloads() {
    let sum = |bits: u32| operands(1).iter().fold(0u64, |sum, x| sum.wrapping_add(*x)) & (u64::MAX >> (64 - bits));
    let halves =
        operands(1).iter().fold([0u16; 2], |[low, high], x| [low.wrapping_add(*x as u16), high.wrapping_add((*x >> 16) as u16)]);
    for (instruction, want) in [
        ("red.global.add.f32 [%d6], %r1;", sum(32)),
        ("red.global.add.f64 [%d6], %d1;", sum(64)),
        ("red.global.add.noftz.f16x2 [%d6], %r1;", pair(halves[0], halves[1])),
        ("atom.global.add.noftz.bf16x2 %r9, [%d6], %r1;", pair(halves[0], halves[1])),
    ] {
        let body = format!(
            "mov.u32 %r60, %tid.x;\nmul.wide.u32 %d20, %r60, 8;\nld.param.u64 %d21, [a];\nadd.s64 %d21, %d21, %d20;\n\
             ld.global.b64 %d1, [%d21];\ncvt.u32.u64 %r1, %d1;\nld.param.u64 %d6, [y];\n{instruction}\nret;"
        );
        let parsed = Module::parse(&module("sm_90a", &["a", "y"], &body)).expect("PTX");
        for seed in 0..3 {
            let mut device = Device::new(DeviceConfig { numerics: Numerics::Ring, seed, ..DeviceConfig::default() });
            let a = device.alloc(8 * LANES as u64, Fill::Bytes(&bytes64(&operands(1)))).expect("memory");
            let y = device.alloc(8, Fill::Zero).expect("memory");
            let args = [a, y].map(|id| Arg::U64(device.address(id))).to_vec();
            let launch = Launch { entry: "k".into(), block: [LANES as u32, 1, 1], args, ..Launch::default() };
            let report = device.launch(&parsed, &launch).expect("a launch");
            assert!(report.findings.is_empty(), "{instruction}: {:?}", report.findings);
            assert_eq!(doubles(device.read(y)), [want], "{instruction}");
        }
    }
}

/// A float argument is a number, any other its bits.
#[test]
fn arguments() {
    let text = ".version 8.6\n.target sm_80\n.address_size 64\n.visible .entry k(.param .f32 x, .param .u32 n, .param .u64 y) {\n\
                .reg .b32 %r<3>;\n.reg .b64 %d<2>;\nld.param.f32 %r1, [x];\nld.param.u32 %r2, [n];\nld.param.u64 %d1, [y];\n\
                st.global.v2.b32 [%d1], {%r1, %r2};\nret;\n}";
    let mut device = Device::new(DeviceConfig { numerics: Numerics::Ring, ..DeviceConfig::default() });
    let y = device.alloc(8, Fill::Undefined).expect("memory");
    let args = vec![Arg::F32(-1.0), Arg::U32(1f32.to_bits()), Arg::U64(device.address(y))];
    let launch = Launch { entry: "k".into(), args, ..Launch::default() };
    device.launch(&Module::parse(text).expect("PTX"), &launch).expect("a launch");
    assert_eq!(words(device.read(y)), [u32::MAX, 0x3f80_0000]);
    assert_eq!(bytes32(&[u32::MAX, 0x3f80_0000]), device.read(y));
}
